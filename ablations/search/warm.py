"""Takes a new study; tells it what is known already, and what to try first."""

import time
from collections.abc import Callable, Iterable

import optuna
from optuna.trial import TrialState, create_trial

from ablations.search import suggest
from ablations.search.drivers import Drivers
from ablations.search.marks import SOURCE, TRAININGS, WARM
from ablations.search.problem import Problem
from ablations.search.scores import scores
from csl.config import TrainingConfig
from csl.identity import Identity, Training
from results.schema import Header, Record

_READY = "ready"


def warm_up(
    problem: Problem,
    study: optuna.Study,
    drivers: Drivers,
    headers: Iterable[Header],
    identify: Callable[[Training], Identity],
    look_up: Callable[[str], Record | None],
) -> int:
    """Add finished trainings and first trials to a study that nobody has warmed up yet.

    Of several drivers one does it, the others wait.

    Args:
        headers: what the store has.
        identify: names a training.
        look_up: what the store has of an identity.

    Returns:
        How many stored trials it knows now.
    """
    while not study.user_attrs.get(_READY):
        if not drivers.leads():
            time.sleep(0.2)
            continue
        if problem.spec.warm_start.stored:
            _add_stored(problem, study, headers, identify, look_up)
        _add_points(problem, study)
        study.set_user_attr(_READY, True)
    return sum(WARM in trial.user_attrs for trial in study.get_trials(deepcopy=False))


def _add_stored(
    problem: Problem,
    study: optuna.Study,
    headers: Iterable[Header],
    identify: Callable[[Training], Identity],
    look_up: Callable[[str], Record | None],
) -> None:
    """Trials of which every block is stored."""
    blocks = {(block.labeled, block.seed) for block in problem.blocks}
    texts = dict.fromkeys(
        header.configuration
        for header in headers
        if header.status == "complete" and (header.split, header.seed) in blocks
    )
    known = [trial.user_attrs.get(TRAININGS) for trial in study.get_trials(deepcopy=False)]
    for text in texts:
        point = problem.point_of(TrainingConfig.model_validate_json(text))
        if point is None:
            continue
        ids = [identify(training).id for training in problem.trainings(point)]
        records = [record for each in ids if (record := look_up(each)) is not None]
        done = len(records) == len(ids) and all(each.status == "complete" for each in records)
        if not done or ids in known:
            continue
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                values=scores(records, problem.spec),
                params=suggest.params_of(point),
                distributions={key: suggest.distribution(problem.spec.space[key]) for key in point},
                user_attrs={TRAININGS: ids, SOURCE: "stored", WARM: True},
            )
        )


def _add_points(problem: Problem, study: optuna.Study) -> None:
    """The reference, and what the spec names, as the first trials."""
    wanted = problem.spec.warm_start
    points = [dict(point) for point in wanted.points]
    reference = problem.point_of(problem.reference) if wanted.reference else None
    for point in [*([reference] if reference else []), *points]:
        params = suggest.params_of(
            {key: problem.spec.space[key].spell(value) for key, value in point.items()}
        )
        study.enqueue_trial(params, skip_if_exists=True)
