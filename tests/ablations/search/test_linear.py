"""Sums and comparisons: read as numbers, held against Python's own arithmetic, never executed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.search.linear import parse_comparison, parse_sum

NUMBERS = st.floats(0.001, 1000).map(lambda x: float(f"{x:.6g}"))
KEYS = st.sampled_from(["a", "loss.strong", "augmentation.scale.0", "b_2.c"])
TERMS = st.tuples(st.sampled_from("+-"), st.none() | NUMBERS, st.none() | KEYS)


@given(terms=st.lists(TERMS, min_size=1, max_size=6), at=st.floats(-100, 100))
def test_a_sum_is_what_its_terms_add_up_to(
    terms: list[tuple[str, float | None, str | None]], at: float
) -> None:
    values = {"a": at, "loss.strong": 2.5, "augmentation.scale.0": 0.25, "b_2.c": -at}
    text, expected = "", 0.0
    for sign, number, key in terms:
        if number is None and key is None:
            number = 1.0
        spelled = "*".join(filter(None, [None if number is None else f"{number!r}", key]))
        text += f" {sign} {spelled}"
        term = (1.0 if number is None else number) * (1.0 if key is None else values[key])
        expected += term if sign == "+" else -term
    assert math.isclose(parse_sum(text).at(values), expected, rel_tol=1e-9, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("text", "inside", "edge", "outside"),
    [
        ("a + b <= 0.3", (0.1, 0.1), (0.1, 0.2), (0.2, 0.2)),
        ("0.3 >= a + b", (0.1, 0.1), (0.1, 0.2), (0.2, 0.2)),
        ("2*a < b", (1, 3), None, (1, 2)),
        ("a > b + 1", (3, 1), None, (2, 1)),
    ],
)
def test_a_comparison_holds_up_to_rounding(
    text: str, inside: tuple[float, float], edge: tuple[float, float] | None, outside: object
) -> None:
    comparison = parse_comparison(text)
    assert comparison.holds(dict(zip("ab", inside, strict=True)))
    assert not comparison.holds(dict(zip("ab", outside, strict=True)))  # type: ignore[call-overload]
    if edge is not None:  # 0.1 + 0.2 is a little more than 0.3
        assert comparison.holds(dict(zip("ab", edge, strict=True)))


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "a <", "a <= ", "a b <= 1", "a = 1", "a <= 1 <= b", "a*b <= 1", "2 a <= 1"),
        *("1 <= 2", "a**2 <= 1", "__import__('os') <= 1", "a[0] <= 1", "a() <= 1", "a <= 1; b"),
        *("(a) <= 1", "a <= inf + 1e", "a <= 0x10"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not|only"):
        parse_comparison(text)


def test_only_numbers_are_compared() -> None:
    with pytest.raises(TypeError, match="a"):
        parse_comparison("a <= 1").holds({"a": True})
