"""One driver, nothing disturbed: what is asked, what is trained, what the study is told."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import TrialState

from ablations.search import suggest
from ablations.search.marks import FAILURE, HOURS, NOT_ALLOWED, SOURCE, TRAININGS, WARM
from ablations.search.problem import Problem
from csl.config import TrainingConfig
from tests.ablations.conftest import refused
from tests.ablations.search.conftest import Pose
from tests.ablations.search.driving import Driver, bowl
from tests.ablations.search.test_spec import ALPHA, END

COLD = "warm_start: {stored: false, reference: false}\n"


def plain(problem: Problem, sampler: BaseSampler, trials: int) -> optuna.Study:
    """The same search by Optuna alone."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(trials):
        trial = study.ask()
        point = suggest.suggest(trial, problem.spec)
        study.tell(trial, bowl(problem.trainings(point)[0].config))
    return study


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    ("name", "alone"),
    [
        ("tpe", lambda seed: TPESampler(seed=seed, n_startup_trials=4, multivariate=False)),
        ("multivariate_tpe", lambda seed: TPESampler(seed=seed, n_startup_trials=4)),
        ("gp", lambda seed: GPSampler(seed=seed, n_startup_trials=4)),
        ("cmaes", lambda seed: CmaEsSampler(seed=seed, popsize=5)),
        ("nsga2", lambda seed: NSGAIISampler(seed=seed, population_size=5)),
        ("nsga3", lambda seed: NSGAIIISampler(seed=seed, population_size=5)),
        ("random", lambda seed: RandomSampler(seed=seed)),
        ("qmc", lambda seed: QMCSampler(seed=seed, scramble=True)),
    ],
)
def test_serial_suggestions_are_those_of_optuna_alone(
    problem: Pose, tmp_path: Path, name: str, alone: Callable[[int], BaseSampler]
) -> None:
    wanted = f"sampler: {{name: {name}, seed: 7, startup: 4, population: 5}}\n"
    trials = 7 if name == "gp" else 16  # it thinks for half a second
    posed = problem(changes=[(END, f"budget: {{trials: {trials}}}\n" + wanted + COLD)])
    ours = Driver(posed, tmp_path).run()
    theirs = plain(posed, alone(7), trials)
    assert [each.params for each in ours.trials] == [each.params for each in theirs.trials]
    assert [each.values for each in ours.trials] == [each.values for each in theirs.trials]
    assert ours.asker.done


def test_a_grid_is_tried_once(problem: Pose, tmp_path: Path) -> None:
    posed = problem(
        changes=[
            (ALPHA, "{choice: [4, 8]}"),
            (END, "sampler: {name: grid}\nconstraints: ['masking.theta >= 0.3']\n" + COLD),
        ]
    )
    driver = Driver(posed, tmp_path).run()
    assert len(driver.trained) == len(set(driver.trained)) == 8
    assert driver.states() == {"COMPLETE": 8, "FAIL": 2}
    assert driver.asker.done
    assert driver.study.best_params == {"selection.alpha": 8, "masking.theta": 0.5}


def test_a_suggestion_that_is_stored_costs_nothing(problem: Pose, tmp_path: Path) -> None:
    few = "{choice: [4, 8]}"
    posed = problem(changes=[(ALPHA, few), (END, "budget: {trials: 24}\n" + COLD)])
    driver = Driver(posed, tmp_path).run()
    assert driver.states() == {"COMPLETE": 24}
    assert len(driver.trained) == len(set(driver.trained)) <= 10
    for trial in driver.trials:
        config = posed.trainings(suggest.point_of(trial.params, posed.spec))[0].config
        assert trial.value == pytest.approx(bowl(config))
        stored = trial.user_attrs[SOURCE] == "stored"
        assert trial.user_attrs[HOURS] == (0 if stored else pytest.approx(4 * 36 / 3600))
        assert len(trial.intermediate_values) == 4, "stored epochs are told too"
    assert sum(trial.user_attrs[SOURCE] == "stored" for trial in driver.trials) == 24 - len(
        driver.trained
    )


def test_what_the_store_has_is_known_before_the_first_suggestion(
    problem: Pose, tmp_path: Path
) -> None:
    first = Driver(problem(changes=[(END, "budget: {trials: 6}\n" + COLD)]), tmp_path).run()
    (tmp_path / "studies/two-shapes-tiny.journal").unlink()
    second = Driver(problem(changes=[(END, END + "sampler: {seed: 3}\n")]), tmp_path)
    warm = [trial for trial in second.trials if WARM in trial.user_attrs]
    assert {trial.value for trial in warm} == {trial.value for trial in first.trials}
    assert all(trial.state == TrialState.COMPLETE for trial in warm)
    second.run()
    assert len(second.trained) == 8, "they take none of the budget"
    assert second.trials[6].params == {"selection.alpha": 8.0, "masking.theta": 0.7}, "reference"


