"""What the checks of the engines share: a command whose processes are killed on its way, and scores held
against those of one `churn score`.

Needs Linux and: pip install pyarrow
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import pyarrow.parquet as pq

SCRIPTS = pathlib.Path(__file__).resolve().parent

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


def has_scored(process):
    try:
        lines = pathlib.Path(f"/proc/{process}/io").read_text().splitlines()
    except OSError:
        return False
    return int(dict(line.split(": ") for line in lines)["wchar"]) >= WRITTEN_MIN


def run(command, victims, children, is_at_work, log):
    """Runs to the end and kills the victims (texts of their commands), one after the other: each time
    a child that is at work, or what is above it. Returns what was printed, and who is left."""
    victims = list(victims)
    with tempfile.TemporaryFile("w+") as out, open(log, "w") as err:
        started = subprocess.Popen([str(part) for part in command], stdout=out, stderr=err)
        done = set()
        while started.poll() is None:
            time.sleep(0.005)
            found = processes() if victims else {}
            for process, (_, said) in found.items():
                line = line_up(process, found)
                if process in done or children not in said or os.getpid() not in line:
                    continue
                chosen = [p for p in line if victims[0] in found[p][1]]
                if chosen and is_at_work(process):
                    os.kill(chosen[0], signal.SIGKILL)
                    victims.pop(0)
                    done.add(process)
                    break
        out.seek(0)
        printed = out.read()
    if started.returncode not in (0, -signal.SIGKILL):
        sys.exit(f"{' '.join(map(str, command))}\n{printed}{log.read_text()[-4000:]}")
    return printed, victims


def risks(path):
    table = pq.read_table(path, columns=["customer_id", "risk", "bundle_id"])
    return sorted(zip(*(column.to_pylist() for column in table.columns)))


def scoring_arguments(parser):
    parser.add_argument("--churn", type=pathlib.Path, default="target/release/churn")
    parser.add_argument("--bundle", type=pathlib.Path, required=True)
    parser.add_argument("--data", required=True, help="folder of the tables")
    parser.add_argument("--batch", type=int, default=5, help="few, so that kills hit")


def check_scoring(args, script, worker, more):
    """Scores the tables at once, then by the script: left alone, and with a `churn` and the worker
    above another killed. Says what came of it, and whether all is well."""
    with tempfile.TemporaryDirectory(prefix="engines-") as work:
        work = pathlib.Path(work)
        call(args.churn, "score", "--bundle", args.bundle, "--input", args.data, "--output",
             work / "single.parquet", "--rows", work / "rows.jsonl")
        call(sys.executable, SCRIPTS / "customers.py", work / "rows.jsonl",
             work / "customers.parquet")
        expected, ok = risks(work / "single.parquet"), True
        pipes = f"--bundle {args.bundle.resolve()} --stdin arrow"
        runs = {"left alone": [], "a churn and a worker killed": [pipes, worker]}
        for name, victims in runs.items():
            out, started = work / f"scores-{len(victims)}", time.monotonic()
            _, left = run(
                [sys.executable, SCRIPTS / script, "--churn", args.churn, "--bundle", args.bundle,
                 "--input", work / "customers.parquet", "--output", out, "--batch", args.batch,
                 "--partitions", 4, *more],
                victims, pipes, has_scored, work / "log")
            found = risks(out)
            ok &= found == expected and not left
            print(f"{name:<27} {len(found):>7} of {len(expected)} customers, "
                  f"{'the same' if found == expected else 'OTHER'} risks, "
                  f"{len(victims) - len(left)} of {len(victims)} killed, "
                  f"{time.monotonic() - started:.0f} s", flush=True)
    return ok
