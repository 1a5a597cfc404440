"""State maps: rows under keys, and the Patricia tree over them. PROTOCOL.md, State maps."""

from collections import Counter, defaultdict

from blake3 import blake3

from .codec import sequence, string, u16

EMPTY_ROOT = bytes(32)
_KEY_BITS = 1024
_OWNER_BYTES = 33
_PAIR_BYTES = 65
_DID_BYTES = 17


class _Leaf:
    __slots__ = ("path", "key", "hash")

    def __init__(self, path, key):
        self.path, self.key, self.hash = path, key, None


class _Inner:
    """An inner node whose sides first differ at bit `depth`; `hash` is None if something below it changed.

    `key` is one of the keys below.
    """

    __slots__ = ("depth", "sides", "key", "hash")

    def __init__(self, depth, sides, key):
        self.depth, self.sides, self.key, self.hash = depth, sides, key, None


def _path(key):
    """The key's bits, the most significant first, as one integer of fixed width."""
    return int.from_bytes(key, "big") << _KEY_BITS - 8 * len(key)


def _bit(path, depth):
    return path >> _KEY_BITS - 1 - depth & 1


def hash_leaf(key, value_hash):
    return blake3(b"\0" + u16(len(key)) + key + value_hash).digest()


def hash_node(depth, key, left, right):
    """The hash of the inner node above the keys that share the first `depth` bits of this one."""
    return blake3(b"\1" + u16(depth) + prefix(key, depth) + left + right).digest()


def prefix(key, depth):
    whole, rest = divmod(depth, 8)
    return key[:whole] + bytes([key[whole] & 0xFF00 >> rest & 0xFF] if rest else [])


def _hash(node):
    """The node's hash; recomputes the changed nodes below it."""
    if node.hash is None:
        left, right = node.sides
        node.hash = hash_node(node.depth, node.key, _hash(left), _hash(right))
    return node.hash


class Map:
    """Rows by key; a row is any object with `encode`."""

    def __init__(self):
        self.rows = {}
        self.by_owner = Counter()
        self.by_did = set()
        self.by_pair = defaultdict(list)
        self._changed = set()
        self._top = None

    def get(self, key, default=None):
        return self.rows.get(key, default)

    def put(self, key, row):
        if key not in self.rows:
            self.by_owner[key[:_OWNER_BYTES]] += 1
            self.by_did.add(key[:_DID_BYTES])
            if len(key) == _PAIR_BYTES + 32:
                self.by_pair[key[:_PAIR_BYTES]].append(key)
        self.rows[key] = row
        self._changed.add(key)

    def owned(self, prefix):
        """The number of rows whose key begins with this tag and id."""
        return self.by_owner[prefix]

    def of_pair(self, prefix):
        """The rows whose key is this tag and two ids, then a hash."""
        return [self.rows[key] for key in self.by_pair[prefix]]

    def has_did(self, key):
        """Whether some row's key begins with the same tag and 16 bytes."""
        return key[:_DID_BYTES] in self.by_did

    def root(self):
        for key in self._changed:
            self._insert(key, self.rows[key].encode())
        self._changed.clear()
        return EMPTY_ROOT if self._top is None else _hash(self._top)

    def _insert(self, key, value):
        path = _path(key)
        leaf = self._leaf(path, key)
        leaf.hash = hash_leaf(key, blake3(value).digest())
        node = self._top
        while node is not leaf:
            node.hash = None
            node = node.sides[_bit(path, node.depth)]

    def _leaf(self, path, key):
        """The leaf of this key; inserts it if it is new."""
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
    """The state root of the maps that a log carries, given by name."""
    return root_of_roots({name: held.root() for name, held in maps.items()})


def root_of_roots(roots):
    """The state root of maps with these roots, given by name."""
    return blake3(sequence(sorted(roots.items()), lambda one: string(one[0]) + one[1])).digest()
