"""Scores a Parquet table with Spark: `mapInArrow` hands each partition to a running `churn`.

    python scripts/spark/score.py --bundle runs/a/bundle --input customers.parquet --output scores

The table has a row per customer (docs/pipe.md). --master names a cluster; without it two workers are
started here. `churn` and the bundle must be at the same path on every worker. A `churn` that is killed
is started again, and a task that dies is run again; Spark keeps the files of one attempt.

Needs Java 17 and: pip install -r scripts/spark/requirements.txt
"""

import argparse
import os
import pathlib
import sys

from pyspark.sql import SparkSession

SCRIPTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.append(str(SCRIPTS))
import pipe  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--master", default="local-cluster[2,1,1024]")
    parser.add_argument("--partitions", type=int, help="as Spark reads the input if left out")
    args = pipe.arguments(parser)
    churn, bundle = args.churn, args.bundle

    # Workers run this very Python.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = (
        SparkSession.builder.master(args.master)
        .appName("churn")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", args.batch)
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    spark.sparkContext.addPyFile(str(SCRIPTS / "pipe.py"))
    rows = spark.read.parquet(args.input)
    if args.partitions:
        rows = rows.repartition(args.partitions)

    def score(batches):
        import pyarrow
        from pipe import Pipe

        with Pipe(churn, bundle) as running:
            for batch in batches:
                yield from running.score(pyarrow.Table.from_batches([batch])).to_batches()

    key = rows.schema["customer_id"].dataType.simpleString()
    scores = rows.mapInArrow(score, f"customer_id {key}, risk double, bundle_id string")
    scores.write.parquet(args.output)
    spark.stop()
    print(args.output)


if __name__ == "__main__":
    main()
