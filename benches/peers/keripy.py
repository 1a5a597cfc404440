"""KERI (keripy): `keripy.py N FOLDER` prints what it measured as JSON."""

import asyncio
import json
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from keri.app import habbing
from keri.core import coring, eventing, parsing
from keri.db import basing, dbing
from measure import (
    BATCH, ONE_BY_ONE_SECONDS, Json, disk, memory, now, payloads, queries, sync_result, tell, timed, versions,
)  # fmt: skip

AUTHORS = 16
DURABLE = {
    "synced": True,
    "durable": "on disk: LMDB syncs each transaction (fdatasync, and a page written with O_DSYNC), and each row is a transaction of its own",
    "notes": [
        "a library without a server: events are parsed in the process that measures", "a batch is a stream of as many messages",
        "16 identifiers anchor payloads: a query finds an event by number, no sum",
    ],
}
MAP_BYTES = 1 << 34
"""How far a database may grow: keripy's own bound of 100 MiB is too small for more than some 20,000 events."""


def author(count: int, out: Path) -> None:
    """Signs all events and writes them to a file: the identifiers' inceptions, then what they anchor."""
    with habbing.openHby(name="author", temp=True, salt=coring.Salter(raw=b"peers of fama 16").qb64) as habery:
        for store in (habery.db, habery.ks):
            store.env.set_mapsize(MAP_BYTES)
        habs = [habery.makeHab(name=f"author-{i}", isith="1", icount=1) for i in range(AUTHORS)]
        with out.open("wb") as file:
            for hab in habs:
                write(file.write, hab.makeOwnEvent(sn=0))
            for i, payload in enumerate(payloads(count)):
                write(file.write, habs[i % AUTHORS].interact(data=[payload]))


def write(to, message: bytes) -> None:
    to(struct.pack(">I", len(message)) + bytes(message))


def read(exactly) -> Iterator[bytes]:
    while len(length := exactly(4)) == 4:
        yield exactly(struct.unpack(">I", length)[0])


class Node:
    """Who checks other people's events and keeps them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.db = basing.Baser(name="node", headDirPath=str(folder), temp=False, reopen=True)
        self.db.env.set_mapsize(MAP_BYTES)
        self.kevery = eventing.Kevery(db=self.db, lax=True, local=False)
        self.parser = parsing.Parser(framed=True, kvy=self.kevery)

    def take(self, messages: bytes) -> None:
        self.parser.parse(ims=bytearray(messages), kvy=self.kevery)

    def numbers(self) -> dict[str, int]:
        """The number of each identifier's newest event."""
        # Reading a log adds an identifier a second time, as bytes.
        return {prefix: kever.sn for prefix, kever in self.db.kevers.items() if isinstance(prefix, str)}

    def event(self, prefix: str, number: int) -> bytes:
        digest = self.db.getKeLast(dbing.snKey(prefix, number))
        return bytes(self.db.getEvt(dbing.dgKey(prefix, bytes(digest))))

    def everything(self) -> Iterator[bytes]:
        for prefix in self.numbers():
            yield from self.db.clonePreIter(pre=prefix)


def replica(folder: Path, port: int) -> None:
    """Takes everything that comes from the port, in pieces, and says when it has the last event."""
    node = Node(folder)
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as stream:
        for messages in read(stream.read):
            node.take(messages)
    print(json.dumps(node.numbers()), flush=True)


def sync(node: Node, folder: Path, count: int) -> Json:
    with socket.create_server(("127.0.0.1", 0)) as server:
        begun = now()
        command = [sys.executable, __file__, "replica", str(folder), str(server.getsockname()[1])]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        connection, _ = server.accept()
        with connection:
            piece: list[bytes] = []
            for message in node.everything():
                piece.append(bytes(message))
                if len(piece) == BATCH:
                    write(connection.sendall, b"".join(piece))
                    piece.clear()
            write(connection.sendall, b"".join(piece))
        numbers = json.loads(child.stdout.readline())
        result = sync_result(count, begun)
    child.wait()
    if numbers != node.numbers():
        raise SystemExit("the replica does not have all events")
    return result


async def main(count: int, folder: Path) -> None:
    signed = folder / "signed"
    subprocess.run([sys.executable, __file__, "author", str(count), str(signed)], check=True)
    with signed.open("rb") as file:
        inceptions, events = (all_of := list(read(file.read)))[:AUTHORS], all_of[AUTHORS:]
    node = Node(folder / "node")
    for inception in inceptions:
        node.take(inception)
    before = disk(str(folder / "node"))

    async def one(event: bytes) -> None:
        node.take(event)

    one_by_one = await timed(events[: -(-count // 10)], 1, ONE_BY_ONE_SECONDS, one)
    left = events[one_by_one["done"] :]
    begun = now()
    for at in range(0, len(left), BATCH):
        node.take(b"".join(left[at : at + BATCH]))
    batches = {"done": len(left), "per_second": round(len(left) / (now() - begun), 1)}
    if sum(node.numbers().values()) != count:
        raise SystemExit("the node does not have all events")
    bytes_on_disk = disk(str(folder / "node")) - before

    async def ask(key: str) -> None:
        prefix, number = key.split(" ")
        node.event(prefix, int(number))

    keys = [f"{prefix} {number}" for prefix, last in node.numbers().items() for number in range(1, last + 1)]
    point_queries = await queries(keys, ask)
    resident = memory("self")
    tell(
        system="KERI", version=versions("keri", "lmdb"), events=count, one_by_one=one_by_one, many_at_once=None, batches=batches,
        sync=sync(node, folder / "replica", count), quick_sync=None, point_queries=point_queries,
        disk_bytes_per_event=round(bytes_on_disk / count), resident_memory_bytes=resident, **DURABLE,
    )  # fmt: skip


if sys.argv[1] == "author":
    author(int(sys.argv[2]), Path(sys.argv[3]))
elif sys.argv[1] == "replica":
    replica(Path(sys.argv[2]), int(sys.argv[3]))
else:
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
