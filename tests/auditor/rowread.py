"""Decodes the values of rows; `rows.py` encodes them. PROTOCOL.md, State maps."""

from . import rows
from .codec import Reader
from .fault import Fault, require
from .fields import DOMAIN, KEY, NAME, REVOCATION, SCOPE, SERVICE, SUSPENSION


def _counter(reader):
    return rows.Counter(reader.u32(), reader.u32())


def _identity(reader):
    name, version = NAME.parse(reader.string()), reader.u32()
    return rows.Identity(name, version, rows.STATUS[reader.variant(2)], _counter(reader))


def _revocation(reader):
    return rows.Revocation(reader.u64(), REVOCATION.read(reader))


def _version(reader):
    key, time = KEY.read(reader), reader.u64()
    return rows.Version(key, time, reader.optional(Reader.hash), reader.optional(_revocation))


def _tally(reader):
    return rows.Tally(reader.i64(), reader.u64(), reader.i64(), reader.u64())


def _given(reader):
    begin = reader.u64(), reader.hash(), reader.i32()
    return rows.Given(*begin, reader.optional(Reader.u64))


def _claim(reader):
    reason, time = REVOCATION.read(reader), reader.u64()
    return rows.Claim(reason, time, reader.u32(), reader.u64())


def _interval(reader):
    return reader.u64(), reader.optional(Reader.u64)


def _statement(reader):
    service, domain = SERVICE.parse(reader.string()), DOMAIN.parse(reader.string())
    intervals = tuple(reader.sequence(_interval))
    return rows.Statement(service, domain, intervals, reader.u64(), _counter(reader))


def _grant(reader):
    scope, stands = SCOPE.parse(reader.string()), bool(reader.u8())
    return rows.Grant(scope, stands, reader.optional(Reader.u64), reader.u64())


def _suspended(reader):
    return rows.Suspended(reader.u64(), SUSPENSION.read(reader))


def _suspension(reader):
    return rows.Suspension(reader.optional(_suspended), reader.u64(), _counter(reader))


def _log(reader):
    return rows.LogRow(reader.u32(), reader.u64(), reader.u32(), reader.u64())


_READERS = {
    rows.IDENTITY: _identity,
    rows.VERSION: _version,
    rows.NAME: lambda reader: rows.Id(reader.hash()),
    rows.TALLY: _tally,
    rows.DAY: lambda reader: rows.Day(reader.sequence(_given)),
    rows.CLAIM: _claim,
    rows.STATEMENT: _statement,
    rows.LOG: _log,
    rows.GRANT: _grant,
    rows.SUSPENSION: _suspension,
}


def read_row(key, value):
    """The row under this key."""
    try:
        reader = Reader(value)
        row = _READERS[key[0]](reader)
        reader.end()
        require(row.encode() == value, "not_canonical")
    except Fault as fault:
        raise Fault("profile_row", f"{key.hex()}: {fault}") from None
    return row
