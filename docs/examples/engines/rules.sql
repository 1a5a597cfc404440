-- The rules of ledger/PROTOCOL.md that decide key status and karma, in SQL that Spark and DuckDB both read.
--
-- Given: `decoded`, what an entry's bytes say, one row each; and of every version of the manifest `policies`,
-- `carriers` (which log carries which home) and `operators`.
--
-- Every rule is checked as if all events before had applied, and looks only at those. So if none is broken, all events
-- applied; if one is, the first of `voids` in its log is truly void, and the program says so and gives no answers.
--
-- `-- table NAME` is kept, since it is read more than once; `-- view NAME` is not.

-- view adoptions
SELECT log, generation, version, idx AS since,
       lead(idx) OVER (PARTITION BY log, generation ORDER BY idx) AS until
FROM decoded WHERE kind = 'adopt'

-- Events with the version that their log had adopted. `seq` orders what a home, or an operator, had in several logs:
-- a map passes on with a version, and within a version one log carries it.
-- table acts
SELECT /*+ BROADCAST(a), BROADCAST(p), BROADCAST(c) */
       d.*, a.version * 1125899906842624 + d.idx AS seq, a.version AS adopted,
       p.max_age_ms, p.max_delta, p.daily_cap, p.daily_registrations, p.daily_attestations, p.daily_retractions,
       p.daily_new_providers, c.home IS NOT NULL AS carried
FROM decoded d
JOIN adoptions a ON a.log = d.log AND a.generation = d.generation AND a.since < d.idx
    AND (a.until IS NULL OR d.idx < a.until)
JOIN policies p ON p.adopted = a.version
LEFT JOIN carriers c ON c.adopted = a.version AND c.home = d.home AND c.log = d.log AND c.generation = d.generation
WHERE d.event IS NOT NULL

-- Key versions of each identity, with the version before.
-- table versions
SELECT k.*,
       row_number() OVER (PARTITION BY home, identity ORDER BY seq) AS nth,
       lag(version) OVER (PARTITION BY home, identity ORDER BY seq) AS version_before,
       lag(key) OVER (PARTITION BY home, identity ORDER BY seq) AS key_before,
       lag(next) OVER (PARTITION BY home, identity ORDER BY seq) AS next_before,
       lead(seq) OVER (PARTITION BY home, identity ORDER BY seq) AS until
FROM acts k WHERE carried AND kind IN ('register', 'rotate')

-- table revocations
SELECT r.*, row_number() OVER (PARTITION BY home, identity, version ORDER BY seq) AS nth
FROM acts r WHERE carried AND kind = 'revoke'

-- Of each key version from which place to which it was the current one, and where its home's revocation stands.
-- table spans
SELECT v.home, v.identity, v.version, v.key, v.next, v.time, v.seq, v.until,
       r.seq AS revoked_seq, r.time AS revoked_time, r.reason AS revoked_reason
FROM versions v
LEFT JOIN revocations r ON r.home = v.home AND r.identity = v.identity AND r.version = v.version AND r.nth = 1

-- Attestations and retractions, numbered for each provider, with the key that their issuer had then.
-- table given
SELECT g.*, s.key AS issuer_key, s.revoked_seq,
       row_number() OVER (PARTITION BY g.home, g.issuer ORDER BY g.seq) - 1 AS number,
       row_number() OVER (PARTITION BY g.home, g.issuer, g.kind, g.entry_day ORDER BY g.seq) AS nth_of_day
FROM acts g
LEFT JOIN spans s ON s.home = g.home AND s.identity = g.issuer AND s.seq < g.seq AND (s.until IS NULL OR g.seq < s.until)
WHERE g.carried AND g.kind IN ('attest', 'retract')

