"""The golden vectors in tests/vectors, and helpers for the tests over them."""

import json
from pathlib import Path

from . import event
from .fault import Fault
from .log import LogFault, Replay, Waits
from .manifest import read_chain

VECTORS = Path(__file__).parent.parent / "vectors"
READ = set()


def load(name):
    READ.add(name)
    return json.loads((VECTORS / name).read_bytes())


def code_of(run, *arguments):
    """`ok`, or the code of the fault."""
    try:
        run(*arguments)
    except (Fault, LogFault) as fault:
        return fault.code
    except Waits:
        return "unheld"
    return "ok"


def raw(digits):
    return bytes.fromhex(digits)


def chain_of(text):
    """The chain of a chain file."""
    return read_chain(text.encode())


def faults_of(entries, chain):
    """The fault of each entry on its own, or None; equal entries are checked once."""
    different = list(dict.fromkeys(entries))
    found = dict(zip(different, event.check_entries(different, chain.federation), strict=True))
    return [found[entry] for entry in entries]


def replayed(succession, log, entries):
    replay = Replay(succession.chain, log, succession)
    replay.run(entries, faults_of(entries, succession.chain))
    return replay


def rows_of(succession):
    """All rows as bytes, by map and key."""
    return {
        (f"log/{log}" if name == "log" else name, key): row.encode()
        for log, replay in succession.replays.items()
        for name, held in replay.maps.items()
        for key, row in held.rows.items()
    }


def expected_rows(found):
    rows = (one for one in found if one["type"] == "row")
    return {(one["map"], raw(one["key"])): raw(one["value"]) for one in rows}
