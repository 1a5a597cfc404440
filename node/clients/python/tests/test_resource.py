"""A resource server against a small node of this test's own: tokens, DPoP proofs, manifests, and what is withdrawn."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import json
import logging
import queue
import re
import threading
import time
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from federation import Federation
from test_tokens import leb128, secret, shown, signed, version

from fama_client import AsyncResourceServer, FamaError, Manifest, Refused, ResourceServer
from fama_client import resource as module
from fama_client.keys import encode_base64url
from fama_client.stream import BrokenStream

ALPHA, BETA = "https://auth.alpha.example", "https://auth.beta.example"
RESOURCE = "https://shop.example/api"
METADATA = "https://shop.example/.well-known/oauth-protected-resource/api"
NOW = 1_800_000_000
AGENT, OTHER, SERVICE, ELSEWHERE = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
LOGS = ["alpha.example/1", "beta.example/1"]


def manifest(*versions: str) -> str:
    """A chain of as many versions. Each says its operators' token keys, as seeds, and whether it cuts beta's log."""
    chain, before, generation = "", None, 1
    for said in versions:
        generation += "cut" in said
        operators = []
        for name, governance, of in (("alpha", 1, 1), ("beta", 2, generation)):
            keys = [shown(int(seed)) for seed in re.findall(rf"{name}:(\d+)", said)]
            one = {"name": f"{name}.example", "governance_key": shown(governance), "generation": of}
            operators.append(one | ({"issuer": f"https://auth.{name}.example", "token_keys": keys} if keys else {}))
        cut = {"operator": "beta.example", "generation": 1, "size": 5, "adopted": 1}
        text = version(before, operators, [cut] if "cut" in said else [])
        chain += signed(text, ("alpha.example", 1), ("beta.example", 2))
        before = Manifest.read(chain)
    return chain


FIRST = "alpha:11 beta:12"
GENESIS = manifest(FIRST)
FEDERATION = Manifest.read(GENESIS).federation


def frontier(*sizes: int, version: int = 1) -> str:
    return f"{version}.{encode_base64url(b''.join(map(leb128, sizes)))}"


def compact(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    text = ".".join(encode_base64url(json.dumps(part).encode()) for part in (header, claims))
    return f"{text}.{encode_base64url(sign(text.encode()))}"


def token(seed: int = 11, fama: dict[str, Any] | None = None, **changes: Any) -> str:
    claims = {
        "iss": ALPHA, "sub": f"did:agent:alpha.example:{AGENT[:32]}", "client_id": "swift@alpha.example",
        "aud": RESOURCE, "scope": "read pay", "iat": NOW, "exp": NOW + 300, "jti": "one",
        "fama": {
            "federation": FEDERATION, "identity": AGENT, "service": f"did:agent:beta.example:{SERVICE[:32]}",
            "key_version": 1, "karma": 7, "as_of": "2027-01-15T08:00:00.000Z", "frontier": frontier(10, 10),
        } | (fama or {}),
    } | changes  # fmt: skip
    public = secret(seed).public_key().public_bytes_raw()
    jwk = f'{{"crv":"Ed25519","kty":"OKP","x":"{encode_base64url(public)}"}}'
    kid = encode_base64url(hashlib.sha256(jwk.encode()).digest())
    return compact({"alg": "EdDSA", "typ": "at+jwt", "kid": kid}, claims, secret(seed).sign)


def bearer(text: str) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {text}")]


class Holder:
    """The holder of a key, who proves each request."""

    def __init__(self) -> None:
        self.secret = ec.generate_private_key(ec.SECP256R1())
        numbers = self.secret.public_key().public_numbers()
        x, y = (encode_base64url(number.to_bytes(32)) for number in (numbers.x, numbers.y))
        self.jwk = {"crv": "P-256", "kty": "EC", "x": x, "y": y}
        canonical = json.dumps(self.jwk, separators=(",", ":")).encode()
        self.thumbprint = encode_base64url(hashlib.sha256(canonical).digest())

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self.secret.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)

    def proof(self, text: str, jti: str = "p", **changes: Any) -> str:
        ath = encode_base64url(hashlib.sha256(text.encode()).digest())
        claims = {"htm": "POST", "htu": "https://shop.example/api/pay", "iat": NOW, "jti": jti, "ath": ath} | changes
        return compact({"alg": "ES256", "typ": "dpop+jwt", "jwk": self.jwk}, claims, self.sign)

    def token(self, **changes: Any) -> str:
        return token(cnf={"jkt": self.thumbprint}, **changes)

    def headers(self, text: str, jti: str = "p", **changes: Any) -> list[tuple[str, str]]:
        return [("authorization", f"DPoP {text}"), ("dpop", self.proof(text, jti, **changes))]


class Node(http.server.ThreadingHTTPServer):
    """Answers `chain`, and streams what `say` puts in. A stream opens at `cursor`, or where the client was."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.chain: str | None = GENESIS
        self.cursor, self.federation, self.status = frontier(0, 0), FEDERATION, 200
        self.asked = 0
        self.last_ids: list[str | None] = []
        self.parts: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def say(self, at: str, **fields: Any) -> None:
        self.parts.put(f"event: access\nid: {at}\ndata: {json.dumps(fields)}\n\n")

    def hang_up(self) -> None:
        self.parts.put(None)

    def close(self) -> None:
        self.hang_up()
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Node

    def do_GET(self) -> None:
        if self.path == "/api/federation/manifests":
            self.server.asked += 1
            body = (self.server.chain or "").encode()
            self.send_response(200 if body else 500)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        assert self.path == "/api/stream?kind=key%2Caccess", self.path
        last, status = self.headers["last-event-id"], self.server.status
        self.server.last_ids.append(last)
        self.server.status = 200
        self.send_response(status)
        self.send_header("content-type", "text/event-stream" if status == 200 else "application/json")
        self.end_headers()
        if status != 200:
            return
        opened = {"federation": self.server.federation, "manifest_version": 1}
        part: str | None = f"event: open\nid: {last or self.server.cursor}\ndata: {json.dumps(opened)}\n\n"
        while part is not None:
            self.wfile.write(part.encode())
            self.wfile.flush()
            part = self.server.parts.get()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Case(unittest.TestCase):
    def setUp(self) -> None:
        logging.getLogger("fama_client.resource").setLevel(logging.CRITICAL)
        self.now = float(NOW)

    def clock(self) -> float:
        return self.now

    def server(self, node: str = "http://127.0.0.1:9", **options: Any) -> ResourceServer:
        given: dict[str, Any] = {"genesis": GENESIS, "issuers": [ALPHA, BETA], "resource": RESOURCE}
        return ResourceServer(node, **given | {"clock": self.clock} | options)

    def refusal(self, server: ResourceServer, headers: list[tuple[str, str]], **needs: Any) -> Refused:
        with self.assertRaises(Refused) as found:
            server.check("POST", "/api/pay", headers, **needs)
        return found.exception

    def code(self, server: ResourceServer, text: str) -> str:
        try:
            server.check("GET", "/api/answers", bearer(text))
        except Refused as refused:
            return refused.code
        return "ok"

    def node(self) -> Node:
        node = Node()
        self.addCleanup(node.close)
        # A connection is tried again at once.
        patch = mock.patch("fama_client.stream.PAUSE_SECONDS_MAX", 0.01)
        patch.start()
        self.addCleanup(patch.stop)
        return node

    def started(self, node: Node, **options: Any) -> ResourceServer:
        server = self.server(node.url, **options)
        server.start()
        self.addCleanup(server.close)
        Federation.eventually(lambda: server.live, 10, 0.01)
        return server

    def eventually(self, server: ResourceServer, text: str, code: str) -> None:
        Federation.eventually(lambda: self.code(server, text) == code, 10, 0.01)


