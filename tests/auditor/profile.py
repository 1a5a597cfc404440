"""Profile proofs: an answer from rows of the state maps, proved to be complete. PROTOCOL.md, Profile proofs."""

import argparse
import json
import re
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from . import bounds, rows, signed
from .adoption import certifying_shown
from .event import State, decode_entry
from .fault import Fault, require
from .fields import NAME, domain, hexadecimal
from .join import covered_by
from .manifest import Log, parse_manifest, read_chain
from .mapproof import check_map_proof
from .maps import root_of_roots
from .packed import read_file
from .rowread import read_row
from .succession import Succession
from .tree import leaf_hash, root_of_proof

_EVERYTHING = [(0, None)]
_DID = re.compile(r"did:agent:([^:]*):([0-9a-f]{32})")


class Shown(NamedTuple):
    """The size at which a log is read, the version adopted there, the time of its cosignatures, the state root."""

    log: Log
    size: int
    adopted: int
    as_of: int | None
    state_root: bytes


class Required(NamedTuple):
    """What a reader requires: the question, the largest age in seconds, how many logs may be left out, its clock."""

    question: str
    max_age_seconds: int
    missing_max: int
    now: int


class Rows:
    """The rows of the file, by map; records every question, except those about what is left out."""

    def __init__(self, evidence, hidden, file):
        self.maps, self.asked = {}, {}
        self.hidden, self.without, self.whole = hidden, {f"home/{home}" for home in file.without}, set(file.whole)
        for log, one in evidence.items():
            for found in one.maps:
                name = full_name(log, found.name)
                require(name not in self.maps, "profile_rows", f"{found.name} twice")
                self.maps[name] = dict(found.rows)

    def get(self, name, key):
        if name in self.hidden:
            return None
        self.asked.setdefault(name, set()).add(key)
        value = self.maps.get(name, {}).get(key)
        return None if value is None else read_row(key, value)

    def scan(self, name, prefix):
        if name in self.hidden or name in self.without and prefix[0] == rows.TALLY:
            return []
        self.asked.setdefault(name, set()).add(self._proven(name, prefix))
        held = sorted(self.maps.get(name, {}).items())
        return [(key, read_row(key, value)) for key, value in held if key.startswith(prefix)]

    def _proven(self, name, prefix):
        """The prefix that is proven in the place of this one."""
        coarse = {rows.STATEMENT: 1, rows.DAY: 33} if name in self.whole else {}
        return prefix[: coarse.get(prefix[0], len(prefix))]

    def comes_first(self, name, prefix):
        """Whether to read this statements map before others: if it is read as a whole; if none is, if it has rows."""
        if any(one.startswith("statements/") for one in self.whole):
            return name in self.whole
        return any(key.startswith(prefix) for key in self.maps.get(name, {}))

    def prefixes(self, name):
        """The questions to a map, without those that begin with another one."""
        found = []
        for prefix in sorted(self.asked[name]):
            if not found or not prefix.startswith(found[-1]):
                found.append(prefix)
        require(len(self.asked[name]) <= bounds.PREFIXES_MAX, "profile_rows", f"{name}: too many questions")
        return found


def full_name(log, name):
    """A name for each map that is unique in the federation: every log has its own `log`."""
    return f"log/{log}" if name == "log" else name


