"""The newest manifest as a c2sp.org/tlog-policy, which must match the manifest. PROTOCOL.md, Public files."""

import base64

from .fault import require
from .signed import COSIGNATURE, SIGNATURE, key_id


def verifier_key(name, key, kind):
    """A key as c2sp.org/signed-note writes it."""
    encoded = base64.b64encode(bytes([kind]) + key.raw).decode()
    return f"{name}+{key_id(name, key, kind).hex()}+{encoded}"


def check_policy(raw, chain):
    """Refuses a policy that trusts other logs, other witnesses or fewer of them than the manifest."""
    said = _parse(raw)
    newest = chain.versions[-1]
    operators = newest.operators.values()
    logs = {verifier_key(chain.origin(one.log()), one.node_key, SIGNATURE) for one in operators}
    witnesses = {one.name: verifier_key(one.name, one.node_key, COSIGNATURE) for one in operators}
    require(said["log"] == logs, "policy", "the logs")
    require(said["witness"] == witnesses, "policy", "the witnesses")
    group = said["group"].get(said["quorum"])
    require(group == (str(newest.quorum()), set(witnesses)), "policy", "the quorum")


def _parse(raw):
    said = {"log": set(), "witness": {}, "group": {}, "quorum": None}
    for line in raw.decode("utf-8").splitlines():
        word, *rest = line.split(" ") if line and not line.startswith("#") else [None]
        if word == "log" and rest:
            said["log"].add(rest[0])
        elif word == "witness" and len(rest) >= 2:
            said["witness"][rest[0]] = rest[1]
        elif word == "group" and len(rest) >= 3:
            said["group"][rest[0]] = (rest[1], set(rest[2:]))
        elif word == "quorum" and len(rest) == 1:
            said["quorum"] = rest[0]
        else:
            require(word is None, "policy", f"the line {line[:40]!r}")
    return said
