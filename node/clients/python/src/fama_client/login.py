"""An agent's login: it signs its name, the time and the service's challenge, joined without a separator."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .cache import Profile, UsedSignatures
from .errors import FamaError
from .keys import PublicKey, Signer, decode_base64
from .times import read_time

WINDOW_SECONDS = 300
"""How far a signed time may be from the verifier's clock, in either direction."""

MESSAGE_BYTES_MAX = 65_536

_FORBIDDEN = ("fama.", "fama/", "format = ", "cosignature/v1", "c2sp.org/", "ROTATE_KEY:", "REVOKE_KEY:")


@dataclass(frozen=True, slots=True)
class Login:
    """A login as an agent sends it. `signature` is in base64; all else is signed as it is written."""

    dumbname: str
    timestamp: str
    message: str
    signature: str

    @property
    def signed(self) -> str:
        return self.dumbname + self.timestamp + self.message


@dataclass(frozen=True, slots=True)
class Verified:
    """Who logged in. `profile` is the one that was used, `None` if a node verified."""

    agent_id: str
    handle: str
    karma: int | None
    profile: Profile | None


def sign_login(dumbname: str, message: str, signer: Signer, *, timestamp: str | None = None) -> Login:
    """The agent's side. Raises `FamaError` `forbidden_message` if the service's challenge could be another order."""
    stamp = timestamp or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    _check_message(message, dumbname + stamp + message)
    return Login(dumbname, stamp, message, signer.signature((dumbname + stamp + message).encode()))


def _check_message(message: str, signed: str) -> None:
    if message.startswith(_FORBIDDEN) or signed.startswith(_FORBIDDEN):
        raise FamaError("forbidden_message", "an agent may not sign such a message to log in", status=400)


def read_login(login: Login, now: float) -> bytes:
    """Checks all that needs no profile; the signature's bytes. `now` is Unix time in seconds.

    Raises `FamaError`: `bad_timestamp`, `bad_signature_form`, `forbidden_message`, `bad_message` (400), `expired`
    (401).
    """
    stamp = read_time(login.timestamp)
    if stamp is None:
        raise FamaError("bad_timestamp", "want a time like 2026-11-22T05:00:00Z, with or without .000", status=400)
    signature = decode_base64(login.signature)
    if not signature:
        raise FamaError("bad_signature_form", "signature: want base64", status=400)
    if len(login.dumbname) > 512 or len(login.message) > MESSAGE_BYTES_MAX:
        raise FamaError("bad_message", f"at most {MESSAGE_BYTES_MAX} bytes", status=400)
    try:
        login.signed.encode()
    except UnicodeEncodeError:
        raise FamaError("bad_message", "want Unicode text", status=400) from None
    _check_message(login.message, login.signed)
    if abs(now - stamp) > WINDOW_SECONDS:
        raise FamaError("expired", f"the timestamp is more than {WINDOW_SECONDS} seconds from this clock", status=401)
    return signature


def check_login(
    login: Login, signature: bytes, profile: Profile, used: UsedSignatures, *, min_karma: int | None, now: float
) -> Verified:
    """Checks a login that `read_login` read against the agent's profile, and uses its signature up.

    Raises `FamaError`: `bad_signature_form` (400), `bad_signature`, `revoked`, `suspended`, `replayed` (401), `low_karma` (403),
    and what `UsedSignatures.use` raises.
    """
    identity = profile["identity"]
    normal = PublicKey.from_pem(identity["public_key"]).check(login.signed.encode(), signature)
    if profile["key_status"]["is_revoked"]:
        raise FamaError("revoked", "the agent's key is revoked", status=401)
    if profile["key_status"]["is_suspended"]:
        raise FamaError("suspended", "operators have suspended the agent's use", status=401)
    karma = int(profile["reputation"]["global_score"])
    if min_karma is not None and karma < min_karma:
        raise FamaError("low_karma", f"the agent has {karma} karma, and needs {min_karma}", status=403)
    stamp = read_time(login.timestamp)
    assert stamp is not None, "read_login checked it"
    used.use(identity["agent_id"], normal, stamp + WINDOW_SECONDS, now)
    return Verified(identity["agent_id"], identity["handle"], karma, profile)