def verify(text, chain, required):
    """Verifies the proof for a reader with this chain, and appends the versions that the proof brings."""
    file = read_file(text)
    require(file.question == required.question, "profile_question", file.question)
    _take_versions(file, chain)
    evidence = dict(file.logs)
    _check_logs(chain, file, evidence)
    shown = {log: _check_log(chain, log, one) for log, one in evidence.items()}
    adopted = {log: cut.adopted for log, (_, cut) in chain.cuts.items()}
    adopted |= {log: one.adopted for log, one in shown.items()} | {log: None for log in file.left_out}
    left_out = _left_out(chain, file, shown, adopted, required)
    read_from = {name: _carrier(chain, name, adopted)[0] for name in _names(chain)}
    hidden = {name for name, log in read_from.items() if log in file.left_out}
    for name in file.whole:
        known = read_from.get(name) is not None and not name.startswith("claims/")
        require(known, "profile_rows", f"{name} as a whole")
    held = Rows(evidence, hidden, file)
    for log, one in evidence.items():
        if one.checkpoint is not None:
            held.get(f"log/{log}", rows.LOG_KEY)
    unsure = {name for name, log in read_from.items() if left_out.get(log, "attestations") != "attestations"}
    answer = Reader(chain, held, unsure).answer(file.question)
    _check_asked(chain, evidence, shown, adopted, held)
    times = [one.as_of for log, one in shown.items() if one.as_of is not None and left_out.get(log) != "old"]
    logs = [[str(log), one.size, one.adopted] for log, one in shown.items()]
    without = {f"home/{home}" for home in file.without}
    told = [
        [str(log), why, sorted(name for name, by in read_from.items()
                               if by == log and (why != "attestations" or name in without))]
        for log, why in sorted(left_out.items())
    ]
    return answer | {"question": file.question, "manifest_version": len(chain), "logs": logs,
                     "as_of": min(times, default=None), "left_out": told}


def _check_logs(chain, file, evidence):
    """Checks that every log that was not cut is shown or named as left out."""
    order = [log for log, _ in file.logs]
    require(all(a < b for a, b in pairwise(order)), "profile_log", "the logs' order")
    for log in file.left_out:
        require(log in chain.born and log not in evidence, "profile_log", f"{log} is left out")
    for log in sorted(log for log in chain.born if log not in chain.cuts):
        require(log in evidence or log in file.left_out, "profile_log", f"{log} is missing")
    for home in file.without:
        require(home in chain[len(chain)].homes, "profile_form", f"{home} is no home")


def _names(chain):
    """The names of all maps that the newest version reads, except those of the logs' own rows."""
    operators = {log.operator for log in chain.born}
    names = {f"{what}/{operator}" for what in ("statements", "claims") for operator in operators}
    return names | {f"home/{home}" for home in chain[len(chain)].homes}


def _left_out(chain, file, shown, adopted, required):
    """Why each log counts as left out; not more than the reader accepts."""
    why = {log: "missing" for log in file.left_out}
    for log, one in shown.items():
        if one.as_of is not None:
            ahead = one.as_of - required.now - bounds.HEAD_SKEW_MILLIS_MAX // 1000
            require(ahead <= 0, "profile_ahead", str(log))
            if required.now - one.as_of > required.max_age_seconds:
                why[log] = "old"
    for home in file.without:
        log = _carrier(chain, f"home/{home}", adopted)[0]
        if log is not None:
            why.setdefault(log, "attestations")
    require(len(why) <= required.missing_max, "profile_left_out", ", ".join(map(str, sorted(why))))
    return why


def _take_versions(file, chain):
    require(file.federation == chain.federation, "profile_federation")
    require(len(file.manifests) + 1 >= len(chain), "profile_old_manifest")
    for version, note in enumerate(file.manifests, 2):
        if version > len(chain):
            chain.append(parse_manifest(note))
        else:
            text = parse_manifest(note).note.text
            require(text == chain[version].note.text, "profile_other_manifest", str(version))


def names_of(chain, log, version):
    """The sorted names of the maps that a log carries under a version that it adopted."""
    names = {f"home/{home}" for home, by in chain[version].homes.items() if by == log}
    names |= {f"{what}/{log.operator}" for what in ("statements", "claims")} | {"log"}
    return sorted(names | Succession(chain).inherited(log, version))


def _check_log(chain, log, evidence):
    require(log in chain.born, "profile_log", f"{log} is unknown")
    if log in chain.cuts:
        cut = chain.cuts[log][1]
        require(evidence.checkpoint is None, "profile_log", f"{log} was cut")
        shown = Shown(log, cut.size, cut.adopted, None, cut.state_root)
    else:
        require(evidence.checkpoint is not None, "profile_log", f"{log}: no head")
        shown = _check_head(chain, log, evidence)
    could = chain.born[log] <= shown.adopted <= len(chain)
    require(could, "profile_log", f"{log} cannot have adopted version {shown.adopted}")
    names = names_of(chain, log, shown.adopted)
    same = len(names) == len(evidence.roots)
    same = same and root_of_roots(dict(zip(names, evidence.roots, strict=True))) == shown.state_root
    require(same, "profile_state_root", str(log))
    return shown


