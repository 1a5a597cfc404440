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

from fama_client import AsyncClient, Client, ProfileCache, StreamEvent
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
        self.done, self.go = threading.Event(), threading.Event()
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
            elif part == "wait":
                self.server.go.wait(30)
            else:
                self.wfile.write(part.encode())
                self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def event(agent: str, at: str) -> str:
    return f"event: key\nid: {at}\ndata: {json.dumps({'identity': agent, 'kind': 'revoke'})}\n\n"


SCRIPTS: list[list[str]] = [[event("a", "1")], [], [": still here\n\n", event("b", "2"), "wait", event("c", "3"), "hold"]]


class Following(unittest.TestCase):
    def setUp(self) -> None:
        self.node = Node()
        self.addCleanup(self.node.close)
        for script in SCRIPTS:
            self.node.scripts.put(script)
        self.now = 0.0
        self.cache = ProfileCache(lambda: self.now)

    def keep(self, agent: str) -> None:
        self.cache.put(f"{agent}@x", {"identity": {"agent_id": agent}}, self.cache.begin())

    def heard(self, agent: str) -> None:
        """Called between the events about b and c, on one connection."""
        if agent == "b":
            self.keep("c")
            self.keep("d")
            self.now = 200.0
            self.long_kept = self.cache.fresh("d@x") is not None
            self.now = 0.0
            self.node.go.set()

    def check(self, agents: list[str]) -> None:
        self.assertEqual(agents, ["a", "b", "c"])
        self.assertEqual(self.node.last_ids, [None, "1", "1"], "it continues where it was")
        self.assertIsNone(self.cache.fresh("c@x"), "c was dropped")
        self.assertTrue(self.long_kept, "d was fresh for longer while it was followed")
        self.assertIsNotNone(self.cache.fresh("d@x"))
        self.now = 20.0
        self.assertIsNone(self.cache.fresh("d@x"), "it is no longer followed")

    def test_threads(self) -> None:
        stop, agents = threading.Event(), list[str]()

        def seen(event: StreamEvent) -> None:
            agents.append(event.fields["identity"])
            self.heard(agents[-1])
            if len(agents) == 3:
                stop.set()
                self.node.done.set()

        with Client(self.node.url, cache=self.cache) as client:
            thread = threading.Thread(target=client.follow, args=(stop,), kwargs={"seen": seen})
            thread.start()
            thread.join(30)
            self.assertFalse(thread.is_alive())
        self.check(agents)

    def test_asyncio(self) -> None:
        async def run() -> None:
            async with AsyncClient(self.node.url, cache=self.cache) as client:
                agents, all_heard = list[str](), asyncio.Event()

                def seen(event: StreamEvent) -> None:
                    agents.append(event.fields["identity"])
                    self.heard(agents[-1])
                    if len(agents) == 3:
                        all_heard.set()

                task = asyncio.create_task(client.follow(seen=seen))
                await asyncio.wait_for(all_heard.wait(), 30)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.check(agents)

        asyncio.run(run())


if __name__ == "__main__":
    unittest.main()
