"""Entries of a spec: what each rule stands for, and what none of them may hide."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.spec import Spec, load_spec
from ablations.variants import fill
from tests.ablations.conftest import MakeGrid, Write, refused

HEAD = """\
name: mine
title: mine
splits: ["1/16", "1/2"]
seeds: [0, 1]
"""


@pytest.fixture
def spec(write: Write) -> Any:
    """Reads a spec of these entries; its reference is ``first`` unless another is said."""

    def make(entries: str, reference: str = "first", more: str = "") -> Spec:
        text = f"{HEAD}reference: {reference}\n{more}variants:\n{entries}"
        return load_spec(write("mine.yaml", text))[0]

    return make


def keys(spec: Spec) -> dict[str, dict[str, Any]]:
    return {variant.name: variant.set for variant in spec.expanded}


def test_a_grid_is_every_combination_the_last_axis_fastest(spec: Any) -> None:
    made = spec(
        "  - {name: first}\n"
        "  - {grid: {masking.theta: [0.3, 0.5], masking.patch: [8, 16]}, set: {loss.strong: 0.5}}\n"
    )
    assert keys(made) == {
        "first": {},
        **{
            f"theta={theta}, patch={patch}": {
                "loss.strong": 0.5,
                "masking.theta": theta,
                "masking.patch": patch,
            }
            for theta, patch in itertools.product([0.3, 0.5], [8, 16])
        },
    }
    assert list(keys(made))[1:3] == ["theta=0.3, patch=8", "theta=0.3, patch=16"]


def test_a_zip_goes_through_its_lists_together(spec: Any) -> None:
    made = spec(
        "  - {name: first}\n"
        "  - {zip: {loss.strong: [0.1, 0.2], loss.masked: [0.3, 0.4]}, "
        'name: "{loss.strong} and {loss.masked}"}\n'
    )
    assert keys(made)["0.1 and 0.3"] == {"loss.strong": 0.1, "loss.masked": 0.3}
    assert list(keys(made)) == ["first", "0.1 and 0.3", "0.2 and 0.4"]


def test_one_at_a_time_changes_one_key_only(spec: Any) -> None:
    made = spec(
        "  - {name: first}\n"
        "  - one_at_a_time: {masking.patch: [8, 16], selection.alpha: [4.0]}\n"
        "    set: {loss.strong: 1.0}\n"
    )
    assert keys(made) == {
        "first": {},
        "patch=8": {"loss.strong": 1.0, "masking.patch": 8},
        "patch=16": {"loss.strong": 1.0, "masking.patch": 16},
        "alpha=4": {"loss.strong": 1.0, "selection.alpha": 4.0},
    }


PARTS = "{masking: {masking.enabled: true}, weights: {selection.weighting: gaussian}}"


def test_add_one_has_one_part_and_drop_one_all_but_one(spec: Any) -> None:
    made = spec(
        "  - {name: first, set: {masking.enabled: false, selection.weighting: binary}}\n"
        f"  - {{add_one: {PARTS}, set: {{masking.enabled: false, selection.weighting: binary}}}}\n"
        f"  - {{drop_one: {PARTS}, set: {{masking.enabled: false, selection.weighting: binary}}}}\n"
    )
    on, off = {"masking.enabled": True}, {"masking.enabled": False}
    gaussian, binary = {"selection.weighting": "gaussian"}, {"selection.weighting": "binary"}
    assert keys(made) == {
        "first": off | binary,
        "+masking": on | binary,
        "+weights": off | gaussian,
        "w/o masking": off | gaussian,
        "w/o weights": on | binary,
    }


LARGE_GRID = f"{{grid: {{{', '.join(f'{key}: {[*range(10)]}' for key in 'abcdefgh')}}}}}"


@given(
    st.dictionaries(
        st.sampled_from(["loss.strong", "loss.masked", "loss.feature"]),
        st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
        min_size=1,
    )
)
def test_no_combination_of_a_grid_is_lost_or_doubled(axes: dict[str, list[int]]) -> None:
    spec = Spec.model_validate(
        {
            **{"name": "a", "title": "a", "reference": "first", "splits": ("1/2",), "seeds": (0,)},
            "variants": ({"name": "first"}, {"grid": {k: tuple(v) for k, v in axes.items()}}),
        }
    )
    made = [tuple(variant.set.values()) for variant in spec.expanded[1:]]
    assert made == list(itertools.product(*axes.values()))


@pytest.mark.parametrize(
    ("entry", "key", "fault"),
    [
        ("{grid: {}}", "variants.1.grid", "too few"),
        ("{grid: {masking.patch: []}}", "variants.1.grid.masking.patch", "too few"),
        ("{grid: {masking.patch: 8}}", "variants.1.grid.masking.patch", "not a list"),
        (
            '{grid: {masking.patch: [8]}, name: "s={patch}"}',
            "variants.1.name",
            "is no axis|unknown",
        ),
        ("{grid: {masking.patch: [8, 8]}}", "variants", "duplicate variant"),
        (
            "{zip: {loss.strong: [1.0], loss.masked: [1.0, 2.0]}}",
            "variants.1.zip",
            "different length",
        ),
        ('{one_at_a_time: {masking.patch: [8]}, name: "{axis}"}', "variants.1.name", "unknown"),
        ("{add_one: {}}", "variants.1.add_one", "too few"),
        ('{drop_one: {a: {loss.strong: 1.0}}, name: "{key}"}', "variants.1.name", "unknown"),
        (
            "{grid: {masking.patch: [8]}, zip: {loss.strong: [1.0]}}",
            "variants.1.zip",
            "unknown key",
        ),
        ("{sett: {}}", "variants.1.sett", "unknown key"),
        (LARGE_GRID, "variants.1.grid", "a grid of 100,000,000 variants"),
        ("{grid: {masking.patch: [8]}, colour: red}", "variants.1.colour", "unknown key"),
    ],
)
def test_a_faulty_entry_is_refused_by_its_key(spec: Any, entry: str, key: str, fault: str) -> None:
    error = refused(lambda: spec(f"  - {{name: first}}\n  - {entry}\n"))
    assert error.key == key
    assert any(part in error.problem for part in fault.split("|")), error.problem
    assert error.remedy


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        ("s={masking.patch}", {"masking.patch": 8}, "s=8"),
        ("{a}", {"a": 0.30000000000000004}, "0.3"),
        ("{a}|{a}", {"a": ["x", "y"]}, "x+y|x+y"),
        ("{a} {b}", {"a": True, "b": None}, "true none"),
        ("plain", {}, "plain"),
    ],
)
def test_templates_are_filled(template: str, values: dict[str, Any], text: str) -> None:
    assert fill(template, values) == text


WHEN = """\
  - {name: first}
  - {grid: {masking.patch: [8, 16, 32]}, when: {split: 1/2, masking.patch: [8, 16]}}
  - {name: late, when: {seed: 1}, set: {loss.strong: 1.0}}
