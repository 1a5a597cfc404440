"""Logins, the cache and the memory of used signatures, against a profile that nobody serves."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from federation import new_key
from test_texts import code

from fama_client import FamaError, Login, ProfileCache, Signer, UsedSignatures, Verified, sign_login
from fama_client.cache import DROPS_MAX
from fama_client.core import Core, Request, Response, Steps
from fama_client.times import write_time

NOW = 1_795_323_600.0
NAME = "swift@alpha.example"


def profile_of(key: Signer, **change: Any) -> dict[str, Any]:
    from cryptography.hazmat.primitives import serialization

    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = key.public.key.public_bytes(serialization.Encoding.PEM, form).decode()
    return {
        "identity": {"agent_id": "1" * 64, "did": "did:agent:alpha.example:" + "1" * 32, "dumbname": "swift",
                     "handle": NAME, "public_key": change.get("pem", pem), "key_version": 1},
        "reputation": {"global_score": change.get("karma", 5)},
        "key_status": {"is_revoked": change.get("revoked", False), "is_suspended": change.get("suspended", False)},
        "ledger": {"home": "alpha.example"},
    }  # fmt: skip


class Service:
    """A verifier on its own clock, whose node answers what `answer` says."""

    def __init__(self, profile: dict[str, Any]) -> None:
        self.now = NOW
        self.profile = profile
        self.down = self.busy = self.gone = False
        self.asked = 0
        self.cache = ProfileCache(lambda: self.now)
        self.core = Core("http://node", submit_url=None, federation=None, cache=self.cache, used=UsedSignatures(),
                         clock=lambda: self.now)  # fmt: skip

    def node(self, request: Request) -> Response:
        import json

        self.asked += 1
        if self.down:
            raise FamaError("unreachable", "down")
        if self.busy:
            return Response(429, {}, b'{"code":"rate_limited"}')
        if self.gone or NAME not in request.url:
            return Response(404, {"retry-after": "7"}, b'{"code":"unknown_agent","error":"nobody"}')
        return Response(200, {}, json.dumps(self.profile).encode())

    def run(self, steps: Steps[Any]) -> Any:
        try:
            request = next(steps)
            while True:
                try:
                    response = self.node(request)
                except FamaError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(response)
        except StopIteration as done:
            return done.value

    def verify(self, login: Login, min_karma: int | None = None) -> Verified:
        verified: Verified = self.run(self.core.verify(login, min_karma=min_karma))
        return verified

    def outcome(self, login: Login, min_karma: int | None = None) -> str:
        return code(lambda: self.verify(login, min_karma))


def at(key: Signer, seconds: float, message: str = "hello") -> Login:
    return sign_login(NAME, message, key, timestamp=write_time(seconds))


class Logins(unittest.TestCase):
    def setUp(self) -> None:
        self.key = new_key()
        self.service = Service(profile_of(self.key))

    def test_a_login_is_accepted_once(self) -> None:
        login = at(self.key, NOW - 299)
        who = self.service.verify(login, 5)
        self.assertEqual((who.handle, who.agent_id, who.karma), (NAME, "1" * 64, 5))
        self.assertEqual(self.service.outcome(login), "replayed")
        spelled = replace(login, signature=login.signature.replace("+", "-").replace("/", "_").rstrip("="))
        self.assertEqual(self.service.outcome(spelled), "replayed", "also in another spelling")
        self.assertEqual(self.service.asked, 1, "the profile was kept")
        self.service.now += 700
        self.assertEqual(self.service.outcome(login), "expired")

    def test_a_future_login_is_remembered_until_it_expires(self) -> None:
        login = at(self.key, NOW + 300)
        self.assertEqual(self.service.outcome(login), "accepted")
        for self.service.now in (NOW + 301, NOW + 599, NOW + 600):
            self.assertEqual(self.service.outcome(login), "replayed")
        self.service.now = NOW + 601
        self.assertEqual(self.service.outcome(login), "expired")

    def test_each_fault_has_its_code(self) -> None:
        good = at(self.key, NOW)
        refused: list[tuple[Login, str]] = [
            (at(self.key, NOW - 301), "expired"),
            (at(self.key, NOW + 301), "expired"),
            (replace(good, message="other"), "bad_signature"),
            (at(new_key(), NOW), "bad_signature"),
            (replace(good, signature="????"), "bad_signature_form"),
            (replace(good, signature=""), "bad_signature_form"),
            (replace(good, signature="aGVsbG8="), "bad_signature_form"),
            (replace(good, timestamp=good.timestamp.replace("Z", "+00:00")), "bad_timestamp"),
            (replace(good, message="\ud800"), "bad_message"),
            (replace(good, message="x" * 70_000), "bad_message"),
            (replace(good, message="fama.event/1\n"), "forbidden_message"),
            (replace(good, message="ROTATE_KEY:x"), "forbidden_message"),
            (replace(good, dumbname="cosignature/v1\n"), "forbidden_message"),
            (replace(good, dumbname=""), "bad_name"),
            (replace(good, dumbname=".."), "bad_name"),
            (sign_login("nobody", "x", self.key, timestamp=write_time(NOW)), "unknown_agent"),
        ]
        for login, want in refused:
            self.assertEqual(self.service.outcome(login), want, login)
        self.assertEqual(self.service.outcome(good, 6), "low_karma")
        self.assertEqual(self.service.outcome(good), "accepted", "nothing of all that used the signature up")
        self.assertEqual(code(lambda: sign_login(NAME, "REVOKE_KEY:", self.key)), "forbidden_message")

    def test_an_answer_about_another_agent_is_refused(self) -> None:
        self.service.profile["identity"]["handle"] = "mallory@alpha.example"
        self.assertEqual(self.service.outcome(at(self.key, NOW)), "wrong_agent")
        for part in ("identity", "key_status", "reputation", "ledger"):
            service = Service(profile_of(self.key))
            service.profile[part] = []
            self.assertEqual(service.outcome(at(self.key, NOW)), "bad_answer")

    def test_a_revocation_is_known_when_the_kept_profile_is_old_or_dropped(self) -> None:
        self.assertEqual(self.service.outcome(at(self.key, NOW)), "accepted")
        self.service.profile = profile_of(self.key, revoked=True)
        self.assertEqual(self.service.outcome(at(self.key, NOW, "2")), "accepted", "kept for ten seconds")
        self.service.cache.drop("1" * 64)
        self.assertEqual(self.service.outcome(at(self.key, NOW, "3")), "revoked")
        service = Service(profile_of(self.key))
        self.assertEqual(service.outcome(at(self.key, NOW)), "accepted")
        service.profile, service.now = profile_of(self.key, suspended=True), NOW + 11
        self.assertEqual(service.outcome(at(self.key, NOW, "5")), "suspended")
        service.profile, service.now = profile_of(self.key, revoked=True), NOW + 22
        self.assertEqual(service.outcome(at(self.key, NOW, "2")), "revoked")

    def test_a_new_key_is_asked_for(self) -> None:
        self.assertEqual(self.service.outcome(at(self.key, NOW)), "accepted")
        new = new_key()
        self.service.profile = profile_of(new)
        self.assertEqual(self.service.outcome(at(new, NOW)), "bad_signature")
        self.assertEqual(self.service.asked, 1, "a stranger cannot make every login a request")
        self.service.now += 2
        self.assertEqual(self.service.outcome(at(new, NOW)), "accepted")
        self.assertEqual(self.service.asked, 2)

    def test_logins_go_on_without_a_node_for_a_while(self) -> None:
        self.assertEqual(self.service.outcome(at(self.key, NOW)), "accepted")
        self.service.down = True
        self.service.now += 299
        self.assertEqual(self.service.outcome(at(self.key, NOW + 299)), "accepted")
        self.service.down, self.service.busy = False, True
        self.assertEqual(self.service.outcome(at(self.key, NOW + 299, "busy")), "accepted")
        self.service.busy, self.service.gone = False, True
        self.assertEqual(self.service.outcome(at(self.key, NOW + 299, "gone")), "unknown_agent", "a node answered")
        self.service.gone, self.service.down = False, True
        self.service.now += 2
        self.assertEqual(self.service.outcome(at(self.key, NOW + 301)), "unreachable")

    def test_errors_carry_what_the_node_said(self) -> None:
        with self.assertRaises(FamaError) as caught:
            self.service.run(self.service.core.get_agent("nobody@alpha.example"))
        error = caught.exception
        self.assertEqual((error.code, error.status, error.message, error.retry_after), ("unknown_agent", 404, "nobody", 7))


class Memory(unittest.TestCase):
    def test_used_signatures_are_bounded_and_never_forgotten_early(self) -> None:
        used = UsedSignatures(used_max=5, per_agent_max=3)

        def use(agent: str, signature: bytes, now: float = 0.0) -> str:
            call: Callable[[], object] = lambda: used.use(agent, signature, now + 10, now)  # noqa: E731
            return code(call)

        self.assertEqual([use("a", bytes([i])) for i in range(4)], ["accepted"] * 3 + ["rate_limited"])
        self.assertEqual([use("b", bytes([i])) for i in range(3)], ["accepted"] * 2 + ["busy"])
        self.assertEqual(use("a", b"\0"), "replayed")
        self.assertEqual(use("a", b"\0", 10.0), "replayed", "at its last second")
        self.assertEqual([use("b", bytes([i]), 11.5) for i in range(4)], ["accepted"] * 3 + ["rate_limited"])

    def test_profiles_are_bounded(self) -> None:
        cache = ProfileCache(lambda: 0.0, profiles_max=2)
        for i in range(3):
            cache.put(f"n{i}", {"identity": {"agent_id": str(i)}}, cache.begin())
        self.assertEqual([cache.fresh(f"n{i}") is None for i in range(3)], [True, False, False])

    def test_an_answer_from_before_a_drop_is_not_kept(self) -> None:
        cache, profile = ProfileCache(lambda: 0.0), {"identity": {"agent_id": "a"}}
        begun = cache.begin()
        cache.drop("a")
        cache.put("n", profile, begun)
        self.assertIsNone(cache.fresh("n"))
        cache.put("n", profile, cache.begin())
        self.assertIsNotNone(cache.fresh("n"))
        begun = cache.begin()
        for i in range(DROPS_MAX + 2):
            cache.drop(f"other{i}")
        cache.put("m", profile, begun)
        self.assertIsNone(cache.fresh("m"), "nor one whose drop may be forgotten")

    def test_a_followed_profile_is_fresh_for_longer(self) -> None:
        now = [0.0]
        cache, profile = ProfileCache(lambda: now[0]), {"identity": {"agent_id": "a"}}
        cache.put("n", profile, cache.begin())
        cache.follow(True)
        self.assertIsNone(cache.offline("n"), "what changed before the stream began is not known")
        cache.put("n", profile, cache.begin())
        now[0] = 200.0
        self.assertIsNotNone(cache.fresh("n"))
        cache.follow(False)
        self.assertIsNone(cache.fresh("n"))
        self.assertIsNotNone(cache.offline("n"))


if __name__ == "__main__":
    unittest.main()
