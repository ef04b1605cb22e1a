#!/usr/bin/env python3
"""Writes safetensors_types.safetensors and safetensors_written.safetensors beside this file.

The first holds one tensor of each kind that the reader converts, with what it should become under
`<name>.expected`; the second is what SafetensorsWriter must reproduce byte for byte. Needs numpy
2.4.6, ml_dtypes 0.6.0 and safetensors 0.8.0.
"""

import pathlib

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
rng = np.random.default_rng(20250122)


def types():
    e4m3 = ml_dtypes.float8_e4m3fn
    weight = (rng.standard_normal((129, 130)) * 20).astype(e4m3)
    scale = np.exp2(rng.integers(-8, 8, (2, 2))).astype(np.float32) * np.float32(1.37)
    blocks = np.kron(scale, np.ones((128, 128), np.float32))[:129, :130]
    f16_bits = np.append(np.arange(0, 65536, 13), [0x7C00, 0xFC00, 0x03FF]).astype(np.uint16)
    plain = {
        "f32": rng.standard_normal((2, 3)).astype(np.float32),
        "bf16": rng.standard_normal(5).astype(ml_dtypes.bfloat16),
        "f16": f16_bits.view(np.float16),
        "f8.all": np.arange(256, dtype=np.uint8).view(e4m3),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
    }
    tensors = dict(plain)
    for name, value in plain.items():
        tensors[name + ".expected"] = value.astype(np.float32)
    tensors["weight"] = weight
    tensors["weight_scale_inv"] = scale
    tensors["weight.expected"] = weight.astype(np.float32) * blocks
    tensors["i64"] = np.array([1, -2, 3], np.int64)
    save_file(tensors, HERE / "safetensors_types.safetensors", {"format": "pt", "made by": "numpy"})


def written():
    tensors = {
        "model.norm.weight": rng.standard_normal(7).astype(ml_dtypes.bfloat16),
        "model.embed_tokens.weight": rng.standard_normal((3, 5)).astype(ml_dtypes.bfloat16),
        "model.layers.0.mlp.gate.e_score_correction_bias": rng.standard_normal(4).astype(np.float32),
        "a \"quoted\" näme": np.array(1.5, np.float32),
        "empty": np.zeros((2, 0), np.float32),
    }
    save_file(tensors, HERE / "safetensors_written.safetensors", {"format": "pt"})


types()
written()
