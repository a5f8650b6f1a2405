#!/usr/bin/env python3
"""From files to a trained hybrid: `churn train` beside torch_windowed.py, to the same validation log loss.

    python3 scripts/bench/end_to_end.py [--churn target/release/churn] [--customers 20000] [--pairs 1]
        [--threads 2] [--python python3] [--json FILE]

Simulates once in a temporary folder. In each pair, ours trains to its own early stop, and its best
validation log loss is then PyTorch's target on the very same snapshots (which is checked). Seconds run from
the start of our process, or from after PyTorch's imports, until the network is trained: until the last epoch
of ours is validated, and until PyTorch reached the target or stopped early with the loss that it ended at.
Two more ratios are printed: with the whole of our command (logistic regression, evaluation, report, export),
and to the same loss, the worse of both best ones. Needs what torch_windowed.py needs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).resolve().parents[2]
MONTHS = 36
# With a compiler on both cores, PyTorch's first epoch over 2,000 customers was seen to take 1.3, 6 and 26 s.
LOAD_MAX = 0.5
# Chosen on the validation part of these data, as the schedule and the batch of torch_windowed.py were; it trains no trees.
SETTINGS = ["features.scaling=standard", "train.learning_rate=0.004", "train.epochs_max=5", "models.trees=false"]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--churn", default="target/release/churn")
    parser.add_argument("--customers", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--python", default=sys.executable, help="the Python that has PyTorch")
    parser.add_argument("--json", type=Path, help="file for all figures")
    args = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(args.threads)
    if os.getloadavg()[0] > LOAD_MAX:
        print("The machine is busy: PyTorch's threads wait for each other and its seconds are too many.")
    with tempfile.TemporaryDirectory(prefix="churn-end-to-end-") as temporary:
        data = Path(temporary) / "data"
        output([args.churn, "simulate", "telecom", "--customers", str(args.customers),
                "--months", str(MONTHS), "--seed", "1", "--out", str(data)])
        pairs = [pair(args, data, Path(temporary) / f"run-{at}") for at in range(args.pairs)]
    if args.json:
        args.json.write_text(json.dumps({"customers": args.customers, "pairs": pairs}, indent=1) + "\n")
    # The pair in the middle by ratio (of two, the one that is worse for us), so that the seconds and losses
    # of the last line belong together.
    middle = sorted(pairs, key=lambda pair: pair["ratio"])[(len(pairs) - 1) // 2]
    if len(pairs) > 1:
        ratios = [pair["ratio"] for pair in pairs]
        print(f"{len(pairs)} pairs, ratios {min(ratios):.2f}-{max(ratios):.2f}, median {median(ratios):.2f}")
    ours, torch = middle["ours"], middle["torch"]
    print(f"end to end ratio {middle['ratio']:.2f} ours {ours['seconds']:.1f} s at {ours['loss']:.5f}, "
          f"torch {torch['seconds_total']:.1f} s at {torch['best_validation_log_loss']:.5f}")


def pair(args, data, run):
    ours = train_ours(args, data, run)
    print(f"ours    {ours['seconds']:.1f} s (whole command {ours['seconds_command']:.1f} s), of which {ours['seconds_training']:.1f} s training, "
          f"{ours['epochs']:.0f} epochs, validation log loss {ours['loss']:.5f}", flush=True)
    torch = train_torch(args, data, run, ours["loss"])
    ratio = torch["seconds_total"] / ours["seconds"]
    end = "reached the target" if torch["reached"] else "stopped early, the target was NOT reached"
    print(f"torch   {torch['seconds_total']:.1f} s, of which {torch['seconds_data']:.1f} s tables and "
          f"features, {torch['epochs']} epochs, "
          f"validation log loss {torch['best_validation_log_loss']:.5f}: {end} "
          f"({torch['seconds_imports']:.1f} s of imports are not counted)", flush=True)
    print(f"ratio   {ratio:.2f} on {torch['rows_checked']} equal snapshots {torch['rows']}", flush=True)
    print(f"ratio   {torch['seconds_total'] / ours['seconds_command']:.2f} with the whole of our command")
    same = max(ours["loss"], torch["best_validation_log_loss"])
    until = [next(seconds for seconds, loss in side if loss <= same)
             for side in (torch["history"], zip(ours["epoch_seconds"], ours["history"]))]
    print(f"ratio   {until[0] / until[1]:.2f} until {same:.5f}: torch {until[0]:.1f} s, ours {until[1]:.1f} s", flush=True)
    return {"ratio": ratio, "ours": ours, "torch": torch, "same_loss": {"loss": same, "seconds": until}}


def train_ours(args, data, run):
    config = REPOSITORY / "configs" / "telecom.toml"
    command = [args.churn, "train", str(config), "--set", f"data.root={data}",
               "--set", 'models.use=["hybrid"]', "--device", "cpu", "--out", str(run)]
    command += [part for setting in SETTINGS for part in ("--set", setting)]
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    # One line an epoch, written when it is validated.
    epoch_seconds = [time.perf_counter() - start for line in child.stderr if " epoch " in line]
    if child.wait() != 0:
        sys.exit(f"{command[:2]} failed")
    seconds = time.perf_counter() - start
    hybrid = json.loads((run / "metrics.json").read_text())["models"]["hybrid"]
    return {"seconds": epoch_seconds[-1], "seconds_command": seconds, "epoch_seconds": epoch_seconds,
            "seconds_training": hybrid["training_seconds"], "epochs": hybrid["epochs"],
            "loss": hybrid["validation"]["log_loss"], "history": history(run)}


def history(run):
    """Validation log loss by epoch."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["value"] for line in lines if line["name"] == "epoch/validation_log_loss"]


def train_torch(args, data, run, target):
    script = Path(__file__).with_name("torch_windowed.py")
    command = [args.python, str(script), "--data", str(data), "--target", str(target), "--run", str(run),
               "--threads", str(args.threads)]
    return json.loads(output(command))


def output(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[:2]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
