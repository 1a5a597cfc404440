"""The fold of one log: what each event changes, or why it changes nothing. PROTOCOL.md, The fold."""

from . import rows
from .bounds import (
    FUTURE_MILLIS_MAX, GRANTS_PER_PAIR, INTERVALS_PER_TRIPLE, ROTATIONS_PER_DAY, SCOPES_PER_PAIR,
    STATEMENTS_PER_DAY, SUSPENSIONS_PER_DAY, TRIPLES_PER_PROVIDER,
)
from .days import day_of


class Void(Exception):
    """The event changes nothing; its outcome is the first reason that fits."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


def _unless(condition, reason):
    if not condition:
        raise Void(reason)


class Fold:
    """Applies events to the maps that a log carries under one adopted version."""

    def __init__(self, log, node_key, policy, maps):
        self.log = log
        self.node_key = node_key
        self.policy = policy
        self.maps = maps

    def apply(self, index, time, signed, event_id):
        """`applied`, or the code of the reason that makes the event void."""
        event = signed.event
        try:
            getattr(self, f"_{event.kind}")(_Entry(index, time, event, signed.signer, event_id))
        except Void as void:
            return void.reason
        return "applied"

    def _home(self, entry):
        home = self.maps.get(f"home/{entry.event['home']}")
        _unless(home is not None, "not_home")
        return home

    def _in_time(self, entry):
        _unless(entry.event.created <= entry.time + FUTURE_MILLIS_MAX, "future")
        _unless(entry.event.created + self.policy["max_age_ms"] >= entry.time, "stale")

    def _register(self, entry):
        event, home = entry.event, self._home(entry)
        self._in_time(entry)
        name, key = rows.name_key(event["name"]), rows.key_key(event["key"])
        registrations = home.get(rows.HOME_KEY, rows.Counter())
        _unless(home.get(name) is None, "name_taken")
        _unless(not home.has_did(rows.identity_key(entry.event_id)), "name_taken")
        _unless(home.get(key) is None, "key_in_use")
        limit = self.policy["daily_registrations"]
        _unless(registrations.on(entry.day) < limit, "quota")
        identity = entry.event_id
        version = rows.Version(event["key"], entry.time, event["next"], None)
        home.put(name, rows.Id(identity))
        home.put(key, rows.Id(identity))
        home.put(rows.version_key(identity, 1), version)
        first = rows.Identity(event["name"], 1, "active", rows.Counter())
        home.put(rows.identity_key(identity), first)
        home.put(rows.HOME_KEY, registrations.bump(entry.day))

    def _rotate(self, entry):
        event, home = entry.event, self._home(entry)
        self._in_time(entry)
        identity = _identity(home, event["identity"])
        current = _version(home, event["identity"], identity.version)
        before = _version(home, event["identity"], event["version"] - 1)
        may = _may_rotate(current, entry) or _may_rotate(before, entry)
        _unless(may, "not_authorized")
        _unless(identity.status == "active" or current.next is not None, "revoked")
        _unless(event["version"] == identity.version + 1, "wrong_version")
        key = rows.key_key(event["key"])
        _unless(home.get(key) is None, "key_in_use")
        _unless(identity.rotations.on(entry.day) < ROTATIONS_PER_DAY, "quota")
        version = rows.Version(event["key"], entry.time, event["next"], None)
        home.put(key, rows.Id(event["identity"]))
        home.put(rows.version_key(event["identity"], event["version"]), version)
        rotations = identity.rotations.bump(entry.day)
        rotated = rows.Identity(identity.name, event["version"], "active", rotations)
        home.put(rows.identity_key(event["identity"]), rotated)

    def _revoke(self, entry):
        event = entry.event
        home = self.maps.get(f"home/{event['home']}")
        if home is None:
            self._claim(entry)
            return
        identity = _identity(home, event["identity"])
        version = _version(home, event["identity"], event["version"])
        if version is not None:
            is_key = entry.signer == version.key or entry.signer.hash() == version.next
            _unless(event["key"] == version.key and is_key, "not_authorized")
        _unless(identity.status == "active", "revoked")
        _unless(event["version"] == identity.version, "wrong_version")
        revocation = rows.Revocation(entry.time, event["reason"])
        revoked = version._replace(revocation=revocation)
        home.put(rows.version_key(event["identity"], event["version"]), revoked)
        home.put(rows.identity_key(event["identity"]), identity._replace(status="revoked"))

    def _claim(self, entry):
        event, claims = entry.event, self.maps[f"claims/{self.log.operator}"]
        key = rows.claim_key(event["identity"], event["version"], event["key"], entry.signer)
        _unless(claims.get(key) is None, "duplicate")
        claim = rows.Claim(event["reason"], entry.time, self.log.generation, entry.index)
        claims.put(key, claim)

    def _issuer(self, entry, home):
        """Refuses an issuer whose current key did not sign or is revoked."""
        issuer = entry.event["issuer"]
        identity = _identity(home, issuer)
        current = _version(home, issuer, identity.version)
        _unless(entry.signer == current.key, "not_authorized")
        _unless(identity.status == "active", "revoked")

    def _attest(self, entry):
        event, home = entry.event, self._home(entry)
        self._in_time(entry)
        self._issuer(entry, home)
        issuer, subject, delta = event["issuer"], event["subject"], event["delta"]
        _unless(1 <= abs(delta) <= self.policy["max_delta"], "delta")
        _unless(issuer != subject, "self")
        key = rows.day_key(subject, issuer, day_of(event.created))
        given = home.get(key, rows.Day())
        _unless(all(one.id != entry.event_id for one in given), "duplicate")
        left = self.policy["daily_cap"] - sum(abs(one.effective) for one in given)
        _unless(left > 0, "cap")
        provider = home.get(rows.provider_key(issuer), rows.Provider())
        limit = self.policy["daily_attestations"]
        _unless(provider.attestations.on(entry.day) < limit, "quota")
        tally_key = rows.tally_key(subject, issuer)
        tally = home.get(tally_key)
        subject_key = rows.subject_key(subject)
        if tally is None:
            begun = home.get(subject_key, rows.Counter())
            _unless(begun.on(entry.day) < self.policy["daily_new_providers"], "quota")
            home.put(subject_key, begun.bump(entry.day))
            tally = rows.Tally()
        effective = max(-left, min(left, delta))
        home.put(key, rows.Day(given + (rows.Given(provider.next, entry.event_id, effective, None),)))
        attestations = provider.attestations.bump(entry.day)
        taken = provider._replace(next=provider.next + 1, attestations=attestations)
        home.put(rows.provider_key(issuer), taken)
        home.put(tally_key, tally._replace(sum=tally.sum + effective, count=tally.count + 1))

    def _retract(self, entry):
        event, home = entry.event, self._home(entry)
        self._in_time(entry)
        self._issuer(entry, home)
        issuer, subject = event["issuer"], event["subject"]
        key = rows.day_key(subject, issuer, event["day"])
        given = home.get(key, rows.Day())
        at = next((i for i, one in enumerate(given) if one.id == event["attestation"]), None)
        _unless(at is not None, "not_found")
        _unless(given[at].retraction is None, "already_retracted")
        provider = home.get(rows.provider_key(issuer))
        limit = self.policy["daily_retractions"]
        _unless(provider.retractions.on(entry.day) < limit, "quota")
        retracted = given[at]._replace(retraction=provider.next)
        home.put(key, rows.Day(given[:at] + (retracted,) + given[at + 1 :]))
        retractions = provider.retractions.bump(entry.day)
        taken = provider._replace(next=provider.next + 1, retractions=retractions)
        home.put(rows.provider_key(issuer), taken)
        tally_key = rows.tally_key(subject, issuer)
        tally = home.get(tally_key)
        total, count = tally.retracted_sum + retracted.effective, tally.retracted_count + 1
        home.put(tally_key, tally._replace(retracted_sum=total, retracted_count=count))

    def _admit(self, entry):
        self._state(entry, lambda intervals, start: add_from(intervals, start))

    def _dismiss(self, entry):
        self._state(entry, lambda intervals, start: remove_from(intervals, start))

    def _own_statements(self, entry):
        """The statements of the log's own operator, which must have signed."""
        _unless(entry.event["operator"] == self.log.operator, "not_home")
        self._in_time(entry)
        _unless(entry.signer == self.node_key, "not_authorized")
        return self.maps[f"statements/{self.log.operator}"]

    def _grant(self, entry):
        self._access(entry, True, entry.event["expires"])

    def _ungrant(self, entry):
        self._access(entry, False, None)

    def _access(self, entry, stands, expires):
        event, home = entry.event, self._home(entry)
        self._in_time(entry)
        self._issuer(entry, home)
        issuer, subject, scope = event["issuer"], event["subject"], event["scope"]
        key = rows.grant_key(issuer, subject, scope)
        row = home.get(key)
        _unless(row is None or event.created > row.created, "superseded")
        stood = row is not None and row.stands
        # Nothing limits the withdrawal of what stands.
        if stands or not stood:
            pair = home.of_pair(bytes([rows.GRANT]) + issuer + subject)
            _unless(row is not None or len(pair) < SCOPES_PER_PAIR, "quota")
            standing = sum(one.stands for one in pair)
            _unless(not stands or stood or standing < GRANTS_PER_PAIR, "quota")
            grants = home.get(rows.issuer_key(issuer), rows.Counter())
            _unless(grants.on(entry.day) < self.policy["daily_grants"], "quota")
            home.put(rows.issuer_key(issuer), grants.bump(entry.day))
        home.put(key, rows.Grant(scope, stands, expires, event.created))

    def _suspend(self, entry):
        self._use(entry, entry.event["reason"])

    def _resume(self, entry):
        self._use(entry, None)

    def _use(self, entry, reason):
        event, statements = entry.event, self._own_statements(entry)
        key = rows.suspension_key(event["identity"])
        row = statements.get(key)
        _unless(row is None or event.created > row.created, "superseded")
        counter = rows.Counter() if row is None else row.statements
        _unless(counter.on(entry.day) < SUSPENSIONS_PER_DAY, "quota")
        before = None if row is None else row.standing
        since = entry.time if before is None else before.since
        standing = None if reason is None else rows.Suspended(since, reason)
        statements.put(key, rows.Suspension(standing, event.created, counter.bump(entry.day)))

    def _state(self, entry, change):
        event, statements = entry.event, self._own_statements(entry)
        key = rows.statement_key(event["provider"], event["service"], event["domain"])
        row = statements.get(key)
        _unless(row is None or event.created > row.created, "superseded")
        counter = rows.Counter() if row is None else row.statements
        limit = STATEMENTS_PER_DAY - (1 if event.kind == "admit" else 0)
        _unless(counter.on(entry.day) < limit, "quota")
        room = statements.owned(bytes([rows.STATEMENT]) + event["provider"]) < TRIPLES_PER_PROVIDER
        _unless(row is not None or room, "quota")
        intervals = change(() if row is None else row.intervals, event["from"])
        _unless(len(intervals) <= INTERVALS_PER_TRIPLE, "quota")
        said = rows.Statement(event["service"], event["domain"], intervals, event.created,
                              counter.bump(entry.day))
        statements.put(key, said)


