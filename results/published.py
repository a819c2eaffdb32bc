"""Takes the name of a published table; gives its numbers with their source and protocol.

The ledgers are YAML files in ``published/``: one per table of the paper.
"""

from importlib.resources import files
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

Percent = Annotated[float, Field(ge=0, le=100)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Protocol(_Frozen):
    """How the paper measured: encoder, crop side in pixels, dataset, and what each split is.

    ``splits`` maps the paper's fractions to references of labeled lists.
    """

    encoder: str
    crop: int
    dataset: str
    splits: dict[str, str]

    def __str__(self) -> str:
        lists = "/".join(self.splits.values())
        return f"{self.encoder}, crop {self.crop}, {self.dataset}, splits {lists}"


class Ledger(_Frozen):
    """The numbers of one published table.

    Args:
        source: the table's number in the paper.
        paper: the paper's title.
        protocol: how they were measured.
        mean_iou: mIoU in percent by row name, then by split.
    """

    source: str
    paper: str
    protocol: Protocol
    mean_iou: dict[str, dict[str, Percent]]

    @model_validator(mode="after")
    def _splits_known(self) -> "Ledger":
        for row, numbers in self.mean_iou.items():
            unknown = numbers.keys() - self.protocol.splits.keys()
            if unknown:
                raise ValueError(f"row {row!r} has splits {sorted(unknown)} without a protocol")
        return self

    def number(self, row: str, column: str) -> float | None:
        """The paper's mIoU in percent; None if it printed no such cell."""
        return self.mean_iou.get(row, {}).get(column)


def names() -> tuple[str, ...]:
    """The published tables at hand, sorted."""
    folder = files("results") / "published"
    return tuple(
        sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
    )


def load(name: str) -> Ledger:
    """The ledger called ``name``, such as ``table5``.

    Raises:
        ValueError: there is no such ledger.
    """
    if name not in names():
        raise ValueError(f"no published numbers called {name!r}; there are: {', '.join(names())}")
    text = (files("results") / "published" / f"{name}.yaml").read_text(encoding="utf-8")
    return Ledger.model_validate(yaml.safe_load(text))