def test_first_trials_are_the_specs_points(problem: Pose, tmp_path: Path) -> None:
    points = "warm_start: {reference: false, points: [{selection.alpha: 4}, {masking.theta: 0.3}]}"
    driver = Driver(problem(changes=[(END, END + points + "\n")]), tmp_path).run(2)
    assert driver.trials[0].params["selection.alpha"] == 4
    assert driver.trials[1].params["masking.theta"] == pytest.approx(0.3)


def test_a_pruner_stops_trials_by_their_epochs(problem: Pose, tmp_path: Path) -> None:
    asha = "pruner: {name: asha, factor: 2}\n" + COLD
    driver = Driver(problem(changes=[(END, "budget: {trials: 20}\n" + asha)]), tmp_path).run()
    states = driver.states()
    assert states["PRUNED"] > 3
    assert states["COMPLETE"] + states["PRUNED"] == 20
    for trial in driver.trials:
        last = max(trial.intermediate_values)
        assert trial.value == trial.intermediate_values[last]
        assert (last == 4) == (trial.state == TrialState.COMPLETE)
        assert trial.user_attrs[HOURS] == pytest.approx(last * 36 / 3600)
    assert len(driver.store.headers()) == states["COMPLETE"]


def test_a_pruned_suggestion_that_comes_again_is_not_trained_again(
    problem: Pose, tmp_path: Path
) -> None:
    few = [
        (ALPHA, "{choice: [2, 4, 8]}"),
        ("masking.theta: {float: [0.1, 0.9], step: 0.2}", "masking.patch: {int: [1, 2]}"),
    ]
    asha = "budget: {trials: 24}\npruner: {name: asha, factor: 2}\n" + COLD
    driver = Driver(problem(changes=[*few, (END, asha)]), tmp_path).run()
    assert len(driver.trained) == len(set(driver.trained)) <= 6
    pruned = [trial for trial in driver.trials if trial.state == TrialState.PRUNED]
    by_training: dict[str, list[Any]] = {}
    for trial in pruned:
        by_training.setdefault(trial.user_attrs[TRAININGS][0], []).append(trial)
    assert any(len(each) > 1 for each in by_training.values())
    for each in by_training.values():
        assert all(trial.intermediate_values == each[0].intermediate_values for trial in each)


def test_wilcoxon_stops_after_the_seeds_that_decide(problem: Pose, tmp_path: Path) -> None:
    seeds = [("seeds: [0]", f"seeds: {[*range(8)]}")]
    pruner = "budget: {trials: 12}\npruner: {name: wilcoxon, warmup: 0.2}\n" + COLD
    driver = Driver(problem(changes=[*seeds, (END, pruner)]), tmp_path).run()
    for trial in driver.trials:
        count = len(trial.intermediate_values)
        if trial.state == TrialState.COMPLETE:
            assert count == 8
            assert trial.value == pytest.approx(
                sum(trial.intermediate_values.values()) / 8, abs=1e-9
            )
        else:
            assert trial.state == TrialState.PRUNED
            assert 4 <= count < 8, "four pairs are the fewest that p < 0.1 needs"
    assert driver.states()["PRUNED"] > 2
    assert len(driver.trained) == sum(len(t.intermediate_values) for t in driver.trials)


def test_a_score_is_the_mean_of_the_blocks(problem: Pose, tmp_path: Path) -> None:
    driver = Driver(
        problem(changes=[("seeds: [0]", "seeds: [0, 50]"), (END, "budget: {trials: 3}\n" + COLD)]),
        tmp_path,
    ).run()
    assert len(driver.trained) == 6
    for trial in driver.trials:
        point = suggest.point_of(trial.params, driver.problem.spec)
        one, two = driver.problem.trainings(point)
        assert trial.value == pytest.approx((bowl(one.config, 0) + bowl(two.config, 50)) / 2)


def test_blocks_run_side_by_side_unless_there_is_a_pruner(problem: Pose, tmp_path: Path) -> None:
    seeds = ("seeds: [0]", "seeds: [0, 1]")
    beside = Driver(problem(changes=[seeds]), tmp_path / "beside").asker
    jobs = [beside.propose() for _ in range(3)]
    assert [job.launched_as.rpartition("/trial ")[2] for job in jobs if job] == [
        "0/1/2/seed 0", "0/1/2/seed 1", "1/1/2/seed 0"
    ]  # fmt: skip
    pruned = problem(changes=[seeds, (END, END + "pruner: {name: median}\n")])
    after = Driver(pruned, tmp_path / "after").asker
    jobs = [after.propose() for _ in range(2)]
    assert [job.launched_as.rpartition("/trial ")[2] for job in jobs if job] == [
        "0/1/2/seed 0", "1/1/2/seed 0"
    ]  # fmt: skip


