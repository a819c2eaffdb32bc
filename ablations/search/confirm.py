"""Takes a study; gives the comparison that its best trials have to pass on fresh seeds.

That comparison is a spec like any other: planned, trained and tabulated as such. The search's own
scores are in no table: the best of many noisy numbers is too good to be true.
"""

from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from ablations.expand import Grid, Options, expand
from ablations.search.marks import TRAININGS
from ablations.search.names import said, short_keys
from ablations.search.problem import Problem
from ablations.search.suggest import point_of
from ablations.spec import Spec
from ablations.variants import Variant

REFERENCE = "reference"
_LONGEST = 80


@dataclass(frozen=True)
class Candidate:
    """A row to confirm: a trial, or the reference where ``trial`` is none of them.

    Args:
        name: of the row.
        point: what it searched.
        number: the trial's; None if the reference was never a trial.
        scores: its search scores by objective; empty without a trial.
        keys: configuration keys on top of the search's ``set``.
    """

    name: str
    point: dict[str, Any]
    number: int | None
    scores: tuple[float, ...]
    keys: dict[str, Any]


def candidates(problem: Problem, study: optuna.Study) -> tuple[Candidate, ...]:
    """The reference and the best trials that differ from it and from each other, best first.

    Of several objectives the best are those of the Pareto front, by the first objective.
    """
    spec, short = problem.spec, short_keys(problem.spec.space)
    found: list[Candidate] = []
    reference = Candidate(REFERENCE, {}, None, (), spec.reference)
    seen: set[tuple[str, ...]] = set()
    for trial in _ranked(problem, study):
        point, trainings = point_of(trial.params, spec), tuple(trial.user_attrs[TRAININGS])
        scores, keys = tuple(trial.values), problem.keys(point)
        if problem.configuration(keys) == problem.reference:
            if reference.number is None:
                reference = Candidate(REFERENCE, point, trial.number, scores, spec.reference)
        elif trainings not in seen and len(found) < spec.confirm.top:
            seen.add(trainings)
            name = f"{said(point, short)} (trial {trial.number})"
            if len(name) > _LONGEST:
                name = f"trial {trial.number}"
            found.append(Candidate(name, point, trial.number, scores, problem.whole(keys)))
    return (reference, *found)


def confirmation(problem: Problem, rows: tuple[Candidate, ...]) -> Grid:
    """The comparison of these rows, on the splits of the search and the seeds that confirm."""
    what = problem.spec
    spec = Spec(
        name=f"{what.name}-confirmed"[:_LONGEST],
        title=f"{what.title}: the best of the search on fresh seeds"[:160],
        reference=REFERENCE,
        splits=what.splits,
        seeds=what.confirm.seeds,
        set=what.set,
        variants=tuple(Variant(name=row.name, set=row.keys) for row in rows),
    )
    options = Options(profile=problem.options.profile, assignments=problem.options.assignments)
    return expand((spec, problem.file), (problem.setting, problem.setting_file), options)


def _ranked(problem: Problem, study: optuna.Study) -> list[FrozenTrial]:
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(problem.spec.objectives) > 1:
        front = {trial.number for trial in study.best_trials}
        trials = [trial for trial in trials if trial.number in front]
    sign = -1 if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else 1
    return sorted(trials, key=lambda trial: (sign * trial.values[0], trial.number))
