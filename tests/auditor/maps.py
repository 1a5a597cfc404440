"""State maps: rows under keys, and the Patricia tree over them; section 7."""

from collections import Counter

from blake3 import blake3

from .codec import sequence, string, u16

EMPTY_ROOT = bytes(32)
_KEY_BITS = 1024
_OWNER_BYTES = 33


class _Leaf:
    __slots__ = ("path", "key", "hash")

    def __init__(self, path, key):
        self.path, self.key, self.hash = path, key, None


class _Inner:
    """Two sides that first differ at bit `depth`; `hash` is None where something below changed.

    `key` is one of the keys below.
    """

    __slots__ = ("depth", "sides", "key", "hash")

    def __init__(self, depth, sides, key):
        self.depth, self.sides, self.key, self.hash = depth, sides, key, None


def _path(key):
    """The key's bits from the most significant on, as one integer of a fixed width."""
    return int.from_bytes(key, "big") << _KEY_BITS - 8 * len(key)


def _bit(path, depth):
    return path >> _KEY_BITS - 1 - depth & 1


def _hash_leaf(key, value):
    return blake3(b"\0" + u16(len(key)) + key + blake3(value).digest()).digest()


def _prefix(key, depth):
    whole, rest = divmod(depth, 8)
    return key[:whole] + bytes([key[whole] & 0xFF00 >> rest & 0xFF] if rest else [])


def _hash(node):
    """The node's hash; computes those below that changed."""
    if node.hash is None:
        left, right = node.sides
        prefix = _prefix(node.key, node.depth)
        begin = b"\1" + u16(node.depth) + prefix
        node.hash = blake3(begin + _hash(left) + _hash(right)).digest()
    return node.hash


class Map:
    """Rows by key; a row's value is anything with `encode`."""

    def __init__(self):
        self.rows = {}
        self.by_owner = Counter()
        self._changed = set()
        self._top = None

    def get(self, key, default=None):
        return self.rows.get(key, default)

    def put(self, key, row):
        if key not in self.rows:
            self.by_owner[key[:_OWNER_BYTES]] += 1
        self.rows[key] = row
        self._changed.add(key)

    def owned(self, prefix):
        """How many rows begin with this tag and id."""
        return self.by_owner[prefix]

    def root(self):
        for key in self._changed:
            self._insert(key, self.rows[key].encode())
        self._changed.clear()
        return EMPTY_ROOT if self._top is None else _hash(self._top)

    def _insert(self, key, value):
        path = _path(key)
        leaf = self._leaf(path, key)
        leaf.hash = _hash_leaf(key, value)
        node = self._top
        while node is not leaf:
            node.hash = None
            node = node.sides[_bit(path, node.depth)]

    def _leaf(self, path, key):
        """The leaf of this key, put into the tree where it is new."""
        if self._top is None:
            self._top = _Leaf(path, key)
            return self._top
        node = self._top
        while isinstance(node, _Inner):
            node = node.sides[_bit(path, node.depth)]
        if node.path == path and node.key == key:
            return node
        leaf = _Leaf(path, key)
        self._put_leaf(leaf, _KEY_BITS - (node.path ^ path).bit_length())
        return leaf

    def _put_leaf(self, leaf, depth):
        above, node = None, self._top
        while isinstance(node, _Inner) and node.depth < depth:
            above, node = node, node.sides[_bit(leaf.path, node.depth)]
        sides = [node, leaf] if _bit(leaf.path, depth) else [leaf, node]
        inner = _Inner(depth, sides, leaf.key)
        if above is None:
            self._top = inner
        else:
            above.sides[_bit(leaf.path, above.depth)] = inner


def state_root(maps):
    """The root over the maps that a log carries, by name."""
    rows = sorted(maps.items())
    return blake3(sequence(rows, lambda row: string(row[0]) + row[1].root())).digest()
