"""Judges rows of answers with `moerl judge math` and with Math-Verify, and times both.

    python3 math-answers.py MOERL math_equiv.jsonl [GOLDS.jsonl ...]

Rows are {"gold", "prediction", "equal"} and perhaps "policy"; those of GOLDS have an "answer", which must
equal itself. Needs math-verify from PyPI. Times are processor time.
"""
import json
import logging
import resource
import subprocess
import sys
import time

REPEAT = 100
HANGS = {
    "5^(5^(5^(5^(5^5))))": "5^{5^{5^{5^{5^{5}}}}}",
    "10^(10^(10^10))": "10^{10^{10^{10}}}",
    "9^(9^9)": "9^{9^{9}}",
    "((((10!)!)!)!)!": "((((10!)!)!)!)!",
    "10! and 200 more !": "10!" + "!" * 200,
    "3000!^3000": "3000!^{3000}",
    "2000 nested parentheses": "(" * 2000 + "1" + ")" * 2000,
    "4000 open braces": "{" * 4000,
    "600 open \\frac{": "\\frac{" * 600,
    "800 \\sqrt": "\\sqrt" * 800 + "2",
    "4000 minus signs": "-" * 4000 + "1",
    "tower of 1300 powers": "2^" * 1300 + "2",
    "4096 digits": "9" * 4096,
    "1e9999": "1e9999",
    "2^100000000000": "2^{100000000000}",
    "(1+x)^1000000": "(1+x)^{1000000}",
    "(a+...+h)^200": "(a+b+c+d+e+f+g+h)^{200}",
    "(x+1)^12 (y+1)^12 (z+1)^12": "(x+1)^{12}(y+1)^{12}(z+1)^{12}",
    "sum over 10^9 terms": "\\sum_{k=1}^{1000000000} k",
    "double sum of 25 million sines": "\\sum_{k=1}^{5000} \\sum_{j=1}^{5000} \\sin(kj)",
    "sin(10^(10^8))": "\\sin(10^{10^{8}})",
    "e^e^e^e^e^e": "e^{e^{e^{e^{e^{e}}}}}",
    "C(10^8, 5 10^7)": "\\binom{100000000}{50000000}",
    "matrix row of 1000 cells": "\\begin{pmatrix}" + "1&" * 1000 + "1\\end{pmatrix}",
    "300 surds in a set": "\\{" + "\\sqrt{2}," * 300 + "1\\}",
    "list of 1000": "1," * 1000 + "2",
    "200 nested environments": "\\begin{matrix}" * 200,
    "union of 400 intervals": "[0,1)\\cup" * 400 + "[0,1)",
    "1300 words of units": "cm " * 1300,
    "1/1/.../1, 900 times": "1/" * 900 + "1",
}


def run(moerl, rows, verifier, *options):
    """What `moerl judge` prints, and the processor time that it took, in seconds."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run([moerl, "judge", verifier, "-", "--workers", "1", "--max-unscorable", "1",
                          *options], input=lines, capture_output=True, text=True)
    if out.returncode != 0:
        raise SystemExit(out.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return out.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def judge(moerl, rows, extraction):
    """The rows with their verdicts."""
    return [json.loads(line)
            for line in run(moerl, rows, "math", "-o", "extraction=" + extraction)[0].splitlines()]


def seconds_of(moerl, rows, extraction):
    """Processor time of one pass over the rows: with files and threads, and of the verifier alone,
    which is what is left without the time of the same rows with a verifier that does next to nothing."""
    many = rows * REPEAT
    whole = run(moerl, many, "math", "-o", "extraction=" + extraction)[1] / REPEAT
    return whole, max(whole - run(moerl, many, "tag_count")[1] / REPEAT, 0)


def table(title, rows, accepted):
    for name, has_policy in (("without policy", False), ("with policy", True)):
        for label in (True, False):
            group = [a for row, a in zip(rows, accepted)
                     if bool(row.get("policy")) == has_policy and row["equal"] == label]
            print(f"{title}: {name}, {'equal' if label else 'different'}: "
                  f"{sum(group)} of {len(group)} accepted")


def main(moerl, path, *gold_files):
    rows = [json.loads(line) for line in open(path)]
    ours = [{"response": row["prediction"], "ground_truth": row["gold"]} for row in rows]
    table("moerl", rows, [v["status"] == "correct" for v in judge(moerl, ours, "any")])

    from math_verify import parse, verify
    logging.disable(logging.CRITICAL)

    def accepts(row):
        try:
            return bool(verify(parse(row["gold"]), parse(row["prediction"])))
        except Exception:
            return False

    table("Math-Verify", rows, [accepts(row) for row in rows])
    for name, form, extraction in (("all rows", None, "any"), ("bare answers", "answer", "none")):
        some = [row for row in rows if not row.get("policy") and form in (None, row.get("form"))]
        start = time.process_time()
        for row in some:
            accepts(row)
        theirs = (time.process_time() - start) / len(some)
        whole, mine = (x / len(some) for x in seconds_of(
            moerl, [{"response": row["prediction"], "ground_truth": row["gold"]} for row in some],
            extraction))
        print(f"{name}: {len(some)} rows, moerl {mine * 1e6:.1f} us ({whole * 1e6:.1f} us with files and "
              f"threads), Math-Verify {theirs * 1e6:.0f} us, ratio {theirs / mine:.0f} ({theirs / whole:.0f})")
    for file in gold_files:
        golds = [json.loads(line) for line in open(file)] if file.endswith("l") else json.load(open(file))
        golds = [str(row["answer"]).split("####")[-1].strip() for row in golds if row["answer"]]
        verdicts = judge(moerl, [{"response": "\\boxed{" + gold + " }", "ground_truth": gold}
                                 for gold in golds], "box_or_marker")
        print(f"{file}: {sum(v['status'] == 'correct' for v in verdicts)} of {len(golds)} golds equal "
              "themselves")
    for name, answer in HANGS.items():
        row = {"response": answer, "ground_truth": "x+\\sqrt{2}"}
        status = judge(moerl, [row], "none")[0]["status"]
        print(f"{name:32} {status:11} {seconds_of(moerl, [row], 'none')[1] * 1e3:.2f} ms")


if __name__ == "__main__":
    main(*sys.argv[1:])
