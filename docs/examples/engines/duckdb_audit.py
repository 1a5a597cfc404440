"""Audits the files of `fama export --ranges` with DuckDB: signatures, key status and karma, on one machine.

    python3 duckdb_audit.py lake --manifest manifest.txt --heads export.json --out answers

Memory stays bounded: what does not fit lies in --work. Exit codes: 0 all holds, 1 something does not, 2 not covered.
"""

import argparse
import tempfile
from pathlib import Path

import duckdb
import pyarrow as pa

import entries

# Rows that are decoded at a time.
ROWS = 65_536


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="the folder that `fama export --ranges` wrote to")
    parser.add_argument("--manifest", required=True, help="the genesis to trust, or all versions, one after the other")
    parser.add_argument("--heads", help="output of `fama export --json` or `fama audit --json`: roots that must be met")
    parser.add_argument("--out", help="write identities.parquet and attestations.parquet into this folder")
    parser.add_argument("--work", help="folder for what does not fit into memory [default: a temporary one]")
    parser.add_argument("--memory", default="2GB", help="how much memory DuckDB uses [default: 2GB]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def load(database, folder, manifest):
    """Makes the table `decoded`, and those of the manifest."""
    # Types are given, or a log called 10.20 would be a number.
    files = f"{folder}/entries/*/*/*.parquet".replace("'", "''")
    query = f"""SELECT {", ".join(f'"{name}"' for name in entries.READ)} FROM read_parquet('{files}',
        hive_partitioning = true, hive_types = {{'log': VARCHAR, 'generation': BIGINT}})"""
    for name, table in {**manifest.tables(), "decoded": entries.DECODED.empty_table()}.items():
        database.register("given_table", table)
        database.execute(f"CREATE TABLE {name} AS SELECT * FROM given_table")
    reader = database.cursor().sql(query).to_arrow_reader(ROWS)
    for batch in entries.decode(reader, manifest.chain):
        database.register("given_table", pa.Table.from_batches([batch]))
        database.execute("INSERT INTO decoded SELECT * FROM given_table")
    database.unregister("given_table")


def logs(database):
    """What is there of each log, with the root of its tree."""
    counts = database.execute(
        "SELECT log, generation, count(*), min(idx), max(idx), count(DISTINCT idx) FROM decoded GROUP BY ALL"
    ).fetchall()
    for log, generation, *rest in counts:
        leaves = database.cursor().execute(
            "SELECT leaf FROM decoded WHERE log = ? AND generation = ? ORDER BY idx", [log, generation]
        )
        blocks = []
        while block := leaves.fetchmany(entries.BLOCK):
            blocks.append(entries.tree_root([leaf for (leaf,) in block]))
        yield (log, generation, *rest, entries.tree_root(blocks))


def define(database):
    """Computes the rules' tables."""
    # What Spark calls it.
    database.execute("CREATE MACRO sha2(text, bits) AS sha256(text)")
    for name, kept, query in entries.rules():
        database.execute(f"CREATE {'TABLE' if kept else 'VIEW'} {name} AS {query}")


def judge(database, verdict):
    """Compares the files' outcomes with the rules, and counts."""
    said, uncovered, found = (
        database.execute(f"SELECT * FROM {name} ORDER BY log, generation, idx LIMIT {entries.SHOWN}").fetchall()
        for name in ("called_void", "uncovered", "voids")
    )
    for one in entries.outcomes(said, uncovered, found):
        verdict.wrong(one)
    identities, karma = database.execute("SELECT count(*), coalesce(sum(karma), 0) FROM identities").fetchone()
    events = database.execute("SELECT kind, count(*) FROM decoded WHERE event IS NOT NULL GROUP BY kind").fetchall()
    verdict.report.update(identities=identities, karma=int(karma), events=dict(events))


def main():
    args = arguments()
    manifest, verdict = entries.Manifest(Path(args.manifest).read_text()), entries.Verdict()
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        database = duckdb.connect(f"{work}/audit.duckdb", config={"memory_limit": args.memory})
        database.execute("SET preserve_insertion_order = false")
        load(database, args.folder, manifest)
        wrong = "SELECT log, generation, idx, fault FROM decoded WHERE fault IS NOT NULL ORDER BY ALL LIMIT ?"
        verdict.entries(database.execute(wrong, [entries.SHOWN]).fetchall())
        verdict.logs(list(logs(database)), manifest, entries.heads_of(args.heads))
        # Rules over bytes that do not hold would answer nothing.
        if not verdict.found:
            define(database)
            judge(database, verdict)
        if args.out and not verdict.found:
            Path(args.out).mkdir(parents=True, exist_ok=True)
            for name in ("identities", "attestations"):
                to = f"{args.out}/{name}.parquet".replace("'", "''")
                database.execute(f"COPY (SELECT * FROM {name} ORDER BY 1) TO '{to}'")
        database.close()
    return verdict.finish(args.json)


if __name__ == "__main__":
    entries.run(main)
