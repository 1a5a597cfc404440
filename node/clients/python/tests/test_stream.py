"""The stream: reading events from bytes, and following a small server that breaks off."""

from __future__ import annotations

import asyncio
import http.server
import json
import queue
import threading
import unittest
from typing import Any

import federation as _federation  # noqa: F401  puts the package on the path

from fama_client import AsyncClient, Client, StreamEvent
from fama_client.stream import EVENT_BYTES_MAX, LINE_BYTES_MAX, BrokenStream, EventReader


class Reading(unittest.TestCase):
    def test_events_are_the_same_however_they_are_cut(self) -> None:
        stream = (
            ': hello\n\nevent: key\nid: f1\ndata: {"identity":"é"}\n\n'
            'event: karma\r\ndata: {"a":\r\ndata: 1}\r\n\r\nid: f2\rdata:{}\r\rid: f3\n\n'
        ).encode()
        want = [
            StreamEvent("key", "f1", {"identity": "é"}),
            StreamEvent("karma", "f1", {"a": 1}),
            StreamEvent("message", "f2", {}),
        ]
        for size in range(1, len(stream) + 1):
            reader, events = EventReader(), []
            for begin in range(0, len(stream), size):
                events += reader.feed(stream[begin : begin + size])
            self.assertEqual(events, want, size)

    def test_bounds(self) -> None:
        for bad in (b"x" * (LINE_BYTES_MAX + 1), (b"data: " + b"x" * 60_000 + b"\n") * (EVENT_BYTES_MAX // 60_000 + 1),
                    b"data: no json\n\n", b"data: []\n\n"):  # fmt: skip
            with self.assertRaises(BrokenStream):
                EventReader().feed(bad)
        reader = EventReader()
        for _ in range(2 * EVENT_BYTES_MAX // 1_000):
            reader.feed(b":" + b"x" * 1_000 + b"\n")


class Node(http.server.ThreadingHTTPServer):
    """Serves a stream: each connection takes the next script of `scripts`, and breaks off at its end."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scripts: queue.Queue[list[str]] = queue.Queue()
        self.last_ids: list[str | None] = []
        self.done = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        self.done.set()
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Node

    def do_GET(self) -> None:
        self.server.last_ids.append(self.headers["last-event-id"])
        script = self.server.scripts.get()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8" if script else "text/html")
        self.end_headers()
        for part in script:
            if part == "hold":
                self.server.done.wait(30)
            else:
                self.wfile.write(part.encode())
                self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def event(agent: str, at: str) -> str:
    return f"event: key\nid: {at}\ndata: {json.dumps({'identity': agent, 'kind': 'revoke'})}\n\n"


SCRIPTS: list[list[str]] = [[event("a", "1")], [], [": still here\n\n", event("b", "2"), "hold"]]


class Following(unittest.TestCase):
    def setUp(self) -> None:
        self.node = Node()
        self.addCleanup(self.node.close)
        for script in SCRIPTS:
            self.node.scripts.put(script)

    def check(self, client: Client | AsyncClient, agents: list[Any]) -> None:
        self.assertEqual(agents, ["a", "b"])
        self.assertEqual(self.node.last_ids, [None, "1", "1"], "it continues where it was")
        self.assertIsNone(client.cache.fresh("b@x"), "b was dropped")

    def test_threads(self) -> None:
        heard: list[str] = []
        stop = threading.Event()

        def seen(event: StreamEvent) -> None:
            if not heard:
                client.cache.put("b@x", {"identity": {"agent_id": "b"}}, client.cache.begin())
                self.assertIsNotNone(client.cache.fresh("b@x"))
            heard.append(event.fields["identity"])
            if len(heard) == 2:
                stop.set()
                self.node.done.set()

        with Client(self.node.url) as client:
            thread = threading.Thread(target=client.follow, args=(stop,), kwargs={"seen": seen})
            thread.start()
            thread.join(30)
            self.assertFalse(thread.is_alive())
            self.check(client, heard)

    def test_asyncio(self) -> None:
        async def run() -> None:
            async with AsyncClient(self.node.url) as client:
                heard: asyncio.Queue[str] = asyncio.Queue()
                task = asyncio.create_task(client.follow(seen=lambda event: heard.put_nowait(event.fields["identity"])))
                agents = [await asyncio.wait_for(heard.get(), 30) for _ in range(2)]
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.check(client, agents)

        asyncio.run(run())


if __name__ == "__main__":
    unittest.main()
