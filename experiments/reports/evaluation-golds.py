"""Answers a suite with its own golds, with nothing, and with another problem's gold, through the program itself:
`moerl eval` makes the folder, its responses are replaced, `moerl eval rescore` judges them.

    python3 evaluation-golds.py MOERL MODEL DATA_FOLDER OUT_FOLDER SUITE[:LIMIT]...

DATA_FOLDER holds the suites' files (`moerl data get`). Prints a line a suite; chance is what the golds
predict: the mean share of a suite's golds that are the problem's own (for multiple choice about 1/choices).
"""
import collections
import gzip
import json
import os
import pathlib
import random
import subprocess
import sys

moerl, model, data, out = sys.argv[1:5]
out, data = pathlib.Path(out), pathlib.Path(data)


def lines(path):
    return [json.loads(line) for line in open(path)]


def programs():
    """Canonical solutions by suite and id."""
    found = {}
    if (data / "HumanEval.jsonl.gz").exists():
        for line in gzip.open(data / "HumanEval.jsonl.gz"):
            row = json.loads(line)
            found["humaneval", row["task_id"]] = row["prompt"] + row["canonical_solution"]
    if (data / "mbpp.jsonl").exists():
        for row in lines(data / "mbpp.jsonl"):
            found["mbpp", str(row["task_id"])] = row["code"]
    return found


def answer(verifier, gold):
    return {
        "gsm8k": f"<think>easy</think>\n#### {gold}",
        "multiple_choice": f"<think>easy</think>\nAnswer: {gold}",
        "code": f"<think>easy</think>\n```python\n{gold}\n```",
        "math": f"<think>easy</think>\nIt is \\boxed{{{gold}}}.",
    }[verifier]


def run(*arguments):
    done = subprocess.run([moerl, *map(str, arguments)], capture_output=True, text=True,
                          env={**os.environ, "MOERL_DATA": str(data)})
    if done.returncode:
        sys.exit(f"{arguments}: {done.stderr}")


solutions = programs()
print("suite | problems | golds | nothing | other golds [95 % interval] | chance")
for suite in sys.argv[5:]:
    suite, _, limit = suite.partition(":")
    base = out / suite
    run("eval", model, "--suite", suite, *(["--limit", limit] if limit else []), "--n", 1, "--max-tokens", 1, "--chat-template", "none", "--output", base)
    verifier = json.load(open(base / "eval.json"))["suites"][0]["verifier"]
    problems, samples = lines(base / "problems.jsonl"), lines(base / "samples.jsonl")
    golds = [solutions.get((suite, p["id"]), p["ground_truth"]) for p in problems]
    others = golds[:]
    random.Random(1).shuffle(others)
    count, figures = collections.Counter(golds), []
    for kind, given in [("golds", golds), ("nothing", None), ("others", others)]:
        fed = out / f"{suite}-{kind}-fed"
        fed.mkdir()
        for name in ("eval.json", "problems.jsonl"):
            (fed / name).write_bytes((base / name).read_bytes())
        with open(fed / "samples.jsonl", "w") as file:
            for i, sample in enumerate(samples):
                sample["response"] = answer(verifier, given[i]) if given else ""
                file.write(json.dumps(sample) + "\n")
        run("eval", "rescore", fed, "--output", out / f"{suite}-{kind}", "--timeout-s", 60)
        result = json.load(open(out / f"{suite}-{kind}" / "results.json"))["results"][0]
        figures.append(next(iter(result["metrics"].values())))
    chance = sum(count[g] for g in golds) / len(golds) ** 2
    right, none, other = figures
    print(f"{suite} | {len(golds)} | {right['value']:.2%} | {none['value']:.2%} | {other['value']:.2%} "
          f"[{other['low']:.2%}, {other['high']:.2%}] | {chance:.2%}", flush=True)
