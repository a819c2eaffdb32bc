"""Takes a search, a setting and options; gives what each point of the space is trained as."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from ablations.documents import did_you_mean, validate
from ablations.expand import Options
from ablations.layers import Layer, command_line, profile, resolve
from ablations.search.space import Choice, Point, draws
from ablations.search.spec import SearchSpec
from ablations.spec import Setting
from csl.config import TrainingConfig, flatten
from csl.errors import InputError
from csl.identity import Training

_DRAWS = 10_000
"""Random points that are tried before the constraints are said to leave none."""


@dataclass(frozen=True)
class Block:
    """A split by its name and by its list, and a seed: what a training is made on."""

    split: str
    labeled: str
    seed: int

    def __str__(self) -> str:
        return f"{self.split}/seed {self.seed}"


@dataclass(frozen=True)
class Problem:
    """A search on a setting.

    Args:
        spec, file: the search, and where it was read.
        setting, setting_file: where it runs.
        options: what the command line changes.
        base: the configuration that every trial's point is laid over.
        reference: the configuration that the best is compared with.
        blocks: what each trial is trained on, in this order.
    """

    spec: SearchSpec
    file: str
    setting: Setting
    setting_file: str
    options: Options
    base: TrainingConfig
    reference: TrainingConfig
    blocks: tuple[Block, ...]

    def keys(self, point: Point) -> dict[str, Any]:
        """Every configuration key that a point decides, the derived ones too."""
        derived = {key: each.at(point) for key, each in self.spec.sums.items()}
        return {**point, **{key: _as(self.defaults.get(key), v) for key, v in derived.items()}}

    def configuration(self, keys: Mapping[str, Any]) -> TrainingConfig:
        """The whole configuration with these keys.

        Raises:
            InputError: a value does not fit, or does not go with another.
        """
        return resolve([*self._layers, Layer(self.file, self.whole(keys)), self._above])

    def why_not(self, point: Point) -> str | None:
        """What forbids a point: a constraint as it is written, or what its values contradict."""
        try:
            keys = self.keys(point)
            values = {**self.defaults, **flatten(self.whole(keys)), **keys}
            for comparison in self.spec.comparisons:
                if not comparison.holds(values):
                    return comparison.text
            self.configuration(keys)
        except InputError as error:
            return f"{error.key}: {error.problem}"
        return None

    def trainings(self, point: Point) -> tuple[Training, ...]:
        """What a point is trained as, block by block."""
        config = self.configuration(self.keys(point))
        return tuple(Training(config, block.labeled, block.seed) for block in self.blocks)

    def point_of(self, config: TrainingConfig) -> dict[str, Any] | None:
        """The point that is trained as this configuration; None if none is."""
        values = _with_elements(flatten(config.model_dump(mode="json")))
        point: dict[str, Any] = {}
        for key in self.spec.order:
            parameter = self.spec.space[key]
            if parameter.applies(point):
                if key not in values or not parameter.has(values[key]):
                    return None
                point[key] = parameter.spell(values[key])
        if self.why_not(point) or self.configuration(self.keys(point)) != config:
            return None
        return point

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The base's keys and elements of lists, by dotted key."""
        return _with_elements(flatten(self.base.model_dump(mode="json")))

    @property
    def _layers(self) -> list[Layer]:
        return [
            profile(self.options.profile),
            Layer(self.setting_file, self.setting.set),
            Layer(self.file, self.spec.set),
        ]

    @property
    def _above(self) -> Layer:
        return command_line(self.options.assignments)

    def whole(self, keys: Mapping[str, Any]) -> dict[str, Any]:
        """Keys of list elements, such as augmentation.scale.0, as whole lists."""
        whole: dict[str, Any] = {}
        for key, value in keys.items():
            name, _, index = key.rpartition(".")
            current = whole.get(name, self.defaults.get(name))
            if index.isdecimal() and isinstance(current, list):
                whole[name] = [*current]
                whole[name][int(index)] = value
            else:
                whole[key] = value
        return whole


def pose(spec: tuple[SearchSpec, str], setting: tuple[Setting, str], options: Options) -> Problem:
    """Put a search on a setting, and refuse what could not be searched there.

    Raises:
        InputError: an unknown key or split, a value that fits no configuration, a point that is
            none, constraints that leave nothing, or a pruner that would never see anything.
    """
    what, file = spec
    changes: dict[str, Any] = {}
    if options.splits:
        changes["splits"] = options.splits
    if options.seeds:
        changes["seeds"] = options.seeds
    if changes:
        # Validated again: other seeds may be those that confirm.
        what = _revalidated(what, changes)
    where, setting_file = setting
    layers = [
        profile(options.profile),
        Layer(setting_file, where.set),
        Layer(file, what.set),
    ]
    above = command_line(options.assignments)
    base = resolve([*layers, above])
    reference = resolve([*layers, Layer(file, what.reference), above])
    blocks = _blocks(what, file, where)
    problem = Problem(what, file, where, setting_file, options, base, reference, blocks)
    _check_keys(problem)
    _check_values(problem)
    _check_points(problem)
    _check_not_empty(problem)
    _check_seen_epochs(problem)
    return problem


