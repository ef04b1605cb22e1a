"""Computes the figures of an evaluation again from its samples.jsonl, with exact fractions and scipy's bootstrap.

    python evaluation-figures.py DIR         (with numpy and scipy installed)

Means must agree to 1e-12, ends of intervals within five standard deviations of the bootstrap's own noise, which
eight runs of scipy's give. Answers vote by their text, all correct ones together: right for suites whose verifier
says of no two different wrong answers that they are equal.
"""
import collections
import fractions
import json
import math
import pathlib
import sys

import numpy as np
import scipy
from scipy import stats

folder = pathlib.Path(sys.argv[1])
results = [r for r in json.load(open(folder / "results.json"))["results"] if not r.get("group")]
records = [json.loads(line) for line in open(folder / "samples.jsonl")]
print("numpy", np.__version__, "scipy", scipy.__version__)


def consensus(samples, k):
    votes = collections.Counter()
    for s in samples[:k]:
        if s["extracted"] and s["status"] in ("correct", "incorrect"):
            votes[True if s["status"] == "correct" else s["extracted"]] += 1
    best = [v for v in votes if votes[v] == max(votes.values())]
    return sum(v is True for v in best) / len(best) if best else 0.0


def per_problem(metric, samples):
    n, c = len(samples), sum(s["status"] == "correct" for s in samples)
    if metric.startswith("pass@1"):
        return c / n
    k = int(metric[5:])
    if metric.startswith("pass@"):
        return float(1 - fractions.Fraction(math.comb(n - c, k), math.comb(n, k)))
    if metric.startswith("pass^"):
        return math.comb(c, k) / math.comb(n, k)
    return consensus(samples, k)


worst = 0.0
for result in results:
    problems = collections.defaultdict(list)
    for r in sorted((r for r in records if r["suite"] == result["suite"]), key=lambda r: r["sample"]):
        problems[r["problem"]].append(r)
    for metric, ours in result["metrics"].items():
        values = np.array([per_problem(metric, problems[p]) for p in sorted(problems)])
        if abs(values.mean() - ours["value"]) > 1e-12:
            sys.exit(f"{metric}: {ours['value']}, expected {values.mean()}")
        if ours["interval"] == "wilson":
            found = stats.binomtest(int(values.sum()), len(values)).proportion_ci(0.95, "wilson")
            ends, noise = np.array([[found.low, found.high]]), np.array([1e-12, 1e-12])
        else:
            ends = np.array([stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=seed)
                             .confidence_interval for seed in range(8)])
            noise = np.maximum(5 * ends.std(axis=0, ddof=1) * math.sqrt(1 + 1 / 8), 1 / len(values) / result["n"])
        off = np.abs(ends.mean(axis=0) - [ours["low"], ours["high"]])
        worst = max(worst, *(off / noise))
        print(f"{result['suite']} {metric}: {ours['value']:.6f} [{ours['low']:.6f}, {ours['high']:.6f}], "
              f"peer [{ends.mean(axis=0)[0]:.6f}, {ends.mean(axis=0)[1]:.6f}]")
        if (off > noise).any():
            sys.exit(f"{metric}: the interval's ends are {off} off, expected at most {noise}")
print(f"all figures agree; the worst end of an interval is {worst:.2f} of what is allowed off")
