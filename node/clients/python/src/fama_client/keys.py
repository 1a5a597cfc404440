"""Keys and signatures: secp256k1 with ECDSA over SHA-256, and Ed25519."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from .errors import FamaError

SIGNATURE_TEXT_MAX = 4_096
"""Longest base64 text of a signature, in characters."""

_PEM_MAX = 16_384
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_SHA256 = ec.ECDSA(hashes.SHA256())
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_TEXT = re.compile(r"(secp256k1):(0[23][0-9a-f]{64})|(ed25519):([0-9a-f]{64})")


def decode_base64(text: str) -> bytes | None:
    """Decodes either alphabet, padded or not, with white space anywhere; `None` for anything else: both alphabets
    mixed, wrong padding, bits after the last byte, or more than `SIGNATURE_TEXT_MAX` characters."""
    if len(text) > SIGNATURE_TEXT_MAX:
        return None
    plain = re.sub(r"[ \t\n\f\r]", "", text)
    if re.search(r"[-_]", plain):
        if re.search(r"[+/]", plain):
            return None
        plain = plain.replace("-", "+").replace("_", "/")
    if not _BASE64.fullmatch(plain):
        return None
    padded = plain if plain.endswith("=") else plain + "=" * (-len(plain) % 4)
    try:
        decoded = base64.b64decode(padded, validate=True)
    except binascii.Error:
        return None
    return decoded if base64.b64encode(decoded).decode() == padded else None


def encode_base64url(data: bytes) -> str:
    """Without padding, as JOSE has it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_base64url(text: str) -> bytes | None:
    """Decodes exactly what `encode_base64url` writes; `None` for anything else, also for bits after the last byte."""
    if len(text) % 4 == 1 or not _BASE64URL.fullmatch(text):
        return None
    decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return decoded if encode_base64url(decoded) == text else None


_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_Y_OF_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL = frozenset({0, 1, _P - 1, _Y_OF_ORDER_8, _P - _Y_OF_ORDER_8})
"""The y coordinates of the points of Ed25519 whose order divides 8."""


def _y(point: bytes) -> int:
    return int.from_bytes(point, "little") & (1 << 255) - 1