-- What was asked for so far of a subject by a provider on a day of `created`: the cap leaves least(asked, cap) of it.
-- table asked
SELECT t.*,
       sum(abs(delta)) OVER (PARTITION BY home, subject, issuer, created_day ORDER BY seq
           ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS asked,
       min(daily_cap) OVER (PARTITION BY home, subject, issuer, created_day) AS least_cap,
       row_number() OVER (PARTITION BY home, event ORDER BY seq) AS nth_of_event,
       row_number() OVER (PARTITION BY home, subject, issuer ORDER BY seq) AS nth_of_pair
FROM given t WHERE kind = 'attest'

-- table attested
SELECT a.*, sign(delta) * (least(asked, daily_cap) - least(asked - abs(delta), daily_cap)) AS effective
FROM asked a

-- table retracted
SELECT r.*, a.number AS attestation_number,
       row_number() OVER (PARTITION BY r.home, r.attestation ORDER BY r.seq) AS nth
FROM given r
LEFT JOIN attested a ON a.home = r.home AND a.event = r.attestation AND a.subject = r.subject AND a.issuer = r.issuer
    AND a.created_day = r.day AND a.seq < r.seq
WHERE r.kind = 'retract'

-- table stated
SELECT /*+ BROADCAST(o) */ s.*, o.node_key,
       max(created) OVER (PARTITION BY s.operator, provider, service, domain ORDER BY seq
           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS created_before,
       row_number() OVER (PARTITION BY s.operator, provider, service, domain, entry_day ORDER BY seq) AS nth_of_day,
       row_number() OVER (PARTITION BY s.operator, provider, service, domain ORDER BY seq) AS nth
FROM acts s
LEFT JOIN operators o ON o.adopted = s.adopted AND o.operator = s.operator AND o.operator = s.log
    AND o.generation = s.generation
WHERE kind IN ('admit', 'dismiss')

-- view claims
SELECT c.*, row_number() OVER (PARTITION BY log, identity, version, key, signer ORDER BY seq) AS nth
FROM acts c WHERE NOT carried AND kind = 'revoke'

-- Every event that a rule makes void, with the rule's code.
-- table voids
SELECT log, generation, idx, 'not_home' AS reason FROM acts
WHERE NOT carried AND kind IN ('register', 'rotate', 'attest', 'retract')
UNION ALL SELECT log, generation, idx, 'not_home' FROM stated WHERE node_key IS NULL
UNION ALL SELECT log, generation, idx, CASE WHEN created > time THEN 'future' ELSE 'stale' END FROM acts
WHERE kind IN ('register', 'rotate', 'attest', 'retract', 'admit', 'dismiss')
    AND (created > time + 600000 OR created + max_age_ms < time)
UNION ALL SELECT log, generation, idx, 'name_taken' FROM (
    SELECT v.*, row_number() OVER (PARTITION BY home, name ORDER BY seq) AS nth_of_name,
           row_number() OVER (PARTITION BY home, substr(identity, 1, 32) ORDER BY seq) AS nth_of_did
    FROM versions v WHERE kind = 'register') x WHERE nth > 1 OR nth_of_name > 1 OR nth_of_did > 1
UNION ALL SELECT log, generation, idx, 'key_in_use' FROM (
    SELECT v.*, row_number() OVER (PARTITION BY home, key ORDER BY seq) AS nth_of_key FROM versions v) x
WHERE nth_of_key > 1
UNION ALL SELECT log, generation, idx, 'quota' FROM (
    SELECT v.*, row_number() OVER (PARTITION BY home, entry_day ORDER BY seq) AS nth_of_day
    FROM versions v WHERE kind = 'register') x WHERE nth_of_day > daily_registrations
UNION ALL SELECT log, generation, idx, 'quota' FROM (
    SELECT v.*, row_number() OVER (PARTITION BY home, identity, entry_day ORDER BY seq) AS nth_of_day
    FROM versions v WHERE kind = 'rotate') x WHERE nth_of_day > 10
UNION ALL SELECT log, generation, idx,
    CASE WHEN nth = 1 THEN 'unknown_identity' WHEN version <> version_before + 1 THEN 'wrong_version'
         ELSE 'not_authorized' END
FROM versions WHERE kind = 'rotate' AND (nth = 1 OR version <> version_before + 1
    OR (next_before IS NULL AND signer <> key_before)
    OR (next_before IS NOT NULL AND (signer <> key OR next_before <> concat('sha256:', sha2(key, 256)))))
UNION ALL SELECT v.log, v.generation, v.idx, 'revoked' FROM versions v
JOIN revocations r ON r.home = v.home AND r.identity = v.identity AND r.version = v.version_before AND r.seq < v.seq
WHERE v.kind = 'rotate' AND v.next_before IS NULL
UNION ALL SELECT r.log, r.generation, r.idx,
    CASE WHEN s.identity IS NULL OR r.seq > s.until THEN 'wrong_version' WHEN r.nth > 1 THEN 'revoked'
         ELSE 'not_authorized' END
FROM revocations r LEFT JOIN spans s
    ON s.home = r.home AND s.identity = r.identity AND s.version = r.version AND s.seq < r.seq
WHERE s.identity IS NULL OR r.seq > s.until OR r.nth > 1 OR r.key <> s.key
    OR (r.signer <> s.key AND (s.next IS NULL OR s.next <> concat('sha256:', sha2(r.signer, 256))))
UNION ALL SELECT log, generation, idx, 'duplicate' FROM claims WHERE nth > 1
UNION ALL SELECT log, generation, idx,
    CASE WHEN issuer_key IS NULL THEN 'unknown_identity' WHEN signer <> issuer_key THEN 'not_authorized'
         WHEN revoked_seq < seq THEN 'revoked' ELSE 'quota' END
FROM given WHERE issuer_key IS NULL OR signer <> issuer_key OR revoked_seq < seq
    OR nth_of_day > CASE WHEN kind = 'attest' THEN daily_attestations ELSE daily_retractions END
UNION ALL SELECT log, generation, idx,
    CASE WHEN delta = 0 OR abs(delta) > max_delta THEN 'delta' WHEN issuer = subject THEN 'self'
         WHEN nth_of_event > 1 THEN 'duplicate' ELSE 'cap' END
FROM attested WHERE delta = 0 OR abs(delta) > max_delta OR issuer = subject OR nth_of_event > 1 OR effective = 0
UNION ALL SELECT log, generation, idx, 'quota' FROM (
    SELECT a.*, row_number() OVER (PARTITION BY home, subject, entry_day ORDER BY seq) AS nth_new
    FROM attested a WHERE nth_of_pair = 1) x WHERE nth_new > daily_new_providers
UNION ALL SELECT log, generation, idx, CASE WHEN attestation_number IS NULL THEN 'not_found' ELSE 'already_retracted' END
FROM retracted WHERE attestation_number IS NULL OR nth > 1
UNION ALL SELECT log, generation, idx,
    CASE WHEN signer <> node_key THEN 'not_authorized' WHEN created <= created_before THEN 'superseded' ELSE 'quota' END
FROM stated WHERE signer <> node_key OR created <= created_before
    OR nth_of_day > CASE WHEN kind = 'admit' THEN 15 ELSE 16 END
UNION ALL SELECT log, generation, idx, 'quota' FROM (
    SELECT s.*, count(*) OVER (PARTITION BY operator, provider ORDER BY seq
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS triples
    FROM stated s WHERE nth = 1) x WHERE triples > 64

-- Events that the files call void. Nothing here depends on grants and suspensions.
-- view called_void
SELECT log, generation, idx, outcome AS reason FROM decoded
WHERE kind IN ('register', 'rotate', 'revoke', 'attest', 'retract', 'admit', 'dismiss')
    AND outcome IS DISTINCT FROM 'applied'

-- What these rules do not decide. Each is refused. An event under a version that was not given is in no other table.
-- view uncovered
SELECT '' AS log, 0 AS generation, 0 AS idx, 'a log adopted a version that the manifest does not have' AS what
WHERE (SELECT count(*) FROM acts) <> (SELECT count(*) FROM decoded WHERE event IS NOT NULL)
UNION ALL SELECT log, generation, idx, 'the daily cap changed within a day of this pair' FROM attested
WHERE daily_cap <> least_cap
UNION ALL SELECT log, generation, idx, 'more than 256 statements about one service of a provider' FROM stated
WHERE nth > 256

-- From each number that an operator's statements about a service name, whether it sponsors on from there: the last
-- statement that reaches so far down decides.
-- view points
SELECT DISTINCT s.operator, provider, service, domain, from_number AS edge,
       max(seq * 2 + CASE WHEN kind = 'admit' THEN 1 ELSE 0 END) OVER (
           PARTITION BY s.operator, provider, service, domain ORDER BY from_number
           RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) % 2 AS sponsors
FROM stated s JOIN operators o ON o.operator = s.operator AND o.newest

-- view steps
SELECT provider, service, domain, edge,
       sponsors - lag(sponsors, 1, 0) OVER (PARTITION BY operator, provider, service, domain ORDER BY edge) AS step
FROM points

-- Numbers of a provider, from `since` to before `until`, at which enough operators sponsor one and the same service.
-- view services
SELECT provider, service, domain, since, until FROM (
    SELECT provider, service, domain, edge AS since,
           lead(edge) OVER (PARTITION BY provider, service, domain ORDER BY edge) AS until,
           sum(step) OVER (PARTITION BY provider, service, domain ORDER BY edge
               ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS depth
    FROM (SELECT provider, service, domain, edge, sum(step) AS step FROM steps GROUP BY provider, service, domain, edge) x
) y WHERE depth >= (SELECT min_sponsors FROM policies WHERE newest)

-- The same for any service, each number once.
-- table sponsored
SELECT provider, since, until FROM (
    SELECT provider, edge AS since, lead(edge) OVER (PARTITION BY provider ORDER BY edge) AS until,
           sum(step) OVER (PARTITION BY provider ORDER BY edge
               ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS depth
    FROM (SELECT provider, edge, sum(step) AS step FROM (
        SELECT provider, since AS edge, 1 AS step FROM services
        UNION ALL SELECT provider, until, -1 FROM services WHERE until IS NOT NULL) x GROUP BY provider, edge) y
) z WHERE depth >= 1

-- Each attestation, and whether it counts.
-- table attestations
SELECT a.event, a.log, a.generation, a.idx, a.home, a.subject, a.issuer AS provider, a.number, a.delta,
       CAST(a.effective AS BIGINT) AS effective, r.number AS retraction,
       s.provider IS NOT NULL AND x.provider IS NULL AS counted
FROM attested a
LEFT JOIN sponsored s ON s.provider = a.issuer AND s.since <= a.number AND (s.until IS NULL OR a.number < s.until)
LEFT JOIN retracted r ON r.home = a.home AND r.attestation = a.event
LEFT JOIN sponsored x ON x.provider = a.issuer AND x.since <= r.number AND (x.until IS NULL OR r.number < x.until)
WHERE a.home IN (SELECT home FROM carriers WHERE newest)

-- Claims against the current key of an identity, by that key or its next; the first operator's earliest counts.
-- view claimed
SELECT home, identity, time, reason, operator FROM (
    SELECT s.home, s.identity, c.time, c.reason, c.log AS operator,
           row_number() OVER (PARTITION BY s.home, s.identity ORDER BY c.log, c.generation, c.idx) AS nth
    FROM spans s JOIN claims c ON c.identity = s.identity AND c.version = s.version AND c.key = s.key
        AND (c.signer = s.key OR s.next = concat('sha256:', sha2(c.signer, 256)))
    WHERE s.until IS NULL) x WHERE nth = 1

-- table identities
SELECT v.identity, concat(v.name, '@', v.home) AS handle, v.home, v.name, s.key, s.version AS key_version,
       s.time AS key_since,
       CASE WHEN s.revoked_seq IS NOT NULL OR c.identity IS NOT NULL THEN 'revoked' ELSE 'active' END AS status,
       coalesce(s.revoked_time, c.time) AS revoked, coalesce(s.revoked_reason, c.reason) AS revocation_reason,
       CASE WHEN s.revoked_seq IS NOT NULL THEN v.home ELSE c.operator END AS revoked_by,
       CAST(coalesce(k.karma, 0) AS BIGINT) AS karma, coalesce(k.attestations, 0) AS attestations
FROM versions v
JOIN spans s ON s.home = v.home AND s.identity = v.identity AND s.until IS NULL
LEFT JOIN claimed c ON c.home = v.home AND c.identity = v.identity
LEFT JOIN (SELECT subject, sum(effective) AS karma, count(*) AS attestations FROM attestations
           WHERE counted GROUP BY subject) k ON k.subject = v.identity
WHERE v.kind = 'register' AND v.home IN (SELECT home FROM carriers WHERE newest)