def _revalidated(spec: SearchSpec, changes: dict[str, Any]) -> SearchSpec:
    content = json.loads(spec.model_dump_json(by_alias=True, exclude_unset=True))
    return validate({**content, **changes}, SearchSpec, "--seeds and --splits")


def _blocks(spec: SearchSpec, file: str, setting: Setting) -> tuple[Block, ...]:
    for split in spec.splits:
        if split not in setting.splits:
            raise InputError(
                f"setting {setting.name} has no such split",
                file=file,
                key="splits",
                value=split,
                remedy=f"use one of {', '.join(setting.splits)}, or --splits",
            )
    # Seed-major: after the first seed, wilcoxon has seen every split.
    return tuple(
        Block(split, setting.splits[split], seed) for seed in spec.seeds for split in spec.splits
    )


def _check_keys(problem: Problem) -> None:
    spec, known = problem.spec, problem.defaults
    named = [
        *((f"space.{key}", key) for key in spec.space),
        *((f"derived.{key}", key) for key in spec.derived),
        *(("constraints", key) for each in spec.comparisons for key in each.excess.keys),
    ]
    for place, key in named:
        if key not in known:
            raise InputError(
                "no configuration has this key",
                file=problem.file,
                key=place,
                value=key,
                remedy=did_you_mean(key, known),
            )
    assigned = command_line(problem.options.assignments).values
    for key in assigned:
        decided = next((k for k in (*spec.space, *spec.derived) if _overlap(k, key)), None)
        if decided is not None:
            raise InputError(
                "this key is searched, and cannot be set as well",
                file=problem.file,
                key=f"--set {key}",
                remedy="leave it out, or remove the key from the search's space",
            )
    for each in spec.comparisons:
        for key in each.excess.keys:
            parameter = spec.space.get(key)
            values = parameter.choice if isinstance(parameter, Choice) else (known[key],)
            if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
                raise InputError(
                    "a comparison is about numbers",
                    file=problem.file,
                    key="constraints",
                    value=each.text,
                    remedy=f"leave {key} out of it",
                )


def _check_values(problem: Problem) -> None:
    """Each parameter's bounds and choices have to fit the configuration: alone, or with others."""
    space = problem.spec.space
    for key, parameter in space.items():
        for value in parameter.choice if isinstance(parameter, Choice) else parameter.bounds:
            try:
                problem.configuration({key: value})
            except InputError:
                others = islice(draws(space, 0), _DRAWS // 20)
                if all(problem.why_not({**point, key: value}) for point in others):
                    raise


def _check_points(problem: Problem) -> None:
    space = problem.spec.space
    for point in problem.spec.warm_start.points:
        for key, value in point.items():
            if key not in space or not space[key].has(value):
                raise InputError(
                    "a first trial lies outside the space",
                    file=problem.file,
                    key=f"warm_start.points.{key}",
                    value=value,
                    remedy="widen the space, or mend the point",
                )


def _check_not_empty(problem: Problem) -> None:
    points = islice(draws(problem.spec.space, 0), _DRAWS)
    reason = None
    for point in points:
        reason = problem.why_not(point)
        if reason is None:
            return
    raise InputError(
        f"the space is empty: none of {_DRAWS} random points is allowed",
        file=problem.file,
        key="constraints",
        value=reason,
        remedy="loosen the constraints, or widen the bounds",
    )


def _check_seen_epochs(problem: Problem) -> None:
    pruner, config = problem.spec.pruner.name, problem.base
    if pruner in ("none", "wilcoxon"):
        return
    epochs, every = config.schedule.epochs, config.evaluation.every
    last_but_one = (epochs - 1) // every * every
    if len(problem.blocks) == 1 and last_but_one < problem.spec.pruner.first(epochs):
        raise InputError(
            f"{pruner} could stop nothing: it sees no epoch between its warmup and the last",
            file=problem.file,
            key="pruner.name",
            value=pruner,
            remedy="evaluate more often (--set evaluation.every=1), lower warmup, or set it to "
            "none",
        )


def _as(default: Any, value: float) -> Any:
    """A derived number, whole where the configuration's is."""
    return int(value) if isinstance(default, int) and value == int(value) else value


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _with_elements(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Also the elements of lists, by index."""
    elements = {
        f"{key}.{index}": each
        for key, value in flat.items()
        if isinstance(value, list)
        for index, each in enumerate(value)
    }
    return {**flat, **elements}
