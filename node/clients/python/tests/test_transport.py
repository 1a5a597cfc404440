"""Answers that no node should give: both clients survive them within their bounds."""

from __future__ import annotations

import asyncio
import gzip
import socketserver
import threading
import unittest
from collections.abc import Callable
from typing import Any

import federation as _federation  # noqa: F401  puts the package on the path

from fama_client import AsyncClient, Client, FamaError, SignedEvent
from fama_client.core import ANSWER_BYTES_MAX


class Raw(socketserver.ThreadingTCPServer):
    """Answers each connection with the bytes that `parts` says, the same every time."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, parts: list[bytes], *, forever: bool) -> None:
        self.parts, self.forever, self.done = parts, forever, threading.Event()
        super().__init__(("127.0.0.1", 0), RawHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        self.done.set()
        self.shutdown()
        self.server_close()


class RawHandler(socketserver.StreamRequestHandler):
    server: Raw

    def handle(self) -> None:
        # The whole request: closing before that resets the connection, and the client may lose what was sent.
        request = self.rfile.readline()
        length = 0
        while (line := self.rfile.readline()).strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        self.rfile.read(length)
        assert request
        try:
            for part in self.server.parts:
                self.request.sendall(part)
            while self.server.forever and not self.server.done.wait(0.05):
                self.request.sendall(b" ")
        except OSError:
            pass  # the client hung up, as it should


def head(status: str, *more: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", "connection: close", *more]
    if length is not None:
        lines.append(f"content-length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def both(parts: list[bytes], check: Callable[[str, FamaError], None], *, forever: bool = False) -> None:
    """Runs `check` with what each client raises."""
    event = SignedEvent("fama.event/1\n", "AAAA")
    server = Raw(parts, forever=forever)
    # Short where the answer never ends; else long enough for a busy machine.
    timeout = 1.0 if forever else 30.0

    async def ask() -> Any:
        async with AsyncClient(server.url, submit_url=server.url, timeout=timeout) as client:
            return await client.submit(event)

    def ask_here() -> Any:
        with Client(server.url, submit_url=server.url, timeout=timeout) as client:
            return client.submit(event)

    try:
        for name, call in (("sync", ask_here), ("async", lambda: asyncio.run(ask()))):
            try:
                call()
            except FamaError as error:
                assert error.signed == event or error.code == "bad_answer", error
                check(name, error)
            else:
                raise AssertionError(f"{name}: accepted")
    finally:
        server.close()


class Answers(unittest.TestCase):
    def has(self, code: str, status: int | None = None, retry_after: float | None = None) -> Callable[[str, FamaError], None]:
        return lambda name, error: self.assertEqual((error.code, error.status, error.retry_after), (code, status, retry_after), name)

    def test_too_large(self) -> None:
        large = [head("200 OK"), b"x" * (ANSWER_BYTES_MAX + 1)]
        both(large, self.has("answer_too_large"), forever=True)
        both([head("200 OK", "content-encoding: gzip"), gzip.compress(b"{}")], self.has("answer_too_large"))

    def test_too_slow(self) -> None:
        both([head("200 OK")], self.has("no_answer"), forever=True)

    def test_broken_off(self) -> None:
        both([], self.has("no_answer"))
        both([head("200 OK", length=100), b"{"], self.has("no_answer"))

    def test_no_json(self) -> None:
        both([head("200 OK", length=2), b"[]"], self.has("bad_answer", 200))
        deep = b"[" * 100_000
        both([head("200 OK", length=len(deep)), deep], self.has("bad_answer", 200))
        both([head("502 Bad Gateway", length=4), b"oops"], self.has("http_502", 502))
        both([head("302 Found", "location: http://127.0.0.1:9/", length=0)], self.has("http_302", 302))

    def test_retry_after(self) -> None:
        body = b'{"code":"overloaded","error":"later"}'
        parts = [head("503 Service Unavailable", "retry-after: 7", length=len(body)), body]
        both(parts, self.has("overloaded", 503, 7.0))
        past = "retry-after: Wed, 21 Oct 2015 07:28:00 GMT"
        both([head("429 Too Many", past, length=len(body)), body], self.has("overloaded", 429, 0.0))
        both([head("429 Too Many", "retry-after: soon", length=len(body)), body], self.has("overloaded", 429, None))


if __name__ == "__main__":
    unittest.main()
