"""Notes: free text to which an event only commits. PROTOCOL.md, Texts."""

import hashlib

from . import bounds
from .fault import require
from .fields import hexadecimal
from .text import Lines


def parse_note(raw):
    """The salt and the other fields of a note, by name."""
    lines = Lines(raw, "fama.note/1", bounds.NOTE_BYTES_MAX)
    said = {"salt": hexadecimal(lines.value("salt"), 32), "bio": lines.optional("bio")}
    if said["bio"] is None:
        for name, longest in (("reason", bounds.REASON_BYTES_MAX), ("ref", bounds.REF_BYTES_MAX)):
            value = said[name] = lines.optional(name)
            fits = value is None or len(value.encode("utf-8")) <= longest
            require(fits, "bad_value", f"a {name} of more than {longest} bytes")
    lines.end()
    return said


def note_hash(raw):
    return hashlib.sha256(raw).digest()
