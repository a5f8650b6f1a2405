#!/usr/bin/env python3
"""The trainer that one would write today with pandas and PyTorch for the simulated telecom tables.

    python3 scripts/bench/torch_windowed.py --data DATA [--target 0.0931] [--threads 2] [--run RUN]

DATA is a folder that `churn simulate telecom` filled. Labels, parts, attributes and monthly features
are those of configs/telecom.toml, and the network has the sizes of our default hybrid. What differs is
the shape of an example: here each snapshot brings its own window of the last months, as in most
published churn code, where ours reads a history once and learns from every month of it. Stops at the
first epoch whose validation log loss is at most the target, else when patience or epochs end, and
prints JSON. With --run, the run folder of a `churn train` on DATA, it also checks (outside of its
times) that every part holds the same snapshots with the same labels. Needs pandas, pyarrow, PyTorch.
"""

import time

STARTED = time.perf_counter()

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from torch import nn

IMPORTED = time.perf_counter()

# As configs/telecom.toml and the defaults of docs/configuration.md.
GAP, HORIZON, VALIDATION_MONTHS, TEST_MONTHS = 0, 1, 3, 3
MEASURES = ["active_days", "data_gb", "care_calls", "price_rise_pct", "voice_minutes", "sms", "roaming_days",
            "bill"]
TICKETS = ["tickets", "ticket_hours", "ticket_topics", "last_satisfaction"]
NUMBERS = ["age", "household", "list_price"]
CATEGORIES = ["contract", "payment", "network", "region"]
HIDDEN, WIDTH, BLOCKS, STATE_DROPOUT, DROPOUT = 64, 128, 2, 0.1, 0.2
RATE, DECAY, WARMUP, FLOOR, CLIP, PATIENCE = 2e-3, 0.01, 0.1, 0.05, 1.0, 8
LOG_ABOVE_SKEWNESS = 4.0
# 512, 1,024 and 2,048 windows a batch take 2.9, 2.6 and 3.0 s of CPU time an epoch of 6,000 customers. With a
# rate that falls over 10 or 20 epochs 512 and 1,024 reach 0.0909 after 5 to 8 s; over 60, our own number of
# epochs at most, it takes them 12 s. 20 end lower than 10.
BATCH, EPOCHS = 1024, 20
# Batches whose windows are sorted by length together.
POOL_BATCHES = 16
DAYS_PER_MONTH = 30.436875
PARTS = ["train", "validation", "test"]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--target", type=float, default=0.0, help="validation log loss at which to stop")
    parser.add_argument("--run", type=Path, help="run folder of `churn train` whose snapshots must be ours")
    parser.add_argument("--window", type=int, default=12, help="months of an example")
    parser.add_argument("--batch", type=int, default=BATCH, help="windows in a batch")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="epochs at most; the rate falls over them")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    panel = read(args.data)
    snapshots = label(panel)
    examples = Examples(panel, snapshots, args.window)
    seconds_data = time.perf_counter() - IMPORTED
    result = train(examples, args)
    result = {
        "torch": torch.__version__, "threads": args.threads, "batch": args.batch, "window": args.window,
        "rows": {part: int((snapshots.part == at).sum()) for at, part in enumerate(PARTS)},
        "month_features": examples.months.shape[1], "target": args.target,
        "seconds_imports": IMPORTED - STARTED, "seconds_total": time.perf_counter() - IMPORTED,
        "seconds_data": seconds_data, **result,
    }
    if args.run:
        result["rows_checked"] = check_rows(panel, snapshots, args.run)
    print(json.dumps(result))


@dataclass
class Panel:
    """Months are counted from `first`; N customers, M months."""
    customers: pd.DataFrame
    first: int
    values: np.ndarray  # [N, M, measures], NaN is missing, 0 where a month has no row.
    start: np.ndarray  # [N], first month with a row.
    churn: np.ndarray  # [N], a month after the panel's last for those who stay.


