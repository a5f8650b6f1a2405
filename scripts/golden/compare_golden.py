"""Write the golden numbers of src/eval/compare: what the definitions, scipy and scikit-learn say about small cases.

    python scripts/golden/compare_golden.py     # numpy, scipy, scikit-learn; writes golden.json

DeLong's variance is computed from its definition, a double loop over pairs of rows, not from ranks; with several
rows a customer it is Obuchowski's (Biometrics 1997). The t-test is scipy's on the corrected standard error. The
bootstrap is measured on draws that the file holds, by the metrics of eval_golden.py on the drawn rows.
"""
import json
from pathlib import Path

import numpy as np
import scipy
import sklearn
from eval_golden import ece, lift, log_loss
from scipy import stats
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

OUT = Path(__file__).resolve().parents[2] / "src/eval/compare/golden.json"


def brier(y, p):
    value = np.mean((p - y) ** 2)
    assert not 0 < y.sum() < len(y) or np.isclose(value, brier_score_loss(y, p, pos_label=1), rtol=1e-12)
    return value


# A measure, and whether one class alone defines it.
MEASURES = [(log_loss, True), (brier, True), (average_precision_score, False), (ece, True), (lambda y, p: lift(y, p, 0.1), False)]


def placements(y, p):
    """V10 of positives and V01 of negatives, pair by pair."""
    psi = lambda x, z: 1.0 if x > z else 0.5 if x == z else 0.0
    positives, negatives = p[y == 1], p[y == 0]
    v10 = np.array([np.mean([psi(x, z) for z in negatives]) for x in positives])
    v01 = np.array([np.mean([psi(x, z) for x in positives]) for z in negatives])
    return v10, v01


def delong(y, a, b, customers):
    """AUROC difference, its variance, and each customer's influence."""
    (a10, a01), (b10, b01) = placements(y, a), placements(y, b)
    assert np.isclose(a10.mean(), roc_auc_score(y, a)) and np.isclose(b10.mean(), roc_auc_score(y, b))
    d10, d01 = a10 - b10, a01 - b01
    m, n, difference = len(d10), len(d01), d10.mean()
    names = np.unique(customers)
    of = lambda d, rows, c: d[customers[rows] == c]
    x = np.array([(of(d10, y == 1, c) - difference).sum() for c in names])
    z = np.array([(of(d01, y == 0, c) - difference).sum() for c in names])
    has = lambda rows: len(np.unique(customers[rows]))
    i10, i01, i = has(y == 1), has(y == 0), len(names)
    s10 = i10 / ((i10 - 1) * m) * (x ** 2).sum()
    s01 = i01 / ((i01 - 1) * n) * (z ** 2).sum()
    s11 = i / (i - 1) * (x * z).sum()
    variance = s10 / m + s01 / n + 2 * s11 / (m * n)
    if len(names) == len(y):    # DeLong, DeLong and Clarke-Pearson 1988
        plain = np.var(d10, ddof=1) / m + np.var(d01, ddof=1) / n
        assert np.isclose(variance, plain, rtol=1e-12), (variance, plain)
    return difference, variance, dict(zip(names.tolist(), (x / m + z / n).tolist()))


def of_folds(folds):
    """Test of the mean over folds: their variances, and a customer's influences in different folds."""
    found = [delong(*fold) for fold in folds]
    k = len(found)
    shared = sum(
        found[i][2][c] * found[j][2][c] for i in range(k) for j in range(k) if i != j for c in found[i][2] if c in found[j][2]
    )
    difference = np.mean([f[0] for f in found])
    error = np.sqrt(sum(f[1] for f in found) + shared) / k
    return dict(
        difference=difference, standard_error=error, p=2 * stats.norm.sf(abs(difference) / error),
        interval=stats.norm.interval(0.95, difference, error),
    )


def drawn(r, n, base, customers, decimals=6):
    """Labels and two models that see the truth through different noise; customers have several rows."""
    of = np.sort(r.integers(0, customers, n)) if customers else np.arange(n)
    risk = r.normal(size=of.max() + 1)[of] + 0.3 * r.normal(size=n)
    y = (r.random(n) < 1 / (1 + np.exp(-(np.log(base / (1 - base)) + 1.2 * risk)))).astype(int)
    see = lambda noise: np.round(1 / (1 + np.exp(-(np.log(base / (1 - base)) + risk + noise * r.normal(size=n)))), decimals)
    return y, see(0.6), see(0.9), of


def fold(y, a, b, customers):
    return dict(labels=y.tolist(), customers=customers.tolist(), a=a.tolist(), b=b.tolist())