def test_several_objectives_have_a_front(problem: Pose, tmp_path: Path) -> None:
    both = "objectives: [miou, worst_class, gpu_hours]\nsampler: {name: nsga2, population: 4}\n"
    driver = Driver(problem(changes=[(END, END + both + COLD)]), tmp_path).run()
    assert driver.states() == {"COMPLETE": 8}
    for trial in driver.trials:
        assert len(trial.values) == 3
        assert trial.values[2] == pytest.approx(12.5 / 3600), "of the stored record"
    assert driver.study.best_trials
    assert driver.study.metric_names == ["miou", "worst_class", "gpu_hours"]


def test_a_forbidden_suggestion_is_no_trial(problem: Pose, tmp_path: Path) -> None:
    forbid = "constraints: ['selection.alpha + 100*masking.theta <= 40']\n" + COLD
    driver = Driver(problem(changes=[(END, END + forbid)]), tmp_path).run()
    assert driver.states()["COMPLETE"] == 8
    for trial in driver.trials:
        allowed = trial.params["selection.alpha"] + 100 * trial.params["masking.theta"] <= 40
        assert allowed == (trial.state == TrialState.COMPLETE)
        assert allowed != (NOT_ALLOWED in trial.user_attrs)


def test_a_sampler_that_insists_on_what_is_forbidden_is_overruled(
    problem: Pose, tmp_path: Path
) -> None:
    # One in a thousand points is allowed: the sampler would have to be very lucky.
    forbid = "constraints: ['selection.alpha <= 2.005']\nsampler: {name: gp, startup: 30}\n"
    driver = Driver(
        problem(changes=[(END, "budget: {trials: 2}\n" + forbid + COLD)]), tmp_path
    ).run()
    allowed = [trial for trial in driver.trials if trial.state == TrialState.COMPLETE]
    assert len(allowed) == 2
    assert all(trial.params["selection.alpha"] <= 2.005 for trial in allowed)


def test_a_failed_training_is_told_and_not_repeated(problem: Pose, tmp_path: Path) -> None:
    def diverges(config: TrainingConfig, seed: int) -> float:
        return math.nan if config.selection.alpha > 4 else bowl(config)

    few = [(ALPHA, "{choice: [4, 8]}"), (END, "budget: {trials: 16}\n" + COLD)]
    driver = Driver(problem(changes=few), tmp_path, diverges).run()
    assert driver.states()["FAIL"] + driver.states()["COMPLETE"] == 16
    failed = [trial for trial in driver.trials if trial.state == TrialState.FAIL]
    assert {trial.user_attrs[FAILURE] for trial in failed} == {"not a number"}
    assert all(trial.params["selection.alpha"] == 8 for trial in failed)
    assert len(driver.trained) == len(set(driver.trained))
    assert driver.asker.done


def test_hours_end_a_search(problem: Pose, tmp_path: Path) -> None:
    hour = [(END, "budget: {hours: 0.1}\n" + COLD)]  # a trial takes 0.04
    assert len(Driver(problem(changes=hour), tmp_path).run().trained) == 3


def test_one_seed_gives_one_search_and_another_seed_another(problem: Pose, tmp_path: Path) -> None:
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        wanted = f"budget: {{trials: 6}}\nsampler: {{seed: {seed}}}\n{COLD}"
        driver = Driver(problem(changes=[(END, wanted)]), tmp_path / name).run()
        runs.append([trial.params for trial in driver.trials])
    assert runs[0] == runs[1] != runs[2]


def test_conditional_parameters_are_suggested_where_they_apply(
    problem: Pose, tmp_path: Path
) -> None:
    space = [
        (f"selection.alpha: {ALPHA}", "selection.selector: {choice: [csl, threshold]}"),
        (
            "masking.theta: {float: [0.1, 0.9], step: 0.2}",
            "selection.tau: {float: [0.5, 0.99], when: {selection.selector: threshold}}",
        ),
        (END, "budget: {trials: 20}\nsampler: {name: multivariate_tpe, startup: 5}\n" + COLD),
    ]

    def score(config: TrainingConfig, seed: int) -> float:
        threshold = config.selection.selector == "threshold"
        return 50 + (10 * config.selection.tau if threshold else 0)

    driver = Driver(problem(changes=space), tmp_path, score).run()
    for trial in driver.trials:
        threshold = trial.params["selection.selector"] == "threshold"
        assert ("selection.tau" in trial.params) == threshold
    assert driver.study.best_params["selection.tau"] > 0.8
    assert len(driver.trained) == len(set(driver.trained)), "csl has one point"


def test_values_of_any_kind_are_choices(problem: Pose, tmp_path: Path) -> None:
    lists = "selection.features: {choice: [[dispersion], [dispersion, margin], [entropy]]}"
    posed = problem(
        changes=[(f"selection.alpha: {ALPHA}", lists), (END, "budget: {trials: 6}\n" + COLD)]
    )
    driver = Driver(posed, tmp_path).run()
    seen = {suggest.point_of(t.params, posed.spec)["selection.features"][0] for t in driver.trials}
    assert seen <= {"dispersion", "entropy"}
    assert refused(
        lambda: problem(changes=[(f"selection.alpha: {ALPHA}", lists.replace("margin", "edge"))])
    )
