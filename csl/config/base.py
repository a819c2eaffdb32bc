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
    __slots__ = ("_known_hash",)  # neither compared nor copied, as an attribute of pydantic's is

    def __hash__(self) -> int:
        """Computed once: a plan asks a few configurations for theirs a hundred thousand times."""
        known: int | None = getattr(self, "_known_hash", None)
        if known is None:
            known = hash((type(self), *(getattr(self, name) for name in type(self).model_fields)))
            object.__setattr__(self, "_known_hash", known)
        return known


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted keys; an empty group is a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return flat
