#!/usr/bin/env python3
"""A whole GRPO step of TRL's GRPOTrainer on the CPU, with the model, prompts, group size, lengths and sampling of a run of
trl_grpo_step.yaml. Prints tokens a second (prompt and completion) of each step of both.

  pip install torch transformers trl datasets        # outside the project
  moerl export runs/countdown countdown-hf
  moerl train experiments/bench/peers/trl_grpo_step.yaml model.path=$PWD/countdown-hf --run-dir step
  python trl_grpo_step.py countdown-hf step
"""
import argparse
import json
import pathlib
import sqlite3
import tempfile
import time

import torch
import transformers
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

PROMPTS, GROUP, MAX_NEW = 32, 16, 224


def prompts(run_dir, steps):
    """The prompts of the run's GRPO steps, in its order."""
    with sqlite3.connect(pathlib.Path(run_dir) / "samples.sqlite") as samples:
        rows = samples.execute("SELECT DISTINCT step, prompt_id, prompt FROM samples WHERE split = 'train' AND step <= ? "
                               "ORDER BY step, prompt_id", (steps,)).fetchall()
    return [{"prompt": prompt} for _, _, prompt in rows]


class Clock(TrainerCallback):
    """Seconds of each step, sampling and rewards included."""

    def __init__(self):
        self.seconds = []

    def on_step_begin(self, args, state, control, **kwargs):
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.perf_counter() - self.start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Hugging Face directory that moerl export wrote")
    parser.add_argument("run_dir", help="run directory of trl_grpo_step.yaml")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--micro-batch", type=int, default=512, help="completions of one forward in training")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, trl {trl.__version__}, "
          f"{torch.get_num_threads()} threads")
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype))
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    clock = Clock()
    rows = prompts(args.run_dir, args.steps)
    with tempfile.TemporaryDirectory() as out:
        config = trl.GRPOConfig(
            output_dir=out, use_cpu=True, bf16=args.dtype == "bfloat16", report_to=[], save_strategy="no",
            logging_steps=1, max_steps=args.steps, per_device_train_batch_size=args.micro_batch,
            gradient_accumulation_steps=PROMPTS * GROUP // args.micro_batch, num_generations=GROUP,
            max_completion_length=MAX_NEW, temperature=1.0, beta=0.0, loss_type="dapo", epsilon=0.2, epsilon_high=0.28,
            learning_rate=3e-4, gradient_checkpointing=False,
            shuffle_dataset=False, disable_tqdm=True)
        trainer = trl.GRPOTrainer(
            model=model, processing_class=tokenizer, args=config, callbacks=[clock],
            reward_funcs=lambda completions, **kwargs: [float(len(c) % 7) for c in completions],
            train_dataset=Dataset.from_list(rows))
        trainer.train()
        logs = [row for row in trainer.state.log_history if "completions/mean_length" in row]
    prompt_length = len(tokenizer(rows[0]["prompt"])["input_ids"])
    for seconds, row in zip(clock.seconds, logs, strict=True):
        print_step("TRL", seconds, PROMPTS * GROUP * (row["completions/mean_length"] + prompt_length))
    with open(pathlib.Path(args.run_dir) / "metrics.jsonl") as metrics:
        for row in map(json.loads, metrics):
            if "training/total_num_tokens" in row:
                print_step("moerl", row["timing_s/step"], row["training/total_num_tokens"])


def print_step(name, seconds, tokens):
    print(f"{name}: {seconds:.1f} s a step, {tokens:.0f} tokens, {tokens / seconds:.0f} tokens/s")


if __name__ == "__main__":
    main()
