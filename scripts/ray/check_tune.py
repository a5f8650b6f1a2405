"""Does a search with Ray Tune end as it should, also when trials and workers die?

    python scripts/ray/check_tune.py configs/telecom.toml --set data.root=data/telecom

Searches on a cluster of two nodes, started here. In the middle a `churn`, a worker and at last the search
itself, with its cluster, are killed (kill -9), and the search goes on with --resume. Every trial must have a result and each of its epochs once, with the loss to the bit of a
`churn train` that is left alone; a trial that was stopped must have ended by itself, behind a checkpoint
from which `churn train --resume` goes on to the losses of one that was left alone; no program may be
left. Exit code 1 if anything differs.

Needs Linux and: pip install -r scripts/ray/requirements.txt
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
import engine_checks  # noqa: E402

# What is above a training, as the commands say.
WORKER, SEARCH = "ray::", "ray/tune.py"

# From the end of a search to that of its trainings.
SECONDS_MAX = 60

TRIALS, EPOCHS = 6, 6
# Rates that part the trials early, so that some are stopped.
CHOICES = ["train.learning_rate=[0.00001,0.003]", "models.mlp.width=[16,24]"]
SETS = ["models.mlp.members=4", "train.batch_snapshots=64", "train.patience=6"]
METRIC = "epoch/validation_log_loss"


def losses(run):
    """Of the epochs of a run, in their order."""
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return list({line["step"]: line["value"] for line in found if line["name"] == METRIC}.values())


def reported(search, run):
    """Losses by epoch, as Tune keeps them; a report whose worker died before Tune knew comes again."""
    (kept,) = search.glob(f"tune/*{run.name}*/result.json")
    found = {}
    for line in map(json.loads, kept.read_text().splitlines()):
        if not line.get("finished"):
            found.setdefault(line["epoch"], set()).add(line["validation_log_loss"])
    return [loss for epoch in sorted(found) for loss in found[epoch]]


def is_in_the_middle(process):
    """A training that has been through two epochs and has two to go at least."""
    try:
        words = pathlib.Path(f"/proc/{process}/cmdline").read_text().split("\0")
        run = pathlib.Path(words[words.index("--out") + 1])
    except (OSError, ValueError):
        return False  # It has ended.
    return 2 <= len(losses(run)) <= EPOCHS - 2


def ended(children):
    """Waits for the end of the children; those that do not."""
    for _ in range(SECONDS_MAX * 10):
        left = [said for _, said in engine_checks.processes().values() if children in said]
        if not left:
            break
        time.sleep(0.1)
    return left


def search(args, churn, work):
    """The trials as printed, whom to kill, who was not, and who runs on."""
    command = [sys.executable, engine_checks.SCRIPTS / SEARCH, args.config, "--churn", churn,
               "--out", work / "search", "--model", "mlp", "--trials", TRIALS, "--epochs-max",
               EPOCHS, "--epochs-min", 2]
    for choice in CHOICES:
        command += ["--choose", choice]
    for setting in SETS + args.set:
        command += ["--set", setting]
    children = f"--out {work}/search/runs/"
    victims = [children, WORKER, SEARCH]
    _, left = engine_checks.run(command, victims, children, is_in_the_middle, work / "log")
    running = ended(children)
    printed, _ = engine_checks.run(
        [*command, "--resume"], [], children, is_in_the_middle, work / "log")
    trials = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return trials, victims, left, running + ended(children)


def trial_faults(churn, work, trial):
    """What is wrong with a trial."""
    run, name = pathlib.Path(trial["run"]), "-".join(map(str, trial["settings"].values()))
    alone, own = work / f"alone-{name}", reported(work / "search", run)
    log = pathlib.Path(f"{run}.log").read_text()
    if not alone.exists():
        engine_checks.call(churn, "train", run / "config.toml", "--out", alone)
    expected = losses(alone)
    if trial["error"] or own != expected[:len(own)]:
        yield f"reported {own}, expected {expected}"
    if trial["finished"]:
        if len(own) != len(expected):
            yield f"finished after {len(own)} of {len(expected)} epochs"
        return
    # One that was started again and stopped at once had nothing more to save.
    if "stopped after step" not in log.splitlines()[-1] and log.count(" device ") == 1:
        yield f"was not stopped behind a checkpoint: {log[-500:]}"
    again = subprocess.run([churn, "train", run / "config.toml", "--out", run, "--resume"],
                           capture_output=True, text=True)
    if again.returncode != 0 or " epoch 1/" in again.stderr or losses(run) != expected:
        yield f"resumed to {losses(run)}, expected {expected}: {again.stderr}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("config")
    parser.add_argument("--churn", type=pathlib.Path, default="target/release/churn")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    churn = args.churn.resolve()

    with tempfile.TemporaryDirectory(prefix="engines-", ignore_cleanup_errors=True) as work:
        work, started = pathlib.Path(work), time.monotonic()
        # What a killed search leaves lies here too.
        os.environ["TMPDIR"] = str(work)
        trials, victims, left, running = search(args, churn, work)
        seconds = time.monotonic() - started
        faults = [fault for trial in trials for fault in trial_faults(churn, work, trial)]
        faults += [f"left running: {said}" for said in running]

    finished = sum(trial["finished"] for trial in trials)
    stopped = len(trials) - finished
    print(f"{len(trials)} of {TRIALS} trials with a result: {finished} finished, {stopped} stopped "
          f"and resumed, {len(victims) - len(left)} of {len(victims)} killed, {len(faults)} faults, "
          f"{seconds:.0f} s")
    for fault in faults:
        print(fault)
    ok = len(trials) == TRIALS and finished and stopped and not left and not faults
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
