"""The shape of events and notes: a first line, then `name: value` lines. PROTOCOL.md, Texts."""

import re

from .fault import Fault, require

_FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


class Lines:
    """Takes a text's values in the order of its format."""

    def __init__(self, raw, first_line, longest):
        require(len(raw) <= longest, "too_long", f"more than {longest} bytes")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Fault("not_utf8") from None
        require(text.startswith(first_line + "\n"), "first_line", f"not {first_line}")
        require(text.endswith("\n"), "no_newline")
        self.lines = text.split("\n")[1:-1]
        self.at = 0

    def value(self, wanted):
        """The value of the field that must come next."""
        require(self.at < len(self.lines), "missing_field", wanted)
        name, value = _split(self.lines[self.at])
        require(name == wanted, "wrong_field", f"{name!r} instead of {wanted!r}")
        self.at += 1
        return value

    def optional(self, wanted):
        """The value of the optional field that may come next; None if it is absent."""
        if self.at < len(self.lines) and self.lines[self.at].startswith(wanted + ":"):
            return self.value(wanted)
        return None

    def end(self):
        require(self.at == len(self.lines), "extra_line")


def _split(line):
    name, colon, value = line.partition(": ")
    require(colon, "no_colon", line[:40])
    require(value, "empty_value", name)
    require(not value.startswith(" ") and not value.endswith(" "), "outer_space", name)
    require(not _FORBIDDEN.search(value), "forbidden_character", name)
    return name, value
