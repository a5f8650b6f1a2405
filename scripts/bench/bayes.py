#!/usr/bin/env python3
"""The Bayes-optimal line of a simulated run, on the very snapshots that the models were tested on.

    python3 scripts/bench/bayes.py --run RUN --data DATA

RUN is a run folder of `churn train`, DATA the folder that `churn simulate` filled. Training never
reads DATA/truth; this script does. Needs pandas, pyarrow and scikit-learn.
"""

import argparse
from pathlib import Path

import pandas as pd
from sklearn.metrics import log_loss, roc_auc_score

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--run", required=True, type=Path)
parser.add_argument("--data", required=True, type=Path)
args = parser.parse_args()

found = pd.read_parquet(args.run / "predictions.parquet")
found = found[found.split == "test"]
truth = pd.read_parquet(args.data / "truth" / "hazard.parquet")
truth["as_of"] = truth.month.astype(str).str[:7]
first = found.model.iloc[0]
base = found[found.model == first].merge(truth, on=["customer_id", "as_of"], how="left")
assert base.risk_y.notna().all(), "every test snapshot has a true risk"

bayes = log_loss(base.label, base.risk_y)
rate = log_loss(base.label, [base.label.mean()] * len(base))
print(f"{len(base)} test snapshots, base rate {base.label.mean():.4f}")
print(f"{'model':<16} {'AUROC':>7} {'log loss':>9} {'share of the gap closed':>24}")
rows = [(name, group.label, group.risk) for name, group in found.groupby("model", sort=False)]
rows.append(("Bayes-optimal", base.label, base.risk_y))
for name, label, risk in rows:
    loss = log_loss(label, risk)
    share = (rate - loss) / (rate - bayes)
    print(f"{name:<16} {roc_auc_score(label, risk):7.4f} {loss:9.5f} {100 * share:22.1f} %")
print(f"{'base rate':<16} {'':7} {rate:9.5f}")
