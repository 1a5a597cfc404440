"""The manifest of a federation: who issues tokens by which keys, and which logs there are.

Whoever gives the genesis names the federation; each later version names the hash of the one before and is signed by
quorums of governance keys (`ledger/PROTOCOL.md`, The manifest, and Versions and cuts).

Not checked, because no honest operator signs a version that breaks it and a quorum has one: that the text is the
canonical one, policy, homes, addresses, the uses of keys, and which changes one version may make to another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .errors import FamaError
from .keys import decode_base64url, load_ed25519, verify_ed25519

MANIFEST_BYTES_MAX = 131_072
"""Longest version with its signatures, in bytes."""

VERSIONS_MAX = 1_000
PROTOCOL = 1
"""The newest protocol that this package knows. A later version of the manifest that names another is refused."""

_FIRST_LINE = 'format = "fama.manifest/1"\n'
_SIGNATURES_MAX = 128
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_TEXT_LINE = re.compile(r"(?:\[{1,2}[a-z_]+\]{1,2}|[a-z_]+ = .*)?")
_KEY = re.compile(r"ed25519:([0-9a-f]{64})")
_SIGNATURE_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+=*)")
_FRONTIER = re.compile(r"([1-9][0-9]{0,9})\.([A-Za-z0-9_-]+)")
_LEB128 = re.compile(rb"[\x80-\xff]{0,8}[\x00-\x7f]")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Operator:
    """`issuer` is the `iss` of its tokens, which any of its `token_keys` signs; `None` and no keys if it issues none.
    `generation` counts its logs from 1."""

    name: str
    governance_key: Ed25519PublicKey
    generation: int
    issuer: str | None
    token_keys: tuple[Ed25519PublicKey, ...]

    @property
    def log(self) -> str:
        return f"{self.name}/{self.generation}"


@dataclass(frozen=True, slots=True)
class Version:
    """One version. `hash` is BLAKE3 of the text, in hex.

    `logs` are those of this version and of all before it, cut ones too, in the order of frontiers. `cuts` has for each
    log that this version ends the version that the log had adopted there. `ends` has the final size of each log that
    this version or one before it ended.
    """

    number: int
    name: str
    text: str
    hash: str
    operators: tuple[Operator, ...]
    logs: tuple[str, ...]
    cuts: dict[str, int]
    ends: dict[str, int]

    @property
    def quorum(self) -> int:
        """How many of its operators must sign."""
        count = len(self.operators)
        return (count + (count - 1) // 3) // 2 + 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """All versions that are held, each verified, the genesis first. Made by `read` and `extended` only."""

    versions: tuple[Version, ...]

    @classmethod
    def read(cls, text: str) -> Manifest:
        """Reads the genesis, or a chain of versions as `GET /api/federation/manifests` answers it.

        Anybody can sign a genesis: take it, or compare `federation`, from somebody you trust. Raises `FamaError`
        `manifest_…`: why the first version that is refused was.
        """
        notes = _notes(text)
        note = _Note.read(next(notes))
        genesis = _read_version(note, None)
        if not all(note.is_signed_by(operator) for operator in genesis.operators):
            raise FamaError("manifest_signature", "not every operator signed the genesis")
        return cls((genesis,))._with(notes)

    def extended(self, chain: str) -> Manifest:
        """With the newer versions of a chain, which are verified; this one itself if there are none.

        Raises `FamaError`: `manifest_previous` for a chain with another text of a version held, else as `read`.
        """
        notes = _notes(chain)
        for held, text in zip(self.versions, notes, strict=False):
            if _Note.read(text).text != held.text:
                raise FamaError("manifest_previous", f"another text of version {held.number}")
        # `zip` asks the versions first, so it took no note of those beyond them.
        return self._with(notes)

    def _with(self, notes: Iterator[str]) -> Manifest:
        manifest = self
        for note in notes:
            manifest = manifest._successor(_Note.read(note))
        return manifest

    def _successor(self, note: _Note) -> Manifest:
        newest = self.newest
        if newest.number >= VERSIONS_MAX:
            raise FamaError("manifest_chain_too_long", f"more than {VERSIONS_MAX} versions")
        version = _read_version(note, self)
        for signing in sorted(self._signing(version)):
            by = self.versions[signing - 1]
            signed = sum(note.is_signed_by(operator) for operator in by.operators)
            if signed < by.quorum:
                raise FamaError("manifest_quorum", f"{signed} of version {signing} signed, {by.quorum} must")
        return Manifest((*self.versions, version))

    def _signing(self, version: Version) -> set[int]:
        """Whose quorums must sign: the version before and, for each log that ends, those that certified its end."""
        signing = {self.newest.number}
        for log, adopted in version.cuts.items():
            since = next((one.number for one in self.versions if log in one.logs), None)
            if since is None or (adopted and not since <= adopted < version.number):
                raise FamaError("manifest_succession", f"{log} cannot be cut at version {adopted}")
            # A log that never began counts as at the version that brought it.
            adopted = max(adopted, since)
            signing |= {adopted, max(adopted - 1, since)}
        return signing

    @property
    def newest(self) -> Version:
        return self.versions[-1]

    @property
    def federation(self) -> str:
        """The federation's id: the hash of the genesis, in hex."""
        return self.versions[0].hash

    def operator_of(self, issuer: str) -> Operator | None:
        """The operator of the newest version whose issuer this is."""
        return next((one for one in self.newest.operators if one.issuer == issuer), None)

    def read_frontier(self, text: str) -> dict[str, int]:
        """The size of each log at a frontier as tokens and the ids of `/api/stream` have it: `<version>.<sizes>`.

        Raises `FamaError`: `later_version` (503) for a version that is not held, `bad_cursor` (400) for another form.
        """
        malformed = FamaError("bad_cursor", "want a frontier, like the id of an event", status=400)
        match = _FRONTIER.fullmatch(text)
        encoded = decode_base64url(match[2]) if match else None
        if match is None or encoded is None:
            raise malformed
        number = int(match[1])
        if number > self.newest.number:
            raise FamaError("later_version", f"version {number} of the manifest is not held here", status=503)
        sizes, at = {}, 0
        for log in self.versions[number - 1].logs:
            size = _LEB128.match(encoded, at)
            if size is None:
                raise malformed
            sizes[log], at = sum((byte & 0x7F) << 7 * i for i, byte in enumerate(size[0])), size.end()
        if at < len(encoded):
            raise malformed
        return sizes


