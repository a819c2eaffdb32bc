"""A search on a setting: points become configurations, or are refused with the reason."""

from itertools import islice

import pytest

from ablations.search.space import draws
from tests.ablations.conftest import refused
from tests.ablations.search.conftest import SEARCH, Pose
from tests.ablations.search.test_spec import ALPHA, END

LAMBDAS = SEARCH.replace(
    f"selection.alpha: {ALPHA}\n  masking.theta: {{float: [0.1, 0.9], step: 0.2}}",
    "loss.strong: {float: [0, 0.5]}\n  loss.masked: {float: [0, 0.5]}",
)


def test_a_point_is_laid_over_the_settings_configuration(problem: Pose) -> None:
    posed = problem(changes=[("seeds: [0]", "seeds: [0, 3]")])
    trainings = posed.trainings({"selection.alpha": 3.0, "masking.theta": 0.1})
    assert [(each.split, each.seed) for each in trainings] == [("12", 0), ("12", 3)]
    config = trainings[0].config
    assert (config.selection.alpha, config.masking.theta) == (3.0, 0.1)
    assert config.model_copy(update={"selection": posed.base.selection}).network == (
        posed.base.network
    )


def test_a_configuration_is_found_again_as_its_point(problem: Pose) -> None:
    posed = problem()
    for point in islice(draws(posed.spec.space, 5), 20):
        assert posed.point_of(posed.trainings(point)[0].config) == point
    assert posed.point_of(posed.base) == {"selection.alpha": 8.0, "masking.theta": 0.7}
    other = problem(assignments=("loss.feature=0.1",)).base
    assert posed.point_of(other) is None, "another key differs"
    far = posed.configuration({"selection.alpha": 64.0})
    assert posed.point_of(far) is None, "outside the bounds"


def test_constraints_and_derived_keys(problem: Pose) -> None:
    sum_at_most = END + "constraints: ['loss.strong + loss.masked <= 0.5']\n"
    posed = problem(LAMBDAS, changes=[(END, sum_at_most)])
    assert posed.why_not({"loss.strong": 0.2, "loss.masked": 0.3}) is None
    forbidden = posed.why_not({"loss.strong": 0.3, "loss.masked": 0.3})
    assert forbidden == "loss.strong + loss.masked <= 0.5"

    fixed = LAMBDAS.replace("  loss.masked: {float: [0, 0.5]}\n", "")
    posed = problem(fixed, changes=[(END, END + "derived: {loss.masked: '0.5 - loss.strong'}\n")])
    (training,) = posed.trainings({"loss.strong": 0.125})
    assert training.config.loss.masked == 0.375
    assert posed.point_of(training.config) == {"loss.strong": 0.125}


def test_elements_of_lists(problem: Pose) -> None:
    posed = problem(
        changes=[
            (f"selection.alpha: {ALPHA}", "augmentation.scale.0: {float: [0.25, 2.0]}"),
            (END, END + "constraints: ['augmentation.scale.0 <= augmentation.scale.1 - 0.5']\n"),
        ]
    )
    point = {"augmentation.scale.0": 0.75, "masking.theta": 0.1}
    config = posed.trainings(point)[0].config
    assert config.augmentation.scale == (0.75, 2.0)
    assert posed.point_of(config) == point
    assert posed.why_not({**point, "augmentation.scale.0": 1.75}) is not None


def test_values_that_contradict_each_other_are_no_point(problem: Pose) -> None:
    posed = problem(
        changes=[
            (f"selection.alpha: {ALPHA}", "selection.weighting: {choice: [gaussian, binary]}"),
            ("masking.theta: {float: [0.1, 0.9], step: 0.2}",
             "selection.keep_reliable: {choice: [true, false]}"),
        ]
    )  # fmt: skip
    binary = {"selection.weighting": "binary", "selection.keep_reliable": False}
    assert "every weight would be 0" in (posed.why_not(binary) or "")
    assert posed.why_not({**binary, "selection.keep_reliable": True}) is None


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        ("selection.alpha", "selection.alfa", "space.selection.alfa", "no configuration has"),
        ("[0.1, 0.9], step: 0.2", "[0.1, 1.9]", "masking.theta", "less than or equal to 1"),
        (ALPHA, "{choice: [8, large]}", "selection.alpha", "valid number"),
        (END, END + "set: {selection.rho: 1}\n", "selection.rho", "unknown key"),
        (END, END + "constraints: ['selection.alpha >= 40']\n", "constraints", "empty"),
        (END, END + "constraints: ['selection.beta >= 4']\n", "constraints", "no configuration"),
        (END, END + "constraints: ['selection.selector <= 4']\n", "constraints", "numbers"),
        (END, END + "derived: {loss.mask: '1 - masking.theta'}\n", "derived", "no configuration"),
        (END, END + "warm_start: {points: [{masking.theta: 0.2}]}\n", "warm_start", "outside"),
        (END, END + "reference: {masking.theta: 2}\n", "masking.theta", "less than"),
        ('["1/2"]', '["1/3"]', "splits", "no such split"),
    ],
)
def test_what_cannot_be_searched_on_the_setting_is_refused(
    problem: Pose, old: str, new: str, key: str, said: str
) -> None:
    error = refused(lambda: problem(changes=[(old, new)]))
    assert said in error.problem
    assert key in (error.key or "")
    assert error.remedy


def test_a_searched_key_cannot_be_set_as_well(problem: Pose) -> None:
    error = refused(lambda: problem(assignments=("selection.alpha=4",)))
    assert "is searched" in error.problem
    error = refused(lambda: problem(assignments=("masking={theta: 0.5}",)))
    assert "is searched" in error.problem


def test_a_pruner_that_would_see_one_epoch_only_is_refused(problem: Pose) -> None:
    changes = [(END, END + "pruner: {name: asha}\n")]
    assert problem(changes=changes).spec.pruner.name == "asha"
    error = refused(lambda: problem(changes=changes, assignments=("evaluation.every=2",)))
    assert error.key == "pruner.name"


def test_seeds_of_the_command_line_must_not_confirm(problem: Pose) -> None:
    assert [block.seed for block in problem(seeds=(5, 6)).blocks] == [5, 6]
    assert refused(lambda: problem(seeds=(5, 101))).key == "confirm.seeds"
