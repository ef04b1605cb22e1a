"""A Markdown table of moerl.json (Google Benchmark) beside torch.json, both of one folder.

python3 table.py FOLDER REPORT.md
"""
import json
import pathlib
import sys

folder, report = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
UNITS = {"ns": 1e-3, "us": 1, "ms": 1e3, "s": 1e6}


def load(name):
    path = folder / name
    return json.loads(path.read_text()) if path.exists() else {}


def benchmarks(name):
    """What a run of Google Benchmark has measured; one that was killed has not closed its file."""
    path = folder / name
    text = path.read_text() if path.exists() else "{}"
    try:
        return json.loads(text).get("benchmarks", [])
    except json.JSONDecodeError:
        cut = text.rfind("\n    }")
        return json.loads(text[:cut] + "\n    }]}")["benchmarks"] if cut > 0 else []


def number(value):
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


torch = load("torch.json")
lines = ["| operation | moerl, us | PyTorch, us | PyTorch / moerl | floor, us | share of the floor | tokens/s | products by |",
         "|---|---|---|---|---|---|---|---|"]
times = {}
for bench in benchmarks("moerl.json"):
    if bench.get("run_type", "iteration") != "iteration":
        continue
    name = bench["name"].split("/iterations")[0].split("/min_time")[0].removesuffix("/manual_time")
    ours, theirs = bench["real_time"] * UNITS[bench["time_unit"]], torch.get(name)
    times[name] = ours
    floor = bench.get("floor_us")
    lines.append(f"| {name} | {number(ours)} | {number(theirs)} | {number(theirs / ours if theirs else None)} "
                 f"| {number(floor)} | {number(floor / ours if floor else None)} "
                 f"| {number(bench.get('tokens_per_s'))} | {bench.get('label', '')} |")
exact, fastest = times.get("train step 8x1024"), times.get("train step 8x1024, cuBLASLt unproven")
if exact and fastest:
    lines += ["", f"Price of exactness: a training step takes {100 * (exact / fastest - 1):.1f} % more than "
                  "with cuBLASLt's own choice of algorithms."]
report.write_text((folder / "steps.txt").read_text() + "\n" + "\n".join(lines) + "\n")
print("\n".join(lines))
