"""Takes a YAML file; gives it validated, or one error that names file, key, value and remedy."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)

YAML_FAULTS = (
    *(yaml.YAMLError, ValueError, TypeError),
    *(LookupError, AttributeError, RecursionError),
)
"""What PyYAML's constructors raise for a value that only looks like its type."""

_LONGEST = 10_000_000
"""Characters of a document written out; aliases of aliases make a gigabyte of a few lines."""


class DocumentError(ValueError):
    """A file of the user's that cannot be used, or a name that is in none.

    The command line prints it as one message.

    Args:
        problem: what is wrong, in one clause.
        remedy: what to do about it.
        file: the file concerned, if there is one.
        key: the dotted key concerned, if any.
        value: the offending value, if any.
    """

    def __init__(
        self,
        problem: str,
        remedy: str,
        file: object = None,
        key: str | None = None,
        value: object = None,
    ) -> None:
        super().__init__(problem, remedy, file, key, value)
        self.problem = problem
        self.remedy = remedy
        self.file = file
        self.key = key
        self.value = value

    def __str__(self) -> str:
        where = (("file", self.file), ("key", self.key), ("value", self.value))
        known = [f"{name}: {given}" for name, given in where if given is not None]
        return "\n  ".join([self.problem, *known, f"remedy: {self.remedy}"])


def written_out(content: object) -> str:
    """It as JSON.

    Raises:
        ValueError, TypeError, RecursionError: JSON has no such value, or it is far too long.
    """
    parts, length = [], 0
    for part in json.JSONEncoder().iterencode(content):
        parts.append(part)
        length += len(part)
        if length > _LONGEST:
            raise ValueError("with all aliases written out it is too long")
    return "".join(parts)


def read(path: Path, model: type[Model], example: str) -> Model:
    """Read and validate strictly, as if from JSON: a list is a tuple, but "8" is no number.

    Args:
        path: a YAML file.
        model: what it must be.
        example: a packaged document of this kind.

    Raises:
        DocumentError: not readable, not YAML, a key given twice, or not what the model wants.
    """
    try:
        text = path.read_text(encoding="utf-8")
        twice = next(_repeated(yaml.compose(text, Loader=yaml.SafeLoader)), None)
        content = written_out(yaml.safe_load(text))
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror}", "check the path", path) from error
    except YAML_FAULTS as error:
        raise DocumentError(
            f"not valid YAML: {' '.join(str(error).split())}",
            "mend it; text that looks like something else goes in quotes",
            path,
        ) from error
    if twice is not None:
        raise DocumentError("this key stands twice", "keep one of them", path, twice)
    if not content.startswith("{"):
        raise DocumentError("holds no mapping", f"see the packaged {example}", path)
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise _explained(error, path, example) from error


def _repeated(node: yaml.Node | None) -> Iterator[str]:
    """Keys given twice, where YAML lets the last one win silently."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    yield key.value
                seen.add(key.value)
            yield from _repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _repeated(each)


def _explained(error: ValidationError, path: Path, example: str) -> DocumentError:
    """The first fault of a validation, in the user's words."""
    fault = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in fault["loc"] if part != "") or None
    if fault["type"] == "extra_forbidden":
        return DocumentError("unknown key", "remove it, or mend its name", path, key)
    problem = fault["msg"].removeprefix("Value error, ")
    problem = problem[0].lower() + problem[1:]
    if fault["type"] == "missing":
        return DocumentError(problem, f"add it, as in the packaged {example}", path, key)
    given = fault["input"]
    return DocumentError(
        problem,
        f"mend it; the packaged {example} shows how",
        path,
        key,
        None if isinstance(given, dict) else given,
    )
