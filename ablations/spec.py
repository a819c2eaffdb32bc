"""Takes a spec's or a setting's YAML; gives it as a frozen model.

A spec says what is compared; a setting says where: dataset, network, schedule. Any spec runs on
any setting that knows its splits.
"""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ablations.documents import find, read
from csl.config import Frozen, fault
from results.published import names as ledgers

Name = Annotated[str, Field(min_length=1, max_length=80)]


class Variant(Frozen):
    """One row: its name and the dotted configuration keys it sets."""

    name: Name
    set: dict[str, Any]


class Spec(Frozen):
    """What is compared, on which blocks, shown as which table.

    ``set``: dotted configuration keys for every variant. ``reference``: the row that effects are
    taken against. ``published``: the ledger of the paper's numbers, where there is one.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    title: Name
    published: str | None = None
    reference: Name
    splits: Annotated[tuple[Name, ...], Field(min_length=1)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]
    set: dict[str, Any] = Field(default_factory=dict)
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [variant.name for variant in self.variants]
        for what, values in (("variant", names), ("split", self.splits), ("seed", self.seeds)):
            twice = next((v for i, v in enumerate(values) if v in values[:i]), None)
            if twice is not None:
                raise fault(
                    f"duplicate {what}",
                    key=f"{what}s",
                    value=twice,
                    remedy="give each its own name" if what == "variant" else "name each once",
                )
        if self.published is not None and self.published not in ledgers():
            raise fault(
                "no such ledger of published numbers",
                key="published",
                value=self.published,
                remedy=f"use one of {', '.join(ledgers())}, or leave it out",
            )
        if self.reference not in names:
            raise fault(
                "the reference is no variant",
                key="reference",
                value=self.reference,
                remedy=f"use one of {', '.join(names)}",
            )
        return self


class Setting(Frozen):
    """Where specs run.

    ``about``: one line for tables' footers. ``is_papers``: exactly the paper's setting, so that
    its numbers may be compared and not only their signs. ``splits``: the paper's fractions as this
    dataset's labeled lists. ``set``: nested or dotted configuration keys.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    about: Annotated[str, Field(min_length=1, max_length=200)]
    is_papers: bool = False
    splits: Annotated[dict[Name, Name], Field(min_length=1)]
    set: dict[str, Any]


def load_spec(name: str) -> tuple[Spec, str]:
    """A packaged spec by name or one's own by path, with the file it came from.

    Raises:
        InputError: no such file, or a fault in it.
    """
    path = find(name, "specs")
    return read(path, Spec), str(path)


def load_setting(name: str) -> tuple[Setting, str]:
    """A packaged setting by name or one's own by path, with the file it came from.

    Raises:
        InputError: no such file, or a fault in it.
    """
    path = find(name, "settings")
    return read(path, Setting), str(path)