def _check_head(chain, log, evidence):
    """The certified head of a log that was not cut, by the version in its row; the row is proved later."""
    own = [value for one in evidence.maps if one.name == "log" for key, value in one.rows[:1] if key == rows.LOG_KEY]
    require(own, "profile_log", f"{log}: its own row is missing")
    row = read_row(rows.LOG_KEY, own[0])
    could = chain.born[log] <= row.adopted <= len(chain)
    require(could, "profile_log", f"{log} cannot have adopted version {row.adopted}")
    current = row.adopted >= chain.adopted_min(log, len(chain))
    require(current, "profile_outdated", f"{log}: of the time of version {row.adopted}")
    head = signed.open_checkpoint(evidence.checkpoint, chain.origin(log), chain.node_keys[log])
    seconds = []
    for number in certifying_shown(chain, log, row.adopted, head, evidence.adopted):
        version = chain[number]
        found, quorum = signed.cosigners(evidence.checkpoint, version.node_keys()), version.quorum()
        require(len(found) >= quorum, "profile_quorum", f"{log}: {len(found)} of version {number}")
        seconds.append(sorted(found.values(), reverse=True)[quorum - 1])
    body = _last_entry(evidence.entry)
    require(isinstance(body, State), "profile_entry", str(log))
    root = root_of_proof(max(head.size - 1, 0), head.size, leaf_hash(evidence.entry), evidence.path)
    require(root == head.root, "proof_root", f"{log}: its last entry")
    return Shown(log, head.size, row.adopted, seconds[0], body.root)


def _last_entry(encoded):
    try:
        return decode_entry(encoded).body
    except Fault:
        return None


def _check_asked(chain, evidence, shown, adopted, held):
    """Checks that the file proves every map that was asked for exactly these questions, and nothing else."""
    asked = {}
    for name in held.asked:
        log, short = _carrier(chain, name, adopted)
        if log is not None:
            asked.setdefault(log, {})[short] = held.prefixes(name)
    for log in asked:
        require(log in evidence, "profile_log", f"nothing shows {log}")
    for log, one in evidence.items():
        require(log in asked, "profile_log", f"{log} was not asked")
        given = [found.name for found in one.maps]
        require(given == sorted(asked[log]), "profile_rows", f"the maps of {log}")
        roots = dict(zip(names_of(chain, log, shown[log].adopted), one.roots, strict=True))
        for found in one.maps:
            _check_map(roots[found.name], found, asked[log][found.name])


def _carrier(chain, name, adopted):
    """The log in which a map is read, or that is left out and may have it, and its name there; None if no log has it.

    `adopted` is None for a log that is left out."""
    if name.startswith("log/"):
        operator, generation = name.split("/")[1:]
        return Log(operator, int(generation)), "log"
    succession = Succession(chain)
    for version in range(len(chain), 0, -1):
        log = succession.carrier(name, version)
        if log in adopted and adopted[log] is None:
            return log, name
        if adopted.get(log) and name in names_of(chain, log, adopted[log]):
            return log, name
    return None, name


def _check_map(root, found, prefixes):
    answers = [(one, [row for row in found.rows if row[0].startswith(one)]) for one in prefixes]
    told = sum(len(below) for _, below in answers)
    require(told == len(found.rows), "profile_rows", f"{found.name}: rows that were not asked for")
    check_map_proof(root, found.proof, answers)


