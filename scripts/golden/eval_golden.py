"""Write the golden numbers of src/eval and src/baseline: what scikit-learn says about small cases.

    python scripts/golden/eval_golden.py        # numpy and scikit-learn; writes two golden.json

Log loss, ECE and lift follow the peers' definitions (`METRICS` of shared/data/run_peers.py), repeated
here so that the script stands alone. ECE differs in one point: rows that share a risk share their mean
label, so that the number does not depend on the order of the rows; without ties across the border of a
bin the two are the same.
"""
import json
import warnings
from pathlib import Path

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

SRC = Path(__file__).resolve().parents[2] / "src"
warnings.filterwarnings("ignore", category=FutureWarning)


def log_loss(y, p):
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return -np.mean(np.where(y == 1, np.log(p), np.log1p(-p)))


def share_ties(y, p):
    _, group = np.unique(p, return_inverse=True)
    return (np.bincount(group, y) / np.bincount(group))[group]


def ece(y, p, bins=15):
    order = np.argsort(p, kind="stable")
    y, p = share_ties(y, p)[order], p[order]
    pairs = zip(np.array_split(y, bins), np.array_split(p, bins))
    return sum(len(a) * abs(a.mean() - b.mean()) for a, b in pairs if len(a)) / len(y)


def top(y, p, share):
    """Rows and positives of the top share; ties at the border count pro rata."""
    k = max(1, int(np.ceil(share * len(y))))
    border = np.sort(p)[::-1][k - 1]
    above, equal = p > border, p == border
    return k, y[above].sum() + y[equal].mean() * (k - above.sum())


def lift(y, p, share):
    k, hits = top(y, p, share)
    return hits / k / y.mean()


def expected(y, p, share):
    two = 0 < y.sum() < len(y)
    k, hits = top(y, p, share)
    return dict(
        rows=len(y),
        positive_rate=y.mean(),
        auroc=roc_auc_score(y, p) if two else None,
        average_precision=average_precision_score(y, p) if two else None,
        log_loss=log_loss(y, p),
        brier=brier_score_loss(y, p, pos_label=1) if two else np.mean((p - y) ** 2),
        ece=ece(y, p),
        lift_5=lift(y, p, 0.05) if two else None,
        lift_10=lift(y, p, 0.1) if two else None,
        lift_20=lift(y, p, 0.2) if two else None,
        contact_share=share,
        precision_at_contact=hits / k,
        recall_at_contact=hits / y.sum() if y.any() else None,
    )


def metric_cases():
    r = np.random.default_rng(20240611)

    def drawn(n, base, decimals=6):
        p = np.round(r.beta(2 * base, 2 * (1 - base), n).clip(1e-5, 1 - 1e-5), decimals)
        return (r.random(n) < p).astype(int), p

    def noisy(n, base):
        y, p = drawn(n, base)
        return y, np.round(np.clip(p ** 0.5 * 0.8 + 0.05, 0, 1), 6)

    cases = {
        "plain": (*drawn(600, 0.3), 0.1),
        "overconfident": (*noisy(500, 0.2), 0.05),
        "imbalanced": (*drawn(800, 0.02), 0.01),
        "one decimal, many ties": (*drawn(400, 0.35, 1), 0.25),
        "two decimals, ties": (*drawn(500, 0.2, 2), 0.137),
        "constant": ((r.random(200) < 0.3).astype(int), np.full(200, 0.3), 0.1),
        "two scores": ((r.random(101) < 0.5).astype(int), r.choice([0.2, 0.7], 101), 0.5),
        "perfect, sure": (np.repeat([0, 1], 50), np.repeat([0.0, 1.0], 50), 0.5),
        "inverted, sure": (np.repeat([1, 0], 50), np.repeat([0.0, 1.0], 50), 0.3),
        "fewer rows than bins": (np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8, 0.3]), 0.4),
        "two rows": (np.array([1, 0]), np.array([0.25, 0.75]), 0.1),
        "one row": (np.array([1]), np.array([0.4]), 0.1),
        "only negatives": (np.zeros(40, int), np.round(r.random(40), 4), 0.2),
        "only positives": (np.ones(40, int), np.round(r.random(40), 4), 0.2),
        "everyone contacted": (*drawn(90, 0.4), 1.0),
    }
    return [
        dict(name=n, labels=y.tolist(), risks=p.tolist(), contact_share=s, expected=expected(y, p, s))
        for n, (y, p, s) in cases.items()
    ]


def logistic_case():
    """Dense, skewed, correlated and one-hot columns; a rare category; a column of another scale."""
    r = np.random.default_rng(7)

    def design(n):
        z = r.normal(size=(n, 3))
        hot = np.eye(4)[r.choice(4, n, p=[0.6, 0.3, 0.08, 0.02])]
        x = np.c_[z[:, 0], 0.9 * z[:, 0] + 0.3 * z[:, 1], np.exp(z[:, 2]), 40 * r.random(n), hot]
        x = np.round(x, 3).astype(np.float32)
        risk = 1 / (1 + np.exp(-(x @ [1.2, -0.7, 0.4, 0.03, 0.5, -0.5, 1.0, 0.0] - 2.0)))
        return x, (r.random(n) < risk).astype(int)

    (x, y), (xv, yv) = design(300), design(120)
    fits = []
    for l2 in [1000.0, 100.0, 10.0, 1.0, 0.1]:
        m = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=100_000).fit(x.astype(float), y)
        risk = [m.predict_proba(v.astype(float))[:, 1] for v in (x, xv)]
        fits.append(dict(
            l2=l2, weights=m.coef_[0].tolist(), bias=m.intercept_[0],
            train_log_loss=log_loss(y, risk[0]), validation_log_loss=log_loss(yv, risk[1]),
            first_risks=risk[1][:5].tolist(),
        ))

    def table(x, y):
        return dict(values=[round(float(v), 3) for v in x.ravel()], labels=y.tolist())

    return dict(columns=x.shape[1], train=table(x, y), validation=table(xv, yv), fits=fits)


def write(path, value):
    text = json.dumps(value, separators=(",", ":"), default=float)
    assert len(text) <= 60_000, (path, len(text))
    path.write_text(text + "\n")
    print(path, len(text), "bytes")


if __name__ == "__main__":
    print("scikit-learn", sklearn.__version__, "numpy", np.__version__)
    write(SRC / "eval" / "golden.json", metric_cases())
    write(SRC / "baseline" / "golden.json", logistic_case())
