"""Countdown as a TRL reward: moerl serve reward --python experiments/rewards/countdown_trl.py"""

from countdown_verl import compute_score


def countdown_reward(prompts, completions, ground_truth, **kwargs):
    return [compute_score("", c, g)["score"] for c, g in zip(completions, ground_truth)]
