"""Small tokenizers with the exact settings of published families, and how they encode.

`tokenizer_families.py golden` writes tokenizer_families_golden.json: for each family a small
vocabulary trained here on the words of this file and on random Unicode, and the ids, texts and
frames that Hugging Face `tokenizers` gives.

`tokenizer_families.py compare MOERL DATA [--lines N]` trains larger ones on the texts under DATA
(GSM8K, MATH, MBPP, MMLU, AGIEval as this project's authors keep them), takes N lines of those mixed
with random Unicode, and compares every id with what the program MOERL prints, for each family and
for every DATA/deepseek/*.json; then it prints both speeds, of processor time on one thread (MOERL's
with reading and printing its JSON lines, without loading the tokenizer). Exit status 1 on any
difference.

Needs: pip install tokenizers.
"""

import argparse
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time
import zipfile

os.environ["RAYON_NUM_THREADS"] = "1"

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__)
OUT = HERE.with_name("tokenizer_families_golden.json")

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + WORDS + r"\p{N}{1,3}" + REST
QWEN2 = CONTRACTIONS + WORDS + r"\p{N}" + REST
DEEPSEEK_V3 = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^" "\r\n" r"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
               r"| ?[\p{P}\p{S}]+[" "\r\n" r"]*|\s*[" "\r\n" r"]+|\s+(?!\S)|\s+")
DEEPSEEK_V2_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝ"
    "Ὗ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛ"
    "Ꜣ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃")


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def byte_level():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)


def special(text):
    return AddedToken(text, special=True, normalized=False)


def plain(text, **flags):
    return AddedToken(text, special=False, normalized=flags.pop("normalized", False), **flags)


# name: (normalizer, splits, ignore_merges, added tokens, BOS of the post-processor)
FAMILIES = {
    "llama3": (None, [split(LLAMA3)], True,
               [special("<|begin_of_text|>"), special("<|eot_id|>"), special("<|start_header_id|>")],
               "<|begin_of_text|>"),
    "qwen2": (normalizers.NFC(), [split(QWEN2)], False,
              [special("<|endoftext|>"), special("<|im_start|>"), special("<|im_end|>")], None),
    "qwen3": (normalizers.NFC(), [split(QWEN2)], False,
              [special("<|endoftext|>"), special("<|im_end|>"), plain("<think>"), plain("</think>"),
               plain("<tool_call>")], None),
    "deepseek_v2": (normalizers.Sequence([]),
                    [split(r"[" "\r\n" "]"), split(r"\s?[" + DEEPSEEK_V2_LETTERS + "]+"),
                     split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), split(r"\s+$"), split("[一-龥ࠀ-一가-\ud7ff]+"),
                     pre_tokenizers.Digits(individual_digits=True)], False,
                    [special("<｜begin▁of▁sentence｜>"), special("<｜end▁of▁sentence｜>"),
                     plain("<｜User｜>", normalized=True), plain("<｜Assistant｜>", normalized=True)],
                    "<｜begin▁of▁sentence｜>"),
    "deepseek_v3": (normalizers.Sequence([]),
                    [split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK_V3)], False,
                    [special("<｜begin▁of▁sentence｜>"), special("<｜end▁of▁sentence｜>"), plain("<think>"),
                     plain("<｜User｜>"), plain("<|pad|>", lstrip=True, rstrip=True)], None),
}


def random_line(rng):
    """Characters from every plane, weighted to what pre-tokenizers tell apart."""
    pieces = []
    for _ in range(rng.randrange(1, 24)):
        kind = rng.randrange(12)
        if kind < 2:
            pieces.append(rng.choice(["'s", "'LL", "'\u017f", "don't", "I'VE", "<think>", "<｜User｜>", "<|eot_id|>", "<|pad|>"]))
        elif kind < 4:
            pieces.append(rng.choice([" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\u0085", "\u180e", " \n "]))
        elif kind < 6:
            pieces.append("".join(chr(rng.randrange(0x20, 0x7F)) for _ in range(rng.randrange(1, 8))))
        elif kind < 7:
            pieces.append(str(rng.randrange(10 ** rng.randrange(1, 9))))
        elif kind < 8:
            pieces.append("e\u0301" + chr(rng.randrange(0x300, 0x370)) + chr(rng.randrange(0x1100, 0x1200)))
        else:
            low, high = rng.choice([(0, 0x250), (0x250, 0x800), (0x900, 0x1100), (0x2000, 0x2E00), (0x3000, 0xA000),
                                    (0xAC00, 0xD7B0), (0xF900, 0x10000), (0x10000, 0x20000), (0, 0x110000)])
            for _ in range(rng.randrange(1, 5)):
                code = rng.randrange(low, high)
                if not 0xD800 <= code < 0xE000:
                    pieces.append(chr(code))
    return "".join(pieces)


