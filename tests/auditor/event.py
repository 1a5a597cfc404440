"""Events as texts and as bytes, and the entries of a log. PROTOCOL.md, Texts and The codec."""

from typing import NamedTuple

from blake3 import blake3

from . import bounds, codec, keys
from .fields import (
    COMMITMENT, CONTEXT, DAY, DELTA, DISMISSAL, DOMAIN, FROM, HASH, KEY, METHOD, NAME, NONCE,
    REVOCATION, SCOPE, SERVICE, SUSPENSION, TIME, VERSION,
)
from .fault import Fault, require
from .text import Lines

FIRST_LINE = "fama.event/1"

# The fields of each kind in their order: name, type, and whether it may be absent.
KINDS = {
    "register": [("home", DOMAIN), ("name", NAME), ("key", KEY), ("next?", COMMITMENT),
                 ("note?", COMMITMENT)],
    "rotate": [("home", DOMAIN), ("identity", HASH), ("version", VERSION), ("key", KEY),
               ("next?", COMMITMENT)],
    "revoke": [("home", DOMAIN), ("identity", HASH), ("version", VERSION), ("key", KEY),
               ("reason", REVOCATION)],
    "attest": [("home", DOMAIN), ("issuer", HASH), ("subject", HASH), ("delta", DELTA),
               ("context?", CONTEXT), ("note?", COMMITMENT)],
    "retract": [("home", DOMAIN), ("issuer", HASH), ("subject", HASH), ("day", DAY),
                ("attestation", HASH)],
    "admit": [("operator", DOMAIN), ("provider", HASH), ("service", SERVICE), ("domain", DOMAIN),
              ("method", METHOD), ("from", FROM)],
    "dismiss": [("operator", DOMAIN), ("provider", HASH), ("service", SERVICE), ("domain", DOMAIN),
                ("from", FROM), ("reason", DISMISSAL)],
    "grant": [("home", DOMAIN), ("issuer", HASH), ("subject", HASH), ("scope", SCOPE),
              ("expires?", TIME), ("note?", COMMITMENT)],
    "ungrant": [("home", DOMAIN), ("issuer", HASH), ("subject", HASH), ("scope", SCOPE)],
    "suspend": [("operator", DOMAIN), ("identity", HASH), ("reason", SUSPENSION)],
    "resume": [("operator", DOMAIN), ("identity", HASH)],
}
KINDS = {
    kind: [(name.rstrip("?"), of, name.endswith("?")) for name, of in fields]
    for kind, fields in KINDS.items()
}
_KIND_NAMES = list(KINDS)


class Event(NamedTuple):
    federation: bytes
    kind: str
    fields: dict
    created: int
    nonce: bytes

    def __getitem__(self, name):
        return self.fields[name]


class SignedEvent(NamedTuple):
    event: Event
    signer: keys.Key
    signature: keys.Signature
    countersignature: keys.Signature | None


class Adopt(NamedTuple):
    version: int
    hash: bytes


class State(NamedTuple):
    root: bytes


class Entry(NamedTuple):
    time: int
    body: Adopt | State | SignedEvent


def show_event(event):
    """The event's only text, as bytes. Refuses values that no text can have."""
    lines = [FIRST_LINE, f"federation: {event.federation.hex()}", f"kind: {event.kind}"]
    for name, of, _ in KINDS[event.kind]:
        if event[name] is not None:
            lines.append(f"{name}: {of.show(event[name])}")
    lines.append(f"created: {TIME.show(event.created)}")
    lines.append(f"nonce: {event.nonce.hex()}")
    return "".join(line + "\n" for line in lines).encode("utf-8")


def parse_event(raw):
    lines = Lines(raw, FIRST_LINE, bounds.TEXT_BYTES_MAX)
    federation = HASH.parse(lines.value("federation"))
    kind = lines.value("kind")
    require(kind in KINDS, "bad_value", "not a kind")
    fields = {}
    for name, of, may_be_absent in KINDS[kind]:
        value = lines.optional(name) if may_be_absent else lines.value(name)
        fields[name] = None if value is None else of.parse(value)
    created = TIME.parse(lines.value("created"))
    nonce = NONCE.parse(lines.value("nonce"))
    lines.end()
    return Event(federation, kind, fields, created, nonce)


