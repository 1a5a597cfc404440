"""Audits the files of `fama export --ranges` with Spark: signatures, key status and karma, on any number of machines.

    spark-submit --master 'local[2]' spark_audit.py lake --manifest manifest.txt --heads export.json --out answers

Every worker needs the module `fama` and pyarrow. Exit codes: 0 all holds, 1 something does not, 2 not covered.
"""

import argparse
import os
from pathlib import Path

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import SparkSession

import entries

_TYPES = {pa.string(): "string", pa.int64(): "bigint", pa.binary(): "binary"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="the folder that `fama export --ranges` wrote to, or a URL that Spark reads")
    parser.add_argument("--manifest", required=True, help="the genesis to trust, or all versions, one after the other")
    parser.add_argument("--heads", help="output of `fama export --json` or `fama audit --json`: roots that must be met")
    parser.add_argument("--out", help="write identities and attestations as Parquet into this new folder or URL")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def session():
    # A worker verifies on one core; Spark has as many workers as cores.
    os.environ["RAYON_NUM_THREADS"] = "1"
    builder = SparkSession.builder.appName("fama audit").config("spark.executorEnv.RAYON_NUM_THREADS", "1")
    # Or a log called 10.20 would be a number.
    spark = builder.config("spark.sql.sources.partitionColumnTypeInference.enabled", "false").getOrCreate()
    spark.sparkContext.addPyFile(entries.__file__)
    return spark


def keep(frame, name):
    """A table that is read more than once, on the workers' disks."""
    frame.persist(StorageLevel.DISK_ONLY).createOrReplaceTempView(name)


def load(spark, folder, manifest):
    """Makes the table `decoded`, and those of the manifest."""
    for name, table in manifest.tables().items():
        spark.createDataFrame(table).createOrReplaceTempView(name)
    files = spark.read.option("basePath", f"{folder}/entries").parquet(f"{folder}/entries")
    # A task for each file of a quarter million entries: few where there is little, many where there is much.
    tasks = max(spark.sparkContext.defaultParallelism, len(files.inputFiles()))
    spark.conf.set("spark.sql.shuffle.partitions", tasks)
    chain, schema = manifest.chain, ", ".join(f"{field.name} {_TYPES[field.type]}" for field in entries.DECODED)
    read = files.selectExpr(*(f"CAST({name} AS BIGINT)" if name == "generation" else name for name in entries.READ))
    keep(read.mapInArrow(lambda batches: entries.decode(batches, chain), schema), "decoded")


def block_root(table):
    """The root of one complete subtree, or of the last leaves of a log."""
    first = table.slice(0, 1).select(["log", "generation", "block"])
    leaves = table.sort_by("idx").column("leaf").to_pylist()
    return first.append_column("root", pa.array([entries.tree_root(leaves)], pa.binary()))


def logs(spark):
    """What is there of each log, with the root of its tree."""
    block = f"CAST(floor(idx / {entries.BLOCK}) AS BIGINT) AS block"
    blocks = spark.sql(f"SELECT log, generation, {block}, idx, leaf FROM decoded")
    schema = "log string, generation bigint, block bigint, root binary"
    roots = {}
    grouped = blocks.groupBy("log", "generation", "block").applyInArrow(block_root, schema)
    for log, generation, _, root in grouped.orderBy("log", "generation", "block").collect():
        roots.setdefault((log, generation), []).append(bytes(root))
    counts = spark.sql(
        "SELECT log, generation, count(*), min(idx), max(idx), count(DISTINCT idx) FROM decoded GROUP BY log, generation"
    )
    return [(*row, entries.tree_root(roots[(row[0], row[1])])) for row in map(tuple, counts.collect())]


def define(spark):
    """Names the rules' tables."""
    for name, kept, query in entries.rules():
        frame = spark.sql(query)
        if kept:
            keep(frame, name)
        else:
            frame.createOrReplaceTempView(name)


def judge(spark, verdict):
    """Compares the files' outcomes with the rules, and counts."""
    said, uncovered, found = (
        spark.sql(f"SELECT * FROM {name} ORDER BY log, generation, idx LIMIT {entries.SHOWN}").collect()
        for name in ("called_void", "uncovered", "voids")
    )
    for one in entries.outcomes(said, uncovered, found):
        verdict.wrong(one)
    identities, karma = spark.sql("SELECT count(*), coalesce(sum(karma), 0) FROM identities").first()
    events = spark.sql("SELECT kind, count(*) FROM decoded WHERE event IS NOT NULL GROUP BY kind").collect()
    verdict.report.update(identities=identities, karma=karma, events=dict(map(tuple, events)))


def main():
    args = arguments()
    manifest, verdict = entries.Manifest(Path(args.manifest).read_text()), entries.Verdict()
    spark = session()
    try:
        load(spark, args.folder, manifest)
        place = "log, generation, idx"
        wrong = f"SELECT {place}, fault FROM decoded WHERE fault IS NOT NULL ORDER BY {place} LIMIT {entries.SHOWN}"
        verdict.entries(map(tuple, spark.sql(wrong).collect()))
        verdict.logs(logs(spark), manifest, entries.heads_of(args.heads))
        # Rules over bytes that do not hold would answer nothing.
        if not verdict.found:
            define(spark)
            judge(spark, verdict)
        if args.out and not verdict.found:
            for name in ("identities", "attestations"):
                spark.table(name).write.parquet(f"{args.out}/{name}")
    finally:
        spark.stop()
    return verdict.finish(args.json)


if __name__ == "__main__":
    entries.run(main)