def read(root):
    customers = pd.read_csv(root / "customers.csv", parse_dates=["signup_date", "churn_date"])
    # Not pd.read_parquet, which makes a Python object of every date.
    table = lambda name: pq.read_table(root / name).to_pandas(date_as_object=False)
    activity, tickets = table("activity.parquet"), table("tickets.parquet")
    known = pd.Index(customers.customer_id)
    for rows, day in ((activity, "month"), (tickets, "opened_on")):
        rows["customer"] = known.get_indexer(rows.customer_id)
        rows["at"] = month(rows[day])
    activity, tickets = activity[activity.customer >= 0], tickets[tickets.customer >= 0]
    first = min(activity["at"].min(), tickets["at"].min())
    months = max(activity["at"].max(), tickets["at"].max()) - first + 1

    values = np.zeros((len(customers), months, len(MEASURES) + len(TICKETS)), np.float32)
    measured = activity[MEASURES].to_numpy(np.float32, copy=True)
    # Loaded after the end of its month: nobody had it then.
    measured[(month(activity.loaded_at) > activity["at"]).to_numpy()] = np.nan
    values[activity.customer, activity["at"] - first, :len(MEASURES)] = measured
    monthly = tickets.sort_values(["opened_on", "satisfaction"]).groupby(["customer", "at"]).agg(
        tickets=("topic", "size"), ticket_hours=("hours_to_solve", "sum"),
        ticket_topics=("topic", "nunique"), last_satisfaction=("satisfaction", "last"))
    customer, at = (monthly.index.get_level_values(level).to_numpy() for level in (0, 1))
    values[customer, at - first, len(MEASURES):] = monthly[TICKETS].to_numpy(np.float32)

    start = np.full(len(customers), months - 1)
    for rows in (activity, tickets):
        np.minimum.at(start, rows.customer.to_numpy(), (rows["at"] - first).to_numpy())
    churn = month(customers.churn_date).where(customers.churn_date.notna(), first + months + HORIZON + GAP)
    return Panel(customers, first, values, start, churn.to_numpy() - first)


def month(days):
    """Months since 1970-01."""
    return days.dt.year * 12 + days.dt.month - (1970 * 12 + 1)


@dataclass
class Snapshots:
    """By customer, then month."""
    customer: np.ndarray
    month: np.ndarray
    churned: np.ndarray
    part: np.ndarray  # Index into PARTS, -1 = purged.


def label(panel):
    """As src/panel/labels.rs and split.rs: whole label windows only, and parts whose windows are apart."""
    customers, months = panel.values.shape[:2]
    at = np.arange(months)
    ahead = panel.churn[:, None] - (at + GAP + 1)
    labelled = (at >= panel.start[:, None]) & (at < months - GAP - HORIZON) & (ahead >= 0)
    customer, month = np.nonzero(labelled)
    test_from = month.max() - TEST_MONTHS + 1
    validation_to = test_from - GAP - HORIZON
    validation_from = validation_to - VALIDATION_MONTHS + 1
    train_to = validation_from - GAP - HORIZON
    validation = (month >= validation_from) & (month <= validation_to)
    part = np.select([month <= train_to, validation, month >= test_from], [0, 1, 2], -1)
    return Snapshots(customer, month, ahead[labelled] < HORIZON, part)


