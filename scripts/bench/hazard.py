"""Compare the hazard head's risk curves with Kaplan-Meier and a Cox model on simulated customers.

    python3 scripts/bench/hazard.py --churn target/release/churn

Simulates a telecom, trains with a horizon of several months, fits the two peers on the same train
snapshots, and judges all on the test snapshots, out of time, with scikit-survival's metrics.

Kaplan-Meier gives everybody the curve of the train snapshots. The Cox model (lifelines, Efron's ties)
sees the attributes (one-hot, tenure in years), each monthly measure in the as-of month and its means over
the trailing windows of the networks (3, 6, 12 months), the logarithm of skewed ones, whether a measure was
missing, and the season. It is fitted on snapshots drawn from the train months and those that follow up to
the first validation month, censored there: what the hazard head learns from. Its penalty is the one with
the best integrated Brier score on the validation snapshots, as the network's epoch is chosen there.

Needs numpy, pandas, pyarrow, lifelines and scikit-survival.
"""

import argparse
import subprocess
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.exceptions import ConvergenceError
from sksurv.metrics import brier_score, cumulative_dynamic_auc
from sksurv.util import Surv

WINDOWS = [3, 6, 12]
PENALTIES = [0.0, 1e-4, 1e-3, 1e-2]
BINS = 15

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--churn", default="target/release/churn", type=Path)
parser.add_argument("--work", default="data/hazard", type=Path, help="tables and run go here")
parser.add_argument("--customers", default=100_000, type=int)
parser.add_argument("--months", default=36, type=int)
parser.add_argument("--horizon", default=6, type=int)
parser.add_argument("--models", default="mlp,gru,hybrid")
parser.add_argument("--epochs", default=12, type=int)
parser.add_argument("--cox-rows", default=100_000, type=int)
parser.add_argument("--set", action="append", default=[], help="further settings of the training")
args = parser.parse_args()
REPO = Path(__file__).resolve().parents[2]
K = args.horizon


def month_number(dates):
    return dates.dt.year * 12 + dates.dt.month


def train():
    """Tables and a run folder, if they are not there yet."""
    tables, run = args.work / "tables", args.work / "run"
    if not (tables / "customers.csv").exists():
        size = ["--customers", str(args.customers), "--months", str(args.months)]
        subprocess.run([args.churn, "simulate", "telecom", *size, "--seed", "1", "--out", tables], check=True)
    if not (run / "metrics.json").exists():
        names = ",".join(f'"{name}"' for name in args.models.split(","))
        sets = [f"data.root={tables.resolve()}", f"label.horizon={K}", f"models.use=[{names}]"]
        sets += [f"train.epochs_max={args.epochs}", *args.set]
        flags = [flag for value in sets for flag in ("--set", value)]
        command = [args.churn, "train", REPO / "configs/telecom.toml", "--out", run, "--device", "cpu", *flags]
        subprocess.run(command, check=True)
    return tables, pd.read_parquet(run / "predictions.parquet")


