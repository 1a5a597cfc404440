"""A federation on this machine, for the tests of clients and of the example servers."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from fama_client import Signer  # noqa: E402

OPERATORS = ("alpha.example", "beta.example")
VECTORS = Path(__file__).parents[4] / "tests" / "vectors"


def new_pem(curve: str = "secp256k1") -> bytes:
    key = ec.generate_private_key(ec.SECP256K1()) if curve == "secp256k1" else ed25519.Ed25519PrivateKey.generate()
    form, nothing = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, nothing)


def new_key(curve: str = "secp256k1") -> Signer:
    return Signer.from_pem(new_pem(curve))


def is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def free_ports(count: int) -> int:
    """The first of so many free ports in a row, below those that the system gives out by itself."""
    for _ in range(200):
        first = random.randrange(15_000, 30_000)
        if all(is_free(first + i) for i in range(count)):
            return first
    raise RuntimeError("no free ports")


class Federation:
    """Two operators, whose nodes all take events over HTTP."""

    def __init__(self) -> None:
        self.fama = os.environ["FAMA_BIN"]
        self.dir = Path(tempfile.mkdtemp(prefix="fama-client-"))
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        port = free_ports(4 * len(OPERATORS))
        more = len(OPERATORS)
        ports = {"--port": port, "--query-port": port + more, "--admin-port": port + 2 * more}
        options = [text for name, value in ports.items() for text in (name, str(value))]
        self.run("federation", "new", "Test", *OPERATORS, "--out", str(self.dir / "net"), *options)
        self.query = [f"http://127.0.0.1:{port + more + i}" for i in range(more)]
        self.submit = [f"http://127.0.0.1:{port + 3 * more + i}" for i in range(more)]
        self.manifest = self.dir / "net" / "manifest.txt"
        for operator, url in zip(OPERATORS, self.submit, strict=True):
            with (self.dir / "net" / operator / "node.toml").open("a") as config:
                config.write(f'\n[submit]\nlisten = "{url.removeprefix("http://")}"\n')
        try:
            for operator in OPERATORS:
                self.start(operator)
            self.federation: str = self.eventually(self.ready)
        except BaseException:
            self.close()
            raise

    def run(self, *arguments: str) -> bytes:
        environment = {**os.environ, "HOME": str(self.dir), "XDG_CONFIG_HOME": str(self.dir)}
        done = subprocess.run([self.fama, *arguments], capture_output=True, env=environment, timeout=120)
        if done.returncode:
            raise RuntimeError(f"fama {arguments}: {done.stderr.decode()}")
        return done.stdout

    def start(self, operator: str) -> None:
        log = (self.dir / f"{operator}.log").open("ab")
        config = self.dir / "net" / operator / "node.toml"
        self.nodes[operator] = subprocess.Popen([self.fama, "node", "--config", config], stdout=log, stderr=log)
        log.close()

    def stop(self, operator: str) -> None:
        node = self.nodes.pop(operator)
        node.terminate()
        node.wait(30)

    def ready(self) -> str | None:
        for url in self.query:
            with urllib.request.urlopen(f"{url}/api/status", timeout=5) as answer:
                status = json.load(answer)
            if not (status["ready"] and status["fresh"]):
                return None
        return str(status["federation"]["id"])

    @staticmethod
    def eventually(check: Any, seconds: float = 60, pause: float = 0.05) -> Any:
        """What `check` returns, as soon as it is something; errors of connections are tried again."""
        end = time.monotonic() + seconds
        while True:
            try:
                if result := check():
                    return result
                last: object = result
            except OSError as error:
                last = error
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds} s: {last}")
            time.sleep(pause)

    def admit(self, handle: str, service: str) -> None:
        """Sponsors a provider by as many operators as it takes."""
        for operator in OPERATORS[:1]:
            key = str(self.dir / "net" / operator / "node.pem")
            self.run(
                "admit", handle, "--service", service, "--domain", f"{service}.example", "--method", "manual",
                "--manifest", str(self.manifest), "--key", key, "--query", self.query[0], "--yes", "--wait", "final",
            )  # fmt: skip

    def close(self) -> None:
        for operator in list(self.nodes):
            self.stop(operator)
        shutil.rmtree(self.dir)