class Examples:
    """Months and attributes as network inputs; a batch is gathered from them by row number.

    Gathering is 0.35 of the GRU's 20 ms of CPU time for 1,024 windows; from stored windows, at twelve times
    the memory, it is 0.29. Packed sequences take 28 ms. Batches by length save 18 % of an epoch.
    """

    def __init__(self, panel, snapshots, window):
        customers, months = panel.values.shape[:2]
        train = snapshots.part == 0
        # Statistics come from the months that train snapshots stand at.
        places = (snapshots.customer[train], snapshots.month[train])
        raw = month_features(panel)
        scaled = scale(raw, [column[places] for column in raw])
        self.months = torch.from_numpy(scaled.reshape(customers * months, -1))
        numbers = [panel.customers[name].to_numpy(np.float32) for name in NUMBERS]
        train_customers = np.unique(places[0])
        one_hot = pd.get_dummies(panel.customers[CATEGORIES], dummy_na=True, dtype=np.float32).to_numpy()
        numbers = scale(numbers, [column[train_customers] for column in numbers])
        self.fixed = torch.from_numpy(np.concatenate([numbers, one_hot], axis=1))

        self.customer = torch.from_numpy(snapshots.customer)
        self.last_row = torch.from_numpy(snapshots.customer * months + snapshots.month)
        # Young customers have shorter windows.
        tenure = snapshots.month - panel.start[snapshots.customer] + 1
        self.length = torch.from_numpy(np.minimum(tenure, window))
        self.churned = torch.from_numpy(snapshots.churned.astype(np.float32))
        self.parts = [torch.from_numpy(np.flatnonzero(snapshots.part == at)) for at in range(len(PARTS))]

    def batch(self, rows):
        """Windows [T, B, F], their lengths, attributes, labels. Places after a window's last month repeat it,
        so that nothing later is read; the network takes its state before them."""
        last, length = self.last_row[rows], self.length[rows]
        step = torch.arange(int(length.max()))[:, None]
        row = torch.minimum(last - length + 1 + step, last)
        months = self.months.index_select(0, row.flatten()).view(*row.shape, -1)
        return months, length, self.fixed[self.customer[rows]], self.churned[rows]

    def epoch(self, rows, size):
        """Random batches of windows of similar length, so that little of a batch is padding."""
        batches = []
        for pool in rows[torch.randperm(len(rows))].split(POOL_BATCHES * size):
            batches += pool[self.length[pool].argsort()].split(size)
        return [batches[at] for at in torch.randperm(len(batches))]


def month_features(panel):
    """Columns [N, M]: per measure level, change, difference from the mean of the three months before and
    months since it was last not zero; tenure, calendar, months since sign-up. As src/features/derive.rs."""
    customers, months, measures = panel.values.shape
    at = np.arange(months, dtype=np.float32)
    start = panel.start[:, None]
    inside = at >= start
    columns = []
    for measure in range(measures):
        level = np.where(inside, panel.values[:, :, measure], np.nan)
        known = np.isfinite(level)
        total = np.cumsum(np.pad(np.where(known, level, 0), ((0, 0), (4, 0))), axis=1, dtype=np.float64)
        count = np.cumsum(np.pad(known, ((0, 0), (4, 0))), axis=1)
        before = total[:, 3:-1] - total[:, :-4]
        counted = count[:, 3:-1] - count[:, :-4]
        mean = np.divide(before, counted, where=counted > 0, out=np.full(before.shape, np.nan))
        change = np.full_like(level, np.nan)
        change[:, 1:] = level[:, 1:] - level[:, :-1]
        active = np.maximum.accumulate(np.where(known & (level != 0), at, start - 1), axis=1)
        columns += [level, change, (level - mean).astype(np.float32), (at - active).astype(np.float32)]
    of_year = (panel.first + np.arange(months)) % 12
    wide = lambda row: np.broadcast_to(row.astype(np.float32), (customers, months))
    angle = 2 * np.pi * of_year / 12
    columns += [wide(at - start), wide(np.sin(angle)), wide(np.cos(angle))]
    month_end = (np.datetime64("1970-01", "M") + panel.first + np.arange(months) + 1).astype("datetime64[D]")
    signup = panel.customers.signup_date.to_numpy().astype("datetime64[D]")
    days = (month_end[None, :] - signup[:, None]).astype(np.float32)
    columns.append(np.where(days > 0, days / DAYS_PER_MONTH, np.nan).astype(np.float32))
    return columns


def scale(columns, train):
    """[..., F]: columns standardised (skewed ones after log1p), 0 where missing; then missing indicators."""
    scaled, indicators = [], []
    for column, seen in zip(columns, train):
        missing = np.isnan(seen)
        seen = seen[~missing].astype(np.float64)
        if missing.any():
            indicators.append(np.isnan(column).astype(np.float32))
        if abs(((seen - seen.mean()) ** 3).mean()) > LOG_ABOVE_SKEWNESS * seen.std() ** 3:
            column, seen = (np.sign(x) * np.log1p(np.abs(x)) for x in (column, seen))
        scaled.append(np.nan_to_num((column - np.float32(seen.mean())) / np.float32(seen.std() or 1.0)))
    return np.stack(scaled + indicators, axis=-1)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.ReLU(),
                                  nn.Dropout(DROPOUT), nn.Linear(WIDTH, WIDTH))

    def forward(self, x):
        return x + self.body(x)


