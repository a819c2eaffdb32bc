"""Takes configuration keys and values; gives what people call them in a line."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ablations.search.space import Point

_TRIAL = re.compile(r"[^/]+(?<!-confirmed)/trial \d+/")


def trial_label(search: str, number: int, block: object) -> str:
    """What a trial's training is launched as: "alpha/trial 3/1/16/seed 0"."""
    return f"{search}/trial {number}/{block}"


def is_trial(label: str) -> bool:
    """Whether a training was launched as a search's trial: no table may follow from its score."""
    return _TRIAL.match(label) is not None


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """The last part of each key, or as many parts as tell it from the others."""
    found: dict[str, str] = {}
    parts = {key: key.split(".") for key in keys}
    for key, own in parts.items():
        for length in range(1, len(own) + 1):
            short = ".".join(own[-length:])
            same = Counter(".".join(other[-length:]) for other in parts.values())
            if same[short] == 1 and not short.isdecimal():
                break
        found[key] = short
    return found


def shown(value: Any) -> str:
    """A value in a few characters."""
    if isinstance(value, list | tuple):
        return "+".join(map(shown, value))
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def said(point: Point, keys: Mapping[str, str]) -> str:
    """A point: "alpha=8, theta=0.7"."""
    return ", ".join(f"{keys[key]}={shown(value)}" for key, value in point.items())
