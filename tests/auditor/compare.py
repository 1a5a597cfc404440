"""Compares verdicts: what was seen before or elsewhere must still hold. Finds rollbacks, forks and split views."""

from .audit import Finding
from .fault import Fault, require


def since(audit, former):
    """What an earlier verdict (its JSON) has and this audit's source no longer has."""
    if audit.chain is None:
        return []
    try:
        _manifests_since(audit.chain, former["manifest"])
    except Fault as fault:
        return [Finding(fault.code, fault.what)]
    logs = {str(log): log for log in audit.chain.born}
    seen = ((logs.get(one["log"]), one) for one in former["logs"])
    return [found for log, one in seen for found in _log_since(audit, log, one)]


def _manifests_since(chain, former):
    count = former["version"]
    require(count <= len(chain), "manifest_rollback", f"version {count} was seen before")
    same = chain[count].hash.hex() == former["hash"]
    require(same, "manifest_fork", f"another version {count} was seen before")


def _log_since(audit, log, former):
    size = former["size"]
    if log is None or log in audit.chain.cuts or not size:
        return
    tree = audit.trees.get(log)
    if tree is None or audit.heads[log].size < size:
        here = 0 if tree is None else audit.heads[log].size
        yield Finding("rollback", f"size {size} was seen before, here it is {here}", str(log))
    elif len(tree) >= size and tree.root(size).hex() != former["root"]:
        yield Finding("fork", f"another tree of size {size} was seen before", str(log))


def views(first, second):
    """Where two sources contradict each other: of one log, neither extends the other."""
    if first.chain is None or second.chain is None:
        return []
    for ours, theirs in zip(first.chain.versions, second.chain.versions, strict=False):
        if ours.hash != theirs.hash:
            return [Finding("manifest_fork", f"two texts of version {ours.version}")]
    both = sorted(set(first.heads) & set(second.heads))
    return [found for log in both for found in _views_of(first, second, log)]


def _views_of(first, second, log):
    shorter, longer = sorted((first, second), key=lambda audit: audit.heads[log].size)
    head, tree = shorter.heads[log], longer.trees[log]
    if len(tree) >= head.size and tree.root(head.size) != head.root:
        sizes = f"the owner signed sizes {head.size} and {longer.heads[log].size}"
        yield Finding("split_view", f"{sizes}, neither extends the other", str(log))
