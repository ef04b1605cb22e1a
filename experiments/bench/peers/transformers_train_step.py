#!/usr/bin/env python3
"""Forward, backward and AdamW of transformers' DeepseekV3 on the shape that `moerl bench` trains (train_step): 108 M
parameters, 4 sequences of 512 tokens, on the CPU. Prints tokens a second for each dtype.

  pip install torch transformers        # outside the project
  python transformers_train_step.py & moerl bench -- --benchmark_filter=train_step    # one after the other, same minute
"""
import argparse
import time

import torch
import transformers

BATCH, LENGTH = 4, 512


def peer_model(dtype):
    config = transformers.DeepseekV3Config(
        vocab_size=8192, hidden_size=512, intermediate_size=1408, moe_intermediate_size=256, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=8, q_lora_rank=256, kv_lora_rank=128, qk_nope_head_dim=64,
        qk_rope_head_dim=32, v_head_dim=64, n_routed_experts=32, num_experts_per_tok=4, n_shared_experts=1, n_group=1,
        topk_group=1, first_k_dense_replace=1, routed_scaling_factor=2.5, max_position_embeddings=1024,
        tie_word_embeddings=False, use_cache=False)
    torch.manual_seed(1)
    return transformers.DeepseekV3ForCausalLM(config).to(dtype)


def seconds_of_step(model, optimizer, tokens):
    start = time.perf_counter()
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3, help="timed steps, after one that is not")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    args = parser.parse_args()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads")
    tokens = torch.randint(0, 8192, (BATCH, LENGTH), generator=torch.Generator().manual_seed(7))
    for name in args.dtype:
        model = peer_model(getattr(torch, name))
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        seconds_of_step(model, optimizer, tokens)
        best = min(seconds_of_step(model, optimizer, tokens) for _ in range(args.steps))
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        print(f"{name}: {millions:.1f} M parameters, {best:.2f} s a step, {BATCH * LENGTH / best:.0f} tokens/s")


if __name__ == "__main__":
    main()
