#!/usr/bin/env python3
"""y = x W^T of PyTorch (oneDNN) on one thread, for the shapes of `moerl bench -- --benchmark_filter=linear_forward`: what the
fastest order of additions of a library would give where moerl's is fixed. Prints GFLOP/s.

  pip install torch        # outside the project
"""
import time

import torch

SHAPES = [(256, 256), (512, 512), (1408, 512), (1024, 1024)]
ROWS = [1, 16, 64, 256, 1024]


def gflops(dtype, n, k, rows):
    x, weight = torch.randn(rows, k, dtype=dtype), torch.randn(n, k, dtype=dtype)
    calls = max(3, int(2e9 / (2 * rows * n * k)))
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        for _ in range(calls):
            torch.nn.functional.linear(x, weight)
        best = min(best, (time.perf_counter() - start) / calls)
    return 2e-9 * rows * n * k / best


def main():
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}; T = {ROWS}")
    for dtype in (torch.float32, torch.bfloat16):
        for n, k in SHAPES:
            print(f"{str(dtype)[6:]} N:{n} K:{k}", " ".join(f"{gflops(dtype, n, k, rows):.0f}" for rows in ROWS))


if __name__ == "__main__":
    with torch.inference_mode():
        main()
