#!/usr/bin/env python3
"""Trains on the six real sets and prints our models beside every peer, paired on the same test rows.

    python3 scripts/bench/accuracy.py [--sets ibm_telco,mlc_churn] [--tuned] [--reuse] [--jobs 1]

The sets are looked for in CHURN_DATA_DIR, else ../shared/data; their baselines.json holds the peers' results and
preds/ their predictions. Each set is trained with configs/real/SET.toml as it stands; with --tuned also searched
(`churn tune`, --trials 30 over the folds of --tune-folds) and trained with the best configuration. Differences and p
are of `churn compare` against the best single peer: DeLong for AUROC, paired bootstrap for log loss. The Markdown
goes to stdout: a table a set, a summary, and a checklist of what is promised with defaults, passed or failed.

With --reuse a finished run in --out is read, not trained again; without it, run folders of the chosen sets there
are removed first. Exit code 1 if something failed to run; a missed promise is no error.
Needs numpy, pandas, pyarrow.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[2]
SETS = ["uci_credit_default", "complete_journey", "ibm_telco", "tv_subscriptions", "churn_modelling_bank", "mlc_churn"]
# Our name of a metric: heading, the name in baselines.json, decimals.
METRICS = {
    "auroc": ("AUROC", "auc", 4), "log_loss": ("log loss", "logloss", 4), "average_precision": ("AP", "ap", 4),
    "brier": ("Brier", "brier", 4), "ece": ("ECE", "ece", 4), "lift_10": ("lift@10", "lift10", 2),
}
ENSEMBLE = "ensemble"

# What is promised (issue 4, must show 2 and 5).
P, AUROC_BELOW_MAX, NETWORK_BELOW_MAX, ECE_MAX, ECE_ROWS, SETS_WON = 0.05, 0.002, 0.006, 0.02, 5000, 3


def main():
    args = arguments()
    data = Path(os.environ.get("CHURN_DATA_DIR", REPOSITORY.parent / "shared" / "data")).resolve()
    if not data.is_dir():
        sys.exit(f"no real sets in {data}; set CHURN_DATA_DIR")
    os.environ["CHURN_DATA_DIR"] = str(data)
    with ThreadPoolExecutor(args.jobs) as pool:
        found = list(pool.map(lambda name: measured(args, data, name), args.sets))
    command = " ".join(["scripts/bench/accuracy.py", *sys.argv[1:]])
    print(f"`{command}`. Mean ± sd over test folds; differences and p against the best single peer.")
    for one in found:
        print_set(one)
    print_summary(found)
    print_checklist(found)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--churn", default=os.environ.get("CHURN", REPOSITORY / "target/release/churn"))
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--sets", default=",".join(SETS), help="some of the six, separated by commas")
    parser.add_argument("--tuned", action="store_true", help="also search for settings and train with the best")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--tune-folds", default="", help="folds that the search trains, e.g. 0; all if left out")
    parser.add_argument("--reuse", action="store_true", help="read finished runs instead of training again")
    parser.add_argument("--jobs", type=int, default=1, help="sets that train at the same time")
    parser.add_argument("--draws", type=int, default=2000, help="of the bootstrap")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="handed to churn train and tune")
    args = parser.parse_args()
    args.sets = [name for name in args.sets.split(",") if name]
    unknown = sorted(set(args.sets) - set(SETS))
    if unknown or not args.sets:
        parser.error(f"no set {', '.join(unknown) or 'named'}; there are {', '.join(SETS)}")
    return args


# ------------------------------------------------------------------------------------------------ runs


def measured(args, data, name):
    """Everything about one set: our runs, the peers, and the pairs."""
    config = REPOSITORY / "configs" / "real" / f"{name}.toml"
    runs = {"": train(args, config, args.out / name / "default")}
    if args.tuned:
        runs[" (tuned)"] = tuned(args, config, args.out / name)
    peers = read_peers(data, name)
    best = min((p for p in peers if p["single"] and p["complete"]), key=lambda p: p["mean"]["log_loss"])
    ours = []
    for suffix, run in runs.items():
        document = json.loads((run / "metrics.json").read_text())
        predictions = test_rows(run)
        for model, entry in document["models"].items():
            ours.append(own_row(args, run, model, suffix, entry, document["champion"], predictions, data / "preds" / name, best))
    return dict(name=name, ours=ours, peers=peers, best=best, rows=ours[0]["rows"])


def say(text):
    print(text, file=sys.stderr, flush=True)


def churn(args, *words):
    done = subprocess.run([str(word) for word in (args.churn, *words)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}\n{done.stderr}")
    return done.stdout


def sets(args):
    return [word for text in args.set for word in ("--set", text)]


def train(args, config, folder):
    if args.reuse and (folder / "metrics.json").exists():
        return folder
    if (folder / "config.toml").exists():
        shutil.rmtree(folder)
    began = time.monotonic()
    churn(args, "train", config, "--out", folder, "--device", "cpu", *sets(args))
    say(f"{folder}: {time.monotonic() - began:.0f} s")
    return folder


def tuned(args, config, folder):
    study, run = folder / "study", folder / "tuned"
    if args.reuse and (run / "metrics.json").exists():
        return run
    if not args.reuse and (study / "journal.jsonl").exists():
        shutil.rmtree(study)
    folds = ["--set", f"tune.folds=[{args.tune_folds}]"] if args.tune_folds else []
    began = time.monotonic()
    churn(args, "tune", config, "--out", study, "--device", "cpu", "--trials", args.trials, *folds, *sets(args))
    say(f"{study}: {time.monotonic() - began:.0f} s")
    return train(args, study / "best.toml", run)


def test_rows(run):
    rows = pd.read_parquet(run / "predictions.parquet", columns=["model", "split", "label", "risk"])
    return rows[rows.split == "test"]


def own_row(args, run, model, suffix, entry, champion, predictions, preds, best):
    rows = predictions[predictions.model == model]
    folds = [fold["test"] for fold in entry.get("folds", [])] or [entry["test"]]
    calibration = entry.get("calibration") or {}
    return dict(
        name=model + suffix, model=model, default=not suffix, champion=model == champion,
        network=entry.get("epochs") is not None, rows=len(rows),
        mean={metric: mean(fold.get(metric) for fold in folds) for metric in METRICS},
        sd={metric: sd([fold.get(metric) for fold in folds]) for metric in METRICS},
        ece_before=calibration.get("test_ece_before"),
        ece_pooled=pooled_ece(rows.label.to_numpy(float), rows.risk.to_numpy(float)),
        seconds=entry.get("training_seconds"), paired=compare(args, run, model, preds / f"{best['name']}.parquet", best),
    )


def compare(args, run, model, file, peer):
    """Ours minus the peer's, by metric: difference and p."""
    out = run / f"compare-{model}-{peer['name']}.json"
    seed = ["--peer-seed", "0"] if peer["seeds"] > 1 else []
    churn(args, "compare", run, "--model-a", model, "--peer", file, *seed, "--draws", args.draws, "--json", out)
    told = json.loads(out.read_text())
    return {one["measure"]: one for one in told["measures"]}


