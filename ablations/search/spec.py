"""Takes a search's YAML; gives it as a frozen model: what is searched, how, when it is believed.

A search is a spec with a ``space``. Like every spec it is independent of the setting it runs on.
"""

from collections.abc import Iterable, Mapping
from math import ceil
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ablations.documents import find, mapping, validate
from ablations.search.linear import Comparison, Linear, parse_comparison, parse_sum
from ablations.search.space import Space, ordered
from ablations.spec import Identifier, Seeds
from ablations.variants import Keys, Name
from csl.config import Frozen, fault, flatten
from csl.errors import InputError

Objective = Literal["miou", "worst_class", "gpu_hours"]
SamplerName = Literal[
    "tpe", "multivariate_tpe", "gp", "cmaes", "nsga2", "nsga3", "random", "grid", "qmc"
]
PrunerName = Literal["none", "asha", "hyperband", "median", "wilcoxon"]

_WILCOXON_BLOCKS = 5
_LARGEST_GRID = 100_000
_ONE_OBJECTIVE = ("cmaes",)
_UNCONDITIONAL = ("gp", "cmaes", "grid", "qmc")


class Sampler(Frozen):
    """Who suggests: Optuna's samplers by name.

    ``seed``: of its own draws. ``startup``: trials at random before it begins to learn (tpe,
    multivariate_tpe, gp); ``population``: of a generation (nsga2, nsga3, cmaes).
    """

    name: SamplerName = "tpe"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    startup: Annotated[int, Field(ge=1)] = 10
    population: Annotated[int, Field(ge=4)] | None = None


class Pruner(Frozen):
    """Who stops trials early: Optuna's pruners by name.

    ``asha``, ``hyperband`` and ``median`` look at each evaluated epoch, ``wilcoxon`` at each
    finished block (split and seed). ``warmup``: nothing is stopped before this share of them.
    ``factor``: one in so many trials goes on (asha, hyperband). ``startup``: trials that end
    undisturbed first (median). ``p``: the threshold of wilcoxon's test.
    """

    name: PrunerName = "none"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    factor: Annotated[int, Field(ge=2)] = 3
    startup: Annotated[int, Field(ge=1)] = 5
    p: Annotated[float, Field(gt=0, lt=0.5)] = 0.1

    def first(self, steps: int) -> int:
        """The first of so many epochs or blocks after which a trial may be stopped."""
        return max(1, ceil(self.warmup * steps))


class Budget(Frozen):
    """When the search ends: after so many ``trials``, or when they took so many ``hours`` of GPUs
    (of slots, on CPUs); whichever comes first. What is stored already takes none."""

    trials: Annotated[int, Field(ge=1)] | None = None
    hours: Annotated[float, Field(gt=0)] | None = None


class WarmStart(Frozen):
    """What a new study knows before its first suggestion.

    ``stored``: finished trainings of the store that are points of the space, on this search's
    splits and seeds. ``reference``: the reference, as the first trial, if it is a point of the
    space. ``points``: further first trials, such as the paper's own values; a key that is left out
    is suggested.
    """

    stored: bool = True
    reference: bool = True
    points: tuple[Keys, ...] = ()


class Confirm(Frozen):
    """Before anything is believed: the best ``top`` trials and the reference are trained again, on
    ``seeds`` that the search never sees."""

    top: Annotated[int, Field(ge=1, le=20)] = 3
    seeds: Seeds