class Customers:
    """Attributes, and measures as [customers, months, measures]."""

    def __init__(self, tables):
        attributes = pd.read_csv(tables / "customers.csv", parse_dates=["signup_date", "churn_date"])
        attributes = attributes.sort_values("customer_id").reset_index(drop=True)
        self.ids = pd.Index(attributes.customer_id)
        activity = pd.read_parquet(tables / "activity.parquet")
        # What came after its month's end was not known then.
        month, loaded = pd.to_datetime(activity.month), pd.to_datetime(activity.loaded_at)
        activity = activity[loaded < month.dt.to_period("M").dt.to_timestamp() + pd.DateOffset(months=1)]
        tickets = pd.read_parquet(tables / "tickets.parquet")
        self.last = month_number(month).max()
        self.first = self.last - args.months + 1
        self.churn = (month_number(attributes.churn_date)).to_numpy()
        names = [c for c in activity.columns if c not in ("customer_id", "month", "loaded_at")]
        self.measures = names + ["tickets", "ticket_hours", "satisfaction"]
        values = np.zeros((len(self.ids), args.months, len(self.measures)), np.float32)
        row = self.ids.get_indexer(activity.customer_id)
        at = (month_number(pd.to_datetime(activity.month)) - self.first).to_numpy()
        values[row, at, : len(names)] = activity[names].to_numpy(np.float32)
        grouped = tickets.assign(at=month_number(pd.to_datetime(tickets.opened_on)) - self.first)
        grouped = grouped.groupby(["customer_id", "at"]).agg(
            tickets=("topic", "size"), hours=("hours_to_solve", "sum"), satisfaction=("satisfaction", "mean")
        )
        row = self.ids.get_indexer(grouped.index.get_level_values(0))
        at = grouped.index.get_level_values(1).to_numpy()
        for place, name in enumerate(["tickets", "hours", "satisfaction"], len(names)):
            values[row, at, place] = grouped[name].to_numpy(np.float32)
        self.values, missing = values, np.isnan(values)
        # Sums and counts of the months before, so that a trailing mean is two differences.
        before = np.zeros((len(self.ids), 1, len(self.measures)))
        self.sums = np.concatenate([before, np.where(missing, 0, values).cumsum(1, dtype=np.float64)], 1)
        self.counts = np.concatenate([before.astype(np.int16), (~missing).cumsum(1, dtype=np.int16)], 1)
        self.signup = month_number(attributes.signup_date).to_numpy()
        kinds = ["contract", "payment", "network", "region"]
        numbers = attributes[["age", "household", "list_price"]].astype(float)
        parts = [pd.get_dummies(attributes[kinds].fillna("missing"), drop_first=True).astype(float)]
        parts += [numbers.fillna(numbers.median()), numbers.isna().astype(float).add_suffix("_missing")]
        self.fixed = pd.concat(parts, axis=1)

    def follow_up(self, row, month, known_to):
        """Months seen of each window, and whether churn ended them."""
        churn = self.churn[row]
        seen = np.minimum(K, known_to - month)
        churned = churn - month <= seen
        return np.where(churned, churn - month, seen).astype(int), churned

    def features(self, row, month):
        """One row per snapshot, as a practitioner would build it."""
        at = month - self.first
        own = np.minimum(at + 1, np.maximum(month - self.signup[row], 0) + 1)
        parts = [self.fixed.iloc[row].reset_index(drop=True)]

        def add(prefix, values):
            parts.append(pd.DataFrame(values, columns=[f"{prefix}_{m}" for m in self.measures]))

        add("now", self.values[row, at])
        for window in WINDOWS:
            start = at + 1 - np.minimum(window, own)
            total = self.sums[row, at + 1] - self.sums[row, start]
            count = self.counts[row, at + 1] - self.counts[row, start]
            add(f"mean{window}", np.where(count > 0, total / np.maximum(count, 1), np.nan))
        frame = pd.concat(parts, axis=1)
        tenure = (month - self.signup[row]) / 12
        frame["tenure"], frame["log_tenure"] = tenure, np.log1p(np.maximum(tenure, 0))
        for name, wave in (("sin", np.sin), ("cos", np.cos)):
            frame[f"season_{name}"] = wave(2 * np.pi * month / 12)
        return frame


class Prepare:
    """Logarithm of skewed columns, median for missing ones, standard scale; learned on train rows."""

    def __init__(self, frame):
        self.skewed = [c for c in frame if frame[c].min() >= 0 and frame[c].skew() > 2]
        frame = self.log(frame)
        self.median, self.gaps = frame.median(), [c for c in frame if frame[c].isna().mean() > 0.001]
        frame = self.fill(frame)
        self.keep = [c for c in frame if frame[c].std() > 1e-6]
        self.mean, self.sd = frame[self.keep].mean(), frame[self.keep].std()

    def log(self, frame):
        return frame.assign(**{c: np.log1p(frame[c]) for c in self.skewed})

    def fill(self, frame):
        gaps = frame[self.gaps].isna().astype(float).add_suffix("_gap")
        return pd.concat([frame.fillna(self.median), gaps], axis=1)

    def __call__(self, frame):
        frame = self.fill(self.log(frame))[self.keep]
        # Outliers of the simulated tables would otherwise decide the linear predictor.
        return ((frame - self.mean) / self.sd).clip(-5, 5)


def times(months, churned):
    """Churn in month k at k, censoring after it at k + 1/2."""
    return np.where(churned, months, months + 0.5)