def pooled_ece(labels, risks, bins=15):
    """Of the test rows of all folds together; as in run_peers.py."""
    order = np.argsort(risks, kind="stable")
    pairs = zip(np.array_split(labels[order], bins), np.array_split(risks[order], bins))
    return float(sum(len(a) * abs(a.mean() - b.mean()) for a, b in pairs if len(a)) / len(labels))


# ------------------------------------------------------------------------------------------------ peers


def read_peers(data, name):
    """Every peer of the set, lowest log loss first."""
    found = json.loads((data / "baselines.json").read_text())["sets"][name]
    rounds = max(len({run["fold"] for run in runs}) for runs in found.values())
    peers = []
    for peer, runs in found.items():
        folds = sorted({run["fold"] for run in runs})
        of_fold = lambda key, k: mean(run.get(key) for run in runs if run["fold"] == k)
        by_fold = {metric: [of_fold(theirs, k) for k in folds] for metric, (_, theirs, _) in METRICS.items()}
        peers.append(dict(
            name=peer, single="_ens" not in peer, complete=len(folds) == rounds, folds=len(folds), rounds=rounds,
            seeds=len({run["seed"] for run in runs}), trees=peer.startswith(("lightgbm", "catboost", "xgboost")),
            mean={metric: mean(values) for metric, values in by_fold.items()},
            sd={metric: sd(values) for metric, values in by_fold.items()},
            seconds=sum(of_fold("train_seconds", k) or 0.0 for k in folds),
        ))
    return sorted(peers, key=lambda peer: peer["mean"]["log_loss"])


