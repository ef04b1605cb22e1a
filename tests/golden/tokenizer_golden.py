#!/usr/bin/env python3
"""Writes tokenizer_golden.json beside this file: small tokenizers and what Hugging Face makes of text.

`base` is a trained byte-level BPE; every variant replaces some of its top-level parts (`patch`, with
`model` merged into the base's model) and lists cases of text, ids, ids with special tokens read as
text, and the decoded ids. Needs tokenizers 0.23.3.
"""

import json
import pathlib
import random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

rng = random.Random(20250122)
OUT = pathlib.Path(__file__).with_name("tokenizer_golden.json")

CORPUS = [
    "The quick brown fox jumps over the lazy dog, then the dog sleeps; don't wake it up.",
    "x = 3.14159 and y = 2718; for (int i = 0; i < 100; ++i) { sum += a[i]; }",
    "Wait, no: 12 + 30 = 42, so the answer is 42. It's the 1st try, they'll say we've got it.",
    "naïve café résumé — “quoted” text… 你好世界 カタカナ ひらがな Привет мир 🌍🚀",
] * 3
TEXTS = [
    "", " ", "   ", "a", " a", "a ", "Hello world", " hello  world  ", "the the\tthe\n\nthe\r\n the",
    "don't they'll WE'VE it's 'S 'ſ", "1234567890 12 1 1234 ٣٤٥ Ⅷ½", "x=1,y=2;z==3!!", "naïve café",
    "e\u0301 \u212b \u1e9b\u0323 \uac00\u1100\u1161 a\u0315\u0300", "你好世界,カタカナひらがな漢字", "Привет, мир!",
    "🌍🚀👩‍👩‍👧 flag 🇩🇪", "\u180e\u200b\u3000x\u00a0y\u2028z\u0085w", "<s>hi</s>", "a<s> b <mask> c<mask>d", "<s><s></s>",
    "foo <tool>bar</tool> tool>", "word sword word_ word words word", "<mask>  <s>", " <mask> ",
    "--a--b----c--", "-", "--", "a-b -- c", "aXbXXc X", "\n\n\n", "a\n\n \n b", "\t\ttabs", "ab" * 60,
    "the " * 30, "ﬀ ﬁ ß ẞ", "€100 £5", "\u0000\u0001\u007f", "caf\u00e9<caf\u00e9>cafe\u0301<cafe\u0301>中\u00e9 中e\u0301",
]


def random_text():
    pools = ["abcdefgh the", " \t\n\r\u00a0\u3000", "0123456789٣Ⅷ½", ".,;:!?-_'\"()[]{}<>$+=~", "éüßñçåÅ\u0301\u0308",
             "你好世界漢字カタひら", "приветмир", "🌍🚀\u200d", "XY-"]
    words = ["<s>", "</s>", "<mask>", "<tool>", "word", "the", "don't", " and", "--"]
    out = []
    for _ in range(rng.randint(1, 25)):
        out.append(rng.choice(words) if rng.random() < 0.12 else rng.choice(rng.choice(pools)))
    return "".join(out)


def base():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False))
    return json.loads(tokenizer.to_str())


def byte_level(**options):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True, **options}


def sequence(*items):
    return {"type": "Sequence", "pretokenizers": list(items)}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def added(first_id, *tokens):
    defaults = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return [{"id": first_id + i, **defaults, **token} for i, token in enumerate(tokens)]


def patches(size, minus_id):
    plain = byte_level(use_regex=False)
    qwen = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
            r"|\s+(?!\S)|\s+")
    o200k = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
             r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
             r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    yield "gpt2", {}
    yield "no regex", {"pre_tokenizer": plain}
    yield "prefix space", {"pre_tokenizer": byte_level(add_prefix_space=True)}
    yield "prefix space on splits", {
        "pre_tokenizer": sequence(split("-", "Removed"), byte_level(add_prefix_space=True, use_regex=False))}
    yield "qwen", {"pre_tokenizer": sequence(split(qwen), plain), "normalizer": {"type": "NFC"}}
    yield "o200k", {"pre_tokenizer": sequence(split(o200k), plain)}
    yield "digits", {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": True}, byte_level())}
    yield "digit runs", {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": False}, byte_level())}
    for behavior in ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        for invert in [False, True]:
            yield f"{behavior} {invert}", {"pre_tokenizer": sequence(split("[-X]", behavior, invert), plain)}
        yield f"{behavior} empty matches", {"pre_tokenizer": sequence(split(r"-*", behavior), plain)}
    yield "literal", {"pre_tokenizer": sequence(split("--", "MergedWithPrevious", kind="String"), plain)}
    yield "classes", {"pre_tokenizer": sequence(
        split(r"[\S\d]+|\D"), split(r"\p{Han}+|[\p{Hiragana}\u30a0-\u30ff]+"), split(r"^.|\P{L}$"), plain)}
    yield "ignore merges", {"pre_tokenizer": byte_level(), "model": {"ignore_merges": True, "merges": []}}
    tokens = added(size, {"content": "<s>"}, {"content": "</s>"}, {"content": "<mask>", "lstrip": True},
                   {"content": "<tool>", "special": False}, {"content": "word", "single_word": True, "special": False},
                   {"content": "<tool", "special": False, "rstrip": True}, {"id": minus_id, "content": "-", "special": False, "rstrip": True})
    yield "added", {"added_tokens": tokens}
    yield "added prefix space", {"added_tokens": tokens, "pre_tokenizer": byte_level(add_prefix_space=True)}
    yield "added normalized", {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
        "added_tokens": added(size, {"content": "中e\u0301", "normalized": True, "special": False},
                              {"content": "<cafe\u0301>"}, {"content": "<s>", "normalized": True})}
    yield "added tokens that take each other's spaces", {"added_tokens": added(
        size, {"content": "<s>", "rstrip": True}, {"content": "\n", "lstrip": True}, {"content": "\t", "special": False})}


def main():
    root = base()
    variants = []
    for name, patch in patches(len(root["model"]["vocab"]), root["model"]["vocab"]["-"]):
        full = {**root, **patch, "model": {**root["model"], **patch.get("model", {})}}
        tokenizer = Tokenizer.from_str(json.dumps(full))
        cases = []
        texts = TEXTS + [random_text() for _ in range(40)]
        if "take each other" in name:  # one space at a time: with two, tokenizers itself panics
            texts = ["a<s>\n", "x <s>\n<s>\nb", "<s>\tb", "\n <s>\n"]
        for text in texts:
            tokenizer.encode_special_tokens = False
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            tokenizer.encode_special_tokens = True
            literal = tokenizer.encode(text, add_special_tokens=False).ids
            decoded = tokenizer.decode(ids, skip_special_tokens=False)
            cases.append([text, ids, literal, decoded, tokenizer.decode(ids[1:], skip_special_tokens=True)])
        variants.append({"name": name, "patch": patch, "cases": cases})
    with OUT.open("w", encoding="utf-8") as file:
        json.dump({"base": root, "variants": variants}, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


main()