def event_id(text):
    return blake3(text).digest()


def _read_event(reader):
    federation = reader.hash()
    kind = _KIND_NAMES[reader.variant(len(KINDS))]
    fields = {}
    for name, of, may_be_absent in KINDS[kind]:
        fields[name] = reader.optional(of.read) if may_be_absent else of.read(reader)
    return Event(federation, kind, fields, reader.u64(), reader.take(8))


def _write_event(event):
    parts = [event.federation, codec.u32(_KIND_NAMES.index(event.kind))]
    for name, of, may_be_absent in KINDS[event.kind]:
        value = event[name]
        parts.append(codec.optional(value, of.write) if may_be_absent else of.write(value))
    return b"".join(parts) + codec.u64(event.created) + event.nonce


def _write_signature(signature):
    return codec.u32(keys.CURVES.index(signature.curve)) + signature.raw


def encode_entry(entry):
    body = entry.body
    if isinstance(body, Adopt):
        rest = codec.u32(0) + codec.u32(body.version) + body.hash
    elif isinstance(body, State):
        rest = codec.u32(1) + body.root
    else:
        rest = codec.u32(2) + _write_event(body.event) + body.signer.encode()
        rest += _write_signature(body.signature)
        rest += codec.optional(body.countersignature, _write_signature)
    return codec.u64(entry.time) + rest


def decode_entry(raw):
    """Decodes an entry. Checks the form only, neither values nor signatures."""
    require(len(raw) <= bounds.ENTRY_BYTES_MAX, "too_long", f"an entry of {len(raw)} bytes")
    reader = codec.Reader(raw)
    time = reader.u64()
    body = reader.variant(3)
    if body == 0:
        entry = Entry(time, Adopt(reader.u32(), reader.hash()))
    elif body == 1:
        entry = Entry(time, State(reader.hash()))
    else:
        event, signer = _read_event(reader), keys.read_key(reader)
        signature = keys.read_signature(reader)
        counter = reader.optional(keys.read_signature)
        entry = Entry(time, SignedEvent(event, signer, signature, counter))
    reader.end()
    require(encode_entry(entry) == raw, "not_canonical")
    return entry


def checked_text(event):
    """The signed text; refuses an event that its own text does not give back."""
    try:
        text = show_event(event)
        same = parse_event(text) == event
    except Fault as fault:
        raise Fault("malformed_field", str(fault)) from None
    require(same, "malformed_field", "the text gives back another event")
    return text


def signatures_of(signed, text):
    """The (key, message, signature) triples that must hold for this kind of event."""
    event, counter = signed.event, signed.countersignature
    wanted = [(signed.signer, text, signed.signature)]
    if event.kind == "register":
        require(signed.signer == event["key"], "not_possessed")
    if event.kind == "rotate" and signed.signer != event["key"]:
        require(counter is not None, "countersignature", "the new key's is missing")
        wanted.append((event["key"], text, counter))
    else:
        require(counter is None, "countersignature", "it has no place here")
    return wanted


def check_entries(raws, federation):
    """For each encoded entry a `Fault`, or None if it is valid on its own, including its signatures."""
    faults, signed, owners = [], [], []
    for position, raw in enumerate(raws):
        try:
            entry = decode_entry(raw)
            faults.append(None)
            if isinstance(entry.body, SignedEvent):
                text = checked_text(entry.body.event)
                same = entry.body.event.federation == federation
                require(same, "wrong_federation")
                keys.check_key(entry.body.signer)
                wanted = signatures_of(entry.body, text)
                signed.extend(wanted)
                owners.extend((position, counter) for counter in range(len(wanted)))
        except Fault as fault:
            faults[position:] = [fault]
    for (position, is_counter), fault in zip(owners, keys.verify_all(signed), strict=True):
        if fault and not faults[position]:
            if is_counter:
                fault = Fault("countersignature", str(fault))
            faults[position] = fault
    return faults