def train(name, lines, vocab_size):
    normalizer, splits, ignore_merges, added, bos = FAMILIES[name]
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits + [byte_level()])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=vocab_size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    if ignore_merges:  # a whole piece that no merge makes, as such files have
        root = json.loads(tokenizer.to_str())
        root["model"]["vocab"].setdefault("Ġzq", len(root["model"]["vocab"]))
        tokenizer = Tokenizer.from_str(json.dumps(root))
    tokenizer.add_tokens(added)
    tokenizer.add_special_tokens([token for token in added if token.special])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if bos is not None:
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B",
                                          special_tokens=[(bos, tokenizer.token_to_id(bos))])])
    return tokenizer


def golden():
    rng = random.Random(5)
    corpus = re.split(r"\n", HERE.read_text(encoding="utf-8")) * 3 + [random_line(rng) for _ in range(60)]
    corpus += [" \U00013460 x\U00031350"] * 99  # so that merges cross where old tables would cut
    lines = ["", " ", "Hello world, it's 12345 o'clock!", "  x = 3.14;\n\n\n\treturn", "你好，世界 ひらがな 한국어", " zq zqa",
             "<|begin_of_text|>hi<|eot_id|>", "a <|pad|> b<think>c</think>", "cafe\u0301 \u212b ﬁ", "trailing  \n  ", "\r\n\r\n x",
             "b\u0345\u07fd b\u0345\u0301", "a \U00013460 x\U00031350\U0001cc00 \U0001171e"]
    lines += [random_line(rng) for _ in range(60)]
    families = []
    for name in FAMILIES:
        tokenizer = train(name, corpus, 620)
        cases = []
        for text in lines:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            cases.append([text, ids, tokenizer.decode(ids, skip_special_tokens=True)])
        families.append({"name": name, "tokenizer": json.loads(tokenizer.to_str()), "cases": cases,
                         "framed": tokenizer.encode("x").ids})
    with OUT.open("w", encoding="utf-8") as file:
        json.dump({"families": families}, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


def corpus_lines(data):
    """Every string of the data files, cut at line ends."""
    def strings(value):
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for item in value.values():
                yield from strings(item)
        elif isinstance(value, list):
            for item in value:
                yield from strings(item)

    texts = []
    for path in sorted(data.glob("*/*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            texts.extend(strings(json.loads(line)))
    texts.extend(strings(json.loads((data / "math/math_train_rllm.json").read_text(encoding="utf-8"))))
    with zipfile.ZipFile(data / "mmlu/mmlu.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".csv"):
                texts.extend(archive.read(name).decode("utf-8").splitlines())
    return [line for text in texts for line in text.splitlines(keepends=True) if line]


def tokenize(moerl, path, rows):
    """What the program prints, and the processor time of it in seconds."""
    def spent():
        times = os.times()
        return times.children_user + times.children_system

    before = spent()
    run = subprocess.run([moerl, "tokenize", str(path), str(rows)], capture_output=True, text=True, encoding="utf-8")
    if run.returncode != 0:
        sys.exit(run.stderr)
    return run.stdout, spent() - before


def compare(moerl, data, count):
    rng = random.Random(6)
    real = corpus_lines(data)
    rng.shuffle(real)
    lines = (real * (1 + count // len(real)))[: count * 3 // 4]
    lines += [random_line(rng) for _ in range(count - len(lines))]
    rng.shuffle(lines)
    size = sum(len(line.encode()) for line in lines)
    print(f"{len(lines)} lines, {size} bytes, {len(real)} distinct real lines to draw from")
    with tempfile.TemporaryDirectory() as folder:
        rows = pathlib.Path(folder) / "rows.jsonl"
        rows.write_text("".join(json.dumps({"text": line}, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
        files = {path.stem: path for path in sorted((data / "deepseek").glob("*.json"))}
        for name in FAMILIES:
            files[name] = pathlib.Path(folder) / f"{name}.json"
            train(name, real[:30000] + lines[:2000], 20000).save(str(files[name]))
        failures = 0
        for name, path in files.items():
            tokenizer = Tokenizer.from_file(str(path))
            start = time.process_time()
            encodings = tokenizer.encode_batch_fast(lines, add_special_tokens=False)
            theirs = size / (time.process_time() - start) / 1e6
            expected = [encoding.ids for encoding in encodings]
            out, seconds = tokenize(moerl, path, rows)
            got = [json.loads(line)["token_ids"] for line in out.split("\n") if line]
            ours = size / (seconds - tokenize(moerl, path, os.devnull)[1]) / 1e6
            wrong = [i for i, ids in enumerate(expected) if got[i] != ids]
            failures += len(wrong)
            print(f"{name}: {len(wrong)} of {len(lines)} lines differ; {ours:.2f} MB/s, tokenizers {theirs:.2f} MB/s, "
                  f"ratio {ours / theirs:.2f}")
            for i in wrong[:3]:
                print(f"  {lines[i]!r}\n    expected {expected[i]}\n    got      {got[i]}")
    sys.exit(1 if failures else 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("golden")
    comparing = commands.add_parser("compare")
    comparing.add_argument("moerl")
    comparing.add_argument("data", type=pathlib.Path)
    comparing.add_argument("--lines", type=int, default=100_000)
    arguments = parser.parse_args()
    if arguments.command == "golden":
        golden()
    else:
        compare(arguments.moerl, arguments.data, arguments.lines)


main()
