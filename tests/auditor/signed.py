"""Signed notes (c2sp.org/signed-note), checkpoints and cosignatures. PROTOCOL.md, Signed notes and proofs."""

import base64
import binascii
import hashlib
import re
from typing import NamedTuple

from . import bounds, keys
from .fault import Fault, require

SIGNATURE, COSIGNATURE = 1, 4
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}")


class Line(NamedTuple):
    name: str
    key_id: bytes
    payload: bytes


class Note(NamedTuple):
    text: bytes
    lines: list

    def lines_of(self, name, key, kind):
        """The signatures with this name and key id, unverified."""
        wanted = key_id(name, key, kind)
        return [line.payload for line in self.lines if (line.name, line.key_id) == (name, wanted)]


class Head(NamedTuple):
    size: int
    root: bytes


def key_id(name, key, kind):
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key.raw).digest()[:4]


def canonical_base64(text):
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == text else None


def parse_signed(raw, longest):
    require(len(raw) <= longest, "note_too_long", f"more than {longest} bytes")
    try:
        whole = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Fault("note_text", "not UTF-8") from None
    require(not _CONTROL.search(whole), "note_text", "a control character")
    text, gap, lines = whole.rpartition("\n\n")
    require(gap and lines.endswith("\n"), "note_form")
    lines = lines[:-1].split("\n")
    require(len(lines) <= bounds.SIGNATURES_MAX, "note_signatures")
    return Note((text + "\n").encode("utf-8"), [_parse_line(line) for line in lines])


def _parse_line(line):
    parts = line.split(" ")
    require(len(parts) == 3 and parts[0] == "\u2014", "note_signature_line")
    _, name, encoded = parts
    named = name and "+" not in name and not any(character.isspace() for character in name)
    payload = canonical_base64(encoded)
    require(named and payload and len(payload) > 4, "note_signature_line")
    return Line(name, payload[:4], payload[4:])


def holds(note, name, key):
    """Whether this key signed the note; a wrong line of it is `note_signature`."""
    payloads = note.lines_of(name, key, SIGNATURE)
    for payload in payloads:
        _check(key, note.text, payload, "note_signature", name)
    return bool(payloads)


def _check(key, message, payload, code, name):
    try:
        require(len(payload) == 64, "signature_malformed")
        keys.verify(key, message, keys.Signature("ed25519", payload))
    except Fault as fault:
        raise Fault(code, f"{name}: {fault}") from None


def origin_of(federation, operator, generation):
    return f"fama/{federation.hex()}/{operator}/{generation}"


def parse_checkpoint(text):
    """Origin and head of a checkpoint's text."""
    lines = text.decode("utf-8").split("\n")
    require(len(lines) == 4 and not lines[3], "checkpoint_text", "not three lines")
    origin, size, root = lines[0], lines[1], canonical_base64(lines[2])
    require(_DECIMAL.fullmatch(size) and int(size) <= bounds.SIZE_MAX, "checkpoint_text", "the size")
    require(root is not None and len(root) == 32, "checkpoint_text", "the root")
    return origin, Head(int(size), root)


def open_checkpoint(note, origin, owner):
    """The head that the log's owner signed."""
    found, head = parse_checkpoint(note.text)
    require(found == origin, "checkpoint_unknown_origin", found)
    try:
        require(holds(note, origin, owner), "checkpoint_unsigned", origin)
    except Fault as fault:
        code = "checkpoint_signature" if fault.code == "note_signature" else fault.code
        raise Fault(code, fault.what) from None
    return head


def cosigners(note, operators):
    """Which of these operators (name to node key) cosigned the note, and at which second."""
    seconds = {}
    for name, key in operators.items():
        payloads = note.lines_of(name, key, COSIGNATURE)
        require(len(payloads) <= 1, "checkpoint_cosigned_twice", name)
        for payload in payloads:
            seconds[name] = _check_cosignature(note.text, payload, name, key)
    return seconds


def _check_cosignature(text, payload, name, key):
    require(len(payload) == 72, "checkpoint_cosignature", name)
    second = int.from_bytes(payload[:8], "big")
    require(second <= bounds.I63_MAX, "checkpoint_cosignature", f"{name}: its time")
    message = f"cosignature/v1\ntime {second}\n".encode() + text
    _check(key, message, payload[8:], "checkpoint_cosignature", name)
    return second
