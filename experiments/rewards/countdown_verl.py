"""Countdown as a verl reward: moerl serve reward --python experiments/rewards/countdown_verl.py

The rules of the built-in verifier `countdown`: 0.1 for a well formed expression in the last
<answer>, 1 more if it uses each number once and reaches the target.
"""

import json
import re
from fractions import Fraction

TOKEN = re.compile(r"[ \t\n\r\f\v]*(?:([0-9]+)|([-+*/()=]))", re.ASCII)
MAX_BYTES, MAX_TOKENS = 2048, 512


class Malformed(Exception):
    pass


def last_answer(text):
    """What stands in the last <answer> pair of the text that follows the thoughts."""
    left, end, rest = text.rpartition("</think>")
    text, reopened, _ = (rest if end else text).partition("<think>")
    if reopened and not end and not text.strip():
        return None
    text, found, _ = text.rpartition("</answer>")
    if not found:
        return None
    _, found, answer = text.rpartition("<answer>")
    return answer.strip(" \t\n\r\f\v") if found else None


def tokens_of(text):
    tokens, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match or (match[1] and len(match[1]) > 64):
            raise Malformed
        tokens.append(match[1] or match[2])
        at = match.end()
    return tokens


class Parser:
    """sum := product (+- product)*; product := factor (*/ factor)*; factor := +- factor | n | (sum).
    A value is None after a division by zero."""

    def __init__(self, text):
        self.tokens, self.numbers, self.depth = tokens_of(text) + [None], [], 0

    def take(self, wanted):
        if self.tokens[0] is not None and self.tokens[0] in wanted:
            return self.tokens.pop(0)
        return None

    def sum(self):
        value = self.product()
        while operator := self.take("+-"):
            other = self.product()
            if value is None or other is None:
                value = None
            else:
                value = value + other if operator == "+" else value - other
        return value

    def product(self):
        value = self.factor()
        while operator := self.take("*/"):
            other = self.factor()
            if value is None or other is None or (operator == "/" and other == 0):
                value = None
            else:
                value = value * other if operator == "*" else value / other
        return value

    def factor(self):
        sign = 1
        while operator := self.take("+-"):
            sign = -sign if operator == "-" else sign
        if self.take("("):
            self.depth += 1
            if self.depth > 64:
                raise Malformed
            value = self.sum()
            self.depth -= 1
            if not self.take(")"):
                raise Malformed
        elif self.tokens[0] is not None and self.tokens[0].isdigit():
            value = Fraction(int(self.tokens.pop(0)))
            self.numbers.append(int(value))
        else:
            raise Malformed
        return None if value is None else sign * value

    def parse(self):
        """The value, and n of a trailing '= n'."""
        value, claimed = self.sum(), None
        if self.take("="):
            sign = 1
            while operator := self.take("+-"):
                sign = -sign if operator == "-" else sign
            if self.tokens[0] is None or not self.tokens[0].isdigit():
                raise Malformed
            claimed = sign * int(self.tokens.pop(0))
        if self.tokens != [None]:
            raise Malformed
        return value, claimed


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    row = json.loads(ground_truth)
    answer = last_answer(solution_str)
    if not answer:
        return {"score": 0.0, "status": "no_answer"}
    try:
        if len(answer.encode()) > MAX_BYTES:
            raise Malformed
        parser = Parser(answer)
        value, claimed = parser.parse()
    except Malformed:
        return {"score": 0.0, "status": "unparsable", "extracted": answer}
    is_right = (
        sorted(parser.numbers) == sorted(row["numbers"])
        and value == row["target"]
        and claimed in (None, row["target"])
    )
    return {
        "score": (1.0 if is_right else 0.0) + 0.1,
        "status": "correct" if is_right else "incorrect",
        "extracted": answer,
    }
