"""Takes a spec, a setting and the user's options; gives the grid's cells, fully resolved."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from ablations.documents import UNKNOWN_KEY, explain, parse
from ablations.spec import Setting, Spec
from csl.config import PROFILES, ShapesData, TrainingConfig
from csl.errors import InputError
from csl.identity import Training

_COMMAND_LINE = "--set"
_SETTING = 1  # its place among the layers


@dataclass(frozen=True)
class Options:
    """What a command line adds to spec and setting.

    Args:
        profile: ``official`` or ``paper``.
        assignments: ``key=value`` overrides, applied last.
        splits, seeds: a choice among blocks; None means the spec's.
    """

    profile: str = "official"
    assignments: tuple[str, ...] = ()
    splits: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Cell:
    """One training's place in the table."""

    row: str
    column: str
    training: Training


@dataclass(frozen=True)
class Grid:
    """A spec resolved on a setting: every cell of its table."""

    spec: Spec
    setting: Setting
    options: Options
    splits: tuple[str, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]

    def label(self, cell: Cell) -> str:
        """What people call it: "table5/+M_i/1/16/seed 0"."""
        return f"{self.spec.name}/{cell.row}/{cell.column}/seed {cell.training.seed}"


@dataclass(frozen=True)
class _Layer:
    """Overrides from one place, for telling where a faulty value came from."""

    source: str
    values: Mapping[str, Any]


def expand(
    spec: tuple[Spec, str], setting: tuple[Setting, str], options: Options = Options()
) -> Grid:
    """Every variant × split × seed, seed-major: after the first seed the table is readable.

    Later layers win: profile, setting, the spec's ``set``, the variant's, the command line.

    Args:
        spec, setting: each with the file it came from, for messages.

    Raises:
        InputError: an unknown key or split, a value that does not fit.
    """
    (what, spec_file), (where, setting_file) = spec, setting
    if options.profile not in PROFILES:
        raise InputError(
            "unknown profile",
            key="--profile",
            value=options.profile,
            remedy=f"use one of {', '.join(PROFILES)}",
        )
    common = [
        _Layer(f"profile {options.profile}", PROFILES[options.profile]),
        _Layer(setting_file, where.set),
        _Layer(spec_file, what.set),
    ]
    command_line = _Layer(_COMMAND_LINE, dict(map(_parse, options.assignments)))
    configs = {
        variant.name: _resolve([*common, _Layer(spec_file, variant.set), command_line])
        for variant in what.variants
    }
    splits = options.splits or what.splits
    for split in splits:
        if split not in where.splits:
            raise InputError(
                f"setting {where.name} has no such split",
                file=setting_file if options.splits else spec_file,
                key="--splits" if options.splits else "splits",
                value=split,
                remedy=f"use one of {', '.join(where.splits)}",
            )
    seeds = options.seeds or what.seeds
    cells = tuple(
        Cell(row, split, Training(config, where.splits[split], seed))
        for seed in seeds
        for split in splits
        for row, config in configs.items()
    )
    return Grid(what, where, options, splits, seeds, cells)


def resolve_setting(
    setting: tuple[Setting, str], assignments: tuple[str, ...] = ()
) -> TrainingConfig:
    """A setting's own configuration, with ``key=value`` overrides; no spec, official profile.

    Raises:
        InputError: an unknown key, or a value that does not fit.
    """
    where, file = setting
    official = _Layer("profile official", PROFILES["official"])
    command_line = _Layer(_COMMAND_LINE, dict(map(_parse, assignments)))
    return _resolve([official, _Layer(file, where.set), command_line])


def _parse(assignment: str) -> tuple[str, Any]:
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise InputError(
            "not of the form key=value",
            key="--set",
            value=assignment,
            remedy="such as --set schedule.epochs=20",
        )
    return key, parse(text, file=None, key=f"--set {key}")


def _resolve(layers: list[_Layer]) -> TrainingConfig:
    merged: dict[str, Any] = {}
    for layer in layers:
        _merge(merged, layer)
    try:
        return TrainingConfig.model_validate_json(json.dumps(merged))
    except ValidationError as error:
        wrong = explain(error, file=None)
        # A key that nobody set is missing: settings are where it belongs.
        source = next(
            (layer.source for layer in reversed(layers) if _names(layer.values, wrong.key)),
            layers[_SETTING].source,
        )
        remedy = wrong.remedy
        if error.errors()[0]["type"] == UNKNOWN_KEY and wrong.key is not None:
            known = _dotted(TrainingConfig(data=ShapesData()).model_dump())
            # A key of another architecture is spelled well enough.
            close = [] if wrong.key in known else get_close_matches(wrong.key, known, n=1)
            remedy = f"did you mean {close[0]}?" if close else remedy
        if error.errors()[0]["type"] == "missing":
            remedy = f"give it by --set {wrong.key}=VALUE, or add it to a setting of your own"
        raise InputError(
            wrong.problem,
            file=None if source == _COMMAND_LINE else source,
            key=f"--set {wrong.key}" if source == _COMMAND_LINE else wrong.key,
            value=wrong.value,
            remedy=remedy,
        ) from error


def _merge(into: dict[str, Any], layer: _Layer) -> None:
    """Lay nested or dotted values over what is there; mappings merge, anything else replaces."""
    for dotted, value in layer.values.items():
        *parents, last = dotted.split(".")
        target = into
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise InputError(
                    f"{parent!r} is a value, not a group of keys",
                    file=layer.source,
                    key=dotted,
                    remedy="see `csl show` for the configuration's keys",
                )
        if isinstance(value, dict):
            if not isinstance(target.get(last), dict):
                target[last] = {}
            _merge(target[last], _Layer(layer.source, value))
        else:
            target[last] = value


def _names(values: Mapping[str, Any], key: str | None) -> bool:
    """Whether a layer sets the key, or a group that contains it or is contained in it."""
    if key is None:
        return False
    return any(
        f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}.")
        for name in _dotted(values)
    )


def _dotted(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        names += _dotted(value, f"{name}.") if isinstance(value, dict) and value else [name]
    return names
