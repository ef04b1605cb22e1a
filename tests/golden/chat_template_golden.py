"""Writes chat_template_golden.json: dialogues rendered by transformers' apply_chat_template.

The Jinja sources are the published ones as the package trl carries them (trl/chat_templates), and
that of DeepSeek-V3.1 from a folder given as argument (its chat_template.jinja, named
deepseek_v3_1.jinja); DeepSeek-V3 and R1 are both served by trl's deepseekv3.jinja.
Needs: pip install transformers trl. Usage: chat_template_golden.py FOLDER
`source` is the beginning of each Jinja source's sha256.
"""

import hashlib
import json
import pathlib
import sys

import trl
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

OUT = pathlib.Path(__file__).with_name("chat_template_golden.json")
FROM_TRL = pathlib.Path(trl.__file__).parent / "chat_templates"
FROM_ARGUMENT = pathlib.Path(sys.argv[1])

# name here: (file, bos, arguments of the template)
TEMPLATES = {
    "deepseek_r1": (FROM_TRL / "deepseekv3.jinja", "<｜begin▁of▁sentence｜>", {}),
    "deepseek_r1_distill": (FROM_TRL / "deepseek_r1_distill.jinja", "<｜begin▁of▁sentence｜>", {}),
    "deepseek_v3_1": (FROM_ARGUMENT / "deepseek_v3_1.jinja", "<｜begin▁of▁sentence｜>", {"thinking": False}),
    "deepseek_v3_1_thinking": (FROM_ARGUMENT / "deepseek_v3_1.jinja", "<｜begin▁of▁sentence｜>", {"thinking": True}),
    "qwen2_5": (FROM_TRL / "qwen2_5.jinja", "<|endoftext|>", {}),
    "qwen3": (FROM_TRL / "qwen3.jinja", "<|endoftext|>", {"enable_thinking": True}),
    "qwen3_no_thinking": (FROM_TRL / "qwen3.jinja", "<|endoftext|>", {"enable_thinking": False}),
    "qwen3_instruct_2507": (FROM_TRL / "qwen3_instruct_2507.jinja", "<|endoftext|>", {}),
    "llama3": (FROM_TRL / "llama3.jinja", "<|begin_of_text|>", {}),
    "llama3_1": (FROM_TRL / "llama3_1.jinja", "<|begin_of_text|>", {}),
}

S = lambda text: {"role": "system", "content": text}
U = lambda text: {"role": "user", "content": text}
A = lambda text: {"role": "assistant", "content": text}
DIALOGUES = [
    [U("What is 1+1?")],
    [S("Be brief."), U("Hi")],
    [S("Be brief."), U("Hi"), A("<think>\ngreet\n</think>\n\nHello"), U("Bye")],
    [U("Hi"), A("Hello"), S("In English."), U("  Bye \n")],
    [S(" Be brief.\u3000"), S("In English."), U("\t\u00a0Hi\u2003\n"), A("Hello\x1f")],
    [U("q"), A("<think>a</think>b</think>\n\nc"), U("r"), A("<think>\n\nd\n\n</think>\n\ne\n")],
    [U("q"), A("no thought"), A("<think>x</think>y"), A("last")],
    [U("q"), A("<think>search</think>call"), U("<tool_response>7</tool_response>"), A("<think>k</think>7")],
    [A("<think>t</think>begins"), U("odd")],
    [U("你好 <｜User｜> <|im_end|>"), A("</think>"), U("")],
    [S(""), U("a"), A(""), U("b")],
]


def main():
    golden = {}
    for name, (path, bos, arguments) in TEMPLATES.items():
        source = path.read_text(encoding="utf-8")
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token=bos)
        render = lambda messages, add: tokenizer.apply_chat_template(
            messages, chat_template=source, tokenize=False, add_generation_prompt=add, **arguments)
        golden[name] = {
            "source": hashlib.sha256(source.encode()).hexdigest()[:16],
            "texts": [[render(messages, False), render(messages, True)] for messages in DIALOGUES],
        }
    with OUT.open("w", encoding="utf-8") as file:
        json.dump({"dialogues": DIALOGUES, "templates": golden}, file, ensure_ascii=False, indent=0)
        file.write("\n")


main()
