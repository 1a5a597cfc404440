"""The verdict of an audit, as JSON and for people."""

from collections import Counter

from .tree import EMPTY


def verdict(audit, findings, figures):
    """The whole verdict as sorted plain values: the same source gives the same text."""
    join = audit.join if not findings else None
    return {
        "verdict": "findings" if findings else "ok",
        "findings": [found._asdict() for found in findings],
        "federation": audit.chain and audit.chain.federation.hex(),
        "trusted": "source" if audit.trusted is None else "file",
        "manifest": audit.chain and _manifest(audit, join),
        "state_id": join and join.state_id().hex(),
        "logs": [_log(audit, log) for log in sorted(audit.chain.born)] if audit.chain else [],
        "outcomes": _outcomes(audit),
        "notes": audit.notes,
        "identities": join.identities() if join else [],
        "figures": figures,
    }


def _manifest(audit, join):
    newest = audit.chain.versions[-1]
    in_use = join and join.version
    return {"version": newest.version, "hash": newest.hash.hex(), "in_use": in_use}


def _log(audit, log):
    replay = audit.succession.replays.get(log) if audit.succession else None
    head = audit.heads.get(log)
    return {
        "log": str(log),
        "size": head.size if head else 0,
        "root": (head.root if head else EMPTY).hex(),
        "state_root": (replay.root if replay else bytes(32)).hex(),
        "adopted": replay.adopted if replay else 0,
        "certified": audit.certified.get(log, False),
        "cut": log in audit.chain.cuts,
    }


def _outcomes(audit):
    replays = audit.succession.replays.values() if audit.succession else []
    counted = sum((replay.count() for replay in replays), Counter())
    return dict(sorted(counted.items()))


def show(said):
    """The verdict as lines for people."""
    lines = [f"verdict     {said['verdict']}"]
    for found in said["findings"]:
        place = " ".join(str(part) for part in (found["log"], found["index"]) if part is not None)
        lines.append(f"finding     {found['code']}  {place}  {found['what']}")
    if said["trusted"] == "source":
        lines.append("trusted     the source's own genesis: --manifest FILE to name another")
    if said["manifest"]:
        lines.append(f"federation  {said['federation']}")
        lines.append(f"manifest    version {said['manifest']['version']} {said['manifest']['hash']}")
    for log in said["logs"]:
        marks = [word for word in ("certified", "cut") if log[word]]
        lines.append(f"log         {log['log']}  {log['size']} entries  {' '.join(marks)}")
    if said["state_id"]:
        karma = sum(one["karma"] for one in said["identities"])
        lines.append(f"identities  {len(said['identities'])}, karma {karma} in all")
        lines.append(f"state id    {said['state_id']}")
    outcomes = ", ".join(f"{count} {code}" for code, count in said["outcomes"].items())
    lines.append(f"entries     {outcomes}")
    figures = said["figures"]
    lines.append(f"checked     {figures['entries']} entries in {figures['milliseconds']} ms")
    return "\n".join(lines)
