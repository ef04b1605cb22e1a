"""Writes trl_grpo_loss_golden.json: loss and gradient of TRL's own GRPOTrainer._compute_loss.

The method runs on fixed log-probs, old log-probs, reference log-probs, advantages and masks (fp32
values, arithmetic in fp64), for every loss_type that moerl has too. Needs: pip install torch trl.
Usage: python tests/golden/trl_grpo_loss_golden.py
"""

import json
import pathlib
from types import SimpleNamespace
from unittest.mock import MagicMock

import torch
import trl
from trl.trainer.grpo_trainer import GRPOTrainer

OUT = pathlib.Path(__file__).with_name("trl_grpo_loss_golden.json")
ROWS, LENGTH, MAX_COMPLETION_LENGTH = 6, 9, 11


def tensors():
    generator = torch.Generator().manual_seed(11)
    randn = lambda: torch.randn(ROWS, LENGTH, generator=generator)
    old = -torch.rand(ROWS, LENGTH, generator=generator) * 3 - 0.01
    # Ratios on both sides of every clip; a few far out.
    log_probs = torch.clamp(old + 0.35 * randn() + 1.5 * (randn() > 1.5), max=-1e-3)
    ref = torch.clamp(old + 0.4 * randn(), max=-1e-3)
    advantages = torch.tensor([1.3, -0.7, 0.0, -2.1, 0.4, 0.9])
    mask = (torch.arange(LENGTH) < torch.tensor([9, 4, 7, 9, 1, 6])[:, None]).int()
    mask[3, 2] = 0  # as a tool's output inside a completion
    return [t.float().double() for t in (log_probs, old, ref, advantages)] + [mask]


def compute(loss_type, epsilon, epsilon_high, delta, beta, bias_correction):
    log_probs, old, ref, advantages, mask = tensors()
    log_probs.requires_grad_()
    fake = MagicMock()
    fake._get_per_token_logps_and_entropies = lambda *a, **k: (log_probs, torch.zeros_like(log_probs), None)
    fake.loss_type, fake.beta, fake.epsilon_low, fake.epsilon_high = loss_type, beta, epsilon, epsilon_high
    fake.args = SimpleNamespace(delta=delta, use_bias_correction_kl=bias_correction, steps_per_generation=1)
    fake.importance_sampling_level, fake.top_entropy_quantile = "token", 1.0
    fake.off_policy_mask_threshold, fake.use_vllm, fake.aux_loss_enabled = None, False, False
    fake._entropy_bonus_enabled, fake.current_gradient_accumulation_steps = False, 1
    fake.max_completion_length, fake.accelerator.num_processes = MAX_COMPLETION_LENGTH, 1
    fake.accelerator.gather = lambda x: x
    ids = torch.zeros_like(mask)
    loss = GRPOTrainer._compute_loss(fake, SimpleNamespace(training=True), {
        "prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1], "completion_ids": ids,
        "completion_mask": mask, "advantages": advantages, "old_per_token_logps": old,
        "ref_per_token_logps": ref, "num_items_in_batch": mask.sum(),
    })
    loss.backward()
    return loss.item(), log_probs.grad.tolist()


def main():
    log_probs, old, ref, advantages, mask = tensors()
    cases = []
    for loss_type in ("grpo", "bnpo", "dr_grpo", "dapo", "luspo"):
        for epsilon, epsilon_high, delta, beta, bias_correction in (
            (0.2, 0.2, None, 0.0, False), (0.2, 0.28, None, 0.0, False), (0.2, 0.28, 1.5, 0.0, False),
            (0.1, 0.3, None, 0.04, False), (0.2, 0.28, 2.0, 0.3, False), (0.2, 0.28, None, 0.3, True),
        ):
            loss, gradient = compute(loss_type, epsilon, epsilon_high, delta, beta, bias_correction)
            cases.append({"loss_type": loss_type, "epsilon": epsilon, "epsilon_high": epsilon_high,
                          "delta": delta, "beta": beta, "use_bias_correction_kl": bias_correction,
                          "loss": loss, "gradient": gradient})
    golden = {"trl": trl.__version__, "max_completion_length": MAX_COMPLETION_LENGTH,
              "log_probs": log_probs.tolist(), "old_log_probs": old.tolist(), "ref_log_probs": ref.tolist(),
              "advantages": advantages.tolist(), "mask": mask.tolist(), "cases": cases}
    OUT.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


main()
