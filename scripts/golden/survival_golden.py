"""Write the golden numbers of src/eval/survival: what scikit-survival and lifelines say about small cases.

    python scripts/golden/survival_golden.py    # numpy, pandas, scikit-survival, lifelines; writes golden.json

A churn in month k has time k; whoever is not seen after month k is censored at k + 1/2: after the
churn of month k, before that of month k + 1. So no time is shared by churn and censoring, and the
libraries' weights are those of a monthly calendar. The calibration error has no peer; it is
repeated here in numpy, with the Kaplan-Meier risk of each bin from lifelines.
"""
import json
from pathlib import Path

import lifelines
import numpy as np
import sksurv
from lifelines import KaplanMeierFitter
from lifelines.utils import restricted_mean_survival_time
from sksurv.metrics import brier_score, cumulative_dynamic_auc, integrated_brier_score
from sksurv.util import Surv

OUT = Path(__file__).resolve().parents[2] / "src/eval/survival/golden.json"
BINS = 15


def kaplan_meier(months, churned, upto):
    fit = KaplanMeierFitter().fit(np.where(churned, months, months + 0.5), churned)
    return fit.survival_function_at_times(np.arange(1, upto + 1)).to_numpy()


def calibration_error(months, churned, risk, month):
    order = np.argsort(risk, kind="stable")
    error = 0.0
    for members in np.array_split(order, BINS):
        if len(members):
            observed = 1 - kaplan_meier(months[members], churned[members], month)[-1]
            error += len(members) * abs(observed - risk[members].mean())
    return error / len(risk)


def expected(months, churned, risks):
    horizon = risks.shape[1]
    times = np.arange(1, horizon + 1).astype(float)
    y = Surv.from_arrays(churned, np.where(churned, months, months + 0.5))
    survival = kaplan_meier(months, churned, horizon)
    flat = np.repeat(survival[None], len(months), 0)
    auroc, mean_auroc = cumulative_dynamic_auc(y, y, risks, times)
    at_risk = [(months >= t).sum() for t in times]
    before = np.c_[np.zeros(len(months)), risks[:, :-1]]
    hazards = 1 - (1 - risks) / (1 - before)
    return dict(
        rows=len(months),
        censored=int((~churned & (months < horizon)).sum()),
        integrated_brier=integrated_brier_score(y, y, 1 - risks, times),
        integrated_brier_kaplan_meier=integrated_brier_score(y, y, flat, times),
        auroc=mean_auroc,
        calibration_error_max=max(
            calibration_error(months, churned, risks[:, t], t + 1) for t in range(horizon)
        ),
        months=[
            dict(
                month=t + 1,
                at_risk=int(at_risk[t]),
                hazard=(churned & (months == t + 1)).sum() / at_risk[t],
                hazard_predicted=hazards[months >= t + 1, t].mean(),
                survival=survival[t],
                survival_predicted=(1 - risks[:, t]).mean(),
                brier=brier_score(y, y, 1 - risks, times)[1][t],
                brier_kaplan_meier=brier_score(y, y, flat, times)[1][t],
                auroc=auroc[t],
                calibration_error=calibration_error(months, churned, risks[:, t], t + 1),
            )
            for t in range(horizon)
        ],
    )


def cases():
    r = np.random.default_rng(20251125)

    def drawn(n, horizon, base, censoring, decimals=6):
        """Hazards that fall or rise with a covariate; predictions are a distorted view of them."""
        z = r.normal(size=n)
        k = np.arange(horizon)
        hazard = 1 / (1 + np.exp(-(np.log(base) + 0.8 * z[:, None] + 0.1 * k * np.sin(z)[:, None])))
        seen = 1 / (1 + np.exp(-(np.log(base) + 0.6 * z[:, None] + 0.3 * r.normal(size=(n, horizon)))))
        risks = np.round(1 - np.cumprod(1 - np.round(seen, decimals), 1), 9)
        churn = r.random((n, horizon)) < hazard
        until = np.where(censoring > r.random(n), r.integers(1, horizon + 1, n), horizon)
        first = np.where(churn.any(1), churn.argmax(1) + 1, horizon + 1)
        churned = first <= until
        return np.where(churned, first, until), churned, risks

    return {
        "three months": drawn(120, 3, 0.1, 0.5),
        "nothing censored": drawn(150, 4, 0.15, 0.0),
        "heavy censoring": drawn(200, 6, 0.1, 0.9),
        "ties": drawn(160, 4, 0.2, 0.4, 1),
        "twelve months": drawn(150, 12, 0.05, 0.6),
    }


def constant_hazard_months(hazard, horizon):
    """Restricted mean of lifelines, on a sample that has exactly these hazards: 10^6 weights."""
    survival = (1 - hazard) ** np.arange(horizon + 1)
    weights = np.r_[survival[:-1] - survival[1:], survival[-1]]
    times = np.r_[np.arange(1, horizon + 1), horizon + 1]
    events = np.r_[np.ones(horizon, bool), False]
    fit = KaplanMeierFitter().fit(times, events, weights=np.round(weights * 1e12))
    return dict(hazard=hazard, horizon=horizon, months=float(restricted_mean_survival_time(fit, t=horizon)))


if __name__ == "__main__":
    print("scikit-survival", sksurv.__version__, "lifelines", lifelines.__version__)
    golden = dict(
        curves=[
            dict(name=n, months=m.tolist(), churned=c.astype(int).tolist(), risks=p.ravel().tolist(), expected=expected(m, c, p))
            for n, (m, c, p) in cases().items()
        ],
        restricted_means=[constant_hazard_months(h, k) for h, k in [(0.02, 6), (0.1, 12), (0.5, 3)]],
    )
    text = json.dumps(golden, separators=(",", ":"), default=float)
    assert len(text) <= 100_000, len(text)
    OUT.write_text(text + "\n")
    print(OUT, len(text), "bytes")
