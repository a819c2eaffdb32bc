"""Takes a name and the keys to vary; gives a new spec file, valid and ready to run."""

from pathlib import Path
from typing import Any

import yaml

from ablations.documents import parse, validate
from ablations.expand import Options, expand
from ablations.spec import Spec, load_setting
from ablations.variants import Grid
from csl.errors import InputError

_OPENING = """\
# csl plan {file}
# csl run {file}
#
# What is compared, why, and what you expect.
# Cost: {count} trainings per seed.
"""

_EXAMPLE: list[dict[str, Any]] = [
    {"name": "CSL", "set": {}},
    {"name": "no masking", "set": {"masking.enabled": False}},
]


def scaffold(
    file: Path, over: tuple[str, ...], setting: str, assignments: tuple[str, ...] = ()
) -> Spec:
    """Write a spec of every combination of the given keys' values; without any, an example.

    Args:
        file: what to write; it ends in .yaml and is not there yet.
        over: ``key=value,value,...`` of configuration keys.
        setting: on which keys and values are tried out.
        assignments: ``key=value`` that the setting lacks for that; not written.

    Raises:
        InputError: the file exists or cannot be written, or a key or value does not fit.
    """
    if file.suffix != ".yaml":
        raise InputError(
            "a spec's name ends in .yaml", key="FILE", value=file, remedy=f"such as {file}.yaml"
        )
    axes: dict[str, list[Any]] = {}
    for key, values in map(_axis, over):
        if key in axes:
            raise InputError(
                "this key is given twice",
                key="--over",
                value=key,
                remedy=f"give all its values at once: --over {key}=A,B",
            )
        axes[key] = values
    entries = [{"grid": axes}] if over else _EXAMPLE
    first = next(validate(entries[0], Grid, file).variants()).name if over else "CSL"
    content = {
        "name": file.stem,
        "title": file.stem,
        "reference": first,
        "splits": ["1/16", "1/2"],
        "seeds": [0, 1, 2],
        "variants": entries,
    }
    spec = validate(content, Spec, file)
    expand((spec, str(file)), load_setting(setting), Options(assignments=assignments))
    count = len(spec.expanded) * len(spec.splits)
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, allow_unicode=True)
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(_OPENING.format(file=file, count=count) + text)
    except FileExistsError as error:
        raise InputError(
            "this file exists already", file=file, remedy="choose another name, or edit it"
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror}", file=file, remedy="name a file in a folder"
        ) from error
    return spec


def _axis(text: str) -> tuple[str, list[Any]]:
    key, equals, values = text.partition("=")
    if not (key and equals and values):
        raise InputError(
            "not of the form key=value,value",
            key="--over",
            value=text,
            remedy="such as --over masking.patch=8,16,32",
        )
    parsed = parse(f"[{values}]", file=None, key=f"--over {key}")
    assert isinstance(parsed, list), "what stands in brackets is a list"
    return key, parsed