"""


def test_a_condition_keeps_blocks_and_configurations_out(grid: MakeGrid) -> None:
    made = grid(f"{HEAD}reference: first\nvariants:\n{WHEN}".replace("[8, 16, 32]", "[8, 16]"))
    asked = {(c.variant, c.split, c.training.seed) for c in made.cells}
    assert asked == {
        *(("first", split, seed) for split in ("1/16", "1/2") for seed in (0, 1)),
        *((f"patch={patch}", "1/2", seed) for patch in (8, 16) for seed in (0, 1)),
        *(("late", split, 1) for split in ("1/16", "1/2")),
    }


@pytest.mark.parametrize(
    ("entries", "more", "key", "value"),
    [
        (WHEN, "", "when", "patch=32"),
        ("  - {name: first, when: {splits: 1/2}}\n", "", "when.splits", None),
        ("  - {name: first, when: {masking.pach: 8}}\n", "", "when.masking.pach", None),
        ("  - {name: first}\n", 'table: {columns: "all"}\n', "table", "row first, column all"),
        ("  - {name: first}\n", 'table: {rows: "{masking.pach}"}\n', "table", "{masking.pach}"),
        ("  - {name: first}\n", 'table: {rows: "{split}"}\n', "table", None),
        ("  - {name: first}\n", 'table: {rows: "s={masking.patch}"}\n', "reference", "first"),
    ],
)
def test_what_cannot_be_shown_honestly_is_refused(
    grid: MakeGrid, entries: str, more: str, key: str, value: str | None
) -> None:
    text = f"{HEAD}reference: first\n{more}variants:\n{entries}"
    if more.startswith('table: {rows: "{split}"'):
        text = text.replace(
            "  - {name: first}\n", "  - {name: first}\n  - {name: b, set: {loss.strong: 1.0}}\n"
        )
    error = refused(lambda: grid(text))
    assert error.key == key
    assert value is None or error.value == value
    assert error.remedy


def test_a_table_may_have_its_axes_from_the_configuration(grid: MakeGrid) -> None:
    made = grid(
        HEAD.replace(', "1/2"]', "]")
        + 'reference: "θ=0.3"\n'
        + 'table: {rows: "θ={masking.theta}", columns: "s={masking.patch}"}\n'
        + "variants:\n  - grid: {masking.theta: [0.3, 0.5], masking.patch: [8, 16]}\n"
    )
    assert made.rows == ("θ=0.3", "θ=0.5")
    assert made.columns == ("s=8", "s=16")
    assert made.asked == 8
    for cell in made.cells:
        masking = cell.training.config.masking
        assert (cell.row, cell.column) == (f"θ={masking.theta:g}", f"s={masking.patch}")
