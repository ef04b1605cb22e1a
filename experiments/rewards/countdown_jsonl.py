#!/usr/bin/env python3
"""Countdown as a program that answers JSON lines:

moerl serve reward --command "python3 experiments/rewards/countdown_jsonl.py" --name countdown_jsonl
"""

import json
import sys

from countdown_verl import compute_score

for line in sys.stdin:
    sample = json.loads(line)
    verdict = compute_score(sample["data_source"], sample["response"], sample["ground_truth"])
    print(json.dumps({"id": sample["id"], **verdict}), flush=True)
