"""Tokens with which agents sign in, checked without I/O.

An access token is one operator's word at one time: that the identity's key was in force, and that the service let it
do these things. An operator that lies can say so of anybody, so a service names the issuers that it accepts; there is
no default. What was withdrawn since, only the ledger says: `ResourceServer` follows it.

All functions raise `FamaError` with status 401 and one of these codes, which are also the node's:

- `jws_too_long`, `jws_form`, `jws_header`, `jws_type`, `jws_algorithm`, `jws_key`, `jws_signature`: it is no JWS of
  this kind, or its signature does not hold.
- `token_claim`: a claim is missing or malformed. `token_issuer`: not among those accepted. `token_key`: the newest
  manifest has no such token key. `token_audience`, `token_federation`, `token_identity`, `token_resource`,
  `token_dpop`: for or of something else. `token_expired`, `token_early`, `token_lifetime`: its times.
  `token_not_in_force`: the agent's key, as a proof of its profile shows it.

`now` is Unix time in seconds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from .errors import FamaError
from .keys import PublicKey, decode_base64url, encode_base64url, load_ed25519, verify_ed25519
from .manifest import Manifest

SKEW_SECONDS = 30
"""How far a signer's clock may be ahead."""

TOKEN_SECONDS_MAX = 15 * 60
"""Longest life of an access token."""

JWS_BYTES_MAX = 16_384
DELEGATION_SECONDS_MAX = 86_400
CALL_SECONDS_MAX = 60
DPOP_AGE_SECONDS = 60
JTI_BYTES_MAX = 128
SCOPES_MAX = 64
RESOURCES_MAX = 16

Json = dict[str, Any]
Jwk = dict[str, str]
_Key = Ed25519PublicKey | ec.EllipticCurvePublicKey

_HEADER_REFUSED = ("b64", "crit", "jku", "jwk", "x5c", "x5t", "x5t#S256", "x5u")
_NESTING_MAX = 127
_ALGORITHMS = {"Ed25519": ("EdDSA", "Ed25519"), "secp256k1": ("ES256K",), "P-256": ("ES256",)}
_CURVES: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "secp256k1": ec.SECP256K1()}
_NAMES = {curve.name: name for name, curve in _CURVES.items()}
_SHA256 = ec.ECDSA(hashes.SHA256())
_STRING = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,64}")
_PROCESS = re.compile(r"[a-z0-9._-]{1,64}")
_IDENTITY = re.compile(r"[0-9a-f]{64}")


def _refused(code: str, message: str) -> FamaError:
    return FamaError(code, message, status=401)


def _wrong(claim: str) -> FamaError:
    return _refused("token_claim", f"the claim {claim} is missing or malformed")


def _curve(key: _Key) -> str:
    return "Ed25519" if isinstance(key, Ed25519PublicKey) else _NAMES[key.curve.name]


def _read_jwk(jwk: object) -> _Key:
    """Reads a public key in JSON (RFC 7517, RFC 8037, RFC 8812)."""
    if not isinstance(jwk, dict) or "d" in jwk or "k" in jwk:
        raise _refused("jws_key", "not a JWK of a public key")

    def number(name: str) -> bytes:
        value = jwk.get(name)
        decoded = decode_base64url(value) if isinstance(value, str) else None
        if decoded is None or len(decoded) != 32:
            raise _refused("jws_key", "the key's numbers are not 32 bytes of base64url each")
        return decoded

    kind, name = jwk.get("kty"), jwk.get("crv")
    if (kind, name) == ("OKP", "Ed25519"):
        if key := load_ed25519(number("x")):
            return key
        raise _refused("jws_key", "not a sound point on Ed25519")
    if kind != "EC" or not isinstance(name, str) or name not in _CURVES:
        raise _refused("jws_key", "another type of key")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[name], b"\x04" + number("x") + number("y"))
    except ValueError as error:
        raise _refused("jws_key", "the point is not on the curve") from error


