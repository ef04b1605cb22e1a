#!/usr/bin/env python3
"""Checks `moerl export` against transformers, vLLM's reading of FP8, and PyTorch.

    tests/golden/verify_export.py build/release/moerl [MODEL_DIRECTORY]

Exports the directory (default: tests/golden/families/deepseek_v3) as f32, bf16 and fp8 in small shards, then:
- transformers loads the f32 and bf16 directories without a missing or unexpected weight, every parameter has the bits
  of the source (bf16: rounded by PyTorch), and the f32 logits have the bits of the source's;
- the fp8 directory, dequantised by PyTorch, has the bits of what `moerl export --dtype f32` makes of it, and exporting
  it again as fp8 gives the same files;
- transformers reads config.json and generation_config.json of all three.
Needs torch, transformers and safetensors. Prints one line for each check, and fails on the first that does not hold.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

# The eager experts: PyTorch multiplies groups of rows only where strides are multiples of 16 bytes.
moerl = sys.argv[1]
here = pathlib.Path(__file__).parent
source = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else here / "families" / "deepseek_v3"
root = pathlib.Path(tempfile.mkdtemp())


def check(condition, what):
    print("ok  " if condition else "FAIL", what, flush=True)
    if not condition:
        sys.exit(1)


def export(path, name, dtype):
    subprocess.run([moerl, "export", path, root / name, "--dtype", dtype, "--max-shard-size", "100KB"], check=True,
                   stdout=subprocess.DEVNULL)
    return root / name


def tensors(directory):
    everything = {}
    for path in sorted(directory.glob("*.safetensors")):
        if path.name.startswith("model"):
            everything.update(load_file(path))
    return everything


def load(directory, dtype):
    model, info = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, output_loading_info=True,
                                                       experts_implementation="eager")
    missing = set(info["missing_keys"])
    mtp = f"model.layers.{model.config.num_hidden_layers}."  # which transformers passes over
    unexpected = {key for key in info["unexpected_keys"] if not key.startswith(mtp)}
    check(not missing and not unexpected, f"{directory.name}: transformers finds every weight and no other")
    return model.eval()


f32, bf16, fp8 = (export(source, name, name) for name in ("f32", "bf16", "fp8"))
original = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, experts_implementation="eager").eval()
wide, narrow = load(f32, torch.float32), load(bf16, torch.bfloat16)
for name, value in original.state_dict().items():
    if not torch.equal(wide.state_dict()[name], value):
        check(False, f"f32: {name}")
    expected = value if "e_score_correction_bias" in name else value.to(torch.bfloat16)
    if not torch.equal(narrow.state_dict()[name].to(torch.float32), expected.to(torch.float32)):
        check(False, f"bf16: {name}")
check(True, f"f32 and bf16: {len(original.state_dict())} parameters of transformers have the bits of the source")

ids = torch.randint(3, original.config.vocab_size, (2, 17), generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    check(torch.equal(original(ids).logits, wide(ids).logits), "f32: logits have the bits of the source's")

stored, read = tensors(fp8), tensors(export(fp8, "fp8-as-f32", "f32"))
count = 0
for name, value in stored.items():
    if name.endswith("_scale_inv"):
        continue
    if value.dtype == torch.float8_e4m3fn:
        scale = stored[name + "_scale_inv"].repeat_interleave(128, 0).repeat_interleave(128, 1)
        value = value.to(torch.float32) * scale[: value.shape[0], : value.shape[1]]
        count += 1
    if not torch.equal(read[name], value.to(torch.float32)):
        check(False, f"fp8: {name}")
check(count > 0 and len(read) == len(stored) - count, f"fp8: {count} block-scaled weights read as PyTorch reads them")

again = export(fp8, "fp8-again", "fp8")
same = all((again / path.name).read_bytes() == path.read_bytes() for path in fp8.iterdir())
check(same and len(list(again.iterdir())) == len(list(fp8.iterdir())), "fp8: exported again, the same files")
masters = export(root / "fp8-as-f32", "fp8-from-masters", "fp8")
check(all(torch.equal(value.view(torch.uint8), stored[name].view(torch.uint8))
          for name, value in tensors(masters).items()), "fp8: quantised from its own fp32 masters, the same bits")

for directory in (f32, bf16, fp8):
    config = AutoConfig.from_pretrained(directory)
    GenerationConfig.from_pretrained(directory)
    quantization = json.loads((directory / "config.json").read_text()).get("quantization_config")
    check(config.model_type == original.config.model_type and (quantization is not None) == (directory == fp8),
          f"{directory.name}: config.json and generation_config.json are read")
