"""Takes nothing; gives what every part of a configuration is made of."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


def fault(problem: str, *, key: str, value: object, remedy: str) -> PydanticCustomError:
    """What a validator raises, so that the user's message has its key, value and remedy."""
    return PydanticCustomError(
        "fault",
        "{problem}",
        {
            "problem": problem,
            "key": key,
            "value": value,
            "remedy": remedy,
        },
    )


Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Scale = Annotated[float, Field(gt=0)]


class Frozen(BaseModel):
    """Immutable, refuses unknown keys and refuses to guess a type (``"8"`` is not 8)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted keys; an empty group is a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return flat
