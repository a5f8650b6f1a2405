#!/usr/bin/env python3
"""Golden numbers of `src/tune`, from Optuna.

    scripts/golden/tpe_golden.py densities    # for src/tune/parzen/tests.rs
    scripts/golden/tpe_golden.py functions    # for src/tune/tpe/tests.rs, some minutes

`densities` prints logarithms of the multivariate Parzen density that Optuna's TPESampler builds
from given points, at given points. `functions` prints the mean and the standard error of the best
value that the sampler with its defaults finds on three test functions in 60 trials, over 100
seeds. Needs optuna (written with 5.0) and numpy.
"""

import math
import sys

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator, _ParzenEstimatorParameters
from optuna.samplers._tpe.sampler import default_weights

SPACE = {
    "a": FloatDistribution(-1.0, 2.0),
    "b": FloatDistribution(1e-4, 1e-1, log=True),
    "c": IntDistribution(2, 5),
    "d": IntDistribution(1, 300, log=True),
    "e": CategoricalDistribution(["x", "y", "z"]),
}
QUERIES = [
    (-1.0, 1e-4, 2, 1, 0),
    (0.31, 3e-3, 3, 20, 1),
    (1.99, 9e-2, 5, 300, 2),
    (0.5, 1e-2, 4, 64, 0),
]


def point(i):
    """The same arithmetic as in the test: spread over the space, without a random generator."""
    return (
        -1.0 + 3.0 * ((i * 37 + 11) % 101) / 100,
        1e-4 * 1000.0 ** (((i * 53 + 7) % 97) / 96),
        2 + (i * 5) % 4,
        1 + (i * 71) % 300,
        (i * 7) % 3,
    )


def densities():
    # Which of several equal points gets the wider kernel is decided by the order of a sort that
    # leaves it open; ours is stable.
    argsort = np.argsort
    np.argsort = lambda values, **_: argsort(values, kind="stable")
    parameters = _ParzenEstimatorParameters(1.0, True, False, default_weights, True)
    columns = lambda rows: {name: np.array(column, dtype=float) for name, column in zip(SPACE, zip(*rows))}
    for n in (0, 1, 2, 7, 40):
        rows = [point(i) for i in range(n)]
        observed = columns(rows) if n else {name: np.array([]) for name in SPACE}
        found = _ParzenEstimator(observed, SPACE, parameters).log_pdf(columns(QUERIES))
        print(f"        ({n}, [{', '.join(repr(float(x)) for x in found)}]),")


def sphere(suggest):
    return sum((suggest.real(f"x{i}", -5.0, 5.0) - 1.5) ** 2 for i in range(4))


def branin(suggest):
    x, y = suggest.real("x", -5.0, 10.0), suggest.real("y", 0.0, 15.0)
    bend = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return bend**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def mixed(suggest):
    """Like a training: a rate, a width, a number of blocks and a kind that shifts the optimum."""
    rate, width = suggest.log("rate", 1e-5, 1e-1), suggest.log_int("width", 8, 512)
    blocks, kind = suggest.int("blocks", 1, 6), suggest.choice("kind", ["a", "b", "c"])
    best = {"a": 1e-3, "b": 3e-3, "c": 3e-4}[kind]
    penalty = {"a": 0.0, "b": 0.2, "c": 0.5}[kind]
    return (
        math.log10(rate / best) ** 2
        + 0.3 * math.log2(width / 128) ** 2
        + 0.1 * (blocks - 3) ** 2
        + penalty
    )


class Suggest:
    def __init__(self, trial):
        self.trial = trial

    def real(self, name, low, high):
        return self.trial.suggest_float(name, low, high)

    def log(self, name, low, high):
        return self.trial.suggest_float(name, low, high, log=True)

    def int(self, name, low, high):
        return self.trial.suggest_int(name, low, high)

    def log_int(self, name, low, high):
        return self.trial.suggest_int(name, low, high, log=True)

    def choice(self, name, choices):
        return self.trial.suggest_categorical(name, choices)


def functions(seeds=100, trials=60):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers = {
        "TPESampler()": lambda seed: optuna.samplers.TPESampler(seed=seed),
        "multivariate=False": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=False),
        "RandomSampler()": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    }
    for function in (sphere, branin, mixed):
        for name, sampler in samplers.items():
            best = []
            for seed in range(seeds):
                study = optuna.create_study(sampler=sampler(seed))
                study.optimize(lambda trial: function(Suggest(trial)), n_trials=trials)
                best.append(study.best_value)
            error = np.std(best, ddof=1) / math.sqrt(seeds)
            print(f"{function.__name__:8} {name:20} mean {np.mean(best):.4f} se {error:.4f}", flush=True)


if __name__ == "__main__":
    {"densities": densities, "functions": functions}[sys.argv[1]]()
