"""Faulty searches: each is refused with its key, its value and a remedy."""

import pytest

from ablations.search.spec import load_search
from tests.ablations.conftest import SPEC, Write, refused
from tests.ablations.search.conftest import SEARCH, Pose

ALPHA = "{float: [2, 32], log: true}"
END = "budget: {trials: 8}\n"


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        (ALPHA, "{float: [32, 2]}", "space.selection.alpha.float", "not in order"),
        (ALPHA, "{int: [8, 8]}", "space.selection.alpha.int", "not in order"),
        (ALPHA, "{float: [0, 2], log: true}", "space.selection.alpha.float", "above 0"),
        (ALPHA, "{float: [1, 2], step: 0.3}", "space.selection.alpha.step", "whole number"),
        (ALPHA, "{choice: [8]}", "space.selection.alpha.choice", "too few"),
        (ALPHA, "{choice: [8, 8.0]}", "space.selection.alpha.choice", "twice"),
        (ALPHA, "{choice: []}", "space.selection.alpha.choice", "too few"),
        (ALPHA, "{range: [1, 2]}", "space.selection.alpha", "float: [low, high]"),
        (ALPHA, "{float: [1, 2], int: [1, 2]}", "space.selection.alpha.int", "unknown key"),
        (ALPHA, "{float: [.nan, 2]}", None, ""),
        (ALPHA, "[1, 64]", "space.selection.alpha", "float: [low, high]"),
        (ALPHA, "", "space.selection.alpha", "float: [low, high]"),
        (ALPHA, "{int: [1, 3000000000]}", "space.selection.alpha.step", "1,000,000 values"),
        (ALPHA, "{float: [1, 2], when: {masking.theta: 0.2}}", "when", "never has this value"),
        (ALPHA, "{float: [1, 2], when: {masking.patch: 8}}", "when", "on no parameter"),
        (ALPHA, "{choice: [1, 2], when: {selection.alpha: 1}}", "when", "depends on itself"),
        (END, "budget: {}\n", "budget", "never end"),
        (END, END + "set: {selection.alpha: 4}\n", "set.selection.alpha", "decides this key"),
        (END, END + "set: {masking: {theta: 0.5}}\n", "set.masking.theta", "decides this key"),
        (END, END + "objectives: [miou, miou]\n", "objectives", "twice"),
        (END, END + "objectives: [loss]\n", "objectives.0", "not one of"),
        (END, END + "constraints: ['selection.alpha ~ 2']\n", "constraints", "one comparison"),
        (END, END + "derived: {loss.masked: 'selection.alpha / 2'}\n", "derived", "not a sum"),
        (END, END + "derived: {loss.masked: 'loss.strong'}\n", "derived", "not every point"),
        (END, END + "sampler: {name: best}\n", "sampler.name", "not one of"),
        (END, END + "sampler: {name: grid}\n", "sampler.name", "every value of selection.alpha"),
        (END, END + "pruner: {name: wilcoxon}\n", "pruner.name", "decides nothing"),
        (END, END + "heatmap: [masking.theta, masking.patch]\n", "heatmap", "not a key"),
        ("[100, 101]", "[0, 1]", "confirm.seeds", "cannot confirm"),
        ("space:", "spaces:", "space", "searches nothing"),
    ],
)
def test_a_faulty_search_is_refused(
    problem: Pose, old: str, new: str, key: str | None, said: str
) -> None:
    error = refused(lambda: problem(changes=[(old, new)]))
    assert said in error.problem
    assert (key or "") in (error.key or "")
    assert str(error.file).endswith("search.yaml")
    assert error.remedy


def test_several_objectives_cannot_be_pruned_nor_searched_by_one_that_knows_one(
    problem: Pose,
) -> None:
    both = "objectives: [miou, gpu_hours]\n"
    pruned = refused(lambda: problem(changes=[(END, END + both + "pruner: {name: asha}\n")]))
    assert (pruned.key, pruned.value) == ("pruner.name", "asha")
    assert "several objectives" in pruned.problem
    sampled = refused(lambda: problem(changes=[(END, END + both + "sampler: {name: cmaes}\n")]))
    assert (sampled.key, sampled.value) == ("sampler.name", "cmaes")


@pytest.mark.parametrize("name", ["gp", "cmaes", "grid", "qmc"])
def test_samplers_without_conditions_refuse_them(problem: Pose, name: str) -> None:
    conditional = "{int: [2, 4], when: {masking.theta: 0.3}}"
    error = refused(
        lambda: problem(changes=[(ALPHA, conditional), (END, END + f"sampler: {{name: {name}}}\n")])
    )
    assert "knows no conditions" in error.problem


def test_a_comparison_is_no_search(write: Write) -> None:
    error = refused(lambda: load_search(write("spec.yaml", SPEC)))
    assert "searches nothing" in error.problem
    assert "csl run" in error.remedy


def test_a_grid_ends_by_itself(problem: Pose) -> None:
    spec = problem(
        changes=[
            (ALPHA, "{choice: [2, 4, 8]}"),
            (END, "sampler: {name: grid}\n"),
        ]
    ).spec
    assert spec.trials == 15
    assert spec.grid_size == 15


def test_a_search_is_found_by_its_path_and_read_once(write: Write) -> None:
    spec, file = load_search(write("mine.yaml", SEARCH))
    assert (spec.name, spec.trials, spec.blocks) == ("two", 8, 1)
    assert file.endswith("mine.yaml")