def mean(values):
    values = [value for value in values if value is not None]
    return sum(values) / len(values) if values else None


def sd(values):
    values = [value for value in values if value is not None]
    return statistics.stdev(values) if len(values) > 1 else None


# ------------------------------------------------------------------------------------------------ tables


def number(value, decimals=4, spread=None):
    if value is None:
        return "-"
    return f"{value:.{decimals}f}" + (f" ± {spread:.{decimals}f}" if spread is not None else "")


def p_value(p):
    return "-" if p is None else "<.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def paired(contrast):
    return f"{contrast['difference']:+.4f} ({p_value(contrast['p'])})" if contrast["difference"] is not None else "-"


def print_row(cells):
    print("| " + " | ".join(cells) + " |")


def print_head(titles):
    print_row(titles)
    print("|" + "---|" * len(titles))


def print_set(one):
    best = one["best"]
    print(f"\n### {one['name']}\n\n{one['rows']} test rows; best single peer by log loss: {best['name']}.\n")
    print_head(["model", *(title for title, _, _ in METRICS.values()), "ECE before", "all folds' ECE",
                f"AUROC - {best['name']} (p)", f"log loss - {best['name']} (p)", "train s"])
    for row in one["ours"]:
        cells = [number(row["mean"][m], d, row["sd"][m]) for m, (_, _, d) in METRICS.items()]
        name = f"**{row['name']}**" + (" (champion)" if row["champion"] else "")
        against = [paired(row["paired"][metric]) for metric in ("auroc", "log_loss")]
        print_row([name, *cells, number(row["ece_before"]), number(row["ece_pooled"]), *against, number(row["seconds"], 1)])
    for peer in one["peers"]:
        cells = [number(peer["mean"][m], d, peer["sd"][m]) for m, (_, _, d) in METRICS.items()]
        part = "" if peer["complete"] else f" ({peer['folds']}/{peer['rounds']} folds)"
        print_row([peer["name"] + part, *cells, "", "", "", "", number(peer["seconds"], 1)])


def best_of(rows, metric):
    sign = -1 if metric == "log_loss" else 1
    return max(rows, key=lambda row: sign * row["mean"][metric])


def defaults(one):
    return [row for row in one["ours"] if row["default"]]


def champion(rows):
    return next(row for row in rows if row["champion"])


def peers_of(one, trees=False):
    return [peer for peer in one["peers"] if peer["single"] and peer["complete"] and (peer["trees"] or not trees)]


def print_summary(found):
    print("\n### Summary\n\nAUROC / log loss; the best of a column is chosen on test, the champion on validation.\n")
    print_head(["set", "champion", "our best AUROC", "our best log loss", "best single peers", "log loss - best peer (p)"])
    for one in found:
        for suffix, rows in (("", defaults(one)), (" (tuned)", [row for row in one["ours"] if not row["default"]])):
            if not rows:
                continue
            of = champion(rows)
            auroc, loss = best_of(rows, "auroc"), best_of(rows, "log_loss")
            print_row([
                one["name"] + suffix,
                f"{of['model']} {number(of['mean']['auroc'])} / {number(of['mean']['log_loss'])}",
                f"{auroc['model']} {number(auroc['mean']['auroc'])}",
                f"{loss['model']} {number(loss['mean']['log_loss'])}",
                "{} {:.4f} / {} {:.4f}".format(*best_peer(one, "auroc"), *best_peer(one, "log_loss")),
                f"{loss['model']} {paired(loss['paired']['log_loss'])}",
            ])


