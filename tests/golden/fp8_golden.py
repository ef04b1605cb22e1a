#!/usr/bin/env python3
"""Writes fp8.safetensors beside this file: PyTorch's block-wise FP8 quantisation and its inverse.

For a weight of 130 x 136 (both tails ragged): the weight, scale = amax / 448 of each 128 x 128 block, codes =
(weight / scale).to(float8_e4m3fn), and codes.to(float32) * scale. Also the same inverse for power-of-two scales, as
DeepSeek-V3.1 has them, over codes that cover every finite value. Needs torch 2.15 and safetensors.
"""

import pathlib

import torch
from safetensors.torch import save_file

ROWS, COLUMNS, BLOCK = 130, 136, 128
generator = torch.Generator().manual_seed(20250122)


def spread(scale):
    full = scale.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    return full[:ROWS, :COLUMNS]


weight = torch.randn(ROWS, COLUMNS, generator=generator) * 0.02
weight[:, 130:] *= 1e-4  # blocks of different size, and many subnormal codes
weight[5, 3] = 1.5
weight[128:, 128:] = 0
padded = torch.zeros(2 * BLOCK, 2 * BLOCK)
padded[:ROWS, :COLUMNS] = weight
amax = padded.view(2, BLOCK, 2, BLOCK).abs().amax(dim=(1, 3))
scale = torch.where(amax == 0, torch.ones(()), amax / 448)
codes = (weight / spread(scale)).to(torch.float8_e4m3fn)

every = torch.arange(ROWS * COLUMNS, dtype=torch.int64) * 7 % 256
every[(every & 127) == 127] = 126
power_codes = every.to(torch.uint8).view(ROWS, COLUMNS).view(torch.float8_e4m3fn)
power_scale = torch.tensor([[2.0**-9, 2.0**3], [2.0**-20, 1.0]])

save_file(
    {
        "weight": weight,
        "scale": scale,
        "codes": codes,
        "dequantised": codes.to(torch.float32) * spread(scale),
        "power.codes": power_codes,
        "power.scale": power_scale,
        "power.dequantised": power_codes.to(torch.float32) * spread(power_scale),
    },
    pathlib.Path(__file__).parent / "fp8.safetensors",
)
