"""Proofs about a map for a reader that has only its root. PROTOCOL.md, State maps."""

from blake3 import blake3

from . import bounds
from .codec import Reader
from .fault import Fault, require
from .maps import EMPTY_ROOT, hash_leaf, hash_node, prefix

_LEFT, _RIGHT, _NODE, _ROW, _ROWS = 0x0000, 0x4000, 0x8000, 0xC000, 0xC001
_KIND, _DEPTH = 0xC000, 0x3FFF


def fork(a, b):
    """The number of leading bits that the two share."""
    count = min(len(a), len(b))
    differing = int.from_bytes(a[:count], "big") ^ int.from_bytes(b[:count], "big")
    return 8 * count - differing.bit_length()


def _bit(key, depth):
    return key[depth // 8] >> 7 - depth % 8 & 1


def _malformed(condition, what):
    require(condition, "proof_malformed", what)


class Climb:
    """Builds a tree from its items and the hidden subtrees next to them, from left to right."""

    def __init__(self):
        self.stack = []
        self.lefts = []
        self.key = None
        self.bits = self.top = 0
        self.hash = EMPTY_ROOT

    def left(self, depth, hidden):
        self.lefts.append((depth, hidden))

    def item(self, key, bits, item):
        pushed = -1
        if self.key is not None:
            pushed = fork(self.key, key)
            _malformed(pushed < min(bits, self.top) and _bit(key, pushed), "items out of order")
            self._close(pushed)
            self.stack.append((pushed, self.hash))
        for depth, hidden in self.lefts:
            _malformed(pushed < depth < bits and _bit(key, depth), "a left where none is")
            self.stack.append((depth, hidden))
            pushed = depth
        self.lefts = []
        self.key, self.bits, self.top, self.hash = key, bits, bits, item

    def right(self, depth, hidden):
        _malformed(self.key is not None and not self.lefts, "a right beside nothing")
        _malformed(depth < self.top and not _bit(self.key, depth), "a right where none is")
        self._close(depth)
        self.hash, self.top = hash_node(depth, self.key, self.hash, hidden), depth

    def _close(self, depth):
        while self.stack and self.stack[-1][0] > depth:
            above, left = self.stack.pop()
            self.hash = hash_node(above, self.key, left, self.hash)

    def deepest(self):
        """The depth of the node directly above the last item, so far; -1 if there is none."""
        return self.stack[-1][0] if self.stack else -1

    def end(self):
        _malformed(not self.lefts, "a left beside nothing")
        self._close(-1)
        return self.hash


class _MapProof:
    def __init__(self, answers):
        self.prefixes = [prefix for prefix, _ in answers]
        self.told = [(prefix, rows) for prefix, rows in answers if rows]
        self.climb = Climb()
        # Key and depth of the last item if it is an other.
        self.other = None

    def meets(self, key, bits):
        """Whether a key can begin with both these bits and one of the prefixes."""
        return any(fork(key, one) >= min(bits, 8 * len(one)) for one in self.prefixes)

    def _shows(self, key, depth):
        """Checks that the subtree hidden next to the key at this depth holds nothing that was asked for."""
        _malformed(depth < 8 * len(key), "hidden below its item")
        turned = bytearray(key)
        turned[depth // 8] ^= 0x80 >> depth % 8
        require(not self.meets(bytes(turned), depth + 1), "proof_claim", "a row asked for may be hidden")

    def _had_to_be(self, depth):
        """Checks that the last item, if an other, is on the way to a prefix; `depth` is the next event's."""
        if self.other is not None:
            deepest = max(depth, self.climb.deepest())
            _malformed(deepest < 0 or self.meets(self.other, deepest + 1), "shown without need")
        self.other = None

    def item(self, key, bits, item):
        self._had_to_be(-1 if self.climb.key is None else fork(self.climb.key, key))
        for depth, _ in self.climb.lefts:
            self._shows(key, depth)
        self.climb.item(key, bits, item)

    def run(self, steps, keys, hashes):
        for step in steps:
            kind, depth = step & _KIND, step & _DEPTH
            if kind == _LEFT:
                self.climb.left(depth, _next(hashes))
            elif kind == _RIGHT:
                _malformed(self.climb.key is not None, "a right beside nothing")
                self._had_to_be(depth)
                self._shows(self.climb.key, depth)
                self.climb.right(depth, _next(hashes))
            elif kind == _NODE:
                self._node(_next(keys), depth, _next(hashes), _next(hashes))
            elif step == _ROW:
                self._row(_next(keys), _next(hashes))
            else:
                _malformed(step == _ROWS, "no such step")
                self._rows()
        self._had_to_be(-1)
        root = self.climb.end()
        for rest in (keys, hashes):
            _malformed(next(rest, None) is None, "more than its steps take")
        require(not self.told, "proof_claim", "rows that it does not show")
        return root

    def _node(self, key, depth, left, right):
        _malformed(len(key) == (depth + 7) // 8 and prefix(key + b"\0", depth) == key, "the bits of a node")
        require(not self.meets(key, depth), "proof_claim", "a node above rows asked for")
        self.item(key, depth, hash_node(depth, key, left, right))
        self.other = key

    def _row(self, key, value_hash):
        _malformed(1 <= len(key) <= bounds.KEY_BYTES_MAX, "a key's length")
        asked = any(key.startswith(one) for one in self.prefixes)
        require(not asked, "proof_claim", "a row asked for is shown as another")
        self.item(key, 8 * len(key), hash_leaf(key, value_hash))
        self.other = key

    def _rows(self):
        require(self.told, "proof_claim", "rows that nobody told of")
        begin, rows = self.told.pop(0)
        for key, value in rows:
            require(key.startswith(begin), "proof_claim", "a row of another prefix")
            _malformed(1 <= len(key) <= bounds.KEY_BYTES_MAX, "a key's length")
            self.item(key, 8 * len(key), hash_leaf(key, blake3(value).digest()))


def _next(values):
    value = next(values, None)
    _malformed(value is not None, "fewer than its steps take")
    return value


def _check_prefixes(prefixes):
    fits = 1 <= len(prefixes) <= bounds.PREFIXES_MAX
    fits = fits and all(1 <= len(one) <= bounds.KEY_BYTES_MAX for one in prefixes)
    pairs = zip(prefixes, prefixes[1:], strict=False)
    require(fits and all(a < b and not b.startswith(a) for a, b in pairs), "proof_key", "the prefixes")


def check_map_proof(root, encoded, answers):
    """Checks that the map has exactly these rows below the prefixes; `answers` pairs each prefix with its rows."""
    _check_prefixes([one for one, _ in answers])
    reader = _reader(encoded, bounds.MAP_PROOF_BYTES_MAX)
    steps = reader.sequence(Reader.u16)
    keys, hashes = reader.sequence(Reader.blob), reader.sequence(Reader.hash)
    reader.end()
    require(_MapProof(answers).run(steps, iter(keys), iter(hashes)) == root, "proof_root")


def check_range_proof(root, encoded, start, rows):
    """Checks that these are the map's first rows from `start` on; returns whether the map ends with them."""
    reader = _reader(encoded, bounds.RANGE_PROOF_BYTES_MAX)
    before = reader.optional(lambda one: (one.blob(), one.hash()))
    lefts, rights = (reader.sequence(lambda one: (one.u16(), one.hash())) for _ in range(2))
    reader.end()
    _malformed(before or not lefts, "lefts beside no row")
    _malformed(rows or not rights, "rights beside no row")
    climb = Climb()
    for left in lefts:
        climb.left(*left)
    if before:
        require(before[0] < start, "proof_claim", "the row before is not")
        climb.item(before[0], 8 * len(before[0]), hash_leaf(*before))
    for key, value in rows:
        require(key >= start, "proof_claim", "a row before the range")
        climb.item(key, 8 * len(key), hash_leaf(key, blake3(value).digest()))
    for right in rights:
        climb.right(*right)
    require(climb.end() == root, "proof_root")
    return not rights


def _reader(encoded, longest):
    if len(encoded) > longest:
        raise Fault("too_long", f"a proof of {len(encoded)} bytes")
    return Reader(encoded)
