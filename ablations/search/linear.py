"""Takes text such as "loss.strong + 2*loss.masked <= 1"; gives it as numbers. Nothing is executed.

A sum has terms ``number``, ``key`` and ``number*key``; a comparison is two sums and one of
``<= < >= >``.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY = r"[A-Za-z_]\w*(?:\.\w+)*"
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TERM = re.compile(
    rf"\s*(?P<sign>[-+])?\s*(?:(?P<factor>{_NUMBER})\s*\*\s*(?P<scaled>{KEY})"
    rf"|(?P<number>{_NUMBER})|(?P<key>{KEY}))\s*"
)
_COMPARISON = re.compile(r"<=|>=|<|>")


@dataclass(frozen=True)
class Linear:
    """A constant and a weight for each key."""

    constant: float
    weights: tuple[tuple[str, float], ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """What it is about."""
        return tuple(key for key, _ in self.weights)

    def at(self, values: Mapping[str, Any]) -> float:
        """Its value.

        Raises:
            KeyError: a key has no value.
            TypeError: a value is no number.
        """
        for key in self.keys:
            if isinstance(values[key], bool) or not isinstance(values[key], int | float):
                raise TypeError(key)
        return math.fsum([self.constant, *(w * values[key] for key, w in self.weights)])


@dataclass(frozen=True)
class Comparison:
    """``excess`` at most 0, or below it if ``strict``; ``text`` is how the user wrote it."""

    text: str
    excess: Linear
    strict: bool

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether the values meet it; raises as ``Linear.at``. Rounding counts as equality."""
        excess = self.excess.at(values)
        terms = [self.excess.constant, *(w * values[key] for key, w in self.excess.weights)]
        slack = 1e-12 * max(map(abs, terms))
        return bool(excess < -slack if self.strict else excess <= slack)


def parse_sum(text: str) -> Linear:
    """A sum of terms.

    Raises:
        ValueError: it is none.
    """
    constant, weights, at = 0.0, dict[str, float](), 0
    while at < len(text) or not at:
        found = _TERM.match(text, at)
        if found is None or (at and not found["sign"]):
            raise ValueError(f"not a sum of numbers and keys: {text.strip()!r}")
        sign = -1.0 if found["sign"] == "-" else 1.0
        if found["number"]:
            constant += sign * float(found["number"])
        else:
            key = found["scaled"] or found["key"]
            weights[key] = weights.get(key, 0.0) + sign * float(found["factor"] or 1)
        at = found.end()
    return Linear(constant, tuple(weights.items()))


def parse_comparison(text: str) -> Comparison:
    """Two sums and what stands between them.

    Raises:
        ValueError: it is none, or about no key.
    """
    signs = _COMPARISON.findall(text)
    if len(signs) != 1:
        raise ValueError("not one comparison by <=, <, >= or >")
    left, right = map(parse_sum, _COMPARISON.split(text))
    lower, upper = (left, right) if signs[0].startswith("<") else (right, left)
    weights = dict(lower.weights)
    for key, weight in upper.weights:
        weights[key] = weights.get(key, 0.0) - weight
    excess = Linear(lower.constant - upper.constant, tuple(weights.items()))
    if not weights:
        raise ValueError("it compares numbers only")
    return Comparison(text, excess, strict="=" not in signs[0])
