"""What both programs share: the manifest's tables, entries from their bytes, trees, and the verdict.

Entries are decoded and their signatures verified by the module `fama` (cli/python).
"""

import datetime
import hashlib
import json
import re
import sys
import tomllib
from pathlib import Path

import fama
import pyarrow as pa

RULES = Path(__file__).with_name("rules.sql")
DAY_MILLIS = 86_400_000
# Leaves of one complete subtree, whose root is computed in one piece.
BLOCK = 1 << 16
# How many findings of a kind are shown.
SHOWN = 10

# The fields of a text that become columns, and what they are called there.
_TEXTS = ("home", "identity", "name", "key", "next", "reason", "issuer", "subject", "attestation", "operator",
          "provider", "service", "domain")
_NUMBERS = {"version": "version", "delta": "delta", "from": "from_number"}
_STRINGS = ("kind", "event", "signer", *_TEXTS)
_LONGS = ("time", "created", "entry_day", "created_day", "day", *_NUMBERS.values())

# The columns of the files that are read: the bytes, and what `fama export` says of them.
READ = ("log", "generation", "index", "entry", "leaf", "kind", "event", "outcome")
DECODED = pa.schema(
    [("log", pa.string()), ("generation", pa.int64()), ("idx", pa.int64()), ("leaf", pa.binary()),
     ("outcome", pa.string()), ("fault", pa.string())]
    + [(name, pa.string()) for name in _STRINGS]
    + [(name, pa.int64()) for name in _LONGS]
)


class NotCovered(Exception):
    """Something occurs that these programs do not judge. Ask `fama audit`."""


def rules():
    """The statements of rules.sql, in their order: name, whether it is kept, and the SELECT."""
    parts = re.split(r"^-- (table|view) (\w+)\n", RULES.read_text(), flags=re.MULTILINE)
    for what, name, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        yield name, what == "table", re.sub(r"^--.*\n", "", body, flags=re.MULTILINE).strip()


class Manifest:
    """The versions of a manifest: their signatures verified by the module, their tables read here."""

    def __init__(self, chain):
        self.chain = chain
        self.federation = fama.Federation(chain)
        self.versions = [tomllib.loads(text) for text in _texts(chain)]
        newest = len(self.versions)
        if self.federation.version != newest or any(one.get("protocol", 1) != 1 for one in self.versions):
            raise NotCovered("a manifest of another protocol, or incomplete: want versions 1 to the newest")

    def tables(self):
        """`policies`, `carriers` and `operators`: each a list of rows."""
        policies, carriers, operators = [], [], []
        for number, version in enumerate(self.versions, 1):
            at = {"adopted": number, "newest": number == len(self.versions)}
            policies.append({**at, **{name: int(value) for name, value in version["policy"].items()}})
            for home in version["homes"]:
                carriers.append({**at, "home": home["name"], "log": home["operator"], "generation": home["generation"]})
            for one in version["operators"]:
                operators.append({**at, "operator": one["name"], "generation": one["generation"],
                                  "node_key": one["node_key"]})
        return {name: pa.Table.from_pylist(rows) for name, rows in
                (("policies", policies), ("carriers", carriers), ("operators", operators))}

    def logs(self):
        """Every log that a version names, with its size if a version cuts it: {(operator, generation): size}."""
        logs = {(one["name"], one["generation"]): None for version in self.versions for one in version["operators"]}
        for version in self.versions:
            for cut in version.get("cuts", []):
                logs[(cut["operator"], cut["generation"])] = cut["size"]
        return logs


def _texts(chain):
    """The texts of signed notes that follow one another."""
    text, signed = [], False
    for line in chain.splitlines(keepends=True):
        if line.startswith("\u2014 "):
            signed = True
            continue
        if signed:
            yield "".join(text)
            text, signed = [], False
        text.append(line)
    yield "".join(text)


def decode(batches, chain):
    """Batches of `DECODED` from batches of `READ`: every signature verified, every column taken from the bytes."""
    federation = fama.Federation(chain)
    days = {}
    for batch in batches:
        rows = batch.to_pydict()
        said = federation.verify_entries(rows["entry"])
        columns = {name: [] for name in DECODED.names}
        for at, one in enumerate(said):
            raw, leaf = rows["entry"][at], rows["leaf"][at]
            row = _row(one, days)
            if hashlib.sha256(b"\0" + raw).digest() != leaf:
                row["fault"] = "leaf: not the hash of the entry's bytes"
            elif "fault" not in row and (row["kind"], row.get("event")) != (rows["kind"][at], rows["event"][at]):
                row["fault"] = "column: kind or event is not what the entry's bytes say"
            row.update(log=rows["log"][at], generation=rows["generation"][at], idx=rows["index"][at], leaf=leaf,
                       outcome=rows["outcome"][at])
            for name, column in columns.items():
                column.append(row.get(name))
        yield pa.RecordBatch.from_pydict(columns, schema=DECODED)