class SearchSpec(Frozen):
    """What is searched, on which blocks, how, and how the result is confirmed.

    ``set``: dotted configuration keys of every trial. ``space``: the keys that are searched.
    ``derived``: keys that follow from them, such as ``loss.masked: "0.5 - loss.strong"``.
    ``constraints``: comparisons that every trial meets. ``splits`` and ``seeds``: each trial is
    trained on all of these blocks; its score is their mean. ``rule``: the epoch that counts.
    ``reference``: keys of what the best is compared with; none is the setting's own method.
    ``heatmap``: the two keys, rows and columns, that are shown against each other.
    """

    name: Identifier
    title: Annotated[str, Field(min_length=1, max_length=160)]
    setting: Name | None = None
    splits: Annotated[tuple[Name, ...], Field(min_length=1)]
    seeds: Seeds
    set: Keys = Field(default_factory=dict)
    space: Space
    derived: dict[str, str] = Field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = ("miou",)
    rule: Literal["best", "last"] = "best"
    sampler: Sampler = Sampler()
    pruner: Pruner = Pruner()
    budget: Budget = Budget()
    warm_start: WarmStart = WarmStart()
    reference: Keys = Field(default_factory=dict)
    confirm: Confirm
    heatmap: tuple[Name, Name] | None = None

    @property
    def sums(self) -> Mapping[str, Linear]:
        """``derived``, read."""
        return {key: parse_sum(text) for key, text in self.derived.items()}

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """``constraints``, read."""
        return tuple(parse_comparison(text) for text in self.constraints)

    @property
    def order(self) -> tuple[str, ...]:
        """The searched keys, each after those that it depends on."""
        return ordered(self.space)

    @property
    def blocks(self) -> int:
        """Trainings of a trial."""
        return len(self.splits) * len(self.seeds)

    @property
    def grid_size(self) -> int | None:
        """How many points there are; None if they cannot be counted, or depend on each other."""
        size = 1
        for parameter in self.space.values():
            values = parameter.values()
            if values is None or parameter.when:
                return None
            size *= len(values)
        return size

    @property
    def trials(self) -> int | None:
        """How many trials there are at most; a grid ends by itself."""
        return self.budget.trials or (self.grid_size if self.sampler.name == "grid" else None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for what, values in (("split", self.splits), ("seed", self.seeds)):
            _refuse_twice(f"{what}s", values)
        _refuse_twice("objectives", self.objectives)
        if self.objectives[0] != "miou":
            raise fault(
                "the first objective is what confirms",
                key="objectives",
                value=self.objectives[0],
                remedy="name miou first",
            )
        ordered(self.space)
        self._check_keys()
        for key in (*self.derived, *self.constraints):
            self._read(key)
        self._check_sampler()
        self._check_pruner()
        self._check_end()
        return self

    def _check_keys(self) -> None:
        """Refuse a key that two places decide."""
        places: dict[str, Iterable[str]] = {
            "space": self.space,
            "derived": self.derived,
            "set": flatten(self.set),
        }
        found: dict[str, str] = {}
        for place, keys in places.items():
            for key in keys:
                other = next((o for o in found if f"{o}.".startswith(f"{key}.")), None)
                other = other or next((o for o in found if f"{key}.".startswith(f"{o}.")), None)
                if other is not None:
                    raise fault(
                        f"{found[other]} decides this key already"
                        + ("" if other == key else f", by {other}"),
                        key=f"{place}.{key}",
                        value=None,
                        remedy="leave one of the two out",
                    )
                found[key] = place

    def _read(self, text: str) -> None:
        derived = text in self.derived
        key = f"derived.{text}" if derived else "constraints"
        value = self.derived[text] if derived else text
        try:
            keys = parse_sum(value).keys if derived else parse_comparison(value).excess.keys
        except ValueError as error:
            example = '"0.5 - loss.strong"' if derived else '"loss.strong + loss.masked <= 0.5"'
            raise fault(str(error), key=key, value=value, remedy=f"such as {example}") from error
        if derived:
            for each in keys:
                if each not in self.space or self.space[each].when:
                    raise fault(
                        f"it follows from {each}, which not every point of the space has",
                        key=key,
                        value=value,
                        remedy="name keys of the space that have no condition",
                    )

    def _check_sampler(self) -> None:
        name = self.sampler.name
        if name in _ONE_OBJECTIVE and len(self.objectives) > 1:
            self._refuse_sampler("knows one objective only", "use nsga2, tpe or gp")
        conditional = [key for key, parameter in self.space.items() if parameter.when]
        if name in _UNCONDITIONAL and conditional:
            self._refuse_sampler(
                f"knows no conditions, and {conditional[0]} has one",
                "use multivariate_tpe, tpe, random or nsga2",
            )
        if name == "cmaes":
            choices = [key for key, each in self.space.items() if hasattr(each, "choice")]
            if choices:
                self._refuse_sampler(
                    f"knows numbers only, and {choices[0]} is a choice", "use multivariate_tpe"
                )
        if name == "grid" and self.grid_size is None:
            endless = next(key for key, each in self.space.items() if each.values() is None)
            self._refuse_sampler(
                f"cannot try every value of {endless}", "give it a step, or list a choice"
            )
        if name == "grid" and (self.grid_size or 0) > _LARGEST_GRID:
            self._refuse_sampler(
                f"would try {self.grid_size:,} points", "take larger steps, or multivariate_tpe"
            )

    def _refuse_sampler(self, problem: str, remedy: str) -> None:
        name = self.sampler.name
        raise fault(f"{name} {problem}", key="sampler.name", value=name, remedy=remedy)

    def _check_pruner(self) -> None:
        name = self.pruner.name
        if name != "none" and len(self.objectives) > 1:
            raise fault(
                "a pruner cannot rank trials by several objectives",
                key="pruner.name",
                value=name,
                remedy="set it to none, or name one objective",
            )
        if name == "wilcoxon" and self.blocks < _WILCOXON_BLOCKS:
            raise fault(
                f"with {self.blocks} blocks a trial the test decides nothing before the last one",
                key="pruner.name",
                value=name,
                remedy=f"name seeds and splits for at least {_WILCOXON_BLOCKS} blocks, or use asha",
            )

    def _check_end(self) -> None:
        if self.trials is None and self.budget.hours is None:
            raise fault(
                "it would never end", key="budget", value=None, remedy="give trials or hours"
            )
        seen = sorted({*self.seeds} & {*self.confirm.seeds})
        if seen:
            raise fault(
                "a seed that chose the best cannot confirm it",
                key="confirm.seeds",
                value=seen[0],
                remedy="name seeds that are not among seeds",
            )
        for key in self.heatmap or ():
            if key not in self.space:
                raise fault(
                    "not a key of the space",
                    key="heatmap",
                    value=key,
                    remedy=f"use two of {', '.join(self.space)}",
                )


def _refuse_twice(key: str, values: tuple[Any, ...]) -> None:
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise fault("named twice", key=key, value=twice, remedy="name each once")


def load_search(name: str) -> tuple[SearchSpec, str]:
    """A packaged search by name or one's own by path, with the file it came from.

    Raises:
        InputError: no such file, no search, or a fault in it.
    """
    path = find(name, "specs")
    content = mapping(path)
    if "space" not in content:
        raise InputError(
            "this spec compares variants and searches nothing",
            file=path,
            key="space",
            remedy=f"csl run {name}, or add a space",
        )
    return validate(content, SearchSpec, file=path), str(path)
