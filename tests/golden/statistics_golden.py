"""Writes statistics_golden.json: intervals and tests as scipy computes them.

Run: python statistics_golden.py   (scipy 1.x; the file says which)
"""
import json
import pathlib

import numpy as np
import scipy
from scipy import stats

random = np.random.default_rng(7)


def bootstrap(values):
    values = np.asarray(values, dtype=float)
    result = stats.bootstrap(
        (values,), np.mean, n_resamples=200_000, method="percentile", random_state=1, batch=1000
    )
    return {
        "values": values.tolist(),
        "low": result.confidence_interval.low,
        "high": result.confidence_interval.high,
        "standard_error": result.standard_error,
    }


def paired(a, b):
    difference = bootstrap(np.asarray(b) - np.asarray(a))
    return {"a": list(map(float, a)), "b": list(map(float, b)), **difference}


aime = random.binomial(16, random.beta(0.5, 0.8, size=30)) / 16
math = random.binomial(4, random.beta(2.0, 0.6, size=120)) / 4
base = random.binomial(8, random.beta(1.0, 2.0, size=60)) / 8
tuned = random.binomial(8, random.beta(1.3, 1.8, size=60)) / 8
golden = {
    "scipy": scipy.__version__,
    "wilson": [
        {
            "successes": c,
            "n": n,
            "interval": list(
                stats.binomtest(c, n).proportion_ci(confidence_level=0.95, method="wilson")
            ),
        }
        for c, n in [(0, 1), (1, 1), (15, 30), (24, 30), (470, 500), (99, 198), (3, 14042)]
    ],
    "mcnemar": [
        {"only_a": a, "only_b": b, "p": stats.binomtest(a, a + b, 0.5).pvalue if a + b else 1.0}
        for a, b in [(0, 0), (1, 0), (5, 5), (3, 11), (20, 4), (60, 100), (700, 800)]
    ],
    "bootstrap": [bootstrap(aime), bootstrap(math), bootstrap([0.0] * 5 + [1.0] * 5)],
    "paired": [paired(base, tuned)],
    "quantile": [
        {"values": v.tolist(), "q": q, "quantile": float(np.quantile(v, q))}
        for v in (random.integers(1, 900, size=41).astype(float), np.array([3.0, 1.0]), np.array([5.0]))
        for q in (0.0, 0.5, 0.95, 1.0)
    ],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
