#!/usr/bin/env python3
"""Checks that what `moerl export` writes is what others read, for one model of every family.

    tests/golden/verify_export_peers.py MOERL TOKENIZER_JSON [--llama-cpp DIR]

Makes a small random model of each family with a real vocabulary (TOKENIZER_JSON, DeepSeek-V3's), exports it as
f32 and bf16, and then:
- transformers loads both directories without a missing or unexpected weight, and PreTrainedTokenizerFast encodes a
  text as `moerl tokenize` does (AutoTokenizer of transformers 5 replaces the file's pre-tokenizer by Qwen2's in every
  directory of type qwen2, whatever the file says);
- the log-probabilities of `moerl score` are those of transformers on the same directory, in f32 within 2e-5 of the
  range of the logits; in bf16, where the two round at different places, moerl's distance from transformers' f32 is at
  most 1.5 times that of transformers' own bf16 (root mean square);
- with --llama-cpp, its convert_hf_to_gguf.py makes a GGUF of both directories and of one exported as fp8, whose tensors
  have the names, shapes and bits of the exported ones (fp8: as `moerl export --dtype f32` dequantises them), and
  llama-bench, if it was built, loads and runs it.
Needs torch, transformers, tokenizers, safetensors; gguf comes with llama.cpp. Prints one line for each check; exit
status 1 if one failed.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from family_golden import COMMITTED, make_model
from transformers.utils import logging

logging.disable_progress_bar()

VOCAB, KNOWN = 129280, 128815  # rows behind the known ids are padding, which moerl gives no probability
TEXT = "Find x: 3x + 4 = 19. 求解方程，并说明理由。 \n\n  def f(n):\n\treturn n * 2"
# Widths that llama.cpp's own limits allow.
LATENT = dict(vocab_size=VOCAB, hidden_size=96, intermediate_size=96, moe_intermediate_size=32, qk_rope_head_dim=16,
              qk_nope_head_dim=16, v_head_dim=16, kv_lora_rank=32)
GROUPED = dict(vocab_size=VOCAB, hidden_size=96, intermediate_size=64, head_dim=16)
failed = []


def check(condition, what):
    print("ok  " if condition else "FAIL", what, flush=True)
    if not condition:
        failed.append(what)


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        print((done.stderr or done.stdout)[-2000:])
    return done


def make_source(name, tokenizer, directory):
    family, settings = COMMITTED[name]
    settings = settings | (LATENT if family.startswith("deepseek") else GROUPED)
    if settings.get("q_lora_rank"):
        settings["q_lora_rank"] = 32
    if name == "deepseek_v2_lite":
        settings |= dict(num_hidden_layers=27)  # by which llama.cpp knows that there is no q_lora_rank
    if family == "qwen3_moe":
        settings |= dict(moe_intermediate_size=32, mlp_only_layers=[])  # llama.cpp: experts in every layer
    torch.manual_seed(7)
    model = make_model(family, settings)
    model.config.bos_token_id, model.config.eos_token_id = 0, 1
    model.save_pretrained(directory)
    shutil.copy(tokenizer, directory / "tokenizer.json")
    (directory / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<｜begin▁of▁sentence｜>",
        "eos_token": "<｜end▁of▁sentence｜>", "pad_token": "<｜end▁of▁sentence｜>", "add_bos_token": False,
        "clean_up_tokenization_spaces": False, "model_max_length": 256}))


def export(moerl, source, directory, kind, name):
    check(run(moerl, "export", source, directory, "--dtype", kind).returncode == 0, f"{name}: exported")
    return directory


def transformers_scores(directory, dtype, ids, name):
    """log-probs of ids[1:], and the range of the logits."""
    model, info = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, output_loading_info=True)
    check(not info["missing_keys"] and not info["unexpected_keys"], f"{name}: transformers finds every weight")
    with torch.no_grad():
        logits = model.eval()(torch.tensor([ids])).logits[0].float()[:-1, :KNOWN]
    return (torch.log_softmax(logits, -1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0],
            (logits.max() - logits.min()).item())


def compare_scores(moerl, directory, kind, ids, name):
    rows = directory.parent / "rows.jsonl"
    rows.write_text(json.dumps({"token_ids": ids}) + "\n")
    row = json.loads(run(moerl, "score", directory, rows, "--dtype", kind).stdout)
    got = torch.tensor(row["log_probs"][1:])
    exact, span = transformers_scores(directory, torch.float32, ids, name)
    if kind == "f32":
        error = (got - exact).abs().max().item() / span
        check(error <= 2e-5, f"{name}: log-probs agree within {error:.1e} of the range of the logits, bound 2e-05")
        return
    narrow, _ = transformers_scores(directory, torch.bfloat16, ids, name)
    ours, theirs = ((x - exact).square().mean().sqrt().item() for x in (got, narrow))
    check(ours <= 1.5 * theirs, f"{name}: log-probs are {ours:.1e} from exact, transformers' bf16 {theirs:.1e}")


def llama_cpp_tensors(directory, config, names):
    """What a directory holds, under llama.cpp's names (gguf's map of them) and in its layouts: experts stacked, MLA's
    kv_b_proj cut head by head into keys (transposed) and values, the two halves of Llama's rotary dimensions interleaved.
    The MTP module is left out, as the converter leaves it."""
    stored = {key: value.float() for path in directory.glob("model*.safetensors") for key, value in load_file(path).items()}
    out = {}
    for key, value in stored.items():
        key = key.replace("e_score_correction_bias", "e_score_correction.bias")
        layer = re.match(r"model\.layers\.(\d+)\.", key)
        if layer and int(layer[1]) >= config["num_hidden_layers"]:
            continue
        if expert := re.match(r"(.*\.experts\.)(\d+)\.(.*)", key):
            out.setdefault(names.get_name(expert[1] + expert[3], (".weight",)), {})[int(expert[2])] = value
        elif key.endswith("kv_b_proj.weight"):
            heads = value.unflatten(0, (config["num_attention_heads"], -1))
            keys, values = heads.split([config["qk_nope_head_dim"], config["v_head_dim"]], dim=1)
            for part, cut in (("k", keys.transpose(1, 2)), ("v", values)):
                out[names.get_name(key.replace("kv_b", f"{part}_b"), (".weight",))] = cut
        else:
            if config["model_type"] == "llama" and re.search(r"\.[qk]_proj\.", key):
                value = value.unflatten(0, (-1, 2, config["head_dim"] // 2)).transpose(1, 2).flatten(0, 2)
            out[names.get_name(key, (".weight", ".bias"))] = value
    return {key: torch.stack([value[i] for i in range(len(value))]) if isinstance(value, dict) else value
            for key, value in out.items()}


def convert(moerl, llama, directory, name):
    sys.path.insert(0, str(llama / "gguf-py"))
    from gguf import GGUFReader, MODEL_ARCH_NAMES, get_tensor_name_map

    out = directory.parent / "model.gguf"
    # The converter knows a pre-tokenizer by a hash of ids, in the vocabulary that the family was published with.
    known = ("import runpy, sys; sys.path.insert(0, sys.argv[1]); import conversion.base as base;"
             "base.TextModel.get_vocab_base_pre = lambda self, tokenizer: 'deepseek-v3';"
             "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0] + '/convert_hf_to_gguf.py', run_name='__main__')")
    done = run(sys.executable, "-c", known, llama, directory, "--outfile", out, "--outtype", "f32")
    check(done.returncode == 0, f"{name}: llama.cpp's converter reads it")
    if done.returncode != 0:
        return
    reader = GGUFReader(out)
    architecture = {text: key for key, text in MODEL_ARCH_NAMES.items()}[reader.fields["general.architecture"].contents()]
    config = json.loads((directory / "config.json").read_text())
    if "quantization_config" in config:
        directory = export(moerl, directory, directory.parent / "wide", "f32", f"{name}, dequantised")
    expected = llama_cpp_tensors(directory, config, get_tensor_name_map(architecture, config["num_hidden_layers"]))
    got = {tensor.name: torch.tensor(tensor.data) for tensor in reader.tensors if tensor.name != "rope_freqs.weight"}
    wrong = [key for key in got.keys() | expected.keys()
             if key not in got or key not in expected or not torch.equal(got[key], expected[key])]
    check(not wrong, f"{name}: {len(got)} tensors of the GGUF, {len(expected)} exported, bit for bit; apart: {wrong[:3]}")
    bench = llama / "build/bin/llama-bench"
    if bench.exists():
        check(run(bench, "-m", out, "-p", 16, "-n", 4, "-r", 1, "-t", 1).returncode == 0, f"{name}: llama.cpp runs it")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moerl", type=pathlib.Path)
    parser.add_argument("tokenizer", type=pathlib.Path)
    parser.add_argument("--llama-cpp", type=pathlib.Path)
    parser.add_argument("--families", nargs="+", default=[name for name in COMMITTED if not name.endswith("_mtp")])
    options = parser.parse_args()
    for name in options.families:
        with tempfile.TemporaryDirectory() as temporary:
            root = pathlib.Path(temporary)
            make_source(name, options.tokenizer, root / "source")
            for kind in ("f32", "bf16"):
                export(options.moerl, root / "source", root / kind, kind, f"{name} {kind}")
                ids = PreTrainedTokenizerFast.from_pretrained(root / kind).encode(TEXT, add_special_tokens=False)
                compare_scores(options.moerl, root / kind, kind, ids, f"{name} {kind}")
            text = root / "text.jsonl"
            text.write_text(json.dumps({"text": TEXT}) + "\n")
            tokens = json.loads(run(options.moerl, "tokenize", root / "bf16", text).stdout)["token_ids"]
            check(tokens == ids, f"{name}: transformers' tokenizer and moerl tokenize agree")
            if options.llama_cpp:
                export(options.moerl, root / "source", root / "fp8", "fp8", f"{name} fp8")
                for kind in ("f32", "bf16", "fp8"):
                    convert(options.moerl, options.llama_cpp, root / kind, f"{name} {kind}")
    sys.exit(1 if failed else 0)


main()
