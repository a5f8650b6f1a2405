#!/usr/bin/env python3
"""Trains one choice of settings against another and prints what each is worth.

    python3 scripts/bench/choices.py history|fusion|loss|stop [--churn PATH] [--out FOLDER]
                                     [--set NAME]... [--seeds 1] [--simulate 8000x30]...

Sets are the six real ones (CHURN_DATA_DIR, else ../shared/data) and simulated telecoms
(`--simulate CUSTOMERSxMONTHS`). Each line of the table is the mean over folds and seeds: log loss
on validation rows after calibration (cross-validated; what defaults are chosen by), then log loss
and AUROC on test. A finished run folder is read, not trained again.
Needs Python 3.9 and nothing else.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
REAL = [
    "uci_credit_default", "complete_journey", "ibm_telco",
    "tv_subscriptions", "churn_modelling_bank", "mlc_churn",
]
SEQUENCES = ["uci_credit_default", "complete_journey"]
# Variants by name, the networks to train, and the sets that have what they need.
CHOICES = {
    "history": ({"last": [], "pooled": ["models.gru.history=pooled"]}, ["gru", "hybrid"], SEQUENCES),
    "fusion": (
        {f"{fusion} {history}": [f"models.gru.fusion={fusion}", f"models.gru.history={history}"]
         for history in ("last", "pooled") for fusion in ("concatenate", "initial", "gated")},
        ["hybrid"], SEQUENCES),
    "loss": ({loss: [f"train.loss={loss}"] for loss in ("bce", "weighted", "focal")},
             ["mlp", "hybrid"], REAL),
    "stop": ({stop: [f"train.stop_on={stop}"] for stop in ("plain", "calibrated")},
             ["mlp", "hybrid"], REAL),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("choice", choices=CHOICES)
    parser.add_argument("--churn", default="target/release/churn")
    parser.add_argument("--out", default="runs/choices")
    parser.add_argument("--set", action="append", choices=REAL, help="all that fit if left out")
    parser.add_argument("--simulate", action="append", default=[], metavar="CUSTOMERSxMONTHS")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    data = Path(os.environ.get("CHURN_DATA_DIR", REPOSITORY.parent / "shared" / "data")).resolve()
    os.environ["CHURN_DATA_DIR"] = str(data)
    variants, networks, fitting = CHOICES[args.choice]
    print("| set | network | variant | validation log loss | test log loss | test AUROC | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name in args.set or fitting:
        if not (data / name).is_dir():
            sys.exit(f"no {name} in {data}; set CHURN_DATA_DIR")
        config = REPOSITORY / "configs" / "real" / f"{name}.toml"
        if name not in SEQUENCES:
            trained = [network for network in networks if network == "mlp"]
        else:
            trained = networks
        compare(args, name, [str(config)], variants, trained)
    for size in args.simulate:
        compare(args, f"telecom {size}", simulated(args, size), variants, networks)


def simulated(args, size):
    customers, months = size.split("x")
    folder = Path(args.out).resolve() / f"data-{size}"
    if not folder.exists():
        command = [args.churn, "simulate", "telecom", "--customers", customers, "--months", months,
                   "--seed", "7", "--out", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [str(REPOSITORY / "configs" / "telecom.toml"), "--set", f"data.root={folder}"]


def compare(args, name, config, variants, networks):
    if not networks:
        return
    found = {}
    for variant, sets in variants.items():
        for seed in range(args.seeds):
            folder = Path(args.out) / f"{name}-{args.choice}-{variant}-{seed}".replace(" ", "-")
            if not (folder / "metrics.json").exists():
                train(args.churn, config, sets, networks, seed, folder)
            models = json.loads((folder / "metrics.json").read_text())["models"]
            for network in networks:
                model = models[network]
                row = (model["calibration"]["validation_log_loss"], model["test"]["log_loss"],
                       model["test"]["auroc"], model["training_seconds"])
                found.setdefault((network, variant), []).append(row)
    for network in networks:
        for variant in variants:
            rows = found[network, variant]
            means = [sum(column) / len(rows) for column in zip(*rows)]
            print(f"| {name} | {network} | {variant} | {means[0]:.5f} | {means[1]:.5f} | "
                  f"{means[2]:.4f} | {means[3]:.0f} |", flush=True)


def train(churn, config, sets, networks, seed, folder):
    command = [churn, "train", *config, "--out", str(folder), "--device", "cpu"]
    command += ["--resume"] if folder.exists() else []
    use = ",".join(f'"{network}"' for network in networks)
    for setting in [*sets, f"models.use=[{use}]", "models.trees=false"]:
        command += ["--set", setting]
    if seed:
        command += ["--set", f"seed={seed}"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
