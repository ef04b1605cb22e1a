"""Opens an evaluation's exports with the other tools' own readers and compares what they read with results.json.

    moerl eval export DIR --format lm-eval   (and lighteval, inspect)
    python evaluation-readers.py DIR         (with lm-eval, lighteval and inspect_ai installed)
"""
import glob
import importlib.metadata
import json
import pathlib
import sys

from inspect_ai.analysis import evals_df, samples_df
from inspect_ai.log import read_eval_log
from lighteval.utils.utils import make_results_table
from lm_eval.utils import (get_file_datetime, get_file_task_name, get_latest_filename, get_results_filenames,
                           get_sample_results_filenames, make_table)

folder = pathlib.Path(sys.argv[1])
for name in ("lm-eval", "lighteval", "inspect-ai"):
    print(name, importlib.metadata.version(name))
ours = {r["suite"]: r for r in json.load(open(folder / "results.json"))["results"] if not r.get("group")}
records = [json.loads(line) for line in open(folder / "samples.jsonl")]


def accuracy(suite):
    return next(iter(ours[suite]["metrics"].values()))["value"]


def expect(got, wanted, what):
    if got != wanted:
        sys.exit(f"{what}: read {got}, expected {wanted}")


# lm-eval: the helpers that its zeno and wandb scripts find files with, its table, its sample lines.
names = sorted(glob.glob(f"{folder}/export-lm-eval/*"))
result = json.load(open(get_latest_filename(get_results_filenames(names))))
print(make_table(result))
for file in get_sample_results_filenames(names):
    suite = get_file_task_name(pathlib.Path(file).name).removeprefix("moerl_")
    get_file_datetime(pathlib.Path(file).name)
    lines = [json.loads(line) for line in open(file)]
    expect(len(lines), ours[suite]["num_problems"], "lm-eval problems")
    expect(sum(line["exact_match"] for line in lines) / len(lines), accuracy(suite), "lm-eval samples")
    expect(result["results"]["moerl_" + suite]["exact_match,none"], accuracy(suite), "lm-eval result")

# lighteval: its table; its details are parquet, which moerl does not write.
(file,) = glob.glob(f"{folder}/export-lighteval/results/**/results_*.json", recursive=True)
result = json.load(open(file))
print(make_results_table(result))
for suite in ours:
    expect(next(iter(result["results"][f"moerl_{suite}|0"].values())), accuracy(suite), "lighteval result")

# inspect: its log reader (which validates the whole) and its data frames.
for file in glob.glob(f"{folder}/export-inspect/*.json"):
    log = read_eval_log(file)
    suite = log.eval.task.removeprefix("moerl_")
    mine = [r for r in records if r["suite"] == suite]
    expect(log.status, "success", "inspect status")
    expect(len(log.samples), len(mine), "inspect samples")
    expect([s.scores["moerl"].value for s in log.samples],
           ["C" if r["status"] == "correct" else "I" for r in mine], "inspect scores")
    expect(next(iter(log.results.scores[0].metrics.values())).value, accuracy(suite), "inspect result")
    expect(len(samples_df(file)), len(mine), "inspect samples_df")
    expect(len(evals_df(file)), 1, "inspect evals_df")
print("all figures agree")
