"""Takes what a spec says of its parameters; gives a search space: what may be tried, and what not.

Nothing here knows of Optuna. A *point* maps the keys that are searched to their values; where a
parameter's condition does not hold, the point lacks its key.
"""

import json
import math
import random
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from ablations.variants import Keys
from csl.config import Frozen, fault

Point = Mapping[str, Any]

_MOST = 1_000_000  # values of a parameter


def same(one: Any, other: Any) -> bool:
    """Whether two values make one configuration: 8 and 8.0 do, 1 and true do not."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def listed(wanted: Any) -> list[Any]:
    """A condition's values: one, or a list of them."""
    return wanted if isinstance(wanted, list) else [wanted]


class _Parameter(Frozen):
    """What every parameter may say: ``when``, the searched keys it depends on, each with the value
    it must have or a list of them."""

    model_config = ConfigDict(populate_by_name=True)

    when: Keys = Field(default_factory=dict)

    def applies(self, point: Point) -> bool:
        """Whether its condition holds."""
        return all(
            key in point and any(same(point[key], each) for each in listed(wanted))
            for key, wanted in self.when.items()
        )


class _Numeric(_Parameter):
    log: bool = False

    def _check(self, kind: str, low: float, high: float, step: float | None) -> None:
        if low >= high:
            raise fault(
                "the bounds are not in order: the lower one comes first, and both differ",
                key=kind,
                value=[low, high],
                remedy=f"write [{min(low, high):g}, {max(low, high):g}]"
                if low != high
                else "give a range, or put the value into set",
            )
        if self.log and low <= 0:
            raise fault(
                "a logarithmic range begins above 0",
                key=kind,
                value=[low, high],
                remedy="raise the lower bound, or leave log out",
            )
        if step is None:
            return
        steps = (high - low) / step
        if steps > _MOST:
            raise fault(
                f"more than {_MOST:,} values",
                key="step",
                value=step,
                remedy="take larger steps",
            )
        if not math.isclose(steps, round(steps), abs_tol=1e-9):
            raise fault(
                "the upper bound is not a whole number of steps from the lower one",
                key="step",
                value=step,
                remedy=f"set the upper bound to {low + max(math.floor(steps), 1) * step:g}",
            )


