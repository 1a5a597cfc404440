"""A Nostr relay (nostr-sdk's, with LMDB): `nostr.py N FOLDER` prints what it measured as JSON."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from datetime import timedelta
from pathlib import Path

import nostr_sdk as nostr
from measure import EVENTS_IN_FLIGHT, Json, disk, hexadecimal, memory, now, payloads, queries, sync_result, tell, timed, versions
from measure import ONE_BY_ONE_SECONDS

AUTHORS = 16
KIND = 1985
"""That of labels (NIP-32): signed statements about somebody."""
NEVER = 10**9


async def serve(folder: str) -> None:
    """Runs a relay until standard input ends."""
    builder = nostr.LocalRelayBuilder().database(await nostr.NostrLmdb.open(folder))
    builder = builder.rate_limit(nostr.RateLimit(max_reqs=NEVER, notes_per_minute=NEVER))
    relay = builder.build()
    await relay.run()
    print(await relay.url(), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    relay.shutdown()


async def start(folder: Path) -> tuple[Process, nostr.RelayUrl]:
    folder.mkdir(parents=True)
    child = await asyncio.create_subprocess_exec(sys.executable, __file__, "serve", str(folder), stdin=PIPE, stdout=PIPE)
    return child, nostr.RelayUrl.parse((await child.stdout.readline()).decode().strip())


async def connect(url: nostr.RelayUrl, database: nostr.NostrDatabase | None = None) -> tuple[nostr.Client, nostr.Relay]:
    builder = nostr.ClientBuilder()
    client = (builder.database(database) if database else builder).build()
    await client.add_relay(url)
    await client.connect()
    return client, await client.relay(url)


def sign(payload: Json, keys: nostr.Keys) -> nostr.Event:
    tags = [nostr.Tag.parse(["p", payload["subject"]])]
    return nostr.EventBuilder(nostr.Kind(KIND), json.dumps(payload)).tags(tags).finalize(keys)
