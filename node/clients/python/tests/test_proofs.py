"""What agents sign themselves, without an issuer, checked with proofs that the module `fama` verifies."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import time
import unittest
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import fama
from federation import Federation, new_pem
from test_tokens import code_of

from fama_client import Client, PublicKey, Signer, call_subject, check_agent_call, check_delegation

SHOP = "https://shop.example/api"
net: Federation


def setUpModule() -> None:
    global net
    net = Federation()


def tearDownModule() -> None:
    net.close()


class Calls(unittest.TestCase):
    def setUp(self) -> None:
        self.federation = fama.Federation(net.manifest.read_text())
        self.assertEqual(self.federation.id, net.federation)
        self.key = self.written("agent")
        self.written("worker", "ed25519")
        with Client(net.query[0], submit_url=net.submit[0], federation=net.federation) as client:
            name = f"swift-{time.time_ns()}"
            client.register(name, "alpha.example", self.key, wait_final=True)
            self.handle = f"{name}@alpha.example"

    def written(self, name: str, curve: str = "secp256k1") -> Signer:
        """A new key, in a file of this name."""
        path = net.dir / f"{name}.pem"
        path.unlink(missing_ok=True)
        path.write_bytes(pem := new_pem(curve))
        path.chmod(0o600)
        return Signer.from_pem(pem)

    def fama(self, *arguments: str) -> str:
        more = ("--manifest", str(net.manifest)) if arguments[0] == "delegate" or arguments[1] == "check" else ()
        return net.run(*arguments, *more).decode().strip()

    def agent(self, subject: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{net.query[1]}/api/agent/{urllib.parse.quote(subject)}/proof", timeout=10) as answer:
            proof = answer.read().decode()
        (net.dir / "proof").write_text(proof)
        shown = self.federation.verify_profile(proof, about=subject, max_age=600, missing=0, now=int(time.time()))
        return shown["agent"]  # type: ignore[no-any-return]

    def call(self, agent: str, key: str, *more: str) -> str:
        path = str(net.dir / f"{key}.pem")
        return self.fama("token", "call", agent, "--key", path, "--resource", SHOP, "--query", net.query[0], *more)

    def checked(self, text: str, *more: str) -> dict[str, Any]:
        """What `fama token check` says."""
        (net.dir / "token").write_text(text)
        said = self.fama("token", "check", str(net.dir / "token"), "--proof", str(net.dir / "proof"), "--json", *more)
        return json.loads(said)  # type: ignore[no-any-return]

    def refused(self, text: str, *more: str) -> str:
        """What `fama token check` says to people."""
        (net.dir / "token").write_text(text)
        words = [net.fama, "token", "check", str(net.dir / "token"), "--manifest", str(net.manifest)]
        done = subprocess.run([*words, *more], capture_output=True, timeout=60, check=False)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr.decode()

    def test_calls_and_delegations(self) -> None:
        call = self.call(self.handle, "agent")
        agent, given = self.agent(call_subject(call)), {"federation": net.federation, "audience": SHOP}
        self.assertEqual(agent["handle"], self.handle)
        found = check_agent_call(call, agent=agent, **given, now=time.time())
        said = self.checked(call, "--audience", SHOP)
        self.assertEqual((found.subject, found.id), (said["subject"], said["jti"]))
        self.assertEqual((said["kind"], said["delegation"]), ("agent_call", None))
        self.assertEqual(said["proof"]["agent"], agent)

        to, key = str(net.dir / "worker.pem"), str(net.dir / "agent.pem")
        words = ("delegate", self.handle, "--process", "worker-7", "--to", to, "--key", key, "--query", net.query[0])
        delegation = self.fama(*words, "--scope", "read", "--resource", SHOP)
        (net.dir / "delegation").write_text(delegation)
        did, current = agent["did"], PublicKey.from_text(agent["key"])
        read = check_delegation(delegation, did=did, key=current, federation=net.federation, now=time.time())
        said = self.checked(delegation)
        self.assertEqual((said["kind"], said["process"], said["jwk"]), ("delegation", "worker-7", read.key))
        self.assertEqual((said["scope"], said["resources"]), ("read", [SHOP]))
        proof = ("--proof", str(net.dir / "proof"))
        elsewhere = self.refused(delegation, *proof, "--audience", "https://other.example")
        self.assertIn("(token_resource)", elsewhere)

        call = self.call(did, "worker", "--delegation", str(net.dir / "delegation"))
        by = check_agent_call(call, agent=agent, **given, now=time.time()).delegation
        self.assertEqual(by, read)
        self.assertEqual(self.checked(call, "--audience", SHOP)["delegation"]["process"], "worker-7")

        for agent_name, more in [(self.handle, ()), (did, ("--delegation", str(net.dir / "delegation")))]:
            with self.assertRaisesRegex(RuntimeError, "wrong_key"):
                self.call(agent_name, "worker" if not more else "agent", *more)
        for text, code in [(self.call(did, "worker"), "(jws_algorithm)"), (call[:-5], "(jws_form)")]:
            self.assertIn(code, self.refused(text, *proof, "--audience", SHOP))
        suspended = {**agent, "suspension": "not_known"}
        found_code = code_of(check_agent_call, call, agent=suspended, **given, now=time.time())
        self.assertEqual(found_code, "token_not_in_force")

    def test_what_a_service_granted_is_shown(self) -> None:
        key = self.written("shop")
        name = f"shop-{time.time_ns()}"
        with Client(net.query[0], submit_url=net.submit[0], federation=net.federation) as client:
            client.register(name, "beta.example", key, wait_final=True)
            shop = client.get_agent(f"{name}@beta.example")["identity"]["agent_id"]
        known = ("--query", net.query[0], "--manifest", str(net.manifest))
        by = ("--issuer", f"{name}@beta.example", "--scope", "read", "--key", str(net.dir / "shop.pem"))
        net.run("grant", self.handle, *by, *known, "--yes", "--wait", "final")
        proof = str(net.dir / "granted")
        net.run("prove", self.handle, "--granted-by", f"{name}@beta.example", "--out", proof, *known)
        (net.dir / "token").write_text(self.call(self.handle, "agent"))
        words = ("token", "check", str(net.dir / "token"), "--proof", proof, "--audience", SHOP)
        self.assertRegex(self.fama(*words), rf"granted +by {shop}\n +read")

    def test_the_readme(self) -> None:
        """Its blocks run as they stand, one after the other, next to a genesis and a proof."""
        readme = (Path(__file__).parents[4] / "cli" / "python" / "README.md").read_text()
        blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
        self.assertEqual(len(blocks), 2)
        with Client(net.query[0], submit_url=net.submit[0], federation=net.federation) as client:
            client.register("swift-core-maps", "alpha.example", self.written("swift"), wait_final=True)
        agent = "swift-core-maps@alpha.example"
        known = ("--query", net.query[0], "--manifest", str(net.manifest))
        net.run("prove", agent, "--out", str(net.dir / "swift.proof"), *known)
        (net.dir / "genesis.txt").write_text(net.manifest.read_text())
        names: dict[str, Any] = {}
        printed = io.StringIO()
        with contextlib.chdir(net.dir), contextlib.redirect_stdout(printed):
            for block in blocks:
                exec(compile(block, "README.md", "exec"), names)
        self.assertEqual(printed.getvalue(), "active 0\n")
        caller = names["caller"]
        self.assertEqual(caller(self.call(agent, "swift"), net.query[1]), self.agent(agent)["did"])
        nobody = f"did:agent:alpha.example:{'0' * 32}"
        with contextlib.redirect_stdout(printed):
            for refused in ("nonsense", self.call(nobody, "swift"), self.call(agent, "swift")[:-2]):
                self.assertIsNone(caller(refused, net.query[1]))

    def test_what_is_missing_is_said(self) -> None:
        call = self.call(self.handle, "agent")
        for more, code in [
            ((), "audience_needed"),
            (("--audience", SHOP), "proof_needed"),
            (("--audience", SHOP, "--online"), "no_issuer"),
        ]:
            said = self.refused(call, *more)
            self.assertIn(f"({code})", said)
            self.assertIn("hint:", said)


if __name__ == "__main__":
    unittest.main()
