"""Takes a YAML file; gives it validated, or one error that names file, key and value."""

import json
import os
import re
from collections.abc import Hashable, Iterable
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import IO, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from csl.config import TrainingConfig
from csl.data.layouts import LAYOUTS
from csl.errors import InputError
from results.documents import YAML_FAULTS, written_out

Model = TypeVar("Model", bound=BaseModel)

UNKNOWN_KEY = "extra_forbidden"
"""Pydantic's name for it."""

_WORDS = {
    "missing": ("is missing", "add it"),
    "string_pattern_mismatch": ("not a name", "use letters, digits, - and _"),
    "string_type": ("not a text", "put it in quotes"),
    "tuple_type": ("not a list", "write [a, b]"),
    "dict_type": ("not a mapping", "write {{key: value}}"),
    "model_type": ("not a mapping", "write {{key: value}}"),
    "model_attributes_type": ("not a mapping", "write {{key: value}}"),
    "too_short": ("too few entries", "name at least {min_length}"),
    "too_long": ("too many entries", "name at most {max_length}"),
    "literal_error": ("not one of what there is", "use one of {expected}"),
}
"""Pydantic's names of faults, and what a person would say of each, with a remedy."""

UNION_TAG = ("union_tag_not_found", "union_tag_invalid")
"""Pydantic's names for a dataset or architecture that is not said, or not known."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, where YAML lets the last one win silently, and
    that takes for numbers what people do: 1e-3 too, but not 010 for 8, 1:30 for 90 or 1_6."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [
            self.construct_object(key, deep=True)
            for key, _ in node.value
            if key.tag != "tag:yaml.org,2002:merge"  # "<<: *other" may be overridden
        ]
        twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice!r} stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


_NUMBERS = {
    "tag:yaml.org,2002:int": r"[-+]?(0|[1-9]\d*|[1-9]\d{0,2}(_\d{3})+)$",
    "tag:yaml.org,2002:float": r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$"
    r"|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$",
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list("-+.0123456789"))


def parse(text: str | IO[str], file: object, key: object = None) -> Any:
    """One YAML document or value, of what JSON can hold too.

    Raises:
        InputError: not YAML, or a date, a set, a cycle or the like.
    """
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except YAML_FAULTS as error:
        raise InputError(
            f"not valid YAML: {' '.join(str(error).split())}",
            file=file,
            key=key,
            value=None if key is None else text,
            remedy="mend it; text that looks like something else goes in quotes",
        ) from error
    try:
        return json.loads(written_out(content))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"holds a value that no configuration can hold: {error}",
            file=file,
            key=key,
            value=None if key is None else text,
            remedy="use text, numbers, true, false and lists; put a date in quotes",
        ) from error


def find(name: str, folder: str, base: Path = Path()) -> Path:
    """The file of a packaged spec or setting by name, or of one's own by path.

    Args:
        name: a packaged name, or a path that ends in .yaml.
        folder: ``specs`` or ``settings``.
        base: what a relative path is relative to.

    Raises:
        InputError: there is no such file.
    """
    kind = folder.removesuffix("s")
    if name.endswith((".yaml", ".yml")):
        path = base / name
        if not os.path.isfile(path):  # noqa: PTH113 (a path may be too long to ask for)
            raise InputError(f"this {kind} file does not exist", file=path, remedy="check the path")
        return path
    known = packaged(folder)
    if name not in known:
        raise InputError(
            f"unknown {kind}",
            key=kind,
            value=name,
            remedy=did_you_mean(
                name, known, f"use one of {', '.join(sorted(known))}, or the path of a .yaml file"
            ),
        )
    return known[name]


def packaged(folder: str) -> dict[str, Path]:
    """The packaged documents of a folder, by name."""
    return {path.stem: path for path in Path(str(files("ablations") / folder)).rglob("*.yaml")}


def read(path: Path, model: type[Model]) -> Model:
    """Read and validate one document.

    Raises:
        InputError: not readable, not YAML, or not what the model wants.
    """
    return validate(mapping(path), model, file=path)


def mapping(path: Path) -> dict[str, Any]:
    """Read one document, whatever it is about.

    Raises:
        InputError: not readable, not YAML, or no mapping.
    """
    try:
        with path.open(encoding="utf-8") as file:
            content = parse(file, path)
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}", file=path, remedy="check the path"
        ) from error
    if not isinstance(content, dict):
        raise InputError("holds no mapping", file=path, remedy="see the packaged specs")
    return content


def validate(content: dict[str, Any], model: type[Model], file: object) -> Model:
    """Validate strictly, as if read from JSON: a list is a tuple, but "8" is no number.

    Raises:
        InputError: naming the first offending key.
    """
    try:
        return model.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise explain(error, file, model.model_fields) from error


def first_fault(error: ValidationError) -> ErrorDetails:
    """What to say first: a misspelled key, of which another that is missing may only follow."""
    faults = error.errors(include_url=False)
    return next((each for each in faults if each["type"] == UNKNOWN_KEY), faults[0])


def did_you_mean(key: str, known: Iterable[str], otherwise: str = "mend its name") -> str:
    """A remedy for a misspelled key."""
    close = get_close_matches(key, [*known], n=1)
    return f"did you mean {close[0]}?" if close else otherwise


def explain(error: ValidationError, file: object, known: Iterable[str] = ()) -> InputError:
    """A validation's first fault, in the user's words.

    Args:
        error: what pydantic found.
        file: where that is from.
        known: the keys that the document itself may have, for one that is misspelled.
    """
    fault = first_fault(error)
    # A discriminated union puts its tag into the path; it is no key of the document.
    unions = error.title == TrainingConfig.__name__
    tags = ("shapes", *LAYOUTS, "deeplabv3plus", "segformer", "dpt") if unions else ()
    path = [*fault["loc"]]
    if path[:1] in (["variants"], ["space"]):
        del path[2:3]  # likewise: which kind of entry or parameter it is
    key = ".".join(str(part) for part in path if part not in tags)
    if fault["type"] == UNKNOWN_KEY:
        remedy = did_you_mean(key, known if len(path) == 1 else (), "remove it, or mend its name")
        return InputError("unknown key", file=file, key=key, remedy=remedy)
    said = fault.get("ctx", {})  # what our own validators say of key, value and remedy
    if fault["type"] in UNION_TAG:
        tag = said["discriminator"].strip("'")
        wanted = f"use one of {said['expected_tags']}" if "expected_tags" in said else ""
        return InputError(
            f"says no known {tag}" if wanted else f"says no {tag}",
            file=file,
            key=f"{key}.{tag}",
            value=said.get("tag"),
            remedy=wanted or "add it; the packaged settings show how",
        )
    problem, remedy = _WORDS.get(fault["type"], (fault["msg"], "give a value that fits"))
    problem = problem[0].lower() + problem[1:]
    given = fault["input"]
    if fault["type"] == "missing":
        given = None
    return InputError(
        problem,
        file=file,
        key=".".join(filter(None, (key, said.get("key")))) or None,
        value=said.get("value", None if isinstance(given, dict) else given),
        remedy=said.get("remedy", remedy.format(**said)),
    )
