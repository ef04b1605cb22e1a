"""Runs of a small Python program per second: in warm sandboxes (`moerl judge code`), and as plain
fork and exec of the same interpreter, two at a time; in turns.

    python3 code-sandbox-speed.py MOERL [RUNS]
"""
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

PROGRAM = "print(int(input()) * 2)"
WORKERS = 2


def sandboxed(moerl, runs):
    row = {"response": f"```python\n{PROGRAM}\n```",
           "ground_truth": {"inputs": ["21"], "outputs": ["42"]}}

    def seconds(count):
        text = (json.dumps(row) + "\n") * count
        start = time.perf_counter()
        out = subprocess.run([moerl, "judge", "code", "-", "--workers", str(WORKERS)], input=text,
                             capture_output=True, text=True, check=True)
        spent = time.perf_counter() - start
        assert all(json.loads(line)["status"] == "correct" for line in out.stdout.splitlines())
        return spent

    return runs / (seconds(runs + 2 * WORKERS) - seconds(2 * WORKERS))


def plain(path, runs):
    def work():
        for _ in range(runs // WORKERS):
            out = subprocess.run(["/usr/bin/python3", path], input=b"21", stdout=subprocess.PIPE)
            assert out.stdout == b"42\n"

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return runs / (time.perf_counter() - start)


def main(moerl, runs="400"):
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(PROGRAM)
        file.flush()
        for _ in range(3):
            warm, cold = sandboxed(moerl, int(runs)), plain(file.name, int(runs))
            print(f"sandboxed {warm:.0f} runs/s, fork and exec {cold:.0f} runs/s, "
                  f"cost ratio {cold / warm:.2f}; load {os.getloadavg()[0]:.1f}", flush=True)


main(*sys.argv[1:])
