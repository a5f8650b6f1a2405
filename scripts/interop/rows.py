"""Raw rows and their risks out of `churn score`, and rows that are changed: what the comparisons with
other runtimes share."""

import argparse
import csv
import datetime
import json
import pathlib
import random
import subprocess
import sys

import numpy as np


def month_number(text):
    year, month = text.split("-")
    return int(year) * 12 + int(month) - 1


def arguments(doc):
    """What every comparison is given."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--churn", default="target/release/churn")
    parser.add_argument("--run", required=True, help="run or bundle folder")
    parser.add_argument("--data", required=True, help="folder of the tables")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    return parser


def bundle_of(run):
    folder = pathlib.Path(run)
    return folder / "bundle" if (folder / "bundle").is_dir() else folder


class Program:
    def __init__(self, path, bundle):
        self.path, self.bundle = path, bundle

    def call(self, *args):
        done = subprocess.run([self.path, *map(str, args)], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{self.path} {' '.join(map(str, args))}\n{done.stdout}{done.stderr}")

    def score(self, inputs, work, more=()):
        """Rows as they came from the tables with their risks, and their curves if there are any."""
        rows = work / "rows.jsonl"
        scores = work / "scores.csv"
        self.call("score", "--bundle", self.bundle, "--input", inputs, "--output", scores,
                  "--rows", rows, *more)
        with open(rows) as lines:
            found = [json.loads(line) for line in lines]
        with open(scores) as lines:
            table = {line["customer_id"]: line for line in csv.DictReader(lines)}
        return [row["customer"] for row in found], np.array([row["risk"] for row in found]), table

    def rescore(self, rows, work):
        """Risks of raw rows, in their order."""
        path = work / "raw.jsonl"
        with open(path, "w") as out:
            for row in rows:
                out.write(json.dumps({"risk": 0.0, "customer": row}) + "\n")
        out = work / "rescored.jsonl"
        self.call("score", "--bundle", self.bundle, "--raw", path, "--rows", out)
        with open(out) as lines:
            return np.array([json.loads(line)["risk"] for line in lines])


def unknown(row, draw):
    for version in row["attributes"]:
        for name, value in version["values"].items():
            # A date stays one.
            if isinstance(value, str) and not is_date(value) and draw.random() < 0.5:
                version["values"][name] = draw.choice(["zebra", "ÄÖ ß", " ", "null", "x" * 300])


def is_date(text):
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def missing(row, draw):
    for version in row["attributes"]:
        for name in version["values"]:
            if draw.random() < 0.3:
                version["values"][name] = None
    for values in row["months"].values():
        for month in range(len(values)):
            if draw.random() < 0.3:
                values[month] = None


def cut(row, draw):
    """Keeps the last months."""
    keep = draw.randint(1, row["length"])
    gone = row["length"] - keep
    row["length"] = keep
    row["months"] = {name: values[gone:] for name, values in row["months"].items()}
    if row["start"] is not None:
        start = month_number(row["start"]) + gone
        row["start"] = f"{start // 12:04}-{start % 12 + 1:02}"


def early(row, draw):
    """Keeps the first months."""
    row["length"] = draw.randint(1, row["length"])
    row["months"] = {name: values[:row["length"]] for name, values in row["months"].items()}


def nothing(row, draw):
    missing_all = {name: [None] * len(values) for name, values in row["months"].items()}
    row["months"] = missing_all
    row["attributes"] = []


def changed(rows, change, seed):
    draw, out = random.Random(seed), []
    for row in json.loads(json.dumps(rows)):
        change(row, draw)
        out.append(row)
    return out


def compare(name, ours, theirs, tolerance):
    theirs = np.asarray(theirs, np.float64).reshape(ours.shape)
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        print(f"{name:<40} {len(ours):>8} rows   NOT FINITE")
        return False
    worst = float(np.abs(ours - theirs).max()) if len(ours) else 0.0
    ok = worst <= tolerance
    print(f"{name:<40} {len(ours):>8} rows   largest difference {worst:.1e}{'' if ok else '   TOO LARGE'}")
    return ok