class Requests(Case):
    def test_metadata(self) -> None:
        server = self.server(scopes=["read", "pay"])
        self.assertEqual(server.metadata_path, "/.well-known/oauth-protected-resource/api")
        self.assertEqual(server.metadata(), {
            "resource": RESOURCE, "authorization_servers": [ALPHA, BETA], "scopes_supported": ["read", "pay"],
            "bearer_methods_supported": ["header"],
            "dpop_signing_alg_values_supported": ["EdDSA", "Ed25519", "ES256"],
            "dpop_bound_access_tokens_required": False,
        })  # fmt: skip
        did = f"did:agent:beta.example:{SERVICE[:32]}"
        for resource, url, path in (
            (RESOURCE, RESOURCE, "/api"), (RESOURCE, "https://shop.example", ""),
            (RESOURCE, "https://shop.example/", ""), (RESOURCE, "https://shop.example:8443/a/b/", "/a/b/"),
            (did, "http://127.0.0.1:80/x", "/x"),
        ):  # fmt: skip
            server = self.server(resource=resource, url=url)
            self.assertEqual(server.metadata_path, "/.well-known/oauth-protected-resource" + path)
            self.assertNotIn("scopes_supported", server.metadata())

    def test_what_it_must_be_told(self) -> None:
        wrong: list[dict[str, Any]] = [
            {"issuers": []}, {"issuers": ALPHA}, {"issuers": ["https://a\""]}, {"resource": "did:agent:a.example:1"},
            {"resource": RESOURCE + "?x"}, {"resource": RESOURCE + "#x"}, {"url": "ftp://x"}, {"scopes": ["a b"]},
            {"resource": "https://shop.example/\r\nx"},
        ]  # fmt: skip
        for options in wrong:
            with self.assertRaises(ValueError):
                self.server(**options)
        with self.assertRaises(FamaError):
            self.server(genesis="")

    def test_a_token_passes(self) -> None:
        server = self.server()
        for headers in (bearer(token()), [("AUTHORIZATION", f"bearer  {token()}"), ("x", "y")]):
            read = server.check("GET", "/api/answers", headers, scope="read pay", min_karma=7)
            self.assertEqual((read.client_id, read.karma, read.identity), ("swift@alpha.example", 7, AGENT))
        self.assertEqual(server.check("GET", "/", bearer(token(12, iss=BETA))).operator, "beta.example")

    def test_refusals(self) -> None:
        server, good = self.server(), token()
        more = f'resource_metadata="{METADATA}"'
        for headers, needs, status, code, challenge in (
            ([], {}, 401, "no_credentials", f"Bearer {more}"),
            ([("authorization", "Basic eA==")], {}, 401, "no_credentials", f"Bearer {more}"),
            ([("authorization", "")], {}, 401, "no_credentials", f"Bearer {more}"),
            ([("authorization", "Bearer ")], {}, 400, "bad_authorization", 'error="invalid_request"'),
            (bearer(good) + bearer(good), {}, 400, "bad_authorization", 'error="invalid_request"'),
            (bearer("x"), {}, 401, "jws_form", 'Bearer error="invalid_token", error_description="'),
            (bearer(good + " x"), {}, 401, "jws_form", 'error="invalid_token"'),
            (bearer(token(exp=NOW)), {}, 401, "token_expired", 'error="invalid_token"'),
            (bearer(token(aud="https://other.example")), {}, 401, "token_audience", 'error="invalid_token"'),
            (bearer(token(12)), {}, 401, "token_key", 'error="invalid_token"'),
            (bearer(token(iss="https://auth.gamma.example")), {}, 401, "token_issuer", 'error="invalid_token"'),
            (bearer(token(fama={"frontier": "x"})), {}, 401, "token_claim", 'error="invalid_token"'),
            (bearer(token(fama={"frontier": frontier(1)})), {}, 401, "token_claim", 'error="invalid_token"'),
            (bearer(good), {"scope": "read admin"}, 403, "insufficient_scope", 'scope="read admin"'),
            (bearer(good), {"min_karma": 8}, 403, "low_karma", ""),
        ):  # fmt: skip
            refused = self.refusal(server, headers, **needs)
            self.assertEqual((refused.status, refused.code), (status, code))
            self.assertIn(challenge, refused.headers.get("WWW-Authenticate", ""))
            self.assertEqual("WWW-Authenticate" in refused.headers, code != "low_karma")
        whole = self.refusal(server, bearer(good), scope="admin").headers["WWW-Authenticate"]
        self.assertEqual(whole, 'Bearer error="insufficient_scope", error_description="this needs the scope admin", '
                                f'scope="admin", {more}')  # fmt: skip

    def test_nothing_that_a_stranger_wrote_leaves_its_quotes(self) -> None:
        server = self.server()
        evil = 'x", error="invented"\\\r\nSet-Cookie: a=b; é …'
        holder = Holder()
        for headers in (
            bearer(token(iss=evil)), bearer(token(aud=evil)), bearer(evil), [("authorization", f"DPoP {evil}")],
            [("authorization", evil)], bearer(compact({"typ": evil, "alg": evil}, {}, secret(1).sign)),
            bearer(compact({"typ": "at+jwt", "alg": evil}, {"iss": ALPHA}, secret(1).sign)),
            holder.headers(holder.token(), htu=evil),
        ):  # fmt: skip
            challenge = self.refusal(server, headers).headers["WWW-Authenticate"]
            self.assertRegex(challenge, r'^(Bearer|DPoP) ([a-z_]+="[ -!#-\[\]-~]*"(, (?=.)|$))+$')
            self.assertNotIn("invented", re.sub(r'"[^"]*"', "", challenge))

    def test_dpop(self) -> None:
        server, holder, thief = self.server(), Holder(), Holder()
        bound = holder.token()
        self.assertEqual(server.check("POST", "/api/pay?x=1", holder.headers(bound)).key_thumbprint, holder.thumbprint)
        server.check("POST", "http://elsewhere.example/api/pay", holder.headers(bound, "whole URL"))
        algorithms = 'algs="EdDSA Ed25519 ES256"'
        for headers, code, error in (
            (holder.headers(bound), "used", "invalid_dpop_proof"),
            (bearer(bound), "dpop_required", "invalid_token"),
            ([("authorization", f"DPoP {token()}"), ("dpop", holder.proof(token()))], "not_bound", "invalid_token"),
            (holder.headers(bound)[:1], "dpop_header", "invalid_dpop_proof"),
            (holder.headers(bound, "2") + holder.headers(bound, "3")[1:], "dpop_header", "invalid_dpop_proof"),
            (thief.headers(bound, "4"), "token_dpop", "invalid_dpop_proof"),
            (holder.headers(bound, "5", htm="GET"), "token_dpop", "invalid_dpop_proof"),
            (holder.headers(bound, "6", htu="https://shop.example/api"), "token_dpop", "invalid_dpop_proof"),
            (holder.headers(bound, "7", ath="x"), "token_dpop", "invalid_dpop_proof"),
            (holder.headers(bound, "8", iat=NOW - 60), "token_expired", "invalid_dpop_proof"),
            ([("authorization", f"DPoP {bound}"), ("dpop", "x")], "jws_form", "invalid_dpop_proof"),
            (holder.headers(token(exp=NOW), "9"), "token_expired", "invalid_token"),
        ):  # fmt: skip
            refused = self.refusal(server, headers)
            self.assertEqual((refused.status, refused.code), (401, code))
            challenge = refused.headers["WWW-Authenticate"]
            self.assertIn(f'error="{error}"', challenge)
            self.assertEqual(algorithms in challenge, challenge.startswith("DPoP "), code)
        self.assertEqual(self.refusal(server, holder.headers(bound, "10"), min_karma=8).code, "low_karma")
        server.check("POST", "/api/pay", holder.headers(bound, "10"))

    def test_proofs_are_remembered_until_they_end(self) -> None:
        with mock.patch.multiple(module, PROOFS_PER_AGENT_MAX=2, PROOFS_MAX=3):
            server = self.server()
        one, other = Holder(), Holder()
        for holder, jti, agent in ((one, "1", AGENT), (one, "2", AGENT), (other, "1", OTHER)):
            server.check("POST", "/api/pay", holder.headers(holder.token(fama={"identity": agent}), jti))
        # Whatever keys an agent has.
        for holder, jti, agent, status in ((one, "3", AGENT, 429), (other, "3", AGENT, 429), (other, "2", OTHER, 503)):
            refused = self.refusal(server, holder.headers(holder.token(fama={"identity": agent}), jti))
            self.assertEqual((refused.status, refused.code), (status, "busy"))
            self.assertGreater(int(refused.headers["Retry-After"]), 0)
            self.assertNotIn("WWW-Authenticate", refused.headers)
        self.assertEqual(self.refusal(server, one.headers(one.token(), "1")).code, "used")
        self.now += 61
        self.assertEqual(self.refusal(server, one.headers(one.token(), "1")).code, "token_expired")
        server.check("POST", "/api/pay", one.headers(one.token(), "3", iat=NOW + 61))


