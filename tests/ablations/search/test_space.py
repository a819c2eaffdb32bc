"""Spaces: what a point may be, in which order it is chosen."""

from itertools import islice
from typing import Any

import pytest
from pydantic import TypeAdapter

from ablations.search.space import Parameter, draws, same

_READ = TypeAdapter(Parameter)

SPACE: dict[str, Any] = {
    "tau": _READ.validate_python({"float": (0.5, 0.99), "when": {"selector": "threshold"}}),
    "gamma": _READ.validate_python({"float": (0.1, 0.9), "step": 0.2, "when": {"n": [2, 3]}}),
    "selector": _READ.validate_python({"choice": ("csl", "threshold", None)}),
    "n": _READ.validate_python({"int": (1, 3)}),
    "rate": _READ.validate_python({"float": (1e-4, 1e-1), "log": True}),
    "width": _READ.validate_python({"int": (8, 128), "log": True}),
}


def test_points_have_what_their_conditions_say_and_nothing_else() -> None:
    seen: dict[str, set[Any]] = {}
    for point in islice(draws(SPACE, 0), 2000):
        assert ("tau" in point) == (point["selector"] == "threshold")
        assert ("gamma" in point) == (point["n"] in (2, 3))
        for key, value in point.items():
            assert SPACE[key].has(value)
            seen.setdefault(key, set()).add(value)
    assert seen["selector"] == {"csl", "threshold", None}
    assert seen["gamma"] == {0.1, 0.3, 0.5, 0.7, 0.9}, "as people write them"
    below = sum(rate < 1e-3 for rate in seen["rate"]) / len(seen["rate"])
    assert 0.25 < below < 0.42, "a third of three decades"


def test_one_seed_draws_one_sequence() -> None:
    one, again, other = (list(islice(draws(SPACE, seed), 20)) for seed in (3, 3, 4))
    assert one == again != other


@pytest.mark.parametrize(
    ("key", "inside", "outside"),
    [
        ("tau", (0.5, 0.99, 0.75), (0.49, 1.0, "0.7", True)),
        ("gamma", (0.1, 0.3, 0.9), (0.2, 0.0)),
        ("n", (1, 3.0), (0, 4, 1.5, True, "2")),
        ("selector", ("csl", None), ("none", 0)),
    ],
)
def test_what_a_parameter_has(key: str, inside: tuple[Any, ...], outside: tuple[Any, ...]) -> None:
    assert all(SPACE[key].has(value) for value in inside)
    assert not any(SPACE[key].has(value) for value in outside)


def test_equal_values_make_one_configuration() -> None:
    assert same(8, 8.0)
    assert not same(1, True)
    choice = _READ.validate_python({"choice": (8, 16)})
    assert choice.has(8.0)
    assert isinstance(choice.spell(8.0), int)
