"""`/api/stream` without I/O: reading server-sent events, and when to connect again."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from .cache import ProfileCache

LINE_BYTES_MAX = 65_536
EVENT_BYTES_MAX = 262_144
SILENCE_SECONDS = 60.0
"""A stream that sends nothing for so long, not even a comment, counts as broken."""

PAUSE_SECONDS_MAX = 30.0


class BrokenStream(Exception):
    """The node's stream is not one of server-sent events, or exceeds a bound."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """`kind` is `key`, `karma`, `registration`, `access` or `checkpoint`; `id` is where a later stream continues."""

    kind: str
    id: str
    fields: dict[str, Any]


class EventReader:
    """Cuts the bytes of a stream into events."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._skip_newline = False
        self._kind = ""
        self._id = ""
        self._lines: list[str] = []
        self._bytes = 0

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """Raises `BrokenStream` for a line or an event that is too long, and for one that is not JSON."""
        events = []
        if self._skip_newline and chunk:
            chunk, self._skip_newline = chunk.removeprefix(b"\n"), False
        self._rest += chunk
        lines = bytes(self._rest).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._skip_newline = self._rest.endswith(b"\r")
        self._rest = bytearray(lines.pop())
        for line in lines:
            if event := self._line(line):
                events.append(event)
        if len(self._rest) > LINE_BYTES_MAX:
            raise BrokenStream("a line is too long")
        return events

    def _line(self, line: bytes) -> StreamEvent | None:
        if not line:
            return self._dispatch()
        self._bytes += len(line)
        if len(line) > LINE_BYTES_MAX or self._bytes > EVENT_BYTES_MAX:
            raise BrokenStream("an event is too long")
        name, _, value = line.decode("utf-8", "replace").removeprefix("\ufeff").partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._kind = value
        elif name == "data":
            self._lines.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "":
            self._bytes -= len(line)
        return None

    def _dispatch(self) -> StreamEvent | None:
        kind, lines = self._kind or "message", self._lines
        self._kind, self._lines, self._bytes = "", [], 0
        if not lines:
            return None
        try:
            fields = json.loads("\n".join(lines))
        except (ValueError, RecursionError) as error:
            raise BrokenStream(f"an event is not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise BrokenStream("an event is not a JSON object")
        return StreamEvent(kind, self._id, fields)


class Stream:
    """One connection to a node's stream after another. The caller does the I/O, in this order: `url` and `headers`,
    `connected`, `feed` for each chunk, and at the end, whatever it was, `lost`."""

    def __init__(self, query_url: str, filters: list[tuple[str, str]]) -> None:
        query = urlencode(filters)
        self.url = f"{query_url}/api/stream{'?' if query else ''}{query}"
        self.continues = False
        """Whether this connection continues where the one before it broke off, so that nothing is missed."""
        self._failures = 0
        self._last = ""
        self._reader = EventReader()

    @property
    def headers(self) -> dict[str, str]:
        headers = {"accept": "text/event-stream", "accept-encoding": "identity"}
        if self._last:
            headers["last-event-id"] = self._last
        return headers

    def connected(self, status: int, content_type: str) -> None:
        """Raises `BrokenStream` if the answer is no stream."""
        if status in (400, 410):
            self.forget()  # the node cannot continue from there
        if status != 200 or content_type.partition(";")[0].strip() != "text/event-stream":
            raise BrokenStream(f"status {status}, {content_type[:100]!r}")
        self._reader, self.continues = EventReader(), bool(self._last)

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        events = self._reader.feed(chunk)
        if events:
            self._failures, self._last = 0, events[-1].id[:4_096]
        return events

    def forget(self) -> None:
        """Makes the next connection begin with what happens then."""
        self._last = ""

    def lost(self) -> float:
        """How many seconds to wait before the next connection: longer after each failure, up to half a minute."""
        self._failures = min(self._failures + 1, 10)
        return float(min(PAUSE_SECONDS_MAX, 0.25 * 2**self._failures) * random.uniform(0.5, 1))


class Follow(Stream):
    """A stream that keeps a cache up to date."""

    def __init__(self, query_url: str, cache: ProfileCache, *, agents: tuple[str, ...] = ()) -> None:
        super().__init__(query_url, [("agent", agent) for agent in agents])
        self._cache = cache

    def connected(self, status: int, content_type: str) -> None:
        super().connected(status, content_type)
        self._cache.follow(True)

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """Drops the agents that the events are about from the cache."""
        events = super().feed(chunk)
        for event in events:
            if isinstance(agent := event.fields.get("identity"), str):
                self._cache.drop(agent)
        return events

    def lost(self) -> float:
        self._cache.follow(False)
        return super().lost()
