"""The texts that authors sign, built here from what the caller says: chapter "Texts" of ledger/PROTOCOL.md."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from dataclasses import dataclass

from .errors import FamaError
from .keys import Signer
from .times import read_time, write_time

FIELDS: dict[str, tuple[str, ...]] = {
    "register": ("home", "name", "key", "next", "note"),
    "rotate": ("home", "identity", "version", "key", "next"),
    "revoke": ("home", "identity", "version", "key", "reason"),
    "attest": ("home", "issuer", "subject", "delta", "context", "note"),
    "retract": ("home", "issuer", "subject", "day", "attestation"),
    "admit": ("operator", "provider", "service", "domain", "method", "from"),
    "dismiss": ("operator", "provider", "service", "domain", "from", "reason"),
    "grant": ("home", "issuer", "subject", "scope", "expires", "note"),
    "ungrant": ("home", "issuer", "subject", "scope"),
    "suspend": ("operator", "identity", "reason"),
    "resume": ("operator", "identity"),
}
"""The fields of each kind between `kind` and `created`, in their order."""

NOTE_BYTES_MAX = 1_024

OPTIONAL = frozenset({"next", "note", "context", "expires"})

_HEX = re.compile(r"[0-9a-f]{64}")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+")
_NATURAL = re.compile(r"0|[1-9][0-9]{0,18}")
_FORMS: dict[str, re.Pattern[str]] = {
    "federation": _HEX, "identity": _HEX, "issuer": _HEX, "subject": _HEX, "attestation": _HEX, "provider": _HEX,
    "home": _DOMAIN, "operator": _DOMAIN, "domain": _DOMAIN,
    "name": re.compile(r"(?=.{3,50}\Z)[a-z0-9]+(-[a-z0-9]+)*"),
    "service": re.compile(r"[a-z0-9._-]{1,64}"), "context": re.compile(r"[a-z0-9._-]{1,32}"),
    "scope": re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,64}"),
    "next": _HASH, "note": _HASH,
    "key": re.compile(r"secp256k1:0[23][0-9a-f]{64}|ed25519:[0-9a-f]{64}"),
    "version": _NATURAL, "from": _NATURAL, "delta": re.compile(r"0|-?[1-9][0-9]{0,9}"),
    "day": re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), "nonce": re.compile(r"[0-9a-f]{16}"),
    "reason": re.compile(r"[a-z_]{1,32}"), "method": re.compile(r"dns|https|manual"),
}  # fmt: skip
_REASONS = {
    "revoke": frozenset({"key_compromised", "superseded", "retired", "unspecified"}),
    "dismiss": frozenset({"misconduct", "key_compromised", "expired", "unspecified"}),
    "suspend": frozenset({"misconduct", "key_compromised", "unspecified"}),
}
_RANGES = {"version": (1, 2**32 - 1), "from": (0, 2**63 - 1), "delta": (-(2**31), 2**31 - 1)}
_FORBIDDEN = re.compile("[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def _bad(name: str, rule: str) -> FamaError:
    return FamaError("bad_value", f"{name}: {rule}", status=400)


def _check(kind: str, name: str, value: str) -> None:
    if name in {"created", "expires"}:
        if len(value) != 24 or read_time(value) is None:
            raise _bad(name, "want a time like 2026-11-22T05:00:00.000Z")
        return
    if not _FORMS[name].fullmatch(value):
        raise _bad(name, f"{value!r} has not the form of this field")
    if name in _RANGES and not _RANGES[name][0] <= int(value) <= _RANGES[name][1]:
        raise _bad(name, f"want {_RANGES[name][0]} to {_RANGES[name][1]}")
    if name == "reason" and value not in _REASONS[kind]:
        raise _bad(name, f"want one of {', '.join(sorted(_REASONS[kind]))}")
    if name == "day" and read_time(f"{value}T00:00:00Z") is None:
        raise _bad(name, "want a date of the years 2020 to 9999")


def event_text(
    kind: str,
    fields: dict[str, str | int | None],
    *,
    federation: str,
    created: str | None = None,
    nonce: str | None = None,
) -> str:
    """The one text of an event. `created` is now, and `nonce` random, unless given.

    Raises `FamaError`: `unknown_kind`, `missing_field`, `unknown_field` or `bad_value`.
    """
    if kind not in FIELDS:
        raise FamaError("unknown_kind", f"no kind of event is {kind!r}", status=400)
    given = {name: str(value) for name, value in fields.items() if value is not None}
    if foreign := given.keys() - set(FIELDS[kind]):
        raise FamaError("unknown_field", f"{kind} has no {', '.join(sorted(foreign))}", status=400)
    lines = [("federation", federation), ("kind", kind)]
    for name in FIELDS[kind]:
        if name in given:
            lines.append((name, given[name]))
        elif name not in OPTIONAL:
            raise FamaError("missing_field", f"{name}: is missing", status=400)
    lines.append(("created", created or write_time(time.time())))
    lines.append(("nonce", nonce or secrets.token_hex(8)))
    for name, value in lines:
        if name != "kind":
            _check(kind, name, value)
    return "fama.event/1\n" + "".join(f"{name}: {value}\n" for name, value in lines)


def note_text(
    *, bio: str | None = None, reason: str | None = None, ref: str | None = None, salt: str | None = None
) -> str | None:
    """The text of a note, with a random salt unless given; `None` if it would say nothing.

    Raises `FamaError` `bad_value`: reason above 200 bytes, ref above 512, a note above 1,024, a control character, outer spaces.
    """
    if bio is not None and (reason is not None or ref is not None):
        raise _bad("bio", "a note has a bio, or a reason and a ref")
    said = [(name, value) for name, value in (("bio", bio), ("reason", reason), ("ref", ref)) if value is not None]
    if not said:
        return None
    for name, value in said:
        if not value or value != value.strip(" ") or _FORBIDDEN.search(value):
            raise _bad(name, "want text without control characters and outer spaces")
        if name != "bio" and len(value.encode()) > (200 if name == "reason" else 512):
            raise _bad(name, "is too long")
    lines = [("salt", salt or secrets.token_hex(32)), *said]
    text = "fama.note/1\n" + "".join(f"{name}: {value}\n" for name, value in lines)
    if len(text.encode()) > NOTE_BYTES_MAX:
        raise _bad(said[0][0], f"a note has at most {NOTE_BYTES_MAX} bytes")
    return text


def note_hash(text: str) -> str:
    """What an event's `note` says of a note."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class SignedEvent:
    """A complete event: `Client.submit` takes it, also a second time. Signatures are in base64."""

    text: str
    signature: str
    countersignature: str | None = None
    signer: str | None = None
    note: str | None = None
    invite: str | None = None

    def body(self) -> dict[str, str]:
        """The members of the JSON that `POST /events` takes."""
        members = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in members.items() if value is not None}


def sign_event(
    text: str,
    key: Signer,
    counterkey: Signer | None = None,
    *,
    signer: str | None = None,
    note: str | None = None,
    invite: str | None = None,
) -> SignedEvent:
    """Signs a text. `signer` is the text of `key`, where neither the event nor the ledger says whose signature it is."""
    message = text.encode()
    countersignature = counterkey.signature(message) if counterkey else None
    return SignedEvent(text, key.signature(message), countersignature, signer, note, invite)
