"""Takes a search's study and store; gives what was found, as one object."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.importance import (
    FanovaImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)
from optuna.trial import FrozenTrial, TrialState

from ablations.expand import Grid
from ablations.naming import name_all
from ablations.search.confirm import candidates, confirmation
from ablations.search.marks import HOURS, NOT_ALLOWED, SOURCE, SURPLUS, WARM, counts, is_lost
from ablations.search.names import short_keys
from ablations.search.problem import Problem
from ablations.search.run import Search
from ablations.search.space import Choice
from ablations.search.spec import Objective
from ablations.search.study import DIRECTIONS
from ablations.search.suggest import point_of
from results.confirmed import Block, Confirmed, confirmed
from results.search import HeatMap, SearchAxis, SearchTrial, Slice, best_so_far, heat_map, slices

UNITS: dict[Objective, str] = {
    "miou": "mIoU, %",
    "worst_class": "IoU of the worst class, %",
    "gpu_hours": "GPU-hours (on CPUs, hours)",
}
_FEW = 4
"""Complete trials below which nothing is said of importance."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        search: what it is of.
        trials: what was tried, in order; neither forbidden suggestions nor lost attempts.
        counts: trials by what became of them.
        hours: that its trainings took, of GPUs or of slots.
        front: numbers of the trials that no other beats, where there are several objectives.
        importance: by method and key; empty where there are too few trials.
        heat: of two keys, if the space has two.
        grid: the comparison that confirms; its rows are the next one's.
        confirmed: the reference first.
    """

    search: Search
    trials: tuple[SearchTrial, ...]
    counts: dict[str, int]
    hours: float
    front: tuple[int, ...]
    importance: dict[str, dict[str, float]]
    heat: HeatMap | None
    grid: Grid
    confirmed: tuple[Confirmed, ...]

    @property
    def problem(self) -> Problem:
        """What was searched."""
        return self.search.problem

    @property
    def maximize(self) -> bool:
        """Of the first objective."""
        return DIRECTIONS[self.problem.spec.objectives[0]] == "maximize"

    @property
    def units(self) -> tuple[str, ...]:
        """Of the objectives."""
        return tuple(UNITS[name] for name in self.problem.spec.objectives)

    @property
    def axes(self) -> tuple[SearchAxis, ...]:
        """The searched keys."""
        return axes_of(self.problem)

    @property
    def best(self) -> tuple[SearchTrial, ...]:
        """Complete trials of different points, the best first."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        sign = -1 if self.maximize else 1
        ranked = sorted(complete, key=lambda trial: (sign * trial.scores[0], trial.number))
        return tuple(
            trial
            for index, trial in enumerate(ranked)
            if not any(trial.point == other.point for other in ranked[:index])
        )

    def slices(self) -> dict[str, tuple[Slice, ...]]:
        """The scores by each key."""
        return {axis.key: slices(self.trials, axis, maximize=self.maximize) for axis in self.axes}


def find(wanted: Search, study: optuna.Study) -> Found:
    """Look at a study and at what the store has of its confirmation."""
    problem = wanted.problem
    stored = study.get_trials(deepcopy=False)
    tried = [trial for trial in stored if counts(trial) or WARM in trial.user_attrs]
    trials = tuple(_trial(trial, problem) for trial in tried if trial.state.is_finished())
    several = len(problem.spec.objectives) > 1
    front = tuple(trial.number for trial in study.best_trials) if several else ()
    rows = candidates(problem, study)
    grid = confirmation(problem, rows)
    scores = [row.scores[0] if row.scores else None for row in rows]
    fresh = _fresh(wanted, grid)
    return Found(
        search=wanted,
        trials=trials,
        counts=_count(stored),
        hours=sum(trial.user_attrs.get(HOURS, 0.0) for trial in stored),
        front=front,
        importance=_importance(study, problem),
        heat=_heat(trials, problem),
        grid=grid,
        confirmed=confirmed(
            [
                (row.name, score, fresh.get(row.name, {}))
                for row, score in zip(rows, scores, strict=True)
            ],
            len(grid.splits) * len(grid.seeds),
        ),
    )


