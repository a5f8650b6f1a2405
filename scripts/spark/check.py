"""Does Spark give every customer the risk that one `churn score` gives, also when workers die?

    python scripts/spark/check.py --bundle runs/a/bundle --data tables

Scores the tables at once, then as a table with a row per customer on two workers: left alone, and with
a `churn` and a worker killed (kill -9) in the middle. Both times all customers must be there once, with
the same risk to the bit. Exit code 1 if anything differs.

Needs Linux, Java 17 and: pip install -r scripts/spark/requirements.txt
"""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import pyarrow.parquet as pq

SCRIPTS = pathlib.Path(__file__).resolve().parents[1]

# The worker above a pipe, as its command says.
WORKER = "pyspark.daemon"

# The schema of the scores and a batch of them.
WRITTEN_MIN = 1500


def call(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


def processes():
    """The parent and the command of every process, by process id."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            said = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue  # It has ended.
        found[int(folder.name)] = (int(parent), said)
    return found


def line_up(process, found):
    """The process and those above it."""
    line = []
    while process in found:
        line.append(process)
        process = found[process][0]
    return line


def written(process):
    """Bytes that a process has written."""
    try:
        lines = pathlib.Path(f"/proc/{process}/io").read_text().splitlines()
    except OSError:
        return 0
    return int(dict(line.split(": ") for line in lines)["wchar"])


def run(command, victims, pipes, log):
    """Runs to the end and kills the victims, one after the other: each time a pipe that has given
    risks, or the worker above it. Returns who is left."""
    victims = list(victims)
    with open(log, "w") as out:
        child = subprocess.Popen([str(part) for part in command], stdout=out, stderr=out)
        done = set()
        while child.poll() is None:
            time.sleep(0.005)
            found = processes() if victims else {}
            for process, (_, said) in found.items():
                line = line_up(process, found)
                if process in done or pipes not in said or os.getpid() not in line:
                    continue
                if written(process) < WRITTEN_MIN:
                    continue
                chosen = [p for p in line if victims[0] in found[p][1]]
                if chosen:
                    os.kill(chosen[0], signal.SIGKILL)
                    victims.pop(0)
                    done.add(process)
                    break
    if child.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{log.read_text()[-4000:]}")
    return victims


def risks(path):
    table = pq.read_table(path, columns=["customer_id", "risk", "bundle_id"])
    return sorted(zip(*(column.to_pylist() for column in table.columns)))


def check(args, work):
    call(args.churn, "score", "--bundle", args.bundle, "--input", args.data, "--output",
         work / "single.parquet", "--rows", work / "rows.jsonl")
    call(sys.executable, SCRIPTS / "customers.py", work / "rows.jsonl", work / "customers.parquet")
    expected, ok = risks(work / "single.parquet"), True
    pipes = f"--bundle {args.bundle.resolve()} --stdin arrow"
    runs = {"left alone": [], "a churn and a worker killed": [pipes, WORKER]}
    for name, victims in runs.items():
        out, started = work / f"scores-{len(victims)}", time.monotonic()
        left = run(
            [sys.executable, SCRIPTS / "spark/score.py", "--churn", args.churn, "--bundle",
             args.bundle, "--input", work / "customers.parquet", "--output", out, "--batch",
             args.batch, "--partitions", 4, "--master", args.master],
            victims, pipes, work / "log")
        found = risks(out)
        ok &= found == expected and not left
        print(f"{name:<27} {len(found):>7} of {len(expected)} customers, "
              f"{'the same' if found == expected else 'OTHER'} risks, "
              f"{len(victims) - len(left)} of {len(victims)} killed, "
              f"{time.monotonic() - started:.0f} s", flush=True)
    return ok


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--churn", type=pathlib.Path, default="target/release/churn")
    parser.add_argument("--bundle", type=pathlib.Path, required=True)
    parser.add_argument("--data", required=True, help="folder of the tables")
    parser.add_argument("--master", default="local-cluster[2,1,1024]")
    parser.add_argument("--batch", type=int, default=5, help="few, so that kills hit")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="check-engines-") as work:
        ok = check(args, pathlib.Path(work))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
