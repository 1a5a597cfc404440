"""The file of a profile proof: its JSON and its packed rows. PROTOCOL.md, Profile proofs."""

import json
from itertools import pairwise
from typing import NamedTuple

from blake3 import blake3

from . import bounds, rows
from .adoption import Adoption, read_adoption
from .codec import Reader
from .fault import Fault, require
from .fields import domain, hexadecimal
from .manifest import Log
from .rowread import read_row
from .signed import Note, canonical_base64, parse_signed

FORMAT = "fama.profile-proof/1"


class Evidence(NamedTuple):
    """The file's evidence of one log; the first four are None for a log that was cut."""

    checkpoint: Note | None
    entry: bytes | None
    path: list | None
    adopted: Adoption | None
    roots: list
    maps: list


class MapEvidence(NamedTuple):
    name: str
    proof: bytes
    rows: list


class File(NamedTuple):
    federation: bytes
    question: str
    manifests: list
    left_out: list
    without: list
    whole: list
    logs: list


def _form(condition, what):
    require(condition, "profile_form", what)


def _once(pairs):
    _form(len(dict(pairs)) == len(pairs), "a member said twice")
    return dict(pairs)


class _Members:
    """The members of a JSON object; every one must be taken."""

    def __init__(self, members):
        _form(isinstance(members, dict), "no object")
        self.rest = dict(members)

    def take(self, name, of=str, needed=True):
        value = self.rest.pop(name, None)
        _form(isinstance(value, of) or value is None and not needed, name)
        return value

    def base64(self, name, needed=True):
        text = self.take(name, needed=needed)
        raw = None if text is None else canonical_base64(text)
        _form(raw is not None or text is None, name)
        return raw

    def hashes(self, name, needed=True):
        raw = self.base64(name, needed)
        _form(raw is None or len(raw) % 32 == 0, name)
        return None if raw is None else [raw[at : at + 32] for at in range(0, len(raw), 32)]

    def end(self):
        _form(not self.rest, f"unknown members: {sorted(self.rest)}")


def read_file(text):
    """Reads the whole file; nothing in it is verified yet."""
    require(len(text) <= bounds.PROFILE_BYTES_MAX, "profile_too_long")
    try:
        return _read_whole(_Members(json.loads(text.decode("utf-8"), object_pairs_hook=_once)))
    except (ValueError, RecursionError) as error:
        raise Fault("profile_form", str(error)) from None
    except Fault as fault:
        raise fault if fault.code == "profile_unpacked" else Fault("profile_form", str(fault)) from None


def _read_whole(whole):
    _form(whole.take("format") == FORMAT, "the format")
    federation, question = hexadecimal(whole.take("federation"), 32), whole.take("question")
    manifests, logs = whole.take("manifests", list), whole.take("logs", list)
    left_out, without, read_whole = (whole.take(name, list) for name in ("left_out", "without", "whole"))
    whole.end()
    names = [*left_out, *without, *read_whole]
    _form(all(isinstance(name, str) for name in names), "a name")
    left_out, without = [_log_id(log) for log in left_out], [domain(home) for home in without]
    for listed in (left_out, without, read_whole):
        _form(all(a < b for a, b in pairwise(listed)), "names out of order")
    _form(len(manifests) < bounds.VERSIONS_MAX, "too many versions")
    _form(all(isinstance(note, str) for note in manifests), "a manifest")
    notes = [note.encode() for note in manifests]
    budget = [bounds.PROFILE_UNPACKED_BYTES_MAX]
    evidence = [_read_log(_Members(log), budget) for log in logs]
    return File(federation, question, notes, left_out, without, read_whole, evidence)


def _log_id(text):
    operator, _, generation = text.partition("/")
    log = Log(domain(operator), int(generation))
    _form(str(log) == text and 0 < log.generation <= bounds.U32_MAX, "a log")
    return log


def _read_log(members, budget):
    log = _log_id(members.take("log"))
    note, entry = members.take("checkpoint", needed=False), members.base64("entry", False)
    path, adopted = members.hashes("path", False), members.base64("adopted", False)
    roots, maps = members.hashes("roots"), members.take("maps", list)
    members.end()
    whole = [part is not None for part in (note, entry, path)]
    _form(all(whole) or not any(whole) and adopted is None, "half a certificate")
    _form(len(path or []) <= bounds.PROOF_HASHES_MAX, "path")
    if note is not None:
        note = parse_signed(note.encode(), bounds.CHECKPOINT_BYTES_MAX)
    adopted = None if adopted is None else read_adoption(adopted)
    return log, Evidence(note, entry, path, adopted, roots, [_read_map(_Members(one), budget) for one in maps])


def _read_map(members, budget):
    name, proof, packed = members.take("name"), members.base64("proof"), members.base64("rows")
    members.end()
    return MapEvidence(name, proof, unpack(packed, budget))


def unpack(packed, budget):
    """The rows in the order of their keys; refused if they could be packed shorter, or beyond the budget in bytes."""
    reader = Reader(packed)
    lengths = reader.sequence(lambda one: (one.u8(), one.u8(), one.u8(), one.u32()))
    rest = Reader(reader.blob())
    reader.end()
    found = [(b"", b"")]
    for key_shared, key_rest, value_shared, value_rest in lengths:
        before = found[-1]
        key = before[0][:key_shared] + rest.take(key_rest)
        value = before[1][:value_shared] + rest.take(value_rest)
        shared = _shared(key, before[0]), _shared(value, before[1])
        _form(shared == (key_shared, value_shared), "rows: not as short as can be")
        found.append((key + _left_out(key, value), value))
        budget[0] -= len(found[-1][0]) + len(value)
        require(budget[0] >= 0, "profile_unpacked")
    rest.end()
    ordered = all(a[0] < b[0] for a, b in pairwise(found))
    _form(ordered and all(len(key) <= bounds.KEY_BYTES_MAX for key, _ in found), "rows: their keys")
    return found[1:]


def _shared(one, before):
    count = 0
    for a, b in zip(one[:255], before, strict=False):
        if a != b:
            break
        count += 1
    return count


def _left_out(key, value):
    """The end of a statement's key, which follows from its value."""
    if key[:1] != bytes([rows.STATEMENT]):
        return b""
    row = read_row(key, value)
    return b"".join(blake3(text.encode()).digest() for text in (row.service, row.domain))
