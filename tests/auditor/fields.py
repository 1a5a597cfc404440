"""The types of event fields: text form and bytes. PROTOCOL.md, Texts and The codec."""

import re
from collections.abc import Callable
from typing import NamedTuple

from . import bounds, codec, days, keys
from .fault import Fault, require

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_WORD = re.compile(r"[a-z0-9._-]+")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_LOWER_HEX = re.compile(r"[0-9a-f]*")


class FieldType(NamedTuple):
    """`parse` and `show` refuse with `bad_value`; `show` may also refuse a value that `read` gave."""

    parse: Callable
    show: Callable
    read: Callable
    write: Callable


def hexadecimal(text, count):
    require(len(text) == 2 * count and _LOWER_HEX.fullmatch(text), "bad_value", "not lower-case hex")
    return bytes.fromhex(text)


def domain(text):
    fits = len(text) <= bounds.DOMAIN_BYTES_MAX and _DOMAIN.fullmatch(text)
    require(fits, "bad_value", "not a domain")
    return text


def _name(text):
    fits = bounds.NAME_BYTES_MIN <= len(text) <= bounds.NAME_BYTES_MAX and _NAME.fullmatch(text)
    require(fits, "bad_value", "not a name")
    return text


def _word(longest):
    def parse(text):
        require(len(text) <= longest and _WORD.fullmatch(text), "bad_value", "not a word")
        return text

    return parse


def _scope(text):
    fits = len(text) <= bounds.SCOPE_BYTES_MAX and _SCOPE.fullmatch(text)
    require(fits, "bad_value", "not a scope")
    return text


def _hash_of(text):
    require(text.startswith("sha256:"), "bad_value", "not a SHA-256")
    return hexadecimal(text[7:], 32)


def _key(text):
    try:
        return keys.parse_key(text)
    except Fault as fault:
        raise Fault("bad_value", fault.code) from None


def _integer(least, most):
    def parse(text):
        require(_INTEGER.fullmatch(text) and len(text) < 30, "bad_value", "not an integer")
        require(least <= int(text) <= most, "bad_value", "an integer out of range")
        return int(text)

    return parse


def _string(parse):
    return FieldType(parse, str, codec.Reader.string, codec.string)


def _one_of(*words):
    def parse(text):
        require(text in words, "bad_value", "not one of the words that may stand here")
        return text

    return FieldType(
        parse,
        str,
        lambda reader: words[reader.variant(len(words))],
        lambda word: codec.u32(words.index(word)),
    )


DOMAIN = _string(domain)
NAME = _string(_name)
SERVICE = _string(_word(bounds.SERVICE_BYTES_MAX))
CONTEXT = _string(_word(bounds.CONTEXT_BYTES_MAX))
SCOPE = _string(_scope)
HASH = FieldType(lambda text: hexadecimal(text, 32), bytes.hex, codec.Reader.hash, bytes)
COMMITMENT = FieldType(_hash_of, lambda raw: f"sha256:{raw.hex()}", codec.Reader.hash, bytes)
KEY = FieldType(_key, keys.Key.text, keys.read_key, keys.Key.encode)
VERSION = FieldType(_integer(1, bounds.U32_MAX), str, codec.Reader.u32, codec.u32)
DELTA = FieldType(_integer(bounds.I32_MIN, bounds.I32_MAX), str, codec.Reader.i32, codec.i32)
FROM = FieldType(_integer(0, bounds.I63_MAX), str, codec.Reader.u64, codec.u64)
DAY = FieldType(days.parse_day, days.show_day, codec.Reader.u32, codec.u32)
TIME = FieldType(days.parse_time, days.show_time, codec.Reader.u64, codec.u64)
NONCE = FieldType(lambda text: hexadecimal(text, 8), bytes.hex, lambda reader: reader.take(8), bytes)
REVOCATION = _one_of("key_compromised", "superseded", "retired", "unspecified")
DISMISSAL = _one_of("misconduct", "key_compromised", "expired", "unspecified")
SUSPENSION = _one_of("misconduct", "key_compromised", "unspecified")
METHOD = _one_of("dns", "https", "manual")
