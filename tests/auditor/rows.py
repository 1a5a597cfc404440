"""The rows of the state maps: keys, and values as bytes. PROTOCOL.md, State maps."""

from typing import NamedTuple

from blake3 import blake3

from . import codec, keys
from . import fields
from .fields import REVOCATION

(IDENTITY, VERSION, NAME, KEY, PROVIDER, TALLY, DAY, HOME, CLAIM, SUBJECT, STATEMENT,
 LOG, GRANT, ISSUER, SUSPENSION) = range(1, 16)
STATUS = ("active", "revoked")


class Counter(NamedTuple):
    day: int = 0
    count: int = 0

    def on(self, day):
        """The count on that day."""
        return self.count if self.day == day else 0

    def bump(self, day):
        return Counter(day, self.on(day) + 1)

    def encode(self):
        return codec.u32(self.day) + codec.u32(self.count)


class Identity(NamedTuple):
    name: str
    version: int
    status: str
    rotations: Counter

    def encode(self):
        status = codec.u32(STATUS.index(self.status))
        return codec.string(self.name) + codec.u32(self.version) + status + self.rotations.encode()


class Revocation(NamedTuple):
    time: int
    reason: str

    def encode(self):
        return codec.u64(self.time) + REVOCATION.write(self.reason)


class Version(NamedTuple):
    key: keys.Key
    time: int
    next: bytes | None
    revocation: Revocation | None

    def encode(self):
        chosen = codec.optional(self.next, bytes)
        revocation = codec.optional(self.revocation, Revocation.encode)
        return self.key.encode() + codec.u64(self.time) + chosen + revocation


class Provider(NamedTuple):
    next: int = 0
    attestations: Counter = Counter()
    retractions: Counter = Counter()

    def encode(self):
        return codec.u64(self.next) + self.attestations.encode() + self.retractions.encode()


class Tally(NamedTuple):
    sum: int = 0
    count: int = 0
    retracted_sum: int = 0
    retracted_count: int = 0

    def encode(self):
        signed, retracted = codec.i64(self.sum), codec.i64(self.retracted_sum)
        return signed + codec.u64(self.count) + retracted + codec.u64(self.retracted_count)


class Given(NamedTuple):
    """One attestation of a day."""

    number: int
    id: bytes
    effective: int
    retraction: int | None

    def encode(self):
        begin = codec.u64(self.number) + self.id + codec.i32(self.effective)
        return begin + codec.optional(self.retraction, codec.u64)


class Day(tuple):
    """A provider's attestations of a subject on one day, in order."""

    def encode(self):
        return codec.sequence(self, Given.encode)


class Claim(NamedTuple):
    reason: str
    time: int
    generation: int
    index: int

    def encode(self):
        begin = REVOCATION.write(self.reason) + codec.u64(self.time)
        return begin + codec.u32(self.generation) + codec.u64(self.index)


class Statement(NamedTuple):
    service: str
    domain: str
    intervals: tuple
    created: int
    statements: Counter

    def encode(self):
        intervals = codec.sequence(self.intervals, _write_interval)
        begin = codec.string(self.service) + codec.string(self.domain) + intervals
        return begin + codec.u64(self.created) + self.statements.encode()


def _write_interval(interval):
    start, end = interval
    return codec.u64(start) + codec.optional(end, codec.u64)


class Grant(NamedTuple):
    scope: str
    stands: bool
    expires: int | None
    created: int

    def encode(self):
        begin = codec.string(self.scope) + bytes([self.stands])
        return begin + codec.optional(self.expires, codec.u64) + codec.u64(self.created)


class Suspended(NamedTuple):
    since: int
    reason: str

    def encode(self):
        return codec.u64(self.since) + fields.SUSPENSION.write(self.reason)


class Suspension(NamedTuple):
    standing: Suspended | None
    created: int
    statements: Counter

    def encode(self):
        begin = codec.optional(self.standing, Suspended.encode)
        return begin + codec.u64(self.created) + self.statements.encode()


class LogRow(NamedTuple):
    adopted: int
    time: int
    day: int
    bytes: int

    def encode(self):
        begin = codec.u32(self.adopted) + codec.u64(self.time)
        return begin + codec.u32(self.day) + codec.u64(self.bytes)


class Id(bytes):
    """An identity's id as the value of a row."""

    def encode(self):
        return bytes(self)


def _big(value):
    return value.to_bytes(4, "big")


def _hash(text):
    return blake3(text.encode("utf-8")).digest()


def identity_key(identity):
    return bytes([IDENTITY]) + identity


def version_key(identity, version):
    return bytes([VERSION]) + identity + _big(version)


def name_key(name):
    return bytes([NAME]) + _hash(name)


def key_key(key):
    return bytes([KEY]) + _hash(key.text())


def provider_key(identity):
    return bytes([PROVIDER]) + identity


def tally_key(subject, provider):
    return bytes([TALLY]) + subject + provider


def day_key(subject, provider, day):
    return bytes([DAY]) + subject + provider + _big(day)


HOME_KEY = bytes([HOME])


def subject_key(subject):
    return bytes([SUBJECT]) + subject


def claim_key(identity, version, key, signer):
    return bytes([CLAIM]) + identity + _big(version) + key.hash() + signer.hash()


def statement_key(provider, service, domain):
    return bytes([STATEMENT]) + provider + _hash(service) + _hash(domain)


def grant_key(issuer, subject, scope):
    return bytes([GRANT]) + issuer + subject + _hash(scope)


def issuer_key(identity):
    return bytes([ISSUER]) + identity


def suspension_key(identity):
    return bytes([SUSPENSION]) + identity


LOG_KEY = bytes([LOG])