class Reader:
    """Reads an answer from rows, in the steps of PROTOCOL.md, Profile proofs."""

    def __init__(self, chain, held, unsure):
        self.chain, self.rows, self.unsure = chain, held, unsure
        self.manifest = chain[len(chain)]

    def answer(self, question):
        agent, issuers = _asked(question)
        found = self._identity(agent)
        if found is None:
            return {}
        home, identity, row = found
        self._is_sure(home)
        status = self._status(home, identity, row)
        keys = [one.key.text() for _, one in self.rows.scan(home, bytes([rows.VERSION]) + identity)]
        suspended_by, suspension = self._suspension(identity)
        granted = [self._granted(issuer, identity) for issuer in issuers]
        providers = self._providers(identity)
        karma = [sum(one[at] for one in providers) for at in (1, 2)]
        return {"id": identity.hex(), "home": home.removeprefix("home/"), "keys": keys, "status": status,
                "suspension": suspension, "suspended_by": suspended_by, "granted": granted,
                "karma": karma, "providers": providers}

    def _status(self, home, identity, row):
        """Whether the current key of the identity is in force."""
        version = self._row(home, rows.version_key(identity, row.version))
        if version.revocation is not None or self._is_claimed(identity, row.version, version):
            return "revoked"
        claims = any(name.startswith("claims/") for name in self.unsure)
        return "not_known_revoked" if claims else "active"

    def _suspension(self, identity):
        """Who suspends the identity, and whether that holds."""
        by, hidden = [], 0
        for operator in sorted(self.manifest.operators):
            row = self.rows.get(f"statements/{operator}", rows.suspension_key(identity))
            if row is not None and row.standing is not None:
                by.append([operator, row.standing.reason])
            else:
                hidden += f"statements/{operator}" in self.unsure
        least = self.manifest.policy["min_sponsors"]
        if len(by) >= least:
            return by, "holds"
        return by, "not_known" if len(by) + hidden >= least else "none"

    def _granted(self, issuer, subject):
        """What one service lets the subject do, and whether the service's own key is in force."""
        found = self._by_id(issuer)
        if found is None:
            return [issuer.hex(), None, None, []]
        home, _, row = found
        self._is_sure(home)
        status = self._status(home, issuer, row)
        suspension = self._suspension(issuer)[1]
        grants = self.rows.scan(home, bytes([rows.GRANT]) + issuer + subject)
        return [issuer.hex(), status, suspension, [[one.scope, one.expires] for _, one in grants if one.stands]]

    def _is_sure(self, home):
        require(home not in self.unsure, "profile_home_left_out", home)

    def _row(self, name, key):
        row = self.rows.get(name, key)
        require(row is not None, "profile_row", f"{name} has no row {key.hex()}")
        return row

    def _identity(self, question):
        did = _DID.fullmatch(question)
        try:
            if did:
                return self._by_did(domain(did[1]), bytes.fromhex(did[2]))
            name, at, home = question.partition("@")
            if at:
                return self._by_name(NAME.parse(name), domain(home))
            return self._by_id(hexadecimal(question, 32))
        except Fault as fault:
            raise fault if fault.code != "bad_value" else Fault("profile_form", "the question") from None

    def _by_name(self, name, home):
        self._is_sure(f"home/{home}")
        owner = self.rows.get(f"home/{home}", rows.name_key(name)) if home in self.manifest.homes else None
        return None if owner is None else self._in_home(f"home/{home}", bytes(owner))

    def _by_did(self, home, begin):
        self._is_sure(f"home/{home}")
        found = []
        if home in self.manifest.homes:
            found = self.rows.scan(f"home/{home}", bytes([rows.IDENTITY]) + begin)
        return self._in_home(f"home/{home}", found[0][0][1:]) if found else None

    def _in_home(self, home, identity):
        return home, identity, self._row(home, rows.identity_key(identity))

    def _by_id(self, identity):
        for home in sorted(self.manifest.homes):
            row = self.rows.get(f"home/{home}", rows.identity_key(identity))
            if row is not None:
                return f"home/{home}", identity, row
        for home in sorted(self.manifest.homes):
            self._is_sure(f"home/{home}")
        return None

    def _is_claimed(self, identity, number, version):
        key = version.key.hash()
        signers = [key] + ([] if version.next is None else [version.next])
        begin = bytes([rows.CLAIM]) + identity + number.to_bytes(4, "big") + key
        for operator in sorted({log.operator for log in self.chain.born}):
            claims = [self.rows.get(f"claims/{operator}", begin + signer) for signer in signers]
            if any(claim is not None for claim in claims):
                return True
        return False

    def _providers(self, subject):
        """For each provider with a tally of the subject: the sum that counts, and the number of attestations in it."""
        found = {}
        for home in sorted(self.manifest.homes):
            for key, tally in self.rows.scan(f"home/{home}", bytes([rows.TALLY]) + subject):
                karma = self._karma(f"home/{home}", key[1:], tally)
                before = found.get(key[33:], (0, 0))
                found[key[33:]] = [a + b for a, b in zip(before, karma, strict=True)]
        return [[provider.hex(), *karma] for provider, karma in sorted(found.items())]

    def _karma(self, home, pair, tally):
        covered = self._sponsored(pair[32:])
        if not covered:
            return 0, 0
        if covered == _EVERYTHING:
            return tally.sum - tally.retracted_sum, tally.count - tally.retracted_count
        total = count = 0
        for _, day in self.rows.scan(home, bytes([rows.DAY]) + pair):
            for one in day:
                if _is_in(covered, one.number):
                    counts = one.retraction is None or not _is_in(covered, one.retraction)
                    total, count = total + counts * one.effective, count + counts
        return total, count

    def _sponsored(self, provider):
        """The intervals of the provider's numbers that enough operators sponsor."""
        begin, least, triples = bytes([rows.STATEMENT]) + provider, self.manifest.policy["min_sponsors"], {}
        later = {one: not self.rows.comes_first(f"statements/{one}", begin) for one in self.manifest.operators}
        for unread, operator in zip(
            range(len(later) - 1, -1, -1), sorted(later, key=lambda one: (later[one], one)), strict=True
        ):
            for key, statement in self.rows.scan(f"statements/{operator}", begin):
                triples.setdefault(key, []).append(list(statement.intervals))
            if any(sets.count(_EVERYTHING) >= least for sets in triples.values()):
                return _EVERYTHING
            if unread + max(map(len, triples.values()), default=0) < least:
                return []
        intervals = [one for sets in triples.values() for one in covered_by(sets, least)]
        return covered_by([[one] for one in intervals], 1)


