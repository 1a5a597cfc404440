"""`python3 -m auditor SOURCE…`: audits a federation's public files."""

import argparse
import json
import sys
import time
from pathlib import Path

from . import compare
from .audit import Audit
from .source import open_source
from .verdict import show, verdict
from .verify import Verifier


def main():
    """0 if all holds, 1 if not, 2 if a source or a file could not be read."""
    try:
        return _run(_options())
    except OSError as error:
        print(f"auditor: {error}", file=sys.stderr)
        return 2


def _run(options):
    former = json.loads(Path(options.since).read_bytes()) if options.since else None
    trusted = Path(options.manifest).read_bytes() if options.manifest else None
    began = time.monotonic_ns()
    with Verifier(options.processes) as verifier:
        audits = [Audit(open_source(name), verifier, trusted).run() for name in options.source]
    findings = [found for audit in audits for found in audit.findings]
    for audit in audits:
        findings += compare.since(audit, former) if former else []
    for other in audits[1:]:
        findings += compare.views(audits[0], other)
    figures = {
        "entries": sum(len(tree) for audit in audits for tree in audit.trees.values()),
        "milliseconds": (time.monotonic_ns() - began) // 1_000_000,
    }
    said = verdict(audits[0], findings, figures)
    print(json.dumps(said, indent=2) if options.json else show(said))
    return 1 if findings else 0


def _options():
    parser = argparse.ArgumentParser(prog="auditor", description=__doc__)
    parser.add_argument("source", nargs="+", help="a folder, or the URL of a node or of a copy")
    parser.add_argument("--manifest", metavar="FILE", help="the genesis to trust, or a chain file")
    parser.add_argument("--since", metavar="FILE", help="a former verdict (--json) that must go on")
    parser.add_argument("--processes", type=int, help="how many check signatures (default: all)")
    parser.add_argument("--json", action="store_true", help="the whole verdict, sorted")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
