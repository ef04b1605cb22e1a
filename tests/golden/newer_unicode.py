"""Writes policy/tokenizer/newer_unicode.cc: what the regular expressions of Hugging Face `tokenizers`
know of Unicode beyond version 14, which is that of Debian 12's PCRE2 and of Python 3.11's unicodedata.

Needs: Python 3.11 and pip install tokenizers. Usage: python tests/golden/newer_unicode.py
"""

import pathlib
import unicodedata

from tokenizers import Regex, pre_tokenizers

OUT = pathlib.Path(__file__).parents[2] / "policy/tokenizer/newer_unicode.cc"
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()
SCRIPTS = "Han Hiragana Katakana Hangul Latin Greek Cyrillic Arabic Hebrew Devanagari Thai Bopomofo".split()
assert unicodedata.unidata_version == "14.0.0"

NEW = [c for c in range(0x110000) if unicodedata.category(chr(c)) == "Cn"]
TEXT = "".join(map(chr, NEW))


def ranges(name):
    found = []
    for _, (begin, end) in pre_tokenizers.Split(Regex(r"\P{%s}" % name), "removed").pre_tokenize_str(TEXT):
        for code in NEW[begin:end]:
            if found and found[-1][1] == code - 1:
                found[-1][1] = code
            else:
                found.append([code, code])
    return "".join(r"\x{%x}-\x{%x}" % (a, b) if a < b else r"\x{%x}" % a for a, b in found)


def main():
    rows = []
    for name in CATEGORIES + SCRIPTS:
        text = ranges(name)
        if text:
            rows.append('    {"%s",' % name)
            while text:
                cut = len(text) if len(text) <= 80 else text.rindex("\\x", 0, 80)
                if cut < len(text) and text[cut - 1] == "-":
                    cut = text.rindex("\\x", 0, cut)
                rows.append('     R"(%s)"' % text[:cut])
                text = text[cut:]
            rows[-1] += "},"
    OUT.write_text('''// Made by tests/golden/newer_unicode.py.
#include "policy/tokenizer/newer_unicode.h"

#include <utility>

namespace moerl::policy {
namespace {

constexpr std::pair<std::string_view, std::string_view> kAdded[] = {
''' + "\n".join(rows) + '''
};

}  // namespace

std::string newer_code_points(std::string_view property) {
  std::string ranges;
  for (const auto& [name, added] : kAdded)
    if (name == property || (property.size() == 1 && name.size() == 2 && name[0] == property[0]))
      ranges += added;
  return ranges;
}

}  // namespace moerl::policy
''')


main()