class Hybrid(nn.Module):
    """As src/nn/gru.rs, with the state of the last month alone."""

    def __init__(self, inputs, fixed, prior):
        super().__init__()
        blocks = [Residual() for _ in range(BLOCKS)]
        self.trunk = nn.Sequential(nn.Linear(fixed, WIDTH), *blocks, nn.LayerNorm(WIDTH), nn.ReLU(),
                                   nn.Linear(WIDTH, WIDTH, bias=False))
        self.gru = nn.GRU(inputs, HIDDEN)
        self.from_state = nn.Sequential(nn.Dropout(STATE_DROPOUT), nn.Linear(HIDDEN, WIDTH))
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(WIDTH, 1), nn.Flatten(0))
        # The first epoch is not spent on learning how rare churn is.
        nn.init.constant_(self.head[2].bias, prior)

    def forward(self, months, length, fixed):
        state = self.gru(months)[0][length - 1, torch.arange(len(length))]
        return self.head(self.from_state(state) + self.trunk(fixed))


def train(examples, args):
    rows, validating = examples.parts[0], examples.parts[1]
    rate = examples.churned[rows].mean().item()
    model = Hybrid(examples.months.shape[1], examples.fixed.shape[1], math.log(rate / (1 - rate)))
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, fused=True)
    steps_max = args.epochs * math.ceil(len(rows) / args.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share_of_rate(step, steps_max))
    history, steps, best, waited = [], 0, math.inf, 0
    while len(history) < args.epochs and best > args.target and waited < PATIENCE:
        model.train()
        for chosen in examples.epoch(rows, args.batch):
            *inputs, churned = examples.batch(chosen)
            optimizer.zero_grad(set_to_none=True)
            nn.functional.binary_cross_entropy_with_logits(model(*inputs), churned).backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            schedule.step()
            steps += 1
        loss = log_loss(model, examples, validating)
        history.append((time.perf_counter() - IMPORTED, loss))
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
    return {"epochs": len(history), "steps": steps, "best_validation_log_loss": best,
            "reached": best <= args.target, "history": history}


def share_of_rate(step, steps):
    """As src/train/schedule.rs: linear warm-up, then a cosine down to a twentieth."""
    warmup = max(WARMUP * steps, 1.0)
    if step < warmup:
        return (step + 1) / warmup
    progress = min((step - warmup) / max(steps - warmup, 1.0), 1.0)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress))


@torch.inference_mode()
def log_loss(model, examples, rows):
    model.eval()
    total = 0.0
    for chosen in rows[examples.length[rows].argsort()].split(4096):
        *inputs, churned = examples.batch(chosen)
        losses = nn.functional.binary_cross_entropy_with_logits(
            model(*inputs).double(), churned.double(), reduction="sum")
        total += losses.item()
    return total / len(rows)


def check_rows(panel, snapshots, run):
    """Compares snapshots, labels and parts with those that a run of ours predicted; how many there are."""
    theirs = pd.read_parquet(run / "predictions.parquet")
    theirs = theirs[theirs.model == theirs.model.iloc[0]]
    kept = snapshots.part >= 0
    when = (np.datetime64("1970-01", "M") + panel.first + snapshots.month[kept]).astype(str)
    ours = pd.DataFrame({
        "customer_id": panel.customers.customer_id.to_numpy()[snapshots.customer[kept]], "as_of": when,
        "split": np.array(PARTS)[snapshots.part[kept]], "label": snapshots.churned[kept].astype(int)})
    columns = list(ours.columns)
    tidy = lambda rows: rows[columns].astype(str).sort_values(columns).reset_index(drop=True)
    assert tidy(ours).equals(tidy(theirs)), f"the snapshots are not those of {run}"
    return len(ours)


if __name__ == "__main__":
    main()
