"""Keys and signatures. PROTOCOL.md, Keys and signatures."""

import hashlib
import re
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from . import curve, edwards
from .codec import u32
from .fault import Fault, require

CURVES = ("secp256k1", "ed25519")
KEY_BYTES = {"secp256k1": 33, "ed25519": 32}
SIGNATURE_BYTES = {"secp256k1": 65, "ed25519": 64}
_HEX = re.compile(r"(?:[0-9a-f]{2})*")
_ECDSA = ec.ECDSA(Prehashed(hashes.SHA256()))


class Key(NamedTuple):
    curve: str
    raw: bytes

    def text(self):
        return f"{self.curve}:{self.raw.hex()}"

    def hash(self):
        return hashlib.sha256(self.text().encode()).digest()

    def encode(self):
        return u32(CURVES.index(self.curve)) + self.raw


class Signature(NamedTuple):
    curve: str
    raw: bytes


def read_key(reader):
    name = CURVES[reader.variant(len(CURVES))]
    return Key(name, reader.take(KEY_BYTES[name]))


def read_signature(reader):
    name = CURVES[reader.variant(len(CURVES))]
    return Signature(name, reader.take(SIGNATURE_BYTES[name]))


def parse_key(text):
    """Parses and checks a key."""
    name, _, digits = text.partition(":")
    require(name in CURVES and _HEX.fullmatch(digits), "key_malformed")
    require(len(digits) == 2 * KEY_BYTES[name], "key_malformed", "of another length")
    key = Key(name, bytes.fromhex(digits))
    check_key(key)
    return key


def check_key(key):
    """Refuses an invalid key; the answer is cached."""
    _load(key)


@lru_cache(maxsize=200_000)
def _load(key):
    return _load_secp256k1(key.raw) if key.curve == "secp256k1" else _load_ed25519(key.raw)


def _load_secp256k1(raw):
    require(raw[0] in (2, 3), "key_not_on_curve", "no compressed point")
    point = curve.lift(int.from_bytes(raw[1:], "big"), raw[0] & 1)
    require(point, "key_not_on_curve")
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), raw), point


def _load_ed25519(raw):
    y = edwards.y_of(raw)
    require(y < edwards.P, "key_not_canonical")
    require(edwards.is_on_curve(y), "key_not_on_curve")
    require(not edwards.is_small(y), "key_weak")
    return ed25519.Ed25519PublicKey.from_public_bytes(raw)


def verify(key, message, signature):
    """Refuses a signature that does not hold."""
    fault = verify_all([(key, message, signature)])[0]
    if fault:
        raise fault


def verify_all(signed):
    """For each (key, message, signature) a `Fault`, or None if the signature holds."""
    faults, positions, waiting = [], [], []
    for position, (key, message, signature) in enumerate(signed):
        try:
            recovery = _verify_but_recovery_id(key, message, signature)
            if recovery:
                positions.append(position)
                waiting.append(recovery)
            faults.append(None)
        except Fault as fault:
            faults.append(fault)
    for at in curve.wrong_recovery_ids(waiting):
        faults[positions[at]] = Fault("signature_recovery_id", "the recovery id is another one")
    return faults


def _verify_but_recovery_id(key, message, signature):
    loaded = _load(key)
    require(key.curve == signature.curve, "signature_wrong_curve")
    if key.curve == "ed25519":
        _verify_ed25519(loaded, message, signature.raw)
        return None
    return _verify_secp256k1(loaded, message, signature.raw)


def _verify_secp256k1(loaded, message, raw):
    public, point = loaded
    r, s, recovery_id = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:64], "big"), raw[64]
    require(0 < r < curve.N and 0 < s < curve.N, "signature_malformed", "r or s out of range")
    require(s <= curve.N // 2, "signature_high_s")
    digest = hashlib.sha256(message).digest()
    try:
        public.verify(encode_dss_signature(r, s), digest, _ECDSA)
    except InvalidSignature:
        raise Fault("signature_mismatch", "not this key's signature") from None
    return point, int.from_bytes(digest, "big"), r, s, recovery_id


def _verify_ed25519(public, message, raw):
    """Verifies strictly: OpenSSL compares R's bytes without a cofactor; everything else is refused before."""
    y, s = edwards.y_of(raw[:32]), int.from_bytes(raw[32:], "little")
    require(y < edwards.P, "signature_mismatch", "R is not canonical")
    require(not edwards.is_small(y), "signature_mismatch", "R is of small order")
    require(s < edwards.L, "signature_mismatch", "s is not reduced")
    try:
        public.verify(raw, message)
    except InvalidSignature:
        raise Fault("signature_mismatch", "not this key's signature") from None