def _row(said, days):
    if "error" in said:
        return {"fault": said["error"]}
    row = {"time": said["time"], "entry_day": said["time"] // DAY_MILLIS}
    if "adopts" in said:
        return {**row, "kind": "adopt", "version": said["adopts"]}
    if "state_root" in said:
        return {**row, "kind": "state"}
    # The module checked that this is the event's only text, so every line is `name: value`.
    fields = dict(line.split(": ", 1) for line in said["text"].splitlines()[1:])
    row.update(kind=fields["kind"], event=said["event"], signer=said["signer"])
    row.update((name, fields[name]) for name in _TEXTS if name in fields)
    row.update((column, int(fields[name])) for name, column in _NUMBERS.items() if name in fields)
    if row["kind"] == "register":
        row.update(identity=said["event"], version=1)
    if "day" in fields:
        row["day"] = _day(fields["day"], days)
    created = fields["created"]
    row["created_day"] = _day(created[:10], days)
    seconds = int(created[11:13]) * 3600 + int(created[14:16]) * 60 + int(created[17:19])
    row["created"] = row["created_day"] * DAY_MILLIS + seconds * 1000 + int(created[20:23])
    return row


def _day(text, days):
    if text not in days:
        days[text] = datetime.date.fromisoformat(text).toordinal() - datetime.date(1970, 1, 1).toordinal()
    return days[text]


def tree_root(hashes):
    """The root of RFC 6962 over leaf hashes, or over the roots of equal, complete blocks of leaves."""
    while len(hashes) > 1:
        pairs = [hashlib.sha256(b"\1" + hashes[i] + hashes[i + 1]).digest() for i in range(0, len(hashes) - 1, 2)]
        hashes = pairs + hashes[len(pairs) * 2:]
    return hashes[0]


class Verdict:
    """What was found, and the exit code: 0 all holds, 1 something does not, 2 something here is not covered."""

    def __init__(self):
        self.found, self.report = [], {}

    def wrong(self, what):
        self.found.append(what)

    def entries(self, rows):
        """Takes entries with their fault: (log, generation, index, fault)."""
        for log, generation, index, fault in rows:
            self.wrong(f"{fault} in {log}/{generation}, entry {index}")

    def logs(self, logs, manifest, heads):
        """Takes what is there of each log, and compares it with the manifest's cuts and with heads of an audit.

        `logs` has rows (log, generation, entries, first index, last index, distinct indexes, root).
        """
        self.report["logs"], known, there = [], manifest.logs(), set()
        for log, generation, entries, first, last, distinct, root in sorted(logs):
            name = f"{log}/{generation}"
            there.add((log, generation))
            self.report["logs"].append({"log": name, "size": entries, "root": root.hex()})
            if (first, last, distinct) != (0, entries - 1, entries):
                self.wrong(f"index: {name} has {entries} entries from {first} to {last}; some are missing or twice")
            if (log, generation) not in known:
                raise NotCovered(f"{name} is in no version of the manifest: give all versions up to the newest")
            head = heads.get(name)
            if heads and head != (entries, root.hex()):
                self.wrong(f"root: {name} has {entries} entries with the root {root.hex()}, the audit {head}")
        for (log, generation), size in known.items():
            whole = next((one["size"] for one in self.report["logs"] if one["log"] == f"{log}/{generation}"), 0)
            if size is not None and size != whole:
                raise NotCovered(f"{log}/{generation} is cut at {size} entries, and {whole} are there: export again")
        for name, (size, _) in heads.items():
            if size and tuple(name.rsplit("/", 1)) not in {(log, str(generation)) for log, generation in there}:
                self.wrong(f"log: {name} is missing")

    def finish(self, as_json):
        code = 1 if self.found else 0
        self.report.update(ok=not self.found, found=self.found)
        print(json.dumps(self.report) if as_json else self._people())
        return code

    def _people(self):
        report = self.report
        lines = [f"log         {log['log']:<24} {log['size']:>9} entries, root {log['root']}" for log in report["logs"]]
        if "identities" in report:
            events = ", ".join(f"{count} {kind}" for kind, count in sorted(report["events"].items()))
            lines.append(f"events      {events}")
            lines.append(f"identities  {report['identities']}, with a total karma of {report['karma']}")
        lines += [f"FOUND       {found}" for found in self.found]
        lines.append("verdict     " + ("all of it holds" if not self.found else "DOES NOT HOLD"))
        return "\n".join(lines)


def heads_of(path):
    """The heads in the output of `fama export --json` or `fama audit --json`: {log: (size, root)}; else none."""
    if path is None:
        return {}
    said = json.loads(Path(path).read_text())
    logs = said.get("audit", said)["logs"]
    return {log["log"]: (log["size"], log["root"]) for log in logs if log["size"]}


def outcomes(said, uncovered, found):
    """Compares the outcomes in the files with what the rules say; gives findings.

    `said` has an entry that the files call void, `uncovered` one that the rules do not decide, and `found` those that
    they call void: (log, generation, index, reason).
    """
    for log, generation, index, what in uncovered:
        raise NotCovered(f"{what}, at entry {index} of {log}/{generation}" if log else what)
    if said:
        log, generation, index, reason = said[0]
        raise NotCovered(
            f"entry {index} of {log}/{generation} is void ({reason}): these rules judge only histories without void "
            "entries, which is what honest owners write"
        )
    place = "outcome: void by the rules ({}) in {}/{}, entry {}"
    return [place.format(reason, log, generation, index) for log, generation, index, reason in found]


def run(main):
    """Runs a program; what it does not cover ends it with exit code 2."""
    try:
        sys.exit(main())
    except (NotCovered, fama.FamaError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        print("hint: `fama audit` judges everything; it needs one machine", file=sys.stderr)
        sys.exit(2)