def main():
    """One line of JSON for each proof."""
    parser = argparse.ArgumentParser(prog="auditor.profile", description=__doc__)
    parser.add_argument("proofs", type=Path, nargs="+")
    parser.add_argument("--manifest", type=Path, required=True, help="the genesis, or any chain of versions")
    parser.add_argument("--max-age", type=int, required=True, help="the oldest certificate to accept, in seconds")
    parser.add_argument("--missing", type=int, required=True, help="how many logs may be left out")
    parser.add_argument("--now", type=int, default=int(time.time()), help="the time in seconds since 1970")
    options = parser.parse_args()
    said = [_say(proof, options) for proof in options.proofs]
    for one in said:
        print(json.dumps(one, sort_keys=True))
    return 0 if all(one["proven"] for one in said) else 1


def _say(proof, options):
    try:
        text = proof.read_bytes()
        required = Required(read_file(text).question, options.max_age, options.missing, options.now)
        return {"proven": True} | verify(text, read_chain(options.manifest.read_bytes()), required)
    except Fault as fault:
        return {"proven": False, "code": fault.code, "what": fault.what}


def _asked(question):
    """The agent of a question, and the issuers whose grants are asked for."""
    agent, between, rest = question.partition(" granted by ")
    try:
        issuers = [hexadecimal(one, 32) for one in rest.split(" ")] if between else []
    except Fault:
        raise Fault("profile_form", "the question") from None
    ascend = all(a < b for a, b in pairwise(issuers))
    require(ascend and len(issuers) <= bounds.GRANTED_BY_MAX, "profile_form", "the question")
    return agent, issuers


def _is_in(intervals, number):
    return any(begin <= number and (end is None or number < end) for begin, end in intervals)


if __name__ == "__main__":
    sys.exit(main())
