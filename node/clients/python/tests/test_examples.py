"""The examples for FastAPI and Flask, where these are installed."""

from __future__ import annotations

import importlib.util
import os
import sys
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

from federation import Federation, new_key

from fama_client import Client, sign_login

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

net: Federation


def setUpModule() -> None:
    global net
    net = Federation()
    os.environ["FAMA_QUERY"] = net.query[0]


def tearDownModule() -> None:
    net.close()


class Examples(unittest.TestCase):
    def check(self, name: str, post: Callable[[dict[str, str]], tuple[int, Any]]) -> None:
        key, judge = new_key(), new_key()
        handle, issuer = f"{name}@alpha.example", f"{name}-judge@alpha.example"
        with Client(net.query[0], submit_url=net.submit[0], federation=net.federation) as fama:
            fama.register(name, "alpha.example", key, wait_final=True)
            fama.register(f"{name}-judge", "alpha.example", judge, wait_final=True)
            net.admit(issuer, name)

            def body(message: str, signer: Any = key) -> dict[str, str]:
                login = sign_login(handle, message, signer)
                return {"dumbname": handle, "timestamp": login.timestamp, "signature": login.signature}

            self.assertEqual(post(body("POST /hello"))[0], 403, "too little karma")
            for _ in range(2):
                fama.attest_karma(handle, 5, issuer, judge, wait_final=True)
            # The profile that the example keeps may be asked for again after two seconds.
            good = net.eventually(lambda: (sent := body("POST /hello")) and post(sent)[0] == 200 and sent)
            self.assertEqual(post(good)[0], 401, "it was used")
            self.assertEqual(post(body("POST /other"))[0], 401)
            self.assertEqual(post(body("POST /hello", new_key()))[0], 401)
            self.assertIn(post({})[0], (400, 422))

    @unittest.skipUnless(importlib.util.find_spec("fastapi"), "fastapi is not installed")
    def test_fastapi(self) -> None:
        from fastapi.testclient import TestClient
        from fastapi_app import app

        def post(body: dict[str, str]) -> tuple[int, Any]:
            answer = client.post("/hello", json=body)
            return answer.status_code, answer.json()

        with TestClient(app) as client:
            self.check("by-fastapi", post)

    @unittest.skipUnless(importlib.util.find_spec("flask"), "flask is not installed")
    def test_flask(self) -> None:
        from flask_app import app

        def post(body: dict[str, str]) -> tuple[int, Any]:
            answer = app.test_client().post("/hello", json=body)
            return answer.status_code, answer.get_json()

        self.check("by-flask", post)


if __name__ == "__main__":
    unittest.main()