def judge(months, churned, risks):
    y = Surv.from_arrays(churned, times(months, churned))
    grid = np.arange(1, K + 1).astype(float)
    scores = brier_score(y, y, 1 - risks, grid)[1]
    try:
        auroc, mean = cumulative_dynamic_auc(y, y, risks, grid)
    except ValueError:
        auroc, mean = np.full(K, np.nan), np.nan
    observed = np.array([(churned & (months <= t)) for t in range(1, K + 1)]).T
    ece = []
    for t in range(K):
        # Every test window is seen whole, so that the share that left needs no weights.
        order = np.argsort(risks[:, t], kind="stable")
        bins = [(len(b), abs(observed[b, t].mean() - risks[b, t].mean())) for b in np.array_split(order, BINS)]
        ece.append(sum(n * gap for n, gap in bins) / len(order))
    large = np.abs(observed.mean(0) - risks.mean(0)).max()
    return dict(ibs=np.trapezoid(scores, grid) / (K - 1), auroc=mean, ece=np.array(ece), large=large)


def main():
    tables, found = train()
    customers = Customers(tables)
    found["month"] = month_number(pd.to_datetime(found.as_of + "-01"))
    networks = [m for m in found.model.unique() if found[found.model == m]["risk_1"].notna().all()]
    of_one = found[found.model == networks[0]]

    def places(split):
        part = of_one[of_one.split == split]
        return customers.ids.get_indexer(part.customer_id), part.month.to_numpy(), part.label.to_numpy()

    row, month, label = places("test")
    months, churned = customers.follow_up(row, month, customers.last)
    assert (churned == (label == 1)).all(), "both sides have the same labels"
    valid_row, valid_month, _ = places("validation")
    valid = customers.follow_up(valid_row, valid_month, customers.last)

    # What was known by the first validation month, of everybody who was there in a train month or later.
    known_to = valid_month.min()
    train_row, train_month, _ = places("train")
    behind = np.arange(train_month.max() + 1, known_to)
    there = train_row[train_month == train_month.max()]
    more = [(there[~(customers.churn[there] <= m)], m) for m in behind]
    train_row = np.concatenate([train_row, *[r for r, _ in more]])
    train_month = np.concatenate([train_month, *[np.full(len(r), m) for r, m in more]])
    train_months, train_churned = customers.follow_up(train_row, train_month, known_to)

    rows = []
    for name in networks:
        part = found[(found.model == name) & (found.split == "test")]
        rows.append((name, judge(months, churned, part[[f"risk_{k}" for k in range(1, K + 1)]].to_numpy())))

    km = KaplanMeierFitter().fit(times(train_months, train_churned), train_churned)
    curve = 1 - km.survival_function_at_times(np.arange(1, K + 1)).to_numpy()
    rows.append(("Kaplan-Meier", judge(months, churned, np.repeat(curve[None], len(months), 0))))

    began = time.time()
    drawn = np.random.default_rng(1).permutation(len(train_row))[: args.cox_rows]
    frame = customers.features(train_row[drawn], train_month[drawn])
    prepare = Prepare(frame)
    frame = prepare(frame)
    frame["T"], frame["E"] = times(train_months[drawn], train_churned[drawn]), train_churned[drawn]
    grid = np.arange(1, K + 1).astype(float)

    def curves(cox, row, month):
        pieces = np.array_split(np.arange(len(row)), max(1, len(row) // 50_000))
        return np.concatenate([
            1 - cox.predict_survival_function(prepare(customers.features(row[p], month[p])), times=grid).to_numpy().T
            for p in pieces
        ])

    best = None
    for penalty in PENALTIES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                cox = CoxPHFitter(penalizer=penalty).fit(frame, "T", "E")
            except ConvergenceError:
                print(f"cox, penalty {penalty}: does not converge", flush=True)
                continue
        score = judge(*valid, curves(cox, valid_row, valid_month))["ibs"]
        print(f"cox, penalty {penalty}: integrated Brier on validation {score:.6f}", flush=True)
        if best is None or score < best[0]:
            best = (score, penalty, cox)
    _, penalty, cox = best
    rows.append((f"Cox (penalty {penalty})", judge(months, churned, curves(cox, row, month))))

    print(f"\n{args.customers} customers, {len(months)} test snapshots, {churned.mean():.4f} leave within {K} months")
    print(f"Cox: {len(drawn)} of {len(train_row)} train snapshots, {frame.shape[1] - 2} columns, {time.time() - began:.0f} s")
    by_month = " ".join(f"{'m' + str(k):>6}" for k in range(1, K + 1))
    print(f"{'model':<22} {'IBS':>8} {'AUROC':>7} {'in the large':>12}  calibration error up to month: {by_month}")
    for name, r in rows:
        ece = " ".join(f"{e:6.4f}" for e in r["ece"])
        print(f"{name:<22} {r['ibs']:8.6f} {r['auroc']:7.4f} {r['large']:12.4f}  {'':30} {ece}")


main()