def best_peer(one, metric, trees=False):
    peer = best_of(peers_of(one, trees), metric)
    return peer["name"], peer["mean"][metric]


def print_checklist(found):
    print("\n### Checklist\n\nWith defaults; what is promised of the best of our models, the ensemble included.\n")
    print_head(["promise", "set", "figures", ""])
    losses, aurocs = [], []
    for one in found:
        losses.append(check_log_loss(one))
    count("our best log loss below the best single peer's on at least three sets", losses)
    for one in found:
        aurocs.append(check_auroc(one))
    count("our best AUROC above the best single peer's on at least three sets", aurocs)
    for check in (check_networks, check_calibration, check_ece):
        for one in found:
            check(one)


def tell(promise, name, figures, passed):
    print_row([promise, name, figures, "passed" if passed else "**failed**"])


def count(promise, won):
    needed = min(SETS_WON, len(won))
    tell(promise, "all", f"{sum(won)} of {len(won)}", sum(won) >= needed)


def check_log_loss(one):
    rows = defaults(one)
    best, single = best_of(rows, "log_loss"), best_of([row for row in rows if row["model"] != ENSEMBLE], "log_loss")
    contrast, peer = best["paired"]["log_loss"], one["best"]
    figures = (f"{best['model']} {number(best['mean']['log_loss'])} against {peer['name']} "
               f"{number(peer['mean']['log_loss'])}: {paired(contrast)}")
    if single is not best:
        figures += f"; best single model {single['model']} {paired(single['paired']['log_loss'])}"
    worse = contrast["difference"] > 0 and contrast["p"] < P
    tell("log loss not significantly worse than the best single peer's", one["name"], figures, not worse)
    return best["mean"]["log_loss"] < peer["mean"]["log_loss"]


def check_auroc(one):
    best = best_of(defaults(one), "auroc")
    name, value = best_peer(one, "auroc")
    figures = f"{best['model']} {number(best['mean']['auroc'])} against {name} {number(value)}"
    below = value - best["mean"]["auroc"]
    tell(f"AUROC at most {AUROC_BELOW_MAX} below the best single peer's", one["name"], figures, below <= AUROC_BELOW_MAX)
    return below < 0


def check_networks(one):
    best = best_of([row for row in defaults(one) if row["network"]], "auroc")
    name, value = best_peer(one, "auroc", trees=True)
    figures = f"{best['model']} {number(best['mean']['auroc'])} against {name} {number(value)}"
    passed = value - best["mean"]["auroc"] <= NETWORK_BELOW_MAX
    tell(f"best network's AUROC at most {NETWORK_BELOW_MAX} below the best tree peer's", one["name"], figures, passed)


def check_calibration(one):
    of = champion(defaults(one))
    before, after = of["ece_before"], of["mean"]["ece"]
    figures = f"{of['model']} {number(before)} before, {number(after)} after"
    # The same number, computed twice.
    tell("ECE of the champion not above that before calibration", one["name"], figures, after <= before + 1e-9)


def check_ece(one):
    of = champion(defaults(one))
    if of["rows"] <= ECE_ROWS:
        return
    figures = f"{of['model']} {number(of['ece_pooled'])} over {of['rows']} rows; mean of folds {number(of['mean']['ece'])}"
    tell(f"ECE of the champion below {ECE_MAX} over more than {ECE_ROWS} test rows", one["name"], figures, of["ece_pooled"] < ECE_MAX)


if __name__ == "__main__":
    main()