def load_ed25519(point: bytes) -> ed25519.Ed25519PublicKey | None:
    """The key, if it is one of the ledger's: 32 bytes, canonical, on the curve, not of small order."""
    y = _y(point)
    if len(point) != 32 or y >= _P or y in _SMALL:
        return None
    x_squared = (y * y - 1) * pow(_D * y * y + 1, -1, _P)
    return ed25519.Ed25519PublicKey.from_public_bytes(point) if pow(x_squared, (_P - 1) // 2, _P) == 1 else None


def verify_ed25519(key: ed25519.Ed25519PublicKey, message: bytes, signature: bytes) -> bool:
    """The ledger's rule for a key of `load_ed25519`: no cofactor, s reduced, R canonical and not of small order."""
    if len(signature) != 64 or _y(signature[:32]) in _SMALL:
        return False
    try:
        # OpenSSL compares R as canonical bytes, and refuses an s that is not below the group's order.
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key of either curve."""

    key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

    @classmethod
    def from_pem(cls, pem: str | bytes) -> PublicKey:
        """Reads one SPKI PEM block.

        Raises `FamaError` `bad_key` for anything else, and for other curves.
        """
        data = pem.encode() if isinstance(pem, str) else pem
        if len(data) > _PEM_MAX:
            raise FamaError("bad_key", f"a public key has at most {_PEM_MAX} bytes of PEM", status=400)
        try:
            key = serialization.load_pem_public_key(data.strip() + b"\n")
        except (ValueError, UnsupportedAlgorithm) as error:
            raise FamaError("bad_key", f"not a public key in PEM: {error}", status=400) from error
        if isinstance(key, ed25519.Ed25519PublicKey):
            return cls(key)
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256K1):
            return cls(key)
        raise FamaError("bad_key", "want a key of secp256k1 or Ed25519", status=400)

    @classmethod
    def from_text(cls, text: str) -> PublicKey:
        """Reads what `text` writes, by the ledger's rules for keys. Raises `FamaError` `bad_key`."""
        match = _TEXT.fullmatch(text)
        try:
            if match and match[1]:
                return cls(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), bytes.fromhex(match[2])))
            if match and (key := load_ed25519(bytes.fromhex(match[4]))):
                return cls(key)
        except ValueError:
            pass
        raise FamaError("bad_key", "want a key as in events: secp256k1: or ed25519:, and hex", status=400)

    @property
    def text(self) -> str:
        """The key as in events: `secp256k1:` or `ed25519:`, and hex."""
        if isinstance(self.key, ed25519.Ed25519PublicKey):
            return f"ed25519:{self.key.public_bytes_raw().hex()}"
        point = self.key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
        return f"secp256k1:{point.hex()}"

    @property
    def commitment(self) -> str:
        """What an event's `next` says of this key: `sha256:` and the hash of its text."""
        return f"sha256:{hashlib.sha256(self.text.encode()).hexdigest()}"

    def check(self, message: bytes, signature: bytes) -> bytes:
        """The signature in one form, so that the same signature in other spellings is known again.

        For secp256k1 it may be DER, or r ‖ s with or without a 65th byte, s high or low. For Ed25519 it is 64 bytes.
        Raises `FamaError`: `bad_signature_form` (400) if it has none of these forms, `bad_signature` (401) if it is
        not this key's of this message.
        """
        if isinstance(self.key, ed25519.Ed25519PublicKey):
            if len(signature) != 64:
                raise _malformed()
            if not verify_ed25519(self.key, message, signature):
                raise _mismatch()
            return signature
        # 64 bytes may be DER as well as r ‖ s: the form in which it is valid is the one that was meant.
        forms = [form for form in (_der(signature), _compact(signature)) if form]
        if not forms:
            raise _malformed()
        for r, s in forms:
            try:
                self.key.verify(encode_dss_signature(r, s), message, _SHA256)
            except InvalidSignature:
                continue
            return r.to_bytes(32) + min(s, _ORDER - s).to_bytes(32)
        raise _mismatch()


def _in_range(r: int, s: int) -> tuple[int, int] | None:
    return (r, s) if 0 < r < _ORDER and 0 < s < _ORDER else None


def _der(signature: bytes) -> tuple[int, int] | None:
    if not 8 <= len(signature) <= 72:
        return None
    try:
        return _in_range(*decode_dss_signature(signature))
    except ValueError:
        return None


def _compact(signature: bytes) -> tuple[int, int] | None:
    if len(signature) not in (64, 65):
        return None
    return _in_range(int.from_bytes(signature[:32]), int.from_bytes(signature[32:64]))


def _malformed() -> FamaError:
    return FamaError("bad_signature_form", "signature: want a signature of the key's curve", status=400)


def _mismatch() -> FamaError:
    return FamaError("bad_signature", "the signature does not match key and message", status=401)


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that signs: one in this process, or any function, such as a call to a hardware module.

    `sign` gets the whole message and returns the signature: DER or r ‖ s for secp256k1 (of the message's SHA-256),
    64 bytes for Ed25519.
    """

    public: PublicKey
    sign: Callable[[bytes], bytes]

    @classmethod
    def from_pem(cls, pem: str | bytes, password: bytes | None = None) -> Signer:
        """Reads a private key in PEM. Raises `FamaError` `bad_key`, whose message never has a part of the key."""
        data = pem.encode() if isinstance(pem, str) else pem
        try:
            key = serialization.load_pem_private_key(data, password)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise FamaError("bad_key", "not a private key in PEM, or not with this password") from None
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return cls(PublicKey(key.public_key()), key.sign)
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256K1):
            secret = key
            return cls(PublicKey(secret.public_key()), lambda message: secret.sign(message, _SHA256))
        raise FamaError("bad_key", "want a key of secp256k1 or Ed25519")

    def signature(self, message: bytes) -> str:
        """The signature in base64. Raises `FamaError` if `sign` returned something else than a signature by `public`."""
        signature = self.sign(message)
        self.public.check(message, signature)
        return base64.b64encode(signature).decode()
