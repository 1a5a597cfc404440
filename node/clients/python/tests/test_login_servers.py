"""The login servers of docs/examples, each against a node: what they accept, and all that they refuse.

`FAMA_LOGIN_SERVER` names the Rust server's program; without it, or without Node.js, their tests are skipped
(with FAMA_FOREIGN=1 a missing Node.js is a failure).
"""

from __future__ import annotations

import base64
import http.server
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from federation import Federation, free_ports, new_key
from test_texts import ORDER

from fama_client import Client, Signer, sign_login
from fama_client.times import write_time

EXAMPLES = Path(__file__).parents[4] / "docs" / "examples"
AUDIENCE = "login to shop.example"
MIN_KARMA = 5

net: Federation


def setUpModule() -> None:
    global net
    net = Federation()
    with client() as fama:
        fama.register("judge", "alpha.example", JUDGE, wait_final=True)
    net.admit("judge@alpha.example", "judge")


def tearDownModule() -> None:
    net.close()


JUDGE = new_key()


def client() -> Client:
    return Client(net.query[0], submit_url=net.submit[0], federation=net.federation)


def new_agent(name: str, curve: str = "secp256k1") -> Signer:
    key = new_key(curve)
    with client() as fama:
        fama.register(name, "alpha.example", key, wait_final=True)
    return key


def give_karma(name: str) -> None:
    with client() as fama:
        fama.attest_karma(f"{name}@alpha.example", MIN_KARMA, "judge@alpha.example", JUDGE, wait_final=True)


def revoke(name: str, key: Signer) -> None:
    with client() as fama:
        fama.revoke_key(f"{name}@alpha.example", key, wait_final=True)


