"""Does Ray give every customer the risk that one `churn score` gives, also when workers die?

    python scripts/ray/check.py --bundle runs/a/bundle --data tables

Scores the tables at once, then as a table with a row per customer on a cluster of two nodes, started
here: left alone, and with a `churn` and a worker killed (kill -9) in the middle. Both times all customers
must be there once, with the same risk to the bit. Exit code 1 if anything differs.

Needs Linux and: pip install -r scripts/ray/requirements.txt
"""

import argparse
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
import engine_checks  # noqa: E402

# The worker above a pipe, as its command says.
WORKER = "ray::"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    engine_checks.scoring_arguments(parser)
    args = parser.parse_args()

    ok = engine_checks.check_scoring(args, "ray/score.py", WORKER, [])
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
