"""The operations of gpu_bench.cc in PyTorch, under the same names. Writes {name: microseconds}.

python3 torch_ops.py OUTPUT.json [SECONDS]
"""
import json
import sys
import time

import torch
import torch.nn.functional as F

OUTPUT, BUDGET = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 100
HIDDEN, VOCAB, BF16 = 7168, 129280, torch.bfloat16
began, times = time.time(), {}


def rand(*shape, dtype=BF16):
    return (torch.rand(*shape, device="cuda", dtype=torch.float32) - 0.5).to(dtype)


def microseconds(f, calls=20):
    for _ in range(3):
        f()
    starts = [torch.cuda.Event(enable_timing=True) for _ in range(calls)]
    ends = [torch.cuda.Event(enable_timing=True) for _ in range(calls)]
    for start, end in zip(starts, ends):
        start.record()
        f()
        end.record()
    torch.cuda.synchronize()
    return sorted(s.elapsed_time(e) for s, e in zip(starts, ends))[calls // 2] * 1e3


def row(name, make, calls=20):
    """make() prepares the operands and returns what is timed."""
    if time.time() - began > BUDGET:
        return
    try:
        times[name] = microseconds(make(), calls)
    except Exception as error:  # a missing operation or too little memory loses one row
        print(f"{name}: {error!r}"[:300], file=sys.stderr)
    torch.cuda.empty_cache()
    with open(OUTPUT, "w") as file:
        json.dump(times, file, indent=1)


def linear(rows, out, inner):
    shape = f"{rows}x{out}x{inner}"

    def forward():
        x, w = rand(rows, inner), rand(out, inner)
        return lambda: F.linear(x, w)

    def dgrad():
        dy, w = rand(rows, out), rand(out, inner)
        return lambda: dy @ w

    def wgrad():
        dy, x = rand(rows, out), rand(rows, inner)
        return lambda: dy.T @ x

    row(f"linear {shape}", forward)
    if rows >= 1024:
        row(f"linear dgrad {shape}", dgrad)
        row(f"linear wgrad {shape}", wgrad)


def grouped(experts, rows, out, inner):
    def make():
        x, w = rand(experts * rows, inner), rand(experts, inner, out)
        offsets = torch.arange(1, experts + 1, device="cuda", dtype=torch.int32) * rows
        product = getattr(F, "grouped_mm", None) or torch._grouped_mm
        return lambda: product(x, w, offs=offsets)

    row(f"grouped {experts}x{rows}x{out}x{inner}", make)


def attention(backward):
    def make():
        q, k, v = (rand(2, 128, 4096, d).requires_grad_(backward) for d in (192, 192, 128))
        if not backward:
            return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        gradient = torch.randn_like(out)
        return lambda: torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True)

    return make


def log_prob():
    x, w = rand(2048, HIDDEN), rand(VOCAB, HIDDEN)

    def run():
        log_p = F.log_softmax(F.linear(x, w).float(), -1)
        return log_p[:, 7], -(log_p.exp() * log_p).sum(-1)

    return run


def adamw():
    parameter = torch.nn.Parameter(rand(1 << 28, dtype=torch.float32))
    parameter.grad = torch.zeros_like(parameter)
    return torch.optim.AdamW([parameter], fused=True).step


def small_v3():
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    config = DeepseekV3Config(
        vocab_size=VOCAB, hidden_size=2048, intermediate_size=8192, moe_intermediate_size=1024,
        num_hidden_layers=6, num_attention_heads=16, num_key_value_heads=16, q_lora_rank=768,
        kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
        n_routed_experts=32, n_shared_experts=1, num_experts_per_tok=4, n_group=1, topk_group=1,
        first_k_dense_replace=1, max_position_embeddings=2048)
    return DeepseekV3ForCausalLM(config).to("cuda", BF16)


def generate(batch):
    def make():
        model = small_v3().eval()
        ids = torch.randint(VOCAB, (batch, 128), device="cuda")

        @torch.no_grad()
        def run():
            model.generate(ids, max_new_tokens=64, min_new_tokens=64, do_sample=True, top_k=0, pad_token_id=0)

        return run

    return make


def train_step():
    model = small_v3().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    ids = torch.randint(VOCAB, (8, 1024), device="cuda")

    def run():
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


for rows in (1, 128, 8192):
    for out, inner in ((2112, HIDDEN), (HIDDEN, 16384), (4096, HIDDEN)):
        linear(rows, out, inner)
linear(8192, 8192, 8192)
for rows in (1, 32, 2048):
    grouped(32, rows, 4096, HIDDEN)
    grouped(32, rows, HIDDEN, 2048)
row("attention forward 2x4096 128/128 heads 192/128", lambda: attention(False)())
row("attention backward 2x4096 128/128 heads 192/128", lambda: attention(True)())
for rows in (128, 16384):
    row(f"rms_norm {rows}x7168",
        lambda: (lambda x, w: lambda: F.rms_norm(x, (HIDDEN,), w, 1e-6))(rand(rows, HIDDEN), rand(HIDDEN)))
row("swiglu 65536x2048", lambda: (lambda x: lambda: F.silu(x[:, :2048]) * x[:, 2048:])(rand(65536, 4096)))
row("linear + log_prob + entropy 2048", log_prob)
row("sample_token 128x129280",
    lambda: (lambda z: lambda: torch.multinomial(torch.softmax(z, -1), 1))(rand(128, VOCAB, dtype=torch.float32)))
row("adamw 268M", adamw)
row("train step 8x1024", train_step, calls=3)
for batch in (64, 256):
    row(f"generate, batch {batch}", generate(batch), calls=1)
