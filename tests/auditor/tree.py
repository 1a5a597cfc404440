"""RFC 6962 trees and their proofs. PROTOCOL.md, Signed notes and proofs."""

import hashlib

from .bounds import PROOF_HASHES_MAX
from .fault import require

EMPTY = hashlib.sha256(b"").digest()


def leaf_hash(entry):
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """The hashes of all complete subtrees: `levels[k][i]` covers leaves from i·2ᵏ on."""

    def __init__(self, leaves):
        self.levels = [leaves]
        while len(self.levels[-1]) > 1:
            below = self.levels[-1]
            pairs = range(0, len(below) - 1, 2)
            self.levels.append([node_hash(below[i], below[i + 1]) for i in pairs])

    def __len__(self):
        return len(self.levels[0])

    def root(self, size):
        """The root of the first `size` leaves."""
        root = None
        for level in range(size.bit_length()):
            if size >> level & 1:
                complete = self.levels[level][(size >> level) - 1]
                root = complete if root is None else node_hash(complete, root)
        return EMPTY if root is None else root


def root_of_proof(index, size, leaf, path):
    """The root to which an inclusion proof leads (RFC 9162, section 2.1.3.2)."""
    require(index < size, "proof_range", f"index {index} of {size}")
    require(len(path) <= PROOF_HASHES_MAX, "proof_length")
    first, last, root = index, size - 1, leaf
    for sibling in path:
        require(last, "proof_length", "too many hashes")
        if first & 1 or first == last:
            root = node_hash(sibling, root)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        first, last = first >> 1, last >> 1
    require(last == 0, "proof_length", "too few hashes")
    return root