def _notes(chain: str) -> Iterator[str]:
    """Each begins at a line with the format; what is before the first is a note too, and none that can be read."""
    begins = [0] + [match.start() + 1 for match in re.finditer("\n" + re.escape(_FIRST_LINE), chain)]
    return (chain[begin:end] for begin, end in zip(begins, [*begins[1:], len(chain)], strict=True))


@dataclass(frozen=True, slots=True)
class _Note:
    """A signed note (c2sp.org/signed-note): a text, and in each line a name, the id of a key and a signature."""

    text: str
    lines: list[tuple[str, bytes, bytes]]

    @classmethod
    def read(cls, note: str) -> _Note:
        if len(note.encode("utf-8", "replace")) > MANIFEST_BYTES_MAX:
            raise FamaError("manifest_too_long", f"more than {MANIFEST_BYTES_MAX} bytes")
        text, gap, tail = note.rpartition("\n\n")
        lines = tail.split("\n")
        if not gap or lines.pop() or not 0 < len(lines) <= _SIGNATURES_MAX or _CONTROL.search(note):
            raise FamaError("manifest_note", "want a text, an empty line and the lines of signatures")
        return cls(text + "\n", [cls._line(line) for line in lines])

    @staticmethod
    def _line(line: str) -> tuple[str, bytes, bytes]:
        match = _SIGNATURE_LINE.fullmatch(line)
        try:
            signature = base64.b64decode(match[2], validate=True) if match else b""
        except binascii.Error:
            signature = b""
        if match is None or len(signature) < 5 or base64.b64encode(signature).decode() != match[2]:
            raise FamaError("manifest_note", "a line of a signature is malformed")
        return match[1], signature[:4], signature[4:]

    def is_signed_by(self, operator: Operator) -> bool:
        """Whether its governance key signed; a line of that key that does not hold is an error."""
        key = operator.governance_key
        key_id = hashlib.sha256(operator.name.encode() + b"\n\x01" + key.public_bytes_raw()).digest()[:4]
        signatures = [line[2] for line in self.lines if line[:2] == (operator.name, key_id)]
        if not all(verify_ed25519(key, self.text.encode(), signature) for signature in signatures):
            raise FamaError("manifest_signature", f"a signature of {operator.name} does not hold")
        return bool(signatures)


def _take(table: dict[str, Any], name: str, kind: type[T]) -> T:
    value = table.get(name)
    # TOML's numbers have 64 bits, Python's any.
    if type(value) is not kind or (isinstance(value, int) and not -1 << 63 <= value < 1 << 63):
        raise FamaError("manifest_toml", f"{name} is missing or of another type")
    return value


def _tables(table: dict[str, Any], name: str) -> list[dict[str, Any]]:
    tables = _take(table, name, list) if name in table else []
    if not all(isinstance(one, dict) for one in tables):
        raise FamaError("manifest_toml", f"{name} is no list of tables")
    return tables


