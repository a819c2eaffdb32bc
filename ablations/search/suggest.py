"""Takes a search's space, sampler and pruner; gives Optuna's, and points from Optuna's trials."""

import json
from collections.abc import Mapping
from typing import Any, cast

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from ablations.search.space import Choice, Float, Integer, Point
from ablations.search.spec import SearchSpec


def distribution(parameter: Any) -> BaseDistribution:
    """What Optuna calls a parameter."""
    match parameter:
        case Float():
            return FloatDistribution(*parameter.bounds, log=parameter.log, step=parameter.step)
        case Integer():
            return IntDistribution(*parameter.bounds, log=parameter.log, step=parameter.step)
        case Choice():
            return CategoricalDistribution([spelled(value) for value in parameter.choice])
    raise AssertionError(f"no kind of parameter: {parameter!r}")


def spelled(value: Any) -> Any:
    """A choice's value as Optuna can store it: lists and mappings as JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def suggest(trial: optuna.Trial, spec: SearchSpec) -> dict[str, Any]:
    """The point that a trial suggests."""
    point: dict[str, Any] = {}
    for key in spec.order:
        parameter = spec.space[key]
        if not parameter.applies(point):
            continue
        match parameter:
            case Float():
                low, high = parameter.bounds
                drawn = trial.suggest_float(key, low, high, log=parameter.log, step=parameter.step)
            case Integer():
                first, last = parameter.bounds
                drawn = trial.suggest_int(key, first, last, log=parameter.log, step=parameter.step)
            case Choice():
                drawn = trial.suggest_categorical(key, [spelled(v) for v in parameter.choice])
        point[key] = _read(parameter, drawn)
    return point


def point_of(params: Mapping[str, Any], spec: SearchSpec) -> dict[str, Any]:
    """The point of a stored trial's parameters."""
    return {key: _read(spec.space[key], params[key]) for key in spec.order if key in params}


def params_of(point: Point) -> dict[str, Any]:
    """The inverse of ``point_of``."""
    return {key: spelled(value) for key, value in point.items()}


def _read(parameter: Any, drawn: Any) -> Any:
    match parameter:
        case Choice():
            return next(value for value in parameter.choice if spelled(value) == drawn)
        case Float() if (values := parameter.values()) is not None:
            # Optuna's 0.30000000000000004 would be another training than a table's 0.3.
            return min(values, key=lambda value: abs(float(value) - drawn))
    return drawn


def sampler(spec: SearchSpec, stream: int) -> BaseSampler:
    """Optuna's sampler.

    Args:
        spec: names it; its seed decides every draw.
        stream: which driver of the study this is, counted from 0. The first draws as plain Optuna
            does; the others must not repeat it.
    """
    wanted = spec.sampler
    seed = wanted.seed if stream == 0 else _derived(wanted.seed, stream)
    conditional = any(parameter.when for parameter in spec.space.values())
    match wanted.name:
        case "tpe":
            return TPESampler(seed=seed, n_startup_trials=wanted.startup, multivariate=False)
        case "multivariate_tpe":
            return TPESampler(
                seed=seed, n_startup_trials=wanted.startup, multivariate=True, group=conditional
            )
        case "gp":
            return GPSampler(seed=seed, n_startup_trials=wanted.startup)
        case "cmaes":
            return _Cmaes(seed=seed, popsize=wanted.population)
        case "nsga2":
            return NSGAIISampler(seed=seed, population_size=wanted.population or 20)
        case "nsga3":
            return NSGAIIISampler(seed=seed, population_size=wanted.population or 20)
        case "random":
            return RandomSampler(seed=seed)
        case "grid":
            values = {key: [*(each.values() or ())] for key, each in spec.space.items()}
            texts = {key: [spelled(value) for value in each] for key, each in values.items()}
            return _Grid(texts, seed=wanted.seed)  # one order for every driver
        case "qmc":
            # Drivers share one scrambled sequence: its place is kept in the study.
            return QMCSampler(
                seed=wanted.seed,
                scramble=True,
                independent_sampler=RandomSampler(seed=seed),
                warn_independent_sampling=False,
            )


def pruner(spec: SearchSpec, epochs: int) -> BasePruner:
    """Optuna's pruner; ``epochs`` are a whole trial's."""
    wanted = spec.pruner
    first = wanted.first(epochs)
    match wanted.name:
        case "none":
            return NopPruner()
        case "asha":
            return SuccessiveHalvingPruner(min_resource=first, reduction_factor=wanted.factor)
        case "hyperband":
            return HyperbandPruner(
                min_resource=first, max_resource=epochs, reduction_factor=wanted.factor
            )
        case "median":
            return MedianPruner(n_startup_trials=wanted.startup, n_warmup_steps=first)
        case "wilcoxon":
            return WilcoxonPruner(p_threshold=wanted.p, n_startup_steps=wanted.first(spec.blocks))


def _derived(seed: int, stream: int) -> int:
    """Another seed, for another driver."""
    # Weyl's sequence with the golden ratio: far apart, and never the seed itself.
    return (seed + stream * 0x9E3779B1) % 2**32


class _Grid(GridSampler):
    """A grid that leaves the end to its caller; Optuna's would stop a loop that is not its own."""

    def after_trial(self, *_: Any, **__: Any) -> None:
        """Nothing is stopped."""


class _Cmaes(CmaEsSampler):
    """CMA-ES that follows from the trials' numbers. Optuna keeps its state pickled in the study,
    which may come from anywhere; here it is computed again, with the same draws."""

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> None:
        self._told = completed_trials

    def _init_optimizer(self, trans: Any, direction: StudyDirection) -> Any:
        draws = self._cma_rng.rng.get_state()
        optimizer = super()._init_optimizer(trans, direction)
        key = f"{self._attr_key_optimizer}:0"
        kept = [trial for trial in self._told if key in trial.system_attrs]
        if not kept:
            return optimizer
        self._cma_rng.rng.set_state(draws)  # Optuna draws for the first one only
        sign = 1 if direction == StudyDirection.MINIMIZE else -1
        while optimizer.generation < kept[-1].system_attrs[self._attr_key_generation]:
            solved = self._get_solution_trials(self._told, optimizer.generation)
            assert len(solved) >= optimizer.population_size, "a generation ends when all are told"
            optimizer.tell(
                [
                    (trans.transform(trial.params), sign * cast("float", trial.value))
                    for trial in solved[: optimizer.population_size]
                ]
            )
        return optimizer
