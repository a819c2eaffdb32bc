"""Takes a spec's variant entries; gives the variants that they stand for, each with its keys.

An entry is one variant, or a rule that makes several: ``grid``, ``zip``, ``one_at_a_time``,
``add_one``, ``drop_one``.
"""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from csl.config import Frozen, fault

Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=80)]
"""One line of text."""
Keys = dict[str, Any]
"""Dotted configuration keys and what they are set to."""
Axes = Annotated[dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]], Field(min_length=1)]
Parts = Annotated[dict[Name, Keys], Field(min_length=1)]

_MOST = 10_000  # variants of one grid
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def fill(template: str, values: Mapping[str, Any]) -> str:
    """The template with every ``{key}`` replaced: lists are joined by "+", numbers kept short.

    Raises:
        KeyError: a key that is not among the values.
    """
    return _PLACEHOLDER.sub(lambda found: _text(values[found[1]]), template)


def placeholders(template: str) -> tuple[str, ...]:
    """The keys that a template names, in order."""
    return tuple(_PLACEHOLDER.findall(template))


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "+".join(map(_text, value))
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


class _Entry(Frozen):
    """What every entry may say.

    ``set``: keys of each of its variants. ``when``: the blocks and configurations that it is for:
    ``split``, ``seed`` or a configuration key, with the value it must have or a list of them.
    ``setting``: where the paper ran it, if not where the rest of the spec was.
    """

    set: Keys = Field(default_factory=dict)
    when: Keys = Field(default_factory=dict)
    setting: Name | None = None

    def _of(self, name: str, keys: Keys) -> "Variant":
        return Variant(name=name, set={**self.set, **keys}, when=self.when, setting=self.setting)


class Variant(_Entry):
    """One row of a table: its name and the dotted configuration keys it sets."""

    name: Name

    def variants(self) -> Iterator["Variant"]:
        """Itself."""
        yield self


class _Combined(_Entry):
    """Axes whose values are combined; ``name`` is a template over the axes' keys."""

    name: Name | None = None

    def _each(
        self, axes: Iterable[str], combinations: Iterable[tuple[Any, ...]]
    ) -> Iterator[Variant]:
        template = self.name or ", ".join(f"{key.rpartition('.')[2]}={{{key}}}" for key in axes)
        for values in combinations:
            keys = dict(zip(axes, values, strict=True))
            yield self._of(fill(template, keys), keys)


class Grid(_Combined):
    """Every combination of the axes' values, the last axis fastest."""

    grid: Axes

    def variants(self) -> Iterator[Variant]:
        """A variant per combination."""
        return self._each(self.grid, itertools.product(*self.grid.values()))

    @model_validator(mode="after")
    def _named(self) -> Self:
        _check_placeholders(self.name or "", tuple(self.grid))
        count = math.prod(map(len, self.grid.values()))
        if count > _MOST:
            raise fault(
                f"a grid of {count:,} variants",
                key="grid",
                value=None,
                remedy=f"stay under {_MOST:,}, or search it: csl search",
            )
        return self


class Zip(_Combined):
    """The axes' first values together, then their second ones, and so on."""

    zip: Axes

    def variants(self) -> Iterator[Variant]:
        """A variant per place in the lists."""
        return self._each(self.zip, zip(*self.zip.values(), strict=True))

    @model_validator(mode="after")
    def _equally_long(self) -> Self:
        _check_placeholders(self.name or "", tuple(self.zip))
        lengths = {key: len(values) for key, values in self.zip.items()}
        if len(set(lengths.values())) > 1:
            raise fault(
                "lists of different length cannot be zipped",
                key="zip",
                value=lengths,
                remedy="give every key as many values, or use grid",
            )
        return self


class OneAtATime(_Entry):
    """Each value of each axis alone, everything else as in ``set``.

    ``name`` is a template over ``key`` and ``value``."""

    one_at_a_time: Axes
    name: Name = "{key}={value}"

    def variants(self) -> Iterator[Variant]:
        """A variant per value."""
        for key, values in self.one_at_a_time.items():
            for value in values:
                said = {"key": key.rpartition(".")[2], "value": value}
                yield self._of(fill(self.name, said), {key: value})

    @model_validator(mode="after")
    def _named(self) -> Self:
        _check_placeholders(self.name, ("key", "value"))
        return self


class AddOne(_Entry):
    """Each part alone on top of ``set``; ``name`` is a template over ``part``."""

    add_one: Parts
    name: Name = "+{part}"

    def variants(self) -> Iterator[Variant]:
        """A variant per part."""
        for part, keys in self.add_one.items():
            yield self._of(fill(self.name, {"part": part}), keys)

    @model_validator(mode="after")
    def _named(self) -> Self:
        _check_placeholders(self.name, ("part",))
        return self


class DropOne(_Entry):
    """All parts but one on top of ``set``; ``name`` is a template over ``part``."""

    drop_one: Parts
    name: Name = "w/o {part}"

    def variants(self) -> Iterator[Variant]:
        """A variant per part that is left out."""
        for dropped in self.drop_one:
            keys: Keys = {}
            for part, own in self.drop_one.items():
                keys |= own if part != dropped else {}
            yield self._of(fill(self.name, {"part": dropped}), keys)

    @model_validator(mode="after")
    def _named(self) -> Self:
        _check_placeholders(self.name, ("part",))
        return self


def _check_placeholders(template: str, known: tuple[str, ...]) -> None:
    for key in placeholders(template):
        if key not in known:
            raise fault(
                "the name has an unknown placeholder",
                key="name",
                value=f"{{{key}}}",
                remedy=f"use {' or '.join(f'{{{each}}}' for each in known)}",
            )


RULES = ("grid", "zip", "one_at_a_time", "add_one", "drop_one")
"""The keys that make an entry a rule."""


def _kind(entry: Any) -> str | None:
    if not isinstance(entry, dict | _Entry):
        return None
    keys = entry if isinstance(entry, dict) else vars(entry)
    return next((rule for rule in RULES if rule in keys), "variant")


Entry = Annotated[
    Annotated[Variant, Tag("variant")]
    | Annotated[Grid, Tag("grid")]
    | Annotated[Zip, Tag("zip")]
    | Annotated[OneAtATime, Tag("one_at_a_time")]
    | Annotated[AddOne, Tag("add_one")]
    | Annotated[DropOne, Tag("drop_one")],
    Discriminator(
        _kind,
        custom_error_type="no_entry",
        custom_error_message="a variant is a mapping, such as {name: no masking, set: "
        "{masking.enabled: false}}",
    ),
]
