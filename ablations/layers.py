"""Takes overrides from several places; gives the configuration that they make, fully resolved."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ablations.documents import UNKNOWN_KEY, did_you_mean, explain, first_fault, parse
from ablations.spec import Setting
from csl.config import PROFILES, ShapesData, TrainingConfig, flatten
from csl.errors import InputError

_COMMAND_LINE = "--set"
_SETTING = 1  # its place among the layers


@dataclass(frozen=True)
class Layer:
    """Overrides from one place, for telling where a faulty value came from."""

    source: str
    values: Mapping[str, Any]


def resolve_setting(
    setting: tuple[Setting, str], assignments: tuple[str, ...] = ()
) -> TrainingConfig:
    """A setting's own configuration, with ``key=value`` overrides; no spec, official profile.

    Raises:
        InputError: an unknown key, or a value that does not fit.
    """
    where, file = setting
    return resolve([profile("official"), Layer(file, where.set), command_line(assignments)])


def profile(name: str) -> Layer:
    """The layer that everything else is laid over: ``official`` or ``paper``.

    Raises:
        InputError: there is no such profile.
    """
    if name not in PROFILES:
        raise InputError(
            "unknown profile",
            key="--profile",
            value=name,
            remedy=f"use one of {', '.join(PROFILES)}",
        )
    return Layer(f"profile {name}", PROFILES[name])


def command_line(assignments: Iterable[str]) -> Layer:
    """The layer of ``--set key=value`` options.

    Raises:
        InputError: not of this form, or no YAML.
    """
    return Layer(_COMMAND_LINE, dict(map(_parse, assignments)))


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


def resolve(layers: Sequence[Layer]) -> TrainingConfig:
    """Lay the layers over each other, later ones on top: profile, setting, and what comes after.

    Raises:
        InputError: an unknown key, or a value that does not fit; names the layer it is from.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        if layer.source != _COMMAND_LINE:  # where, as in any shell, the last one wins
            _refuse_twice(_leaves(layer.values), layer.source)
        _merge(merged, layer)
    try:
        return TrainingConfig.model_validate_json(json.dumps(merged))
    except ValidationError as error:
        wrong, kind = explain(error, file=None), first_fault(error)["type"]
        # A key that nobody set is missing: settings are where it belongs.
        source = next(
            (layer.source for layer in reversed(layers) if _names(layer.values, wrong.key)),
            layers[_SETTING].source,
        )
        remedy = wrong.remedy
        if kind == UNKNOWN_KEY and wrong.key is not None:
            known = flatten(TrainingConfig(data=ShapesData()).model_dump())
            # A key of another architecture is spelled well enough.
            remedy = remedy if wrong.key in known else did_you_mean(wrong.key, known, remedy)
        if kind == "missing":
            remedy = f"give it by --set {wrong.key}=VALUE, or add it to a setting of your own"
        raise InputError(
            wrong.problem,
            file=None if source == _COMMAND_LINE else source,
            key=f"--set {wrong.key}" if source == _COMMAND_LINE else wrong.key,
            value=wrong.value,
            remedy=remedy,
        ) from error


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _refuse_twice(keys: Iterable[str], file: str) -> None:
    """YAML sees to keys of one spelling; masking.patch and masking: {patch: ...} are one too."""
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise InputError(
                "this key is given twice", file=file, key=key, remedy="keep one of the two"
            )
        seen.add(key)


def _merge(into: dict[str, Any], layer: Layer) -> None:
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
            _merge(target[last], Layer(layer.source, value))
        else:
            target[last] = value


def _names(values: Mapping[str, Any], key: str | None) -> bool:
    """Whether a layer sets the key, or a group that contains it or is contained in it."""
    if key is None:
        return False
    return any(
        f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}.")
        for name in flatten(values)
    )