def _jwk(key: _Key) -> Jwk:
    """The key in JSON, with no members but those of the key, in the order of their names."""
    if isinstance(key, Ed25519PublicKey):
        return {"crv": "Ed25519", "kty": "OKP", "x": encode_base64url(key.public_bytes_raw())}
    numbers = key.public_numbers()
    x, y = (encode_base64url(number.to_bytes(32)) for number in (numbers.x, numbers.y))
    return {"crv": _curve(key), "kty": "EC", "x": x, "y": y}


def _thumbprint(key: _Key) -> str:
    """The JWK thumbprint of RFC 7638 over SHA-256."""
    return encode_base64url(hashlib.sha256(json.dumps(_jwk(key), separators=(",", ":")).encode()).digest())


def _holds(key: _Key, message: bytes, signature: bytes) -> bool:
    if isinstance(key, Ed25519PublicKey):
        return verify_ed25519(key, message, signature)
    if len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    try:
        key.verify(encode_dss_signature(r, s), message, _SHA256)
    except InvalidSignature:
        return False
    return True


def _members(pairs: list[tuple[str, Any]]) -> Json:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member twice")
    return members


def _whole(digits: str) -> int:
    number = int(digits) if len(digits) <= 20 else 1 << 64
    if digits == "-0" or not -(1 << 63) <= number < 1 << 64:
        raise ValueError("a number that is not of 64 bits")
    return number


def _no_number(text: str) -> None:
    raise ValueError(f"not a whole number: {text[:20]}")


