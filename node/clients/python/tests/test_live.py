"""Both clients against the nodes of a federation."""

from __future__ import annotations

import asyncio
import inspect
import threading
import unittest
import urllib.parse
import urllib.request
from dataclasses import replace
from typing import Any

from federation import Federation, new_key
from test_texts import code, fields_of

from fama_client import AsyncClient, Client, FamaError, Signer, event_text, sign_login

net: Federation


def setUpModule() -> None:
    global net
    net = Federation()


def tearDownModule() -> None:
    net.close()


class Threaded:
    """`AsyncClient` behind the methods of `Client`, so that the same story holds for both."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        return lambda *args, **more: asyncio.run_coroutine_threadsafe(method(*args, **more), self.loop).result(60)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.client.close(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Live(unittest.TestCase):
    def clients(self, name: str) -> Any:
        options = {"submit_url": net.submit[0], "federation": net.federation}
        client: Any = Client if name == "sync" else AsyncClient
        made = client(net.query[0], **options)
        client = made if name == "sync" else Threaded(made)
        self.addCleanup(client.close)
        return client

    def test_the_life_of_a_key(self) -> None:
        for name, curve in (("sync", "secp256k1"), ("async", "ed25519")):
            with self.subTest(name):
                self.life(self.clients(name), f"agent-{name}", curve)

    def life(self, fama: Any, name: str, curve: str) -> None:
        handle = f"{name}@alpha.example"
        first, second, third = new_key(curve), new_key(), new_key("ed25519")
        receipt = fama.register(name, "alpha.example", first, next_key=second.public, bio="maps", wait_final=True)
        self.assertEqual((receipt["handle"], receipt["final"]), (handle, True))
        agent = receipt["event"]
        profile = fama.get_agent(handle)
        self.assertEqual((profile["identity"]["agent_id"], profile["identity"]["bio"]), (agent, "maps"))
        for other in (agent, profile["identity"]["did"], name):
            self.assertEqual(fama.get_agent(other)["identity"]["handle"], handle)
        again = code(lambda: fama.register(name, "alpha.example", new_key()))
        self.assertEqual(again, "name_taken")

        login = sign_login(handle, "challenge", first)
        self.assertEqual(fama.verify_remote(login).agent_id, agent)
        self.assertEqual(fama.verify(login).agent_id, agent)
        self.assertEqual(code(lambda: fama.verify(login)), "replayed")
        wrong = replace(login, message="other")
        for verify in (fama.verify, fama.verify_remote):
            with self.assertRaises(FamaError) as caught:
                verify(wrong)
            self.assertEqual((caught.exception.code, caught.exception.status), ("bad_signature", 401))
        self.assertEqual(code(lambda: fama.verify(sign_login(handle, "2", first), min_karma=1)), "low_karma")

        # To the committed key, which alone signs; then to another one, which both sign.
        fama.rotate_key(handle, second, wait_final=True)
        self.assertEqual(fama.verify(sign_login(handle, "3", second)).agent_id, agent)
        self.assertEqual(code(lambda: fama.verify(sign_login(handle, "4", first))), "bad_signature")
        self.assertEqual(fama.rotate_key(handle, third, current=second, wait_final=True)["final"], True)
        self.assertEqual(fama.verify(sign_login(handle, "5", third)).agent_id, agent)

        fama.revoke_key(handle, third, reason="key_compromised", wait_final=True)
        self.assertEqual(fama.get_agent(handle)["key_status"]["revocation_reason"], "KEY_COMPROMISED")
        for verify in (fama.verify, fama.verify_remote):
            self.assertEqual(code(lambda verify=verify: verify(sign_login(handle, "6", third))), "revoked")

    def test_the_committed_key_revokes(self) -> None:
        fama, key, spare = self.clients("sync"), new_key(), new_key("ed25519")
        fama.register("lost-key", "alpha.example", key, next_key=spare.public, wait_final=True)
        fama.revoke_key("lost-key@alpha.example", spare, wait_final=True)
        self.assertTrue(fama.get_agent("lost-key@alpha.example")["key_status"]["is_revoked"])

    def test_karma(self) -> None:
        for name in ("sync", "async"):
            with self.subTest(name):
                fama, service = self.clients(name), new_key()
                judge, agent = f"judge-{name}@alpha.example", f"rated-{name}@alpha.example"
                fama.register(f"judge-{name}", "alpha.example", service, wait_final=True)
                fama.register(f"rated-{name}", "alpha.example", new_key(), wait_final=True)
                attest = lambda: fama.attest_karma(agent, 5, judge, service, context="code", reason="good", ref="x/1", wait_final=True)  # noqa: B023, E501, E731
                with self.assertRaises(FamaError) as caught:
                    attest()
                self.assertEqual((caught.exception.code, caught.exception.status), ("not_sponsored", 403))
                refused = caught.exception.signed
                assert refused is not None
                net.admit(judge, f"judge{name}")
                self.assertFalse(fama.submit(refused)["known"], "the same text, now that it may be")
                self.assertTrue(fama.submit(refused)["known"], "and it counts once")
                attest()
                profile = fama.get_agent(agent)
                self.assertEqual(profile["reputation"]["global_score"], 10)
                said = profile["recent_attestations"][0]
                self.assertEqual((said["reason"], said["external_ref"], said["context"]), ("good", "x/1", "code"))
                board = fama.get_leaderboard(1)
                self.assertEqual((len(board["agents"]), board["agents"][0]["global_karma"]), (1, 10))

    def test_texts_are_those_of_the_template(self) -> None:
        fama, key = self.clients("sync"), new_key()
        agent = fama.register("templated", "alpha.example", key, wait_final=True)["event"]
        questions: list[dict[str, str]] = [
            {"kind": "register", "home": "alpha.example", "name": "abc", "key": key.public.text,
             "next": new_key().public.commitment},
            {"kind": "rotate", "identity": agent, "key": new_key("ed25519").public.text},
            {"kind": "revoke", "identity": agent, "reason": "retired"},
            {"kind": "attest", "issuer": agent, "subject": agent, "delta": "-3", "context": "code"},
            {"kind": "retract", "issuer": agent, "day": "2026-11-22", "subject": agent, "attestation": "0" * 64},
            {"kind": "admit", "provider": agent, "service": "s", "domain": "s.example", "method": "dns", "from": "0"},
            {"kind": "dismiss", "provider": agent, "service": "s", "domain": "s.example", "from": "4", "reason": "expired"},
        ]  # fmt: skip
        for question in questions:
            url = f"{net.query[0]}/api/event/template?{urllib.parse.urlencode(question)}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                text = answer.read().decode()
            fields: dict[str, Any] = fields_of(text)
            kind, times = fields.pop("kind"), {name: fields.pop(name) for name in ("created", "nonce")}
            self.assertEqual(fields.pop("federation"), net.federation)
            self.assertEqual(event_text(kind, fields, federation=net.federation, **times), text)

    def test_nothing_is_signed_for_a_federation_that_a_node_names(self) -> None:
        with Client(net.query[0], submit_url=net.submit[0]) as fama:
            self.assertEqual(code(lambda: fama.register("nameless", "alpha.example", new_key())), "no_federation")
        with Client(net.query[0], federation=net.federation) as fama:
            self.assertEqual(code(lambda: fama.register("nameless", "alpha.example", new_key())), "no_submit_url")
        with Client(net.query[0], submit_url=net.submit[0], federation="ab" * 32) as fama:
            self.assertEqual(code(lambda: fama.register("nameless", "alpha.example", new_key())), "wrong_federation")

    def test_a_function_signs(self) -> None:
        inner, seen = new_key(), []

        def sign(message: bytes) -> bytes:
            seen.append(message)
            return inner.sign(message)

        fama = self.clients("sync")
        fama.register("by-callable", "alpha.example", Signer(inner.public, sign), wait_final=True)
        self.assertTrue(seen[0].startswith(b"fama.event/1\nfederation: " + net.federation.encode()))

    def test_what_the_node_refuses(self) -> None:
        for name in ("sync", "async"):
            fama = self.clients(name)
            self.assertEqual(fama.get_status()["federation"]["id"], net.federation)
            for call, want in (
                (lambda: fama.get_agent("nobody@alpha.example"), ("unknown_agent", 404)),
                (lambda: fama.get_agent("n\u00e4me"), ("bad_name", 400)),
                (lambda: fama.get_leaderboard(0), ("bad_limit", 400)),
            ):
                with self.assertRaises(FamaError) as caught:
                    call()
                self.assertEqual((caught.exception.code, caught.exception.status), want)

    def test_a_node_that_is_gone(self) -> None:
        with Client("http://127.0.0.1:9", submit_url="http://127.0.0.1:9", federation=net.federation) as fama:
            self.assertEqual(code(lambda: fama.get_status()), "unreachable")
            with self.assertRaises(FamaError) as caught:
                fama.register("gone", "alpha.example", new_key())
            self.assertIsNotNone(caught.exception.signed)

    def test_both_clients_have_the_same_methods(self) -> None:
        for name in dir(Client):
            if name.startswith("_") or name == "follow":
                continue
            ours = inspect.signature(getattr(Client, name))
            self.assertEqual(ours, inspect.signature(getattr(AsyncClient, name)), name)


if __name__ == "__main__":
    unittest.main()