def _read_version(note: _Note, before: Manifest | None) -> Version:
    """Reads the genesis, or the version after those of `before`, without its signatures."""
    if not note.text.startswith(_FIRST_LINE):
        raise FamaError("manifest_format", "the first line is not that of a manifest")
    # Dotted keys and nested tables, which no manifest has, cost `tomllib` minutes.
    if not all(map(_TEXT_LINE.fullmatch, note.text.split("\n"))):
        raise FamaError("manifest_toml", "a line is neither a table nor a value")
    try:
        table = tomllib.loads(note.text)
    except (ValueError, RecursionError) as error:
        raise FamaError("manifest_toml", f"not the TOML of a manifest: {error}") from error
    if "protocol" in table and (protocol := _take(table, "protocol", int)) != PROTOCOL:
        raise FamaError("manifest_protocol", f"protocol {protocol} is not known here: install a newer release")
    number, wanted = _take(table, "version", int), before.newest.number + 1 if before else 1
    if number != wanted:
        raise FamaError("manifest_version", f"version {number}, want {wanted}")
    name = _take(table, "name", str)
    if before:
        said = (_take(table, "federation", str), _take(table, "previous", str), name)
        if said != (before.federation, before.newest.hash, before.newest.name):
            raise FamaError("manifest_previous", f"version {number} does not follow the one that is held")
    operators = tuple(_read_operator(one) for one in _tables(table, "operators"))
    cut = _tables(table, "cuts")
    names = [f"{_take(one, 'operator', str)}/{_take(one, 'generation', int)}" for one in cut]
    if not operators or (cut and not before):
        raise FamaError("manifest_value", "want operators, and no cuts in a genesis")
    logs = {one.log for one in operators}.union(before.newest.logs if before else ())
    ends = dict(before.newest.ends) if before else {}
    ends.update(zip(names, (_take(one, "size", int) for one in cut), strict=True))
    return Version(
        number=number,
        name=name,
        text=note.text,
        hash=blake3(note.text.encode()).hex(),
        operators=operators,
        logs=tuple(sorted(logs, key=_order)),
        cuts=dict(zip(names, (_take(one, "adopted", int) for one in cut), strict=True)),
        ends=ends,
    )


def _order(log: str) -> tuple[str, int]:
    operator, _, generation = log.rpartition("/")
    return operator, int(generation)


def _read_operator(table: dict[str, Any]) -> Operator:
    keys = _take(table, "token_keys", list) if "token_keys" in table else []
    return Operator(
        name=_take(table, "name", str),
        governance_key=_ed25519(_take(table, "governance_key", str)),
        generation=_take(table, "generation", int),
        issuer=_take(table, "issuer", str) if "issuer" in table else None,
        token_keys=tuple(_ed25519(key) for key in keys),
    )


def _ed25519(text: object) -> Ed25519PublicKey:
    match = _KEY.fullmatch(text) if isinstance(text, str) else None
    key = load_ed25519(bytes.fromhex(match[1])) if match else None
    if key is None:
        raise FamaError("manifest_value", "want ed25519: and the 64 hex digits of a key")
    return key


_IV: tuple[int, ...] = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_MIXED = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
          (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))  # fmt: skip
_CHUNK_START, _CHUNK_END, _PARENT, _ROOT = 1, 2, 4, 8
_WORD = 0xFFFFFFFF


def _compress(chain: tuple[int, ...], block: bytes, counter: int, flags: int) -> tuple[int, ...]:
    m = struct.unpack("<16I", block.ljust(64, b"\0"))
    v = [*chain, *_IV[:4], counter & _WORD, counter >> 32, len(block), flags]
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(_MIXED):
            for word, x, y in ((m[2 * i], 16, 12), (m[2 * i + 1], 8, 7)):
                v[a] = (v[a] + v[b] + word) & _WORD
                turned = v[d] ^ v[a]
                v[d] = (turned >> x | turned << 32 - x) & _WORD
                v[c] = (v[c] + v[d]) & _WORD
                turned = v[b] ^ v[c]
                v[b] = (turned >> y | turned << 32 - y) & _WORD
        m = tuple(m[i] for i in _ORDER)
    return tuple(v[i] ^ v[i + 8] for i in range(8))


def _subtree(data: bytes, counter: int, root: int) -> tuple[int, ...]:
    if len(data) <= 1024:
        chain, blocks = _IV, [data[at : at + 64] for at in range(0, len(data), 64)] or [b""]
        for i, block in enumerate(blocks):
            last = i == len(blocks) - 1
            flags = (_CHUNK_START if i == 0 else 0) | (_CHUNK_END | root if last else 0)
            chain = _compress(chain, block, counter, flags)
        return chain
    # The left side has as many chunks as the largest power of two that leaves some.
    left = 1024 << ((len(data) - 1) // 1024).bit_length() - 1
    sides = _subtree(data[:left], counter, 0) + _subtree(data[left:], counter + left // 1024, 0)
    return _compress(_IV, struct.pack("<16I", *sides), 0, _PARENT | root)


def blake3(data: bytes) -> bytes:
    """BLAKE3 without a key, 32 bytes long.."""
    return struct.pack("<8I", *_subtree(data, 0, _ROOT))
