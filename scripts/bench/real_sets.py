#!/usr/bin/env python3
"""Trains on the six real sets and prints our test metrics beside the peers' on the same rows.

    python3 scripts/bench/real_sets.py [--churn target/release/churn] [--out runs/real] [--set NAME]...

The sets are looked for in CHURN_DATA_DIR, else ../shared/data; their baselines.json holds the
peers' results. A finished run folder (with metrics.json) is read, not trained again.
Needs Python 3.9 and nothing else.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SETS = [
    "uci_credit_default", "complete_journey", "ibm_telco",
    "tv_subscriptions", "churn_modelling_bank", "mlc_churn",
]
METRICS = [("auroc", "AUROC"), ("log_loss", "log loss"), ("average_precision", "AP"),
           ("brier", "Brier"), ("ece", "ECE"), ("lift_10", "lift@10")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--churn", default="target/release/churn")
    parser.add_argument("--out", default="runs/real")
    parser.add_argument("--set", action="append", choices=SETS, help="all six if left out")
    args = parser.parse_args()
    data = Path(os.environ.get("CHURN_DATA_DIR", REPOSITORY.parent / "shared" / "data")).resolve()
    if not data.is_dir():
        sys.exit(f"no real sets in {data}; set CHURN_DATA_DIR")
    os.environ["CHURN_DATA_DIR"] = str(data)
    for name in args.set or SETS:
        folder = Path(args.out) / name
        if not (folder / "metrics.json").exists():
            train(args.churn, name, folder)
        print_set(name, json.loads((folder / "metrics.json").read_text()), peers(data, name))


def train(churn, name, folder):
    config = REPOSITORY / "configs" / "real" / f"{name}.toml"
    command = [churn, "train", str(config), "--out", str(folder), "--device", "cpu"]
    if folder.exists():
        command.append("--resume")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# Our name of a metric: the name in baselines.json.
PEER_NAMES = {"auroc": "auc", "log_loss": "logloss", "average_precision": "ap",
              "brier": "brier", "ece": "ece", "lift_10": "lift10"}


def peers(data, name):
    """Peers that finished all rounds: (name, mean by metric), lowest log loss first."""
    found = json.loads((data / "baselines.json").read_text())["sets"][name]
    rounds = max(len({run["fold"] for run in runs}) for runs in found.values())
    rows = []
    for peer, runs in found.items():
        if len({run["fold"] for run in runs}) < rounds:
            continue
        mean = lambda key: sum(run[key] for run in runs) / len(runs)
        rows.append((peer, {ours: mean(theirs) for ours, theirs in PEER_NAMES.items()}))
    return sorted(rows, key=lambda row: row[1]["log_loss"])


def print_set(name, metrics, peers):
    print(f"\n### {name}\n\n| model | " + " | ".join(title for _, title in METRICS) + " | train s |")
    print("|---|" + "---|" * (len(METRICS) + 1))
    for model, entry in metrics["models"].items():
        cells = [cell(entry, key) for key, _ in METRICS]
        print(f"| **{model}** | " + " | ".join(cells) + f" | {entry['training_seconds']:.0f} |")
    for model, values in peers:
        cells = [f"{values[key]:.4f}" if key in values else "-" for key, _ in METRICS]
        print(f"| {model} | " + " | ".join(cells) + " | |")


def cell(entry, key):
    value = entry["test"].get(key)
    if value is None:
        return "-"
    folds = [fold["test"][key] for fold in entry.get("folds", []) if fold["test"].get(key) is not None]
    if len(folds) < 2:
        return f"{value:.4f}"
    mean = sum(folds) / len(folds)
    sd = (sum((x - mean) ** 2 for x in folds) / (len(folds) - 1)) ** 0.5
    return f"{value:.4f} ± {sd:.4f}"


if __name__ == "__main__":
    main()