def delong_cases():
    r = np.random.default_rng(20251126)
    some = drawn(r, 90, 0.3, 40)
    apart = drawn(r, 70, 0.25, 30)
    far = lambda case: (*case[:3], case[3] + 1000)
    cases = {
        "one row a customer": [drawn(r, 120, 0.3, 0)],
        "ties": [drawn(r, 120, 0.3, 0, 1)],
        "few positives": [drawn(r, 150, 0.04, 0)],
        "several rows a customer": [drawn(r, 120, 0.3, 45)],
        "several rows and ties": [drawn(r, 100, 0.4, 30, 1)],
        "folds of different customers": [some, far(apart)],
        "folds of the same customers": [some, apart, drawn(r, 60, 0.3, 25)],
    }
    return [dict(name=n, folds=[fold(*f) for f in folds], expected=of_folds(folds)) for n, folds in cases.items()]


def draw_statistics(folds, counts):
    found = []
    for y, a, b, customers in folds:
        rows = np.repeat(np.arange(len(y)), counts[customers])
        y, a, b = y[rows], a[rows], b[rows]
        if not len(y):
            continue
        two = 0 < y.sum() < len(y)
        found.append([f(y, a) - f(y, b) if two or defined else np.nan for f, defined in MEASURES])
    columns = np.array(found).T
    return [None if np.isnan(c).all() else float(np.nanmean(c)) for c in columns]


def bootstrap_cases():
    r = np.random.default_rng(7)

    def counts(customers):
        return np.bincount(r.integers(0, customers, customers), minlength=customers)

    one, two = drawn(r, 80, 0.3, 30), drawn(r, 60, 0.35, 30)
    ties = drawn(r, 90, 0.3, 40, 1)
    single = drawn(r, 60, 0.2, 0)
    cases = {
        "clustered": ([one], 30), "two folds of the same customers": ([one, two], 30), "ties": ([ties], 40),
        "one row a customer": ([single], 60),
    }
    out = []
    for name, (folds, customers) in cases.items():
        draws = [np.ones(customers, int), *[counts(customers) for _ in range(8)]]
        if name == "one row a customer":    # only the negatives of the only fold
            draws.append(np.where(folds[0][0] == 0, 1, 0))
        out.append(dict(
            name=name, customers=customers, folds=[fold(*f) for f in folds],
            draws=[dict(times=d.tolist(), expected=draw_statistics(folds, d)) for d in draws],
        ))
    return out


def summaries():
    """Percentiles and p of draws, by numpy."""
    r = np.random.default_rng(11)
    out = []
    for shift, n in [(0.4, 99), (0.0, 100), (3.0, 64), (-5.0, 40)]:
        d = np.round(r.normal(shift, 1, n), 4)
        p = min(1.0, 2 * (1 + min((d <= 0).sum(), (d >= 0).sum())) / (n + 1))
        out.append(dict(draws=d.tolist(), interval=np.quantile(d, [0.025, 0.975]).tolist(), p=p, standard_error=d.std(ddof=1)))
    return out


def resampled_cases():
    r = np.random.default_rng(3)
    out = []
    for k, ratio, shift in [(5, 0.25, 0.01), (3, 1 / 3, 0.0), (10, 1 / 9, 0.02), (2, 0.5, -0.01), (5, 0.0, 0.004), (30, 0.1, 0.03)]:
        d = np.round(r.normal(shift, 0.01, k), 6)
        error = np.sqrt(d.var(ddof=1) * (1 / k + ratio))
        t = d.mean() / error
        if ratio == 0.0:
            plain = stats.ttest_1samp(d, 0)
            assert np.isclose(t, plain.statistic, rtol=1e-12) and np.isclose(2 * stats.t.sf(abs(t), k - 1), plain.pvalue, rtol=1e-12)
        out.append(dict(
            differences=d.tolist(), test_to_train=ratio, mean=d.mean(), sd=d.std(ddof=1), t=t, p=2 * stats.t.sf(abs(t), k - 1),
            interval=list(stats.t.interval(0.95, k - 1, d.mean(), error)),
        ))
    return out


if __name__ == "__main__":
    print("scipy", scipy.__version__, "scikit-learn", sklearn.__version__, "numpy", np.__version__)
    tails = [(z, 2 * stats.norm.sf(z)) for z in [0.0, 0.1, 0.67, 1.0, 1.96, 2.576, 3.5, 5.0, 8.0, 12.0, 30.0]]
    students = [
        (t, v, 2 * stats.t.sf(t, v))
        for v in [1, 2, 3, 4, 9, 10, 29, 99, 100] for t in [0.0, 0.01, 0.5, 1.0, 1.3, 2.0, 2.776, 6.0, 25.0, 1e4]
    ]
    golden = dict(
        delong=delong_cases(), bootstrap=bootstrap_cases(), summaries=summaries(), resampled=resampled_cases(),
        normal_tails=tails, student_tails=students,
    )
    text = json.dumps(golden, separators=(",", ":"), default=float)
    assert len(text) <= 100_000, len(text)
    OUT.write_text(text + "\n")
    print(OUT, len(text), "bytes")
