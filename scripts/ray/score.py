"""Scores a Parquet table with Ray Data: each actor keeps a running `churn` and hands it batches.

    python scripts/ray/score.py --bundle runs/a/bundle --input customers.parquet --output scores

The table has a row per customer (docs/pipe.md). --address joins a cluster; without it one of two nodes
is started here. `churn` and the bundle must be at the same path on every node, and so must --output: it
becomes visible when all of it is written. A `churn` that is killed is started again, and so is an actor;
what it held is scored again.

Needs: pip install -r scripts/ray/requirements.txt
"""

import argparse
import pathlib
import shutil
import sys

import ray
import ray.cloudpickle
from cluster import joined

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
import pipe  # noqa: E402

# Nodes need no copy of these scripts.
ray.cloudpickle.register_pickle_by_value(pipe)


class Scorer:
    def __init__(self, churn, bundle):
        self.pipe = pipe.Pipe(churn, bundle)

    def __call__(self, table):
        return self.pipe.score(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--address", help="of a cluster")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--partitions", type=int, help="as Ray reads the input if left out")
    args = pipe.arguments(parser)

    draft = pathlib.Path(args.output + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    with joined(args.address):
        # An actor keeps its CPU to the end: without another, Ray Data would wait for ever.
        cpus = int(ray.cluster_resources().get("CPU", 0))
        if args.workers >= cpus:
            parser.error(f"--workers {args.workers}: fewer than the cluster's {cpus} CPUs, please")
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = ray.data.read_parquet(args.input)
        if args.partitions:
            rows = rows.repartition(args.partitions)
        scores = rows.map_batches(
            Scorer,
            fn_constructor_args=(args.churn, args.bundle),
            batch_format="pyarrow",
            batch_size=args.batch,
            compute=ray.data.ActorPoolStrategy(size=args.workers),
            num_cpus=1,
        )
        scores.write_parquet(str(draft))
    draft.rename(args.output)
    print(args.output)


if __name__ == "__main__":
    main()