class _Entry:
    """An event with its place in the log."""

    __slots__ = ("index", "time", "day", "event", "signer", "event_id")

    def __init__(self, index, time, event, signer, event_id):
        self.index, self.time, self.day = index, time, day_of(time)
        self.event, self.signer, self.event_id = event, signer, event_id


def _identity(home, identity):
    row = home.get(rows.identity_key(identity))
    _unless(row is not None, "unknown_identity")
    return row


def _version(home, identity, version):
    return home.get(rows.version_key(identity, version))


def _may_rotate(version, entry):
    """Whether this key version authorized the rotation: by its key, or by its `next` if it committed to one."""
    if version is None:
        return False
    key = entry.event["key"]
    if version.next is not None:
        return key.hash() == version.next and entry.signer == key
    return entry.signer == version.key


def add_from(intervals, start):
    """The intervals and [start, ∞); they stay sorted, disjoint and not touching."""
    kept = []
    for begin, end in intervals:
        if end is None or end >= start:
            return tuple(kept) + ((min(begin, start), None),)
        kept.append((begin, end))
    return tuple(kept) + ((start, None),)


def remove_from(intervals, start):
    """The intervals without [start, ∞)."""
    kept = [(begin, start if end is None else min(end, start)) for begin, end in intervals]
    return tuple((begin, end) for begin, end in kept if begin < end)