class Manifests(Case):
    def test_a_new_key_is_asked_for_once_in_ten_seconds(self) -> None:
        node = self.node()
        server, fresh = self.server(node.url), token(13)
        self.assertEqual((self.code(server, fresh), node.asked), ("token_key", 1))
        node.chain = manifest(FIRST, "alpha:13 alpha:11")
        self.now += 9
        self.assertEqual((self.code(server, fresh), node.asked), ("token_key", 1))
        self.now += 2
        self.assertEqual((self.code(server, fresh), node.asked), ("ok", 2))
        self.assertEqual(self.code(server, token(11)), "ok")
        self.assertEqual(self.code(server, token(12, iss=BETA)), "token_key", "it issues none any more")
        # An older chain, another federation's, one that does not hold, none at all.
        other = manifest("alpha:13 beta:14")
        spoilt = manifest(FIRST, "alpha:13 alpha:11", "alpha:15").replace("version = 3", "version =  3")
        for chain in (GENESIS, other, spoilt, "x", None):
            node.chain = chain
            self.now += 11
            asked = node.asked
            self.assertEqual(self.code(server, token(15, iat=NOW + 50)), "token_key")
            self.assertEqual((self.code(server, fresh), node.asked), ("ok", asked + 1))
        node.close()
        self.now += 11
        self.assertEqual((self.code(server, token(15, iat=NOW + 60)), self.code(server, fresh)), ("token_key", "ok"))

    def test_a_leaked_key_is_gone_within_five_minutes(self) -> None:
        node = self.node()
        node.chain = None
        server, leaked = self.started(node), token(exp=NOW + 900)
        self.assertEqual((self.code(server, leaked), node.asked), ("ok", 1))
        # The node had no answer: it is asked again soon.
        node.chain = GENESIS
        self.now += 10
        node.parts.put(": still here\n\n")
        Federation.eventually(lambda: node.asked == 2, 10, 0.01)
        node.chain = manifest(FIRST, "alpha:13 beta:12")
        self.now += 299
        for about in (OTHER, ELSEWHERE):
            # Once the second is heard, all that follows from the first is done.
            node.say(frontier(10, 10), kind="revoke", identity=about, log=LOGS[0], index=10)
            self.eventually(server, token(exp=NOW + 900, fama={"identity": about}), "withdrawn")
        self.assertEqual((self.code(server, leaked), node.asked), ("ok", 2))
        self.now += 1
        node.parts.put(": still here\n\n")
        self.eventually(server, leaked, "token_key")
        self.assertEqual((server.manifest.newest.number, node.asked), (2, 3))

    def test_many_requests_share_one_answer(self) -> None:
        node = self.node()
        node.chain = manifest(FIRST, "alpha:13")
        server, codes = self.server(node.url), list[str]()
        threads = [threading.Thread(target=lambda: codes.append(self.code(server, token(13)))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        self.assertEqual((codes, node.asked), (["ok"] * 8, 1))

    def test_a_frontier_of_a_later_version(self) -> None:
        node = self.node()
        server, later = self.server(node.url), token(fama={"frontier": frontier(10, 10, version=2)})
        refused = self.refusal(server, bearer(later))
        self.assertEqual((refused.status, refused.code, refused.headers), (503, "later_version", {"Retry-After": "5"}))
        self.now += 11
        node.chain = manifest(FIRST, FIRST)
        self.assertEqual(self.code(server, later), "ok")


class Withdrawals(Case):
    def test_what_happened_after_a_token_was_issued(self) -> None:
        node = self.node()
        server = self.started(node)
        old, newer = token(), token(fama={"frontier": frontier(21, 10)})
        elsewhere = token(fama={"service": f"did:agent:beta.example:{ELSEWHERE[:32]}"})
        other = token(fama={"identity": OTHER})
        told = 0

        def say(kind: str, log: str, index: int, identity: str = AGENT, provider: str | None = None) -> None:
            nonlocal told
            told += 1
            node.say(frontier(10, 10), kind=kind, identity=identity, provider=provider, log=log, index=index)
            # Once this one is heard, all before it are.
            last = f"{told:032}{0:032}"
            node.say(frontier(10, 10), kind="revoke", identity=last, log=LOGS[0], index=10)
            self.eventually(server, token(fama={"identity": last}), "withdrawn")

        say("grant", LOGS[0], 9, provider=SERVICE)
        say("ungrant", LOGS[0], 15, provider="f" * 64)
        say("ungrant", LOGS[0], 15, "c0" + OTHER[2:], SERVICE)
        self.assertEqual(self.code(server, old), "ok", "known to the issuer, of another service, of another agent")
        say("ungrant", LOGS[0], 20, provider=SERVICE)
        codes = [self.code(server, one) for one in (old, newer, elsewhere, other)]
        self.assertEqual(codes, ["withdrawn", "ok", "ok", "ok"])
        refused = self.refusal(server, bearer(old))
        said = 'error="invalid_token", error_description="something happened'
        self.assertIn(said, refused.headers["WWW-Authenticate"])
        self.assertEqual(refused.status, 401)
        for kind in ("rotate", "revoke", "suspend", "resume"):
            size = 30 + told
            say(kind, LOGS[1], size)
            before, after = (token(fama={"frontier": frontier(21, one)}) for one in (size, size + 1))
            self.assertEqual((self.code(server, before), self.code(server, after)), ("withdrawn", "ok"), kind)
            self.assertEqual(self.code(server, elsewhere), "withdrawn", "of every service")
        self.assertEqual(self.code(server, other), "ok")
        # What happens to the service's own key ends all its tokens.
        say("revoke", LOGS[1], 60, SERVICE)
        self.assertEqual(self.code(server, other), "withdrawn")

    def test_events_are_remembered_as_long_as_tokens_last(self) -> None:
        memory, read = module._Withdrawals(), self.server().check("GET", "/", bearer(token()))

        def code(now: float, *sizes: int, ends: dict[str, int] | None = None) -> str:
            try:
                memory.expect_known(read, dict(zip(LOGS, sizes, strict=True)), ends or {}, now)
            except FamaError as error:
                return error.code
            return "ok"

        def hear(index: int, now: float, identity: str = AGENT, log: str = LOGS[0]) -> None:
            memory.hear({"kind": "revoke", "identity": identity, "log": log, "index": index}, LOGS, now)

        hear(10, 0)
        hear(12, 100)
        hear(11, 100)
        self.assertEqual([code(990, 12, 0), code(990, 13, 0), code(991, 12, 0)], ["withdrawn", "ok", "withdrawn"])
        self.assertEqual([code(1_090, 12, 0), code(1_091, 0, 0)], ["withdrawn", "ok"])
        self.assertFalse(memory._newest or memory._order)
        # One that is dropped early raises the floor of its log for everybody.
        with mock.patch.object(module, "EVENTS_MAX", 3):
            for i in range(4):
                hear(20 + i, 2_000 + i, OTHER, LOGS[i % 2])
        self.assertEqual(len(memory._order), 3)
        self.assertEqual([code(2_003, 20, 0), code(2_003, 21, 0)], ["withdrawn", "ok"])
        memory.begin({LOGS[0]: 5, LOGS[1]: 30}, 2_000)
        self.assertEqual([code(2_003, 21, 29), code(2_003, 20, 30)], ["withdrawn"] * 2, "it does not fall")
        self.assertEqual(code(2_003, 21, 30), "ok")
        self.assertEqual(code(9_999, 21, 7, ends={LOGS[1]: 7}), "ok", "a log that ended has nothing more to be read")
        for fields in ({}, {"kind": "revoke", "identity": AGENT, "log": LOGS[0], "index": "1"},
                       {"kind": "grant", "identity": AGENT, "log": LOGS[0], "index": 1}):  # fmt: skip
            with self.assertRaises(BrokenStream):
                memory.hear(fields, LOGS, 0)

    def test_nothing_that_a_node_sends_ends_the_thread(self) -> None:
        node = self.node()
        server = self.started(node)
        for at, log in (("\u2603", LOGS[0]), ("1." + "A" * 60_000, LOGS[0]), (frontier(10, 10), "gamma.example/1")):
            Federation.eventually(lambda: server.live, 20, 0.01)
            node.say(at, kind="revoke", identity=AGENT, log=log, index=10)
            Federation.eventually(lambda: not server.live, 10, 0.001)
            node.parts = queue.Queue()
        Federation.eventually(lambda: server.live, 20, 0.01)
        for text in (f"version = 0x{'f' * 5_000}", f"{'a.' * 30_000}a = 1"):
            begun = time.monotonic()
            with self.assertRaises(FamaError):
                Manifest.read(manifest(FIRST)).extended(manifest(FIRST) + manifest(FIRST).replace("version = 1", text))
            self.assertLess(time.monotonic() - begun, 5)

    def test_the_floor_of_a_new_stream(self) -> None:
        node, states = self.node(), list[bool]()
        node.cursor = frontier(10, 11)
        server = self.started(node, on_state=states.append)
        old, newer = token(), token(fama={"frontier": frontier(10, 11)})
        self.assertEqual((self.code(server, old), self.code(server, newer)), ("withdrawn", "ok"))
        self.assertIn("cannot know what happened", self.refusal(server, bearer(old)).message)
        # A stream that continues misses nothing, wherever the node is.
        node.say(frontier(13, 11), kind="revoke", identity=OTHER, log=LOGS[0], index=12)
        self.eventually(server, token(fama={"identity": OTHER, "frontier": frontier(12, 11)}), "withdrawn")
        node.cursor = frontier(50, 50)
        node.hang_up()
        Federation.eventually(lambda: states == [True, False, True], 10, 0.01)
        self.assertEqual(node.last_ids, [None, frontier(13, 11)])
        self.assertEqual(self.code(server, newer), "ok")
        # The node cannot continue from there: it begins anew.
        node.status = 410
        node.hang_up()
        Federation.eventually(lambda: states == [True, False] * 2 + [True], 10, 0.01)
        self.assertEqual(node.last_ids, [None, frontier(13, 11), frontier(13, 11), None])
        self.assertEqual(self.code(server, newer), "withdrawn")
        self.assertEqual(self.code(server, token(fama={"frontier": frontier(50, 50)})), "ok")

    def test_an_event_that_cannot_be_read_is_not_passed_over(self) -> None:
        node = self.node()
        server = self.started(node)
        node.cursor = frontier(20, 20)
        node.parts.put(f'event: key\nid: {frontier(19, 19)}\ndata: {{"kind": "revoke"}}\n\n')
        self.eventually(server, token(), "withdrawn")
        self.assertEqual(node.last_ids, [None, None])

    def test_a_stream_of_a_later_version(self) -> None:
        node = self.node()
        node.cursor, node.chain = frontier(3, 3, version=2), manifest(FIRST, FIRST)
        server = self.started(node)
        self.assertEqual(server.manifest.newest.number, 2)
        self.assertEqual(self.code(server, token()), "ok")

    def test_a_log_that_was_cut(self) -> None:
        node = self.node()
        node.cursor = frontier(3, 9)
        server = self.started(node)
        self.assertEqual(self.code(server, token()), "ok")
        node.chain = manifest(FIRST, FIRST + " cut")
        self.now += 301
        node.parts.put(": still here\n\n")
        Federation.eventually(lambda: server.manifest.newest.number == 2, 10, 0.01)
        self.assertEqual(server.manifest.newest.logs, ("alpha.example/1", "beta.example/1", "beta.example/2"))
        self.now -= 301
        # Beyond its end at 5, the log has nothing that anybody could have read.
        self.assertEqual(self.code(server, token(fama={"frontier": frontier(3, 5, 0, version=2)})), "ok")
        self.assertEqual(self.code(server, token(fama={"frontier": frontier(3, 4, 0, version=2)})), "withdrawn")

    def test_another_federation_is_not_followed(self) -> None:
        node = self.node()
        node.federation = "0" * 64
        server = self.server(node.url)
        with server:
            Federation.eventually(lambda: len(node.last_ids) > 2, 10, 0.01)
            self.assertFalse(server.live)

    def test_strict(self) -> None:
        node = self.node()
        lax, strict = self.started(node), self.started(node, strict=True)
        for server in (lax, strict):
            self.assertEqual(self.code(server, token()), "ok")
        node.close()
        node.hang_up()
        Federation.eventually(lambda: not strict.live and not lax.live, 10, 0.01)
        self.now += 10
        self.assertEqual((self.code(lax, token()), self.code(strict, token())), ("ok", "ok"))
        self.now += 1
        self.assertEqual((self.code(lax, token()), self.code(strict, token())), ("ok", "no_stream"))
        refused = self.refusal(strict, bearer(token()))
        self.assertEqual((refused.status, refused.headers), (503, {"Retry-After": "5"}))
        unstarted = self.server(strict=True)
        self.assertEqual(self.code(unstarted, token()), "ok")
        self.now += 11
        self.assertEqual(self.code(unstarted, token()), "no_stream")


class Asyncio(Case):
    def test_all_of_it(self) -> None:
        node = self.node()
        node.chain = manifest(FIRST, "alpha:13 alpha:11")
        states = list[bool]()

        async def eventually(check: Callable[[], object]) -> None:
            async with asyncio.timeout(10):
                while not check():
                    await asyncio.sleep(0.01)

        async def run() -> None:
            async with AsyncResourceServer(
                node.url, genesis=GENESIS, issuers=[ALPHA], resource=RESOURCE, clock=self.clock,
                on_state=states.append,
            ) as server:  # fmt: skip
                reads = await asyncio.gather(*(server.check("GET", "/", bearer(token(13))) for _ in range(4)))
                self.assertEqual(({read.id for read in reads}, node.asked), ({"one"}, 1))
                await eventually(lambda: server.live)
                node.say(frontier(11, 10), kind="revoke", identity=AGENT, log=LOGS[0], index=10)
                with self.assertRaises(Refused) as found:
                    async with asyncio.timeout(10):
                        while await server.check("GET", "/", bearer(token(13))):
                            await asyncio.sleep(0.01)
                self.assertEqual(found.exception.code, "withdrawn")
                await server.check("GET", "/", bearer(token(fama={"frontier": frontier(11, 10)})), scope="pay")
                node.hang_up()
                await eventually(lambda: states == [True, False, True])
                self.assertEqual(node.last_ids, [None, frontier(11, 10)])
            self.assertEqual(states, [True, False, True, False])

        asyncio.run(run())


if __name__ == "__main__":
    unittest.main()
