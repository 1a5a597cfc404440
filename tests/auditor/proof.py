"""Proofs of inclusion as files (c2sp.org/tlog-proof). PROTOCOL.md, Signed notes and proofs."""

import re
from typing import NamedTuple

from .bounds import PROOF_BYTES_MAX, PROOF_HASHES_MAX
from .fault import Fault, require
from .signed import canonical_base64
from .tree import leaf_hash, root_of_proof

_INDEX = re.compile(r"index (0|[1-9][0-9]{0,19})")


class Proof(NamedTuple):
    index: int
    path: list
    checkpoint: bytes


def parse_proof(raw):
    require(len(raw) <= PROOF_BYTES_MAX, "proof_too_long")
    try:
        head, gap, checkpoint = raw.decode("utf-8").partition("\n\n")
    except UnicodeDecodeError:
        raise Fault("proof_form", "not UTF-8") from None
    lines = head.split("\n")
    require(gap and lines.pop(0) == "c2sp.org/tlog-proof@v1", "proof_form")
    if lines and lines[0].startswith("extra "):
        require(canonical_base64(lines.pop(0)[6:]) is not None, "proof_form")
    index = _INDEX.fullmatch(lines.pop(0)) if lines else None
    require(index, "proof_form")
    path = [canonical_base64(line) for line in lines]
    require(all(hash and len(hash) == 32 for hash in path), "proof_form")
    require(len(path) <= PROOF_HASHES_MAX, "proof_form")
    return Proof(int(index[1]), path, checkpoint.encode("utf-8"))


def check_inclusion(proof, entry, head):
    root = root_of_proof(proof.index, head.size, leaf_hash(entry), proof.path)
    require(root == head.root, "proof_root")
