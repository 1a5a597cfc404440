"""Logs as files: tiles and entry bundles as in c2sp.org/tlog-tiles. PROTOCOL.md, Public files."""

from .bounds import ENTRY_BYTES_MAX, TILE_WIDTH
from .fault import require
from .source import get_all
from .tree import leaf_hash

_HASH_BYTES = 32


def index_path(index):
    """Groups of three digits, all except the last with an `x` before them."""
    groups = [f"{index % 1000:03}"]
    while index >= 1000:
        index //= 1000
        groups.append(f"x{index % 1000:03}")
    return "/".join(reversed(groups))


def tile_path(level, index, width):
    partial = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{level}/{index_path(index)}{partial}"


def _widths(count):
    """Index and width of each tile of a level with this many hashes."""
    full, rest = divmod(count, TILE_WIDTH)
    return [(index, TILE_WIDTH) for index in range(full)] + ([(full, rest)] if rest else [])


def read_entries(source, folder, size):
    """The first `size` entries; fewer if a bundle has fewer."""
    names = _widths(size)
    paths = [f"{folder}/{tile_path('entries', *name)}" for name in names]
    entries = []
    for (index, width), path, bundle in zip(names, paths, get_all(source, paths), strict=True):
        if bundle is None:
            path = f"{folder}/{tile_path('entries', index, TILE_WIDTH)}"
            bundle = source.get(path)
        require(bundle is not None, "file_missing", path)
        entries += _split_bundle(bundle, path)[:width]
    return entries


def _split_bundle(bundle, path):
    entries, at = [], 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        whole = at + 2 <= len(bundle) and end <= len(bundle)
        require(whole and end - at - 2 <= ENTRY_BYTES_MAX, "bundle", f"{path} at byte {at}")
        entries.append(bundle[at + 2 : end])
        at = end
    require(len(entries) <= TILE_WIDTH, "bundle", f"{path} holds {len(entries)} entries")
    return entries


def read_tiles(source, folder, size):
    """For each level of tiles, its published hashes."""
    levels, level = [], 0
    while size >> 8 * level:
        tiles = _widths(size >> 8 * level)
        paths = [f"{folder}/{tile_path(level, *tile)}" for tile in tiles]
        hashes = []
        for (_, width), path, tile in zip(tiles, paths, get_all(source, paths), strict=True):
            require(tile is not None, "file_missing", path)
            require(len(tile) == width * _HASH_BYTES, "tile", f"{path} has another length")
            hashes += [tile[at : at + 32] for at in range(0, len(tile), _HASH_BYTES)]
        levels.append(hashes)
        level += 1
    return levels


def first_difference(entries, published):
    """The first entry that differs from the published leaf hashes: (index, code), or None."""
    leaves = [leaf_hash(entry) for entry in entries]
    for index, published_leaf in enumerate(published):
        if index >= len(leaves):
            return index, "entry_dropped"
        if leaves[index] != published_leaf:
            return index, _kind_of_difference(index, leaves, published)
    return None


def _kind_of_difference(index, leaves, published):
    if leaves[index : index + 2] == published[index + 1 : index + 3]:
        return "entry_dropped"
    return "entry_reordered" if leaves[index] in published else "entry_changed"