def _is_nested(text: str) -> bool:
    """Whether it is nested more deeply than any reader is to follow."""
    depth = 0
    for bracket in re.findall(r"[\[{\]}]", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > _NESTING_MAX:
            return True
    return False


def _read_object(part: str) -> Json:
    """The JSON object of one part, read so that no other reader can read it differently."""
    try:
        text = _decode(part).decode()
        if _is_nested(text):
            raise ValueError("nested too deeply")
        value = json.loads(
            text, object_pairs_hook=_members, parse_int=_whole, parse_float=_no_number, parse_constant=_no_number
        )
        # Half a pair of surrogates is no text.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise _refused("jws_form", "not a JSON object, a member twice, or a fraction") from error
    if not isinstance(value, dict):
        raise _refused("jws_form", "not a JSON object")
    return value


def _decode(part: str) -> bytes:
    decoded = decode_base64url(part)
    if decoded is None:
        raise _refused("jws_form", "not base64url")
    return decoded


@dataclass(frozen=True, slots=True)
class _Jws:
    """A JWS of which nothing is verified but its form; `key` is the one that it brings."""

    header: Json
    claims: Json
    input: bytes
    signature: bytes
    key: _Key | None

    @classmethod
    def read(cls, text: str, kind: str, *, brings_key: bool = False) -> _Jws:
        """Reads the compact form of a JWS of the type `kind`. Only a DPoP proof brings its own key."""
        if len(text.encode(errors="replace")) > JWS_BYTES_MAX:
            raise _refused("jws_too_long", f"more than {JWS_BYTES_MAX} bytes")
        signed, _, signature = text.rpartition(".")
        header_part, dot, claims_part = signed.partition(".")
        if not dot:
            raise _refused("jws_form", "not a compact JWS: want three parts")
        header = _read_object(header_part)
        has_key, jwk = "jwk" in header, header.pop("jwk", None)
        for name in _HEADER_REFUSED:
            if name in header:
                raise _refused("jws_header", f"the header has the member {name}")
        claims, decoded = _read_object(claims_part), _decode(signature)
        if has_key and not brings_key:
            raise _refused("jws_header", "the header has the member jwk")
        key = _read_jwk(jwk) if brings_key else None
        found = header.get("typ", "")
        if not isinstance(found, str) or not found.isascii() or found.lower().removeprefix("application/") != kind:
            raise _refused("jws_type", f"the type is {str(found)[:50]!r}, not {kind!r}")
        return cls(header, claims, signed.encode(), decoded, key)

    def verify(self, key: _Key) -> None:
        """Verifies by an algorithm that the key has: the header decides nothing."""
        algorithm = self.header.get("alg")
        if algorithm not in _ALGORITHMS[_curve(key)]:
            raise _refused("jws_algorithm", f"the algorithm {str(algorithm)[:50]!r} is none of a key on {_curve(key)}")
        if not _holds(key, self.input, self.signature):
            raise _refused("jws_signature", "the signature does not hold")

    def verify_by(self, keys: Collection[Ed25519PublicKey]) -> None:
        """Verifies by the key that the header names, or by any of these if it names none."""
        named = self.header.get("kid")
        last = _refused("token_key", "no operator's token key signed this")
        for key in keys:
            if isinstance(named, str) and named != _thumbprint(key):
                continue
            try:
                return self.verify(key)
            except FamaError as error:
                last = error
        raise last


def _text(claims: Json, name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str):
        raise _wrong(name)
    return value


def _number(claims: Json, name: str, least: int = 0, most: int = (1 << 64) - 1) -> int:
    value = claims.get(name)
    if type(value) is not int or not least <= value <= most:
        raise _wrong(name)
    return value


def _id(claims: Json) -> str:
    jti = _text(claims, "jti")
    if not 1 <= len(jti.encode()) <= JTI_BYTES_MAX:
        raise _wrong("jti")
    return jti


def read_scopes(text: str) -> tuple[str, ...]:
    """Reads at most `SCOPES_MAX` scopes, each once, single spaces between them. Raises `FamaError` `token_claim`."""
    scopes = tuple(text.split(" "))
    if len(scopes) > SCOPES_MAX or len(set(scopes)) < len(scopes) or not all(map(_SCOPE.fullmatch, scopes)):
        raise _wrong("scope")
    return scopes


def _member_of(claims: Json, name: str, member: str) -> str | None:
    """The text of a member of an object; `None` if there is no object of this name."""
    if name not in claims:
        return None
    value = claims[name]
    if not isinstance(value, dict) or not isinstance(value.get(member), str):
        raise _wrong(name)
    return str(value[member])


def _expect_audience(claims: Json, wanted: str) -> None:
    if (found := _text(claims, "aud")) != wanted:
        raise _refused("token_audience", f"it is for {found[:200]}, not for {wanted}")


def _check_lifetime(issued: int, expires: int, longest: int, now: float) -> None:
    """What has ended has ended: the skew is for a signer's clock that is ahead."""
    at = int(now)
    if issued > at + SKEW_SECONDS:
        raise _refused("token_early", f"it begins {issued - at} seconds from now, by this clock")
    if expires - issued > longest:
        raise _refused("token_lifetime", f"it lasts {expires - issued} seconds, at most {longest} are allowed")
    if at >= expires:
        raise _refused("token_expired", f"it ended {at - expires} seconds ago")


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token (RFC 9068) that holds.

    `subject` is the agent's DID, `client_id` its handle, `identity` its id; `service` the DID of the identity that
    granted. `issued_at` and `expires` are in seconds since 1970, `id` is the token's own name. `key_thumbprint` is that
    of the key with which its holder proves each request; `None` for a bearer token. `process` acts for the agent by a
    delegation. `key_version` and `karma` were so at the issuer's `frontier`, at the time `as_of`.
    """

    issuer: str
    operator: str
    subject: str
    client_id: str
    identity: str
    audience: str
    service: str
    scopes: tuple[str, ...]
    issued_at: int
    expires: int
    id: str
    key_thumbprint: str | None
    process: str | None
    key_version: int
    karma: int
    as_of: str
    frontier: str


def check_access_token(
    token: str, *, manifest: Manifest, issuers: Collection[str], audience: str, now: float
) -> AccessToken:
    """Checks form, type, issuer, its operator's key, federation, audience and times of a token.

    `issuers` are the origins that the service accepts, `audience` is its own name: the `aud` of the tokens for it.
    """
    if isinstance(issuers, str):
        raise TypeError("want a list of issuers, not one text")
    jws = _Jws.read(token, "at+jwt")
    claims = jws.claims
    issuer = _text(claims, "iss")
    if issuer not in issuers:
        raise _refused("token_issuer", f"the issuer {issuer[:200]} is not among those accepted")
    operator = manifest.operator_of(issuer)
    if operator is None:
        raise _refused("token_key", "no operator of the newest manifest has this issuer")
    jws.verify_by(operator.token_keys)
    fama = claims.get("fama")
    if not isinstance(fama, dict):
        raise _wrong("fama")
    if _text(fama, "federation") != manifest.federation:
        raise _refused("token_federation", "it is of another federation")
    if not _IDENTITY.fullmatch(identity := _text(fama, "identity")):
        raise _wrong("identity")
    read = AccessToken(
        issuer=issuer,
        operator=operator.name,
        subject=_text(claims, "sub"),
        client_id=_text(claims, "client_id"),
        identity=identity,
        audience=_text(claims, "aud"),
        service=_text(fama, "service"),
        scopes=read_scopes(_text(claims, "scope")),
        issued_at=_number(claims, "iat"),
        expires=_number(claims, "exp"),
        id=_id(claims),
        key_thumbprint=_member_of(claims, "cnf", "jkt"),
        process=_member_of(claims, "act", "sub"),
        key_version=_number(fama, "key_version", most=(1 << 32) - 1),
        karma=_number(fama, "karma", -(1 << 63), (1 << 63) - 1),
        as_of=_text(fama, "as_of"),
        frontier=_text(fama, "frontier"),
    )
    _expect_audience(claims, audience)
    _check_lifetime(read.issued_at, read.expires, TOKEN_SECONDS_MAX, now)
    return read


@dataclass(frozen=True, slots=True)
class Delegation:
    """A delegation that holds: the process may act for the identity with the DID `subject` with its own `key`, a JWK.

    `scopes`: at most these of the identity's own; `None` is all of them. `resources`: only there; `None` is everywhere.
    Times are in seconds since 1970.
    """

    subject: str
    process: str
    key: Jwk
    scopes: tuple[str, ...] | None
    resources: tuple[str, ...] | None
    issued_at: int
    expires: int
    id: str


def check_delegation(token: str, *, did: str, key: PublicKey, federation: str, now: float) -> Delegation:
    """Checks a delegation by the identity with this DID, whose key in force is `key`: that it is, the caller knows.

    `federation` is the federation's id.
    """
    jws = _Jws.read(token, "fama-delegation+jwt")
    claims = jws.claims
    _expect_identity(claims, did)
    _expect_audience(claims, f"urn:fama:{federation}")
    jws.verify(key.key)
    cnf = claims.get("cnf")
    if not isinstance(cnf, dict) or "jwk" not in cnf:
        raise _wrong("cnf")
    own = _read_jwk(cnf["jwk"])
    if _curve(own) == "secp256k1":
        raise _refused("jws_key", "a process has a key on Ed25519 or P-256")
    if not _PROCESS.fullmatch(process := _text(claims, "sub")):
        raise _wrong("sub")
    delegation = Delegation(
        subject=did,
        process=process,
        key=_jwk(own),
        scopes=read_scopes(_text(claims, "scope")) if "scope" in claims else None,
        resources=_resources(claims["resources"]) if "resources" in claims else None,
        issued_at=_number(claims, "iat"),
        expires=_number(claims, "exp"),
        id=_id(claims),
    )
    _check_lifetime(delegation.issued_at, delegation.expires, DELEGATION_SECONDS_MAX, now)
    return delegation


def _expect_identity(claims: Json, did: str) -> None:
    if (found := _text(claims, "iss")) != did:
        raise _refused("token_identity", f"it is of {found[:200]}, not of {did}")


def _resources(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= RESOURCES_MAX:
        raise _wrong("resources")
    if not all(isinstance(one, str) for one in value):
        raise _wrong("resources")
    return tuple(value)


@dataclass(frozen=True, slots=True)
class AgentCall:
    """A call that the agent with the DID `subject` or its process signed, without an issuer.

    The service remembers `id` until `expires`, in seconds since 1970: it alone sees all uses.
    """

    subject: str
    delegation: Delegation | None
    id: str
    expires: int


def call_subject(token: str) -> str:
    """The DID of the agent that says it signed a call: whose profile is needed to check it."""
    return _text(_Jws.read(token, "fama-agent+jwt").claims, "iss")


def check_agent_call(
    token: str, *, agent: Mapping[str, Any], federation: str, audience: str, now: float
) -> AgentCall:
    """Checks a call to the service `audience`, the name by which it knows itself.

    `agent` is what a proof of the agent's profile showed, as old as the service accepts: the member `agent` of the
    answer of `fama.Federation.verify_profile`. `federation` is the federation's id, of which a delegation must be.

    Remember the `id` of a call until it `expires`, and refuse it the second time.
    """
    did, key = agent["did"], PublicKey.from_text(agent["key"])
    jws = _Jws.read(token, "fama-agent+jwt")
    claims = jws.claims
    _expect_identity(claims, did)
    _expect_audience(claims, audience)
    if agent["status"] != "active":
        raise _refused("token_not_in_force", f"the agent's key is {agent['status']}")
    if agent["suspension"] != "none":
        raise _refused("token_not_in_force", f"suspension of the agent: {agent['suspension']}")
    delegation = None
    if "fama_delegation" in claims:
        text = _text(claims, "fama_delegation")
        delegation = check_delegation(text, did=did, key=key, federation=federation, now=now)
    jws.verify(_read_jwk(delegation.key) if delegation else key.key)
    if delegation and delegation.resources is not None and audience not in delegation.resources:
        raise _refused("token_resource", f"the delegation is not for {audience}")
    expires = _number(claims, "exp")
    _check_lifetime(_number(claims, "iat"), expires, CALL_SECONDS_MAX, now)
    return AgentCall(did, delegation, _id(claims), expires)


@dataclass(frozen=True, slots=True)
class DpopProof:
    """A DPoP proof (RFC 9449) that holds: whoever sends this request has the key with this thumbprint (RFC 7638).

    It is refused from `ends` on, in seconds since 1970. Its `id` is to be used once: remember it until then.
    """

    key_thumbprint: str
    id: str
    ends: int


def check_dpop(proof: str, *, method: str, url: str, token: str | None, now: float) -> DpopProof:
    """Checks the proof of a request. `token` is the access token that comes with it, `None` where one is asked for."""
    jws = _Jws.read(proof, "dpop+jwt", brings_key=True)
    claims, key = jws.claims, jws.key
    if key is None or _curve(key) == "secp256k1":
        raise _refused("jws_key", "a DPoP key is on Ed25519 or P-256")
    jws.verify(key)
    if _text(claims, "htm") != method:
        raise _refused("token_dpop", "the DPoP proof is of another method")
    if _without_query(_text(claims, "htu")) != _without_query(url):
        raise _refused("token_dpop", "the DPoP proof is of another address")
    if token is not None:
        hashed = encode_base64url(hashlib.sha256(token.encode(errors="surrogatepass")).digest())
        if _text(claims, "ath") != hashed:
            raise _refused("token_dpop", "the DPoP proof is of another token")
    issued = _number(claims, "iat")
    ends = issued + DPOP_AGE_SECONDS
    _check_lifetime(issued, ends, DPOP_AGE_SECONDS, now)
    return DpopProof(_thumbprint(key), _id(claims), ends)


def _without_query(url: str) -> str:
    return re.split(r"[?#]", url, maxsplit=1)[0]
