"""Runs Fama and what registries have of comparable systems on the same work, one after the other.

`run.py [N]` installs what is missing, measures, writes `bench/peers.json` of the target folder and prints the table.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import install
from install import HERE, PLACE, PYTHON, TARGET, Missing, say
from table import lines

RESULTS = TARGET / "bench/peers.json"
"""Of a run of all systems; what only a part of them did, or with few events, is next to it."""
PART = RESULTS.with_suffix(".part.json")
EVENTS, EVENTS_CHECK = 10_000, 20
CORES = 2
TIMEOUT_SECONDS = 1_200
SYNCS = ("fsync", "fdatasync", "msync", "sync_file_range", "syncfs")


@dataclass(frozen=True)
class Leg:
    """One system: how it is installed and run, and of all events one in how many it gets, because it is slow."""

    name: str
    program: str
    install: Callable[[], None]
    arguments: tuple[str, ...] = ()
    divisor: int = 1

    def command(self, events: int, folder: Path) -> list[str]:
        count = max(EVENTS_CHECK, events // self.divisor)
        interpreter = str(PYTHON) if self.program.endswith(".py") else "node"
        return [interpreter, str(HERE / self.program), str(count), str(folder), *self.arguments]


LEGS = [
    Leg("Fama", "fama.mjs", install.fama),
    Leg("Fama, batch_ms = 1", "fama.mjs", install.fama, ("1",)),
    Leg("Autobase", "autobase.mjs", install.npm),
    Leg("OrbitDB", "orbitdb.mjs", install.npm),
    Leg("Nostr relay", "nostr.mjs", install.npm_and_python),
    Leg("PLC directory", "plc.mjs", install.npm),
    Leg("KERI", "keripy.py", install.python, divisor=10),
]


class Failed(Exception):
    """A system that was run and did not do all the work."""


def measure(leg: Leg, events: int, before: tuple[str, ...] = ()) -> dict[str, Any]:
    """Runs one system alone in a folder of its own, on the first cores."""
    folder = PLACE / "work" / leg.name.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # What was written before is no matter of this one.
    os.sync()
    environment = {**os.environ, "FAMA_BIN": str(install.fama_program()), "PYTHONDONTWRITEBYTECODE": "1"}
    child = subprocess.Popen(
        [*before, *leg.command(events, folder)], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores()),
    )  # fmt: skip
    try:
        out, _ = child.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"not done after {TIMEOUT_SECONDS} s") from error
    finally:
        end(child)
    if child.returncode != 0:
        raise Failed(f"ended with {child.returncode}; its files are in {folder}")
    shutil.rmtree(folder)
    return {**json.loads(out.splitlines()[-1]), "system": leg.name}


def cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))[:CORES]


def end(child: subprocess.Popen) -> None:
    """Ends whatever is left of a session that this program began."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()


def all_of(legs: list[Leg], events: int, out: Path) -> int:
    """Measures them and writes down what is known after each; how many failed."""
    known = {"machine": machine(), "events": events, "systems": []}
    failures = 0
    for leg in legs:
        begun = time.monotonic()
        try:
            leg.install()
            result = measure(leg, events)
        except Missing as error:
            result, failures = {"system": leg.name, "missing": str(error)}, failures + install.may_install
        except Failed as error:
            result, failures = {"system": leg.name, "failed": str(error)}, failures + 1
        word = result.get("failed") or (f"skipped, {result['missing']}" if "missing" in result else "done")
        say(f"{leg.name}: {word} after {time.monotonic() - begun:.0f} s")
        known["systems"].append(result)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(known, indent=1) + "\n")
    return failures


def machine() -> dict[str, Any]:
    model = next((line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return {"processor": model, "cores": len(cores()), "kernel": platform.release(), "day": day}


def count_syncs(legs: list[Leg]) -> int:
    """Prints how many calls that write to the disk itself come with each event, and how many files are opened so."""
    trace = PLACE / "strace.txt"
    strace = ("strace", "-f", "-qq", "-e", f"trace={','.join((*SYNCS, 'openat'))}", "-e", "signal=none", "-o", str(trace))
    for leg in legs:
        counts = []
        for events in (100, 200):
            leg.install()
            done = measure(Leg(leg.name, leg.program, leg.install, leg.arguments), events, strace)["events"]
            calls = [line for line in trace.read_text(errors="replace").splitlines() if "resumed" not in line]
            counts.append((done, {name: sum(f" {name}(" in line for line in calls) for name in SYNCS}, sum("O_DSYNC" in line for line in calls)))
        (few, before, _), (many, after, direct) = counts
        each = {name: round((after[name] - before[name]) / (many - few), 2) for name in SYNCS if after[name]}
        print(f"{leg.name}: for each event, on all of its nodes together: {each}; opened with O_DSYNC: {direct}", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", nargs="?", type=int, default=EVENTS, help="how many events (%(default)s)")
    parser.add_argument("--check", action="store_true", help=f"only try everything that is installed, with {EVENTS_CHECK} events")
    parser.add_argument("--table", action="store_true", help="only print the table of the last run")
    parser.add_argument("--syncs", action="store_true", help="only count writes to the disk, with strace")
    parser.add_argument("--only", metavar="SYSTEM", help="only this one")
    asked = parser.parse_args()
    legs = [leg for leg in LEGS if asked.only in (None, leg.name)]
    if asked.syncs:
        return count_syncs(legs)
    if asked.check:
        install.may_install = False
        return 1 if all_of(legs, EVENTS_CHECK, PART) else 0
    out = RESULTS if len(legs) == len(LEGS) else PART
    failures = 0 if asked.table else all_of(legs, asked.events, out)
    print("\n".join(lines(json.loads(out.read_text()))))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
