"""Which versions' quorums must have cosigned a head, and where a log adopted a version. PROTOCOL.md, Public files."""

from typing import NamedTuple

from . import bounds
from .codec import Reader
from .event import Adopt, decode_entry
from .fault import Fault, require
from .tree import leaf_hash, root_of_proof


def certifying(chain, log, version, end, size):
    """The versions that count at a head of `size`, where the batch that adopts `version` ends at `end`."""
    at_its_end = end == size and version != chain.born[log]
    return [version, version - 1] if at_its_end else [version]


class Adoption(NamedTuple):
    index: int
    entry: bytes
    path: list

    def end(self):
        return self.index + 2

    def version(self, head, chain):
        """The version that the log with this head is shown to have adopted."""
        try:
            body = decode_entry(self.entry).body
        except Fault:
            body = None
        require(isinstance(body, Adopt), "adoption_entry", "adopts nothing")
        root = root_of_proof(self.index, head.size, leaf_hash(self.entry), self.path)
        require(root == head.root, "proof_root", "the adoption")
        held = 1 <= body.version <= len(chain) and chain[body.version].hash == body.hash
        require(held and self.end() <= head.size, "adoption_entry", f"version {body.version}")
        return body.version


def read_adoption(raw):
    reader = Reader(raw)
    adoption = Adoption(reader.u64(), reader.blob(), reader.sequence(Reader.hash))
    reader.end()
    require(len(adoption.entry) <= bounds.ENTRY_BYTES_MAX, "malformed_encoding", "too long an entry")
    return adoption


def certifying_shown(chain, log, version, head, shown):
    """Like `certifying`, for a log whose row names `version`; `shown` is the adoption of it."""
    if version == chain.born[log]:
        require(shown is None, "adoption_superfluous", f"version {version} brought the log")
        return [version]
    require(shown is not None, "adoption_missing", f"version {version}")
    require(shown.version(head, chain) == version, "adoption_entry", f"not version {version}")
    return certifying(chain, log, version, shown.end(), head.size)
