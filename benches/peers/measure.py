"""What the peers in Python measure, as measure.mjs does for those in JavaScript, and the events that all of them take."""

import asyncio
import hashlib
import json
import os
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

QUERIES_IN_FLIGHT, BATCH = 4, 250
ONE_BY_ONE_SECONDS, QUERY_SECONDS, QUERIES_MAX = 20.0, 5.0, 20_000

Json = dict[str, Any]
now = time.perf_counter


def hexadecimal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def payloads(count: int) -> list[Json]:
    """What an attestation says, without signer and signature: about as many bytes as Fama's. Each subject gets about ten."""
    subjects = max(1, min(1000, count // 10))
    created = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return [
        {
            "home": "peers.example", "subject": hexadecimal(f"subject {i % subjects}"), "delta": i % 5 + 1,
            "created": created, "nonce": hexadecimal(f"nonce {i}")[:16],
        }
        for i in range(count)
    ]  # fmt: skip


def spread(times: list[float], seconds: float) -> Json:
    times.sort()
    at = lambda part: round(times[min(len(times) - 1, len(times) * part // 100)] * 1000, 2)  # noqa: E731
    return {"per_second": round(len(times) / seconds, 1), "p50_ms": at(50), "p99_ms": at(99)}


async def timed(items: list, width: int, seconds: float, call: Callable[[Any], Awaitable[None]]) -> Json:
    """Calls `call` for the items in turn, `width` at a time, until `seconds` are over."""
    times: list[float] = []
    begun, waiting = now(), iter(items)

    async def worker() -> None:
        while now() - begun < seconds:
            try:
                item = next(waiting)
            except StopIteration:
                return
            asked = now()
            await call(item)
            times.append(now() - asked)

    await asyncio.gather(*(worker() for _ in range(width)))
    return {"done": len(times), **spread(times, now() - begun)}


async def queries(keys: list[str], ask: Callable[[str], Awaitable[None]]) -> Json:
    """Asks about the keys in an order that looks random."""
    ordered = sorted(set(keys), key=hexadecimal)
    asked = [ordered[i % len(ordered)] for i in range(min(QUERIES_MAX, len(keys) * 10))]
    return await timed(asked, QUERIES_IN_FLIGHT, QUERY_SECONDS, ask)


def sync_result(events: int, begun: float) -> Json:
    seconds = now() - begun
    return {"seconds": round(seconds, 2), "per_second": round(events / seconds, 1)}


def memory(pid: int) -> int:
    """Memory that a process has for itself, with its part of what it shares, in bytes."""
    return int(re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1]) * 1024


def disk(folder: str) -> int:
    """Bytes of all files below a folder, without holes and without room that is only reserved."""
    files = (Path(at, name).lstat() for at, _, names in os.walk(folder) for name in names)
    return sum(min(file.st_size, file.st_blocks * 512) for file in files)


def versions(*names: str) -> dict[str, str]:
    return {name: version(name) for name in names}


def tell(**result: Any) -> None:
    print(json.dumps(result), flush=True)
