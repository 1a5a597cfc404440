"""The join of all logs: key status, karma and the state id. PROTOCOL.md, The join and State maps."""

from typing import NamedTuple

from blake3 import blake3

from . import codec, rows
from .days import show_time
from .tree import EMPTY


class Join:
    def __init__(self, succession):
        self.succession = succession
        self.version = succession.version_in_use()
        self.manifest = succession.chain[self.version]
        held = {home: self._held(f"home/{home}") for home in self.manifest.homes}
        self.homes = {home: rows_ for home, rows_ in sorted(held.items()) if rows_ is not None}
        everybody = {log.operator for log, born in succession.chain.born.items()
                     if born <= self.version}
        claims = {name: self._held(f"claims/{name}") for name in sorted(everybody)}
        self.claims = _claims_by_version(claims)

    def _held(self, name):
        return self.succession.held(name, self.version)

    def state_id(self):
        logs = []
        for log in self.manifest.logs():
            replay = self.succession.replays.get(log)
            size, tree, state = (0, EMPTY, bytes(32)) if replay is None else replay.head()
            name = codec.string(log.operator) + codec.u32(log.generation)
            logs.append(name + codec.u64(size) + tree + state)
        return blake3(self.manifest.hash + codec.sequence(sorted(logs), bytes)).digest()

    def identities(self):
        """Key status and karma of every identity, by id."""
        karma = self.karma()
        found = []
        for home, held in self.homes.items():
            for key, row in held.rows.items():
                if key[0] == rows.IDENTITY:
                    found.append(self._identity(home, held, key[1:], row, karma))
        return sorted(found, key=lambda one: one["id"])

    def _identity(self, home, held, identity, row, karma):
        version = held.rows[rows.version_key(identity, row.version)]
        revocation = version.revocation or self._claimed(identity, row.version, version)
        return {
            "id": identity.hex(),
            "home": home,
            "name": row.name,
            "key": version.key.text(),
            "key_version": row.version,
            "revoked": revocation is not None,
            "revoked_at": revocation and show_time(revocation.time),
            "revocation_reason": revocation and revocation.reason,
            "karma": karma.get(identity, 0),
            "suspended_by": self._suspended_by(identity),
            "grants": self._grants(held, identity),
        }

    def _suspended_by(self, identity):
        """The operators whose suspension stands, with its reason; it holds with `min_sponsors` of them."""
        held = {name: self._held(f"statements/{name}") for name in sorted(self.manifest.operators)}
        found = {name: one.rows.get(rows.suspension_key(identity)) for name, one in held.items() if one is not None}
        return [[name, row.standing.reason, show_time(row.standing.since)]
                for name, row in found.items() if row is not None and row.standing is not None]

    def _grants(self, home, identity):
        """What the identity lets others do: subject, scope, and when that ends."""
        begin = bytes([rows.GRANT]) + identity
        found = sorted((key, row) for key, row in home.rows.items() if key.startswith(begin) and row.stands)
        return [[key[33:65].hex(), row.scope, row.expires and show_time(row.expires)] for key, row in found]

    def _claimed(self, identity, number, version):
        """The claim to show: the least (generation, index) of the first operator by name."""
        owners = {version.key.hash(), version.next}
        counting = [
            (operator, claim.generation, claim.index, claim)
            for operator, key, claim in self.claims.get((identity, number), [])
            if key[:32] == version.key.hash() and key[32:] in owners
        ]
        return min(counting, key=lambda found: found[:3])[3] if counting else None

    def karma(self):
        """Each subject's karma: effective deltas at sponsored numbers, less those with a sponsored retraction."""
        sponsored = self._sponsored()
        karma = {}
        for held in self.homes.values():
            for key, given in held.rows.items():
                if key[0] == rows.DAY:
                    subject, covered = key[1:33], sponsored.get(key[33:65], ())
                    karma[subject] = karma.get(subject, 0) + sum(_counts(covered, given))
        return karma

    def _sponsored(self):
        """For each provider the intervals of its numbers that enough operators sponsor."""
        triples = {}
        for operator in self.manifest.operators:
            statements = self._held(f"statements/{operator}")
            for key, row in [] if statements is None else statements.rows.items():
                if key[0] == rows.STATEMENT:
                    triples.setdefault(key[1:], []).append(row.intervals)
        least, sponsored = self.manifest.policy["min_sponsors"], {}
        for triple, intervals in triples.items():
            sponsored.setdefault(triple[:32], []).extend(covered_by(intervals, least))
        return sponsored


class Counted(NamedTuple):
    operator: str
    owners: bytes
    claim: rows.Claim


def _claims_by_version(claims):
    by_version = {}
    for operator, held in claims.items():
        for key, claim in [] if held is None else held.rows.items():
            if key[0] == rows.CLAIM:
                version = (key[1:33], int.from_bytes(key[33:37], "big"))
                by_version.setdefault(version, []).append(Counted(operator, key[37:], claim))
    return by_version


def _counts(covered, given):
    """The effective deltas of a day that count, and with the opposite sign those that no longer count."""
    for one in given:
        if _is_in(covered, one.number):
            yield one.effective
            if one.retraction is not None and _is_in(covered, one.retraction):
                yield -one.effective


def _is_in(intervals, number):
    return any(begin <= number and (end is None or number < end) for begin, end in intervals)


def covered_by(sets, least):
    """The intervals that are in at least `least` of these sets of intervals."""
    # An interval that ends where another begins leaves no gap.
    edges = sorted(
        [(begin, 0, 1) for intervals in sets for begin, _ in intervals]
        + [(end, 1, -1) for intervals in sets for _, end in intervals if end is not None]
    )
    covered, depth, start = [], 0, None
    for at, _, step in edges:
        depth += step
        if start is None and depth >= least:
            start = at
        elif start is not None and depth < least:
            if start < at:
                covered.append((start, at))
            start = None
    return covered + ([] if start is None else [(start, None)])
