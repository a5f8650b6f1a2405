#!/usr/bin/env python3
"""Successive halving beside the full search: epochs spent, and how good the best trial is.

    scripts/bench/tune.py [--trials 64] [--epochs 18] [--seeds 1 2 3] [--out runs/bench-tune]

For every seed, two searches of the same trials budget over one fold of the bank set
(`churn_modelling_bank`): with `tune.halvings = 2`, and with 0, which trains every trial to the end.
Their best configurations are trained on all five folds by `churn train`; the test AUROC is the
mean over the folds. The networks are small, so that all of it takes half an hour of one core. Patience is
as long as the training, so that a full search spends all of its epochs. Prints a line per search and the
differences; exit code 1 if the halving spends over 40 % or ends more than 0.003 AUROC below, in the mean
over seeds. Searches that are there go on.

CHURN names the program (default target/release/churn), CHURN_DATA_DIR the data sets.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARE_MAX, LOSS_MAX = 0.40, 0.003

SPACE = """{
    "train.learning_rate" = { log = [1e-4, 3e-2] }, "train.weight_decay" = { log = [1e-4, 0.1] },
    "models.mlp.width" = { log_int = [8, 32] }, "models.mlp.blocks" = { int = [1, 2] },
    "models.mlp.dropout" = { real = [0.0, 0.5] } }""".replace("\n", " ")


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command}\n{done.stderr}")
    return done.stdout


def search(args, seed, halvings):
    out = args.out / f"seed{seed}-halvings{halvings}"
    sets = [
        f"seed={seed}",
        f"tune.halvings={halvings}",
        "tune.folds=[0]",
        'models.use=["mlp"]',
        f"train.epochs_max={args.epochs}",
        f"train.patience={args.epochs}",
        "models.mlp.width=32",
        "models.mlp.blocks=1",
        f"tune.space={SPACE}",
    ]
    command = [args.churn, "tune", args.config, "--out", out, "--device", "cpu"]
    command += ["--trials", args.trials, "--workers", args.workers]
    for text in sets:
        command += ["--set", text]
    began = time.monotonic()
    told = run(command)
    seconds = time.monotonic() - began
    trials, spent = re.search(r"trials +(\d+), (\d+) epochs", told).groups()
    loss = float(told.splitlines()[1].split()[2])
    run_folder = out / "best"
    if not (run_folder / "metrics.json").exists():
        train = [args.churn, "train", out / "best.toml", "--out", run_folder, "--device", "cpu"]
        run([*train, "--set", "models.trees=false"])
    metrics = json.loads((run_folder / "metrics.json").read_text())["models"]["mlp"]
    return {
        "seed": seed,
        "halvings": halvings,
        "trials": int(trials),
        "epochs": int(spent),
        "seconds": seconds,
        "validation": loss,
        "auroc": metrics["test"]["auroc"],
        "log_loss": metrics["test"]["log_loss"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=ROOT / "runs/bench-tune")
    parser.add_argument("--config", type=Path, default=ROOT / "configs/real/churn_modelling_bank.toml")
    parser.add_argument("--churn", default=os.environ.get("CHURN", ROOT / "target/release/churn"))
    args = parser.parse_args()
    full = args.trials * args.epochs
    print(f"{'seed':>4} {'search':<8} {'epochs':>6} {'share':>6} {'seconds':>7} "
          f"{'valid. loss':>11} {'test AUROC':>10} {'test loss':>9}")
    shares, behind = [], []
    for seed in args.seeds:
        found = {}
        for halvings, name in ((2, "halving"), (0, "full")):
            row = search(args, seed, halvings)
            found[name] = row
            print(f"{seed:>4} {name:<8} {row['epochs']:>6} {row['epochs'] / full:>6.1%} "
                  f"{row['seconds']:>7.1f} {row['validation']:>11.5f} {row['auroc']:>10.4f} "
                  f"{row['log_loss']:>9.5f}", flush=True)
        shares.append(found["halving"]["epochs"] / full)
        behind.append(found["full"]["auroc"] - found["halving"]["auroc"])
    mean = sum(behind) / len(behind)
    print(f"halving spends at most {max(shares):.1%} of {full} epochs; full minus halving, test AUROC: "
          f"{', '.join(f'{x:+.4f}' for x in behind)}, mean {mean:+.4f}")
    sys.exit(0 if max(shares) <= SHARE_MAX and mean <= LOSS_MAX else 1)


if __name__ == "__main__":
    main()