class Float(_Numeric):
    """A real number between two bounds, both included."""

    bounds: tuple[float, float] = Field(alias="float")
    step: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "Float":
        self._check("float", *self.bounds, self.step)
        if self.log and self.step is not None:
            raise fault(
                "a logarithmic range has no steps",
                key="step",
                value=self.step,
                remedy="leave one of the two out, or list the values as a choice",
            )
        return self

    def values(self) -> tuple[Any, ...] | None:
        """Every value there is, in order; None if they cannot be counted."""
        if self.step is None:
            return None
        low, high = self.bounds
        count = round((high - low) / self.step) + 1
        # 0.1 + 2*0.1 is not 0.3: as people write them, or equal values would be two trainings.
        return tuple(float(f"{low + i * self.step:.12g}") for i in range(count))

    def has(self, value: Any) -> bool:
        """Whether it may take this value."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not self.bounds[0] <= value <= self.bounds[1]:
            return False
        return (values := self.values()) is None or value in values

    def spell(self, value: Any) -> Any:
        """A value that it has, as a float."""
        return float(value)

    def draw(self, generator: random.Random) -> Any:
        """One value at random."""
        if (values := self.values()) is not None:
            return generator.choice(values)
        low, high = self.bounds
        if self.log:
            return min(high, max(low, math.exp(generator.uniform(math.log(low), math.log(high)))))
        return generator.uniform(low, high)


class Integer(_Numeric):
    """A whole number between two bounds, both included."""

    bounds: tuple[int, int] = Field(alias="int")
    step: Annotated[int, Field(gt=0)] = 1

    @model_validator(mode="after")
    def _ordered(self) -> "Integer":
        self._check("int", *self.bounds, self.step)
        if self.log and self.step != 1:
            raise fault(
                "a logarithmic range has no steps",
                key="step",
                value=self.step,
                remedy="leave one of the two out, or list the values as a choice",
            )
        return self

    def values(self) -> tuple[Any, ...] | None:
        """Every value there is, in order."""
        low, high = self.bounds
        return tuple(range(low, high + 1, self.step))

    def has(self, value: Any) -> bool:
        """Whether it may take this value."""
        low, high = self.bounds
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and value in range(low, high + 1, self.step)

    def spell(self, value: Any) -> Any:
        """A value that it has, as an int."""
        return int(value)

    def draw(self, generator: random.Random) -> Any:
        """One value at random."""
        return generator.choice(range(self.bounds[0], self.bounds[1] + 1, self.step))


class Choice(_Parameter):
    """One of several values of any kind."""

    choice: Annotated[tuple[Any, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _distinct(self) -> "Choice":
        for index, value in enumerate(self.choice):
            if any(same(value, other) for other in self.choice[:index]):
                raise fault(
                    "a value is named twice",
                    key="choice",
                    value=json.dumps(value),
                    remedy="name each of them once",
                )
        return self

    def values(self) -> tuple[Any, ...] | None:
        """Every value there is."""
        return self.choice

    def has(self, value: Any) -> bool:
        """Whether it may take this value."""
        return any(same(value, each) for each in self.choice)

    def spell(self, value: Any) -> Any:
        """A value that it has, as the spec spells it."""
        return next(each for each in self.choice if same(value, each))

    def draw(self, generator: random.Random) -> Any:
        """One value at random."""
        return generator.choice(self.choice)


_KINDS = {"float": Float, "int": Integer, "choice": Choice}


def _kind(parameter: Any) -> str | None:
    if isinstance(parameter, dict):
        return next((kind for kind in _KINDS if kind in parameter), None)
    return next((kind for kind, model in _KINDS.items() if isinstance(parameter, model)), None)


Parameter = Annotated[
    Annotated[Float, Tag("float")]
    | Annotated[Integer, Tag("int")]
    | Annotated[Choice, Tag("choice")],
    Discriminator(
        _kind,
        custom_error_type="no_kind",
        custom_error_message="a parameter says float: [low, high], int: [low, high] or "
        "choice: [...]",
    ),
]
Space = Annotated[dict[str, Parameter], Field(min_length=1)]


def ordered(space: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys in the order in which they are chosen: each after those that it depends on.

    Raises:
        PydanticCustomError: a condition that nothing meets, or that depends on itself.
    """
    done: dict[str, None] = {}
    waiting = list(space)
    while waiting:
        ready = [key for key in waiting if all(on in done for on in space[key].when)]
        if not ready:
            key = waiting[0]
            on = next(each for each in space[key].when if each not in done)
            known = on in space
            raise fault(
                "its condition depends on itself" if known else "its condition is on no parameter",
                key=f"{key}.when",
                value=on,
                remedy="remove the circle" if known else "name a key of the space",
            )
        done.update(dict.fromkeys(ready))
        waiting = [key for key in waiting if key not in done]
    for key, parameter in space.items():
        for on, wanted in parameter.when.items():
            values = space[on].values()
            if values is None:
                raise fault(
                    f"{on} may be any number, and is hardly ever exactly this one",
                    key=f"{key}.when.{on}",
                    value=wanted,
                    remedy="give it a step or a choice",
                )
            for value in listed(wanted):
                if not any(same(value, each) for each in values):
                    raise fault(
                        f"{on} never has this value, so this parameter would never be searched",
                        key=f"{key}.when.{on}",
                        value=value,
                        remedy=f"use one of {', '.join(map(json.dumps, values[:12]))}",
                    )
    return tuple(done)


def draws(space: Mapping[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    """Random points without end, whatever the constraints say."""
    generator, keys = random.Random(seed), ordered(space)  # noqa: S311 (no secrets)
    while True:
        point: dict[str, Any] = {}
        for key in keys:
            if space[key].applies(point):
                point[key] = space[key].draw(generator)
        yield point