class Proxy(http.server.ThreadingHTTPServer):
    """A node with a stream, which says what the test puts into `events`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ProxyHandler)
        self.events: queue.Queue[dict[str, str] | None] = queue.Queue()
        self.followed = threading.Event()
        self.profiles = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        self.events.put(None)
        self.shutdown()
        self.server_close()


class ProxyHandler(http.server.BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        if not self.path.startswith("/api/stream"):
            self.server.profiles += 1
            with urllib.request.urlopen(net.query[0] + self.path, timeout=10) as answer:
                body = answer.read()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b": hello\n\n")
        self.wfile.flush()
        self.server.followed.set()
        while (event := self.server.events.get()) is not None:
            self.wfile.write(f"event: key\nid: 1\ndata: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server:
    """One of the login servers, running."""

    def __init__(self, command: list[str], node: str) -> None:
        port = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        path = str(Path(__file__).parent.parent / "src")
        self.process = subprocess.Popen(
            [*command, node, str(port), str(MIN_KARMA)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        assert self.process.stdout is not None
        first = self.process.stdout.readline().decode()
        assert first == f"listening on {self.url}\n", f"{command}: {first!r}"

    def post(self, body: object, path: str = "/login") -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error).get("code")

    def close(self) -> None:
        assert self.process.stdout is not None
        self.process.terminate()
        self.process.wait(30)
        self.process.stdout.close()


def body(name: str, key: Signer, *, at: float | None = None, message: str = AUDIENCE) -> dict[str, str]:
    stamp = write_time(time.time() if at is None else at)
    login = sign_login(f"{name}@alpha.example", message, key, timestamp=stamp)
    return {"dumbname": login.dumbname, "timestamp": stamp, "signature": login.signature}


class LoginServers(unittest.TestCase):
    def server(self, command: list[str], node: str) -> Server:
        server = Server(command, node)
        self.addCleanup(server.close)
        return server

    def check(self, language: str, command: list[str]) -> None:
        self.all_is_refused_but_good_logins(language, command)
        self.a_revocation_is_heard_by_the_stream(f"{language}-heard", command)

    def all_is_refused_but_good_logins(self, language: str, command: list[str]) -> None:
        server = self.server(command, net.query[0])
        for curve in ("secp256k1", "ed25519"):
            name = f"{language}-{curve}"
            key = new_agent(name, curve)
            poor = new_agent(f"{name}-poor", curve)
            give_karma(name)
            good = body(name, key)
            self.assertEqual(server.post(good), (200, {"handle": f"{name}@alpha.example", "karma": MIN_KARMA}))
            self.assertEqual(server.post(good), (401, "replayed"))
            fresh = body(name, key)
            for wrong, want in (
                (body(name, key, at=time.time() - 310), (401, "expired")),
                (body(name, key, at=time.time() + 310), (401, "expired")),
                (body(name, new_key(curve)), (401, "bad_signature")),
                (body(name, key, message="login to other.example"), (401, "bad_signature")),
                ({**fresh, "timestamp": body(name, key, at=time.time() + 5)["timestamp"]}, (401, "bad_signature")),
                ({**fresh, "timestamp": "2026-02-30T00:00:00Z"}, (400, "bad_timestamp")),
                ({**fresh, "timestamp": fresh["timestamp"].replace("Z", "+00:00")}, (400, "bad_timestamp")),
                (body(f"{name}-poor", poor), (403, "low_karma")),
                (body(f"{name}-nobody", key), (401, "unknown_agent")),
                ({"dumbname": good["dumbname"]}, (400, "missing_field")),
                ({**fresh, "dumbname": name}, (400, "bad_name")),
                ({**fresh, "dumbname": ".."}, (400, "bad_name")),
                ({**fresh, "signature": 5}, (400, "missing_field")),
                (b"no json", (400, "bad_json")),
            ):
                self.assertEqual(server.post(wrong), want, wrong)
            self.assertEqual(server.post({**fresh, "message": "x" * 70_000})[0], 413)
            self.assertEqual(server.post(fresh, "/other")[0], 404)
            for signature in ("", "?", "AAAA", fresh["signature"][:-8]):
                self.assertIn(server.post({**fresh, "signature": signature})[0], (400, 401), signature)
            again = body(name, key)
            if curve == "secp256k1":
                # As other tools write it: s high or low, and r ‖ s in the other alphabet.
                r, s = decode_dss_signature(base64.b64decode(again["signature"]))
                again["signature"] = base64.b64encode(encode_dss_signature(r, ORDER - s)).decode()
                self.assertEqual(server.post(again)[0], 200)
                again = body(name, key)
                r, s = decode_dss_signature(base64.b64decode(again["signature"]))
                raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
                again["signature"] = base64.urlsafe_b64encode(raw).decode().rstrip("=")
            self.assertEqual(server.post(again)[0], 200)
            revoke(name, key)
            # Without a stream it takes as long as profiles are kept.
            outcome = net.eventually(lambda: (got := server.post(body(name, key))) and got[0] != 200 and got, 30, 1.0)  # noqa: B023
            self.assertEqual(outcome, (401, "revoked"))

    def a_revocation_is_heard_by_the_stream(self, name: str, command: list[str]) -> None:
        proxy = Proxy()
        self.addCleanup(proxy.close)
        server = self.server(command, proxy.url)
        self.assertTrue(proxy.followed.wait(30))
        key = new_agent(name)
        give_karma(name)
        # The server may not have read the stream's head yet, which makes it forget what it keeps.

        def kept() -> bool:
            before = proxy.profiles
            return server.post(body(name, key))[0] == 200 and proxy.profiles == before

        net.eventually(kept)
        asked = proxy.profiles
        revoke(name, key)
        self.assertEqual(server.post(body(name, key))[0], 200, "the profile is kept")
        self.assertEqual(proxy.profiles, asked)
        with client() as fama:
            proxy.events.put({"identity": fama.get_agent(f"{name}@alpha.example")["identity"]["agent_id"]})
        outcome = net.eventually(lambda: (got := server.post(body(name, key))) and got[0] != 200 and got, 5)
        self.assertEqual(outcome, (401, "revoked"), "sooner than a kept profile would be asked for again")

    def test_python(self) -> None:
        self.check("python", [sys.executable, str(EXAMPLES / "login_server.py")])

    @unittest.skipUnless(shutil.which("node") or os.environ.get("FAMA_FOREIGN"), "no node")
    def test_node(self) -> None:
        self.check("node", ["node", str(EXAMPLES / "login_server.mjs")])

    @unittest.skipUnless(os.environ.get("FAMA_LOGIN_SERVER"), "FAMA_LOGIN_SERVER is not set")
    def test_rust(self) -> None:
        self.check("rust", [os.environ["FAMA_LOGIN_SERVER"]])


if __name__ == "__main__":
    unittest.main()