def found_object(found: Found) -> dict[str, Any]:
    """What was found as one JSON object."""
    spec = found.problem.spec
    return {
        "search": spec.name,
        "setting": found.problem.setting.name,
        "study": found.search.name,
        "objectives": list(spec.objectives),
        "counts": found.counts,
        "hours": found.hours,
        "trials": [
            {**asdict(trial), "best_so_far": best}
            for trial, best in zip(
                found.trials, best_so_far(found.trials, maximize=found.maximize), strict=True
            )
        ],
        "front": list(found.front),
        "importance": found.importance,
        "slices": {key: [asdict(each) for each in own] for key, own in found.slices().items()},
        "heat_map": None
        if found.heat is None
        else {
            "rows": [each.label for each in found.heat.row.bins],
            "columns": [each.label for each in found.heat.column.bins],
            "keys": [found.heat.row.key, found.heat.column.key],
            "means": found.heat.means,
            "counts": found.heat.counts,
        },
        "confirmed": [{**asdict(row), "shrinkage": row.shrinkage} for row in found.confirmed],
    }


def axes_of(problem: Problem) -> tuple[SearchAxis, ...]:
    """The searched keys as results.search knows them."""
    labels = short_keys(problem.spec.space)
    return tuple(
        SearchAxis(
            key,
            labels[key],
            not isinstance(parameter, Choice) and parameter.log,
            parameter.values(),
            None if isinstance(parameter, Choice) else parameter.bounds,
        )
        for key, parameter in problem.spec.space.items()
    )


def _trial(trial: FrozenTrial, problem: Problem) -> SearchTrial:
    states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
    return SearchTrial(
        trial.number,
        states.get(trial.state, "failed"),  # type: ignore[arg-type]
        trial.user_attrs.get(SOURCE) == "stored",
        point_of(trial.params, problem.spec),
        tuple(trial.values or ()),
    )


def _count(trials: list[FrozenTrial]) -> dict[str, int]:
    """Every trial once, under what became of it."""
    found = dict.fromkeys(
        ("trained", "stored", "known before", "pruned", "failed", "running", "waiting",
         "not allowed", "left and asked again"), 0
    )  # fmt: skip
    for trial in trials:
        own = trial.user_attrs
        if NOT_ALLOWED in own:
            found["not allowed"] += 1
        elif trial.state == TrialState.FAIL:
            found["left and asked again" if is_lost(trial) or SURPLUS in own else "failed"] += 1
        elif trial.state == TrialState.COMPLETE:
            warm = "known before" if WARM in own else None
            found[warm or ("stored" if own.get(SOURCE) == "stored" else "trained")] += 1
        else:
            found[trial.state.name.lower()] += 1
    return found


def _importance(study: optuna.Study, problem: Problem) -> dict[str, dict[str, float]]:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    scores = {trial.values[0] for trial in complete}
    if len(complete) < _FEW or len(scores) < 2:
        return {}
    everywhere = set.intersection(*(set(trial.params) for trial in complete))
    varied = [
        key
        for key in problem.spec.space
        if len({str(t.params[key]) for t in complete if key in t.params}) > 1
    ]
    several = len(problem.spec.objectives) > 1
    # fANOVA knows one objective, and no conditions.
    first = (lambda trial: trial.values[0]) if several else None
    methods: Mapping[str, tuple[Any, list[str], Any]] = {
        "PED-ANOVA": (PedAnovaImportanceEvaluator(), varied, None),
        "fANOVA": (
            FanovaImportanceEvaluator(seed=0),
            [k for k in varied if k in everywhere],
            first,
        ),
    }
    return {
        method: get_param_importances(study, evaluator=evaluator, params=keys, target=target)
        for method, (evaluator, keys, target) in methods.items()
        if keys
    }


def _heat(trials: tuple[SearchTrial, ...], problem: Problem) -> HeatMap | None:
    axes = {axis.key: axis for axis in axes_of(problem)}
    keys = problem.spec.heatmap or tuple(axes)[:2]
    return heat_map(trials, axes[keys[0]], axes[keys[1]]) if len(keys) == 2 else None


def _fresh(wanted: Search, grid: Grid) -> dict[str, dict[Block, float]]:
    """The confirming scores of each row that the store has."""
    records = wanted.store.latest()
    found: dict[str, dict[Block, float]] = {}
    for named in name_all((grid,), wanted.places, records):
        record = records.get(named.key)
        if record is None or record.status != "complete":
            continue
        score = record.best if wanted.problem.spec.rule == "best" else record.last
        assert score is not None, "a complete record has both scores"
        for place in named.places:
            cell = place.cell
            block = (cell.split, cell.training.seed)
            found.setdefault(cell.variant, {})[block] = score.mean_iou
    return found
