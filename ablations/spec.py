"""Takes a spec's, a campaign's or a setting's YAML; gives it as a frozen model.

A spec says what is compared; a setting says where: dataset, network, schedule. Any spec runs on
any setting that knows its splits. A campaign is several specs that share their trainings.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ablations.documents import find, mapping, read, validate
from ablations.variants import Entry, Name, Variant
from csl.config import Frozen, fault
from csl.errors import InputError
from results.published import Quantity, load
from results.published import names as ledgers

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=80)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]


class FigureKind(StrEnum):
    """How a table is drawn: differences to the reference, bars, a line along the rows, or the
    curves of its pseudo-labels over the epochs."""

    forest = "forest"
    bars = "bars"
    line = "line"
    curves = "curves"


PAPERS = "paper"
"""As a setting: the one that each spec says it was run on in the paper."""


def _refuse_twice(what: str, values: "tuple[object, ...] | list[str]") -> None:
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise fault(
            f"duplicate {what}",
            key=f"{what}s",
            value=twice,
            remedy="give each its own name" if what == "variant" else "name each once",
        )


class TableDesign(Frozen):
    """Where a training stands in the table: templates over ``variant``, ``split``, ``value`` and
    any configuration key. ``values``: what is shown of it, ``mIoU`` or, of the pseudo-labels of its
    last epoch, ``sampling rate``, ``accuracy`` and ``recall``, all in percent."""

    rows: Name = "{variant}"
    columns: Name = "{split}"
    values: Annotated[tuple[Quantity, ...], Field(min_length=1)] = ("mIoU",)

    @model_validator(mode="after")
    def _unique(self) -> Self:
        _refuse_twice("value", self.values)
        return self


class Spec(Frozen):
    """What is compared, on which blocks, shown as which table.

    ``set``: dotted configuration keys for every variant. ``variants``: entries of
    ablations/variants.py. ``reference``: the row that effects are taken against. ``published``: the
    ledger of the paper's numbers, or of another paper's, as a path relative to the spec.
    ``setting``: where the paper ran it. ``figure``: how it is drawn.
    """

    name: Identifier
    title: Annotated[str, Field(min_length=1, max_length=160)]
    published: str | None = None
    setting: Name | None = None
    reference: Name
    splits: Annotated[tuple[Name, ...], Field(min_length=1)]
    seeds: Seeds
    set: dict[str, Any] = Field(default_factory=dict)
    table: TableDesign = TableDesign()
    figure: FigureKind = FigureKind.forest
    variants: Annotated[tuple[Entry, ...], Field(min_length=1)]

    @property
    def expanded(self) -> tuple[Variant, ...]:
        """Every variant that the entries stand for, in order."""
        return tuple(variant for entry in self.variants for variant in entry.variants())

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [variant.name for variant in self.expanded]
        for what, values in (("variant", names), ("split", self.splits), ("seed", self.seeds)):
            _refuse_twice(what, values)
        own = self.published is None or self.published.endswith(".yaml")
        if not own and self.published not in ledgers():
            raise fault(
                "no such ledger of published numbers",
                key="published",
                value=self.published,
                remedy=f"use one of {', '.join(ledgers())}, or a .yaml of your own",
            )
        if self.table.rows == TableDesign().rows and self.reference not in names:
            raise fault(
                "the reference is no variant",
                key="reference",
                value=self.reference,
                remedy=f"use one of {', '.join(names)}",
            )
        return self


class Campaign(Frozen):
    """Several specs run as one: equal trainings are trained once, tables printed in this order.

    ``seeds``, if given, are those of every spec.
    """

    name: Identifier
    title: Annotated[str, Field(min_length=1, max_length=160)]
    seeds: Seeds | None = None
    specs: Annotated[tuple[Name, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        _refuse_twice("spec", self.specs)
        return self


class Occupancy(Frozen):
    """What one training occupies where the command line does not say.

    ``workers`` processes of ``gpus`` GPUs each; a fraction shares a GPU between trainings. Left
    out: one worker, and one GPU where the cluster has any.
    """

    workers: Annotated[int, Field(ge=1)] = 1
    gpus: Annotated[float, Field(ge=0)] | None = None


class Setting(Frozen):
    """Where specs run.

    ``about``: one line for tables' footers. ``is_papers``: exactly the paper's setting, so that
    its numbers may be compared and not only their signs. ``splits``: the paper's fractions as this
    dataset's labeled lists. ``resources``: what a training occupies. ``set``: nested or dotted
    configuration keys.
    """

    name: Identifier
    about: Annotated[str, Field(min_length=1, max_length=200)]
    is_papers: bool = False
    splits: Annotated[dict[Name, Name], Field(min_length=1)]
    resources: Occupancy = Occupancy()
    set: dict[str, Any]


def load_spec(name: str, base: Path = Path()) -> tuple[Spec, str]:
    """A packaged spec by name or one's own by path, with the file it came from.

    Args:
        name: as of ``documents.find``.
        base: what a relative path is relative to.

    Raises:
        InputError: no such file, or a fault in it.
    """
    path = find(name, "specs", base)
    content = mapping(path)
    if "specs" in content:
        raise InputError(
            "this is a campaign, and one spec is wanted",
            file=path,
            key="specs",
            remedy="name one of the specs in it",
        )
    return _spec(content, path), str(path)


def _spec(content: dict[str, Any], path: Path) -> Spec:
    if "space" in content:
        raise InputError(
            "this is a search: its scores are in no table, only what confirms them is",
            file=path,
            key="space",
            remedy="csl search runs it; its --out has a spec of what was confirmed",
        )
    spec = validate(content, Spec, file=path)
    if spec.published is None or not spec.published.endswith(".yaml"):
        return spec
    return spec.model_copy(update={"published": str(path.parent / spec.published)})


def load_specs(names: str) -> tuple[tuple[Spec, str], ...]:
    """Specs and campaigns by name or path, separated by commas; each spec once, in order.

    Paths in a campaign are relative to its file.

    Raises:
        InputError: no such file, a fault in it, or two specs of one name.
        DocumentError: a ledger of one's own that is none: found out before anything is trained.
    """
    found: dict[Path, Spec] = {}
    for name in (part.strip() for part in names.split(",")):
        path = find(name, "specs")
        content = mapping(path)
        if "specs" not in content:
            found[path] = _spec(content, path)
            continue
        campaign = validate(content, Campaign, file=path)
        for each in campaign.specs:
            spec, file = load_spec(each, base=path.parent)
            found[Path(file)] = spec.model_copy(update={"seeds": campaign.seeds or spec.seeds})
    called: dict[str, Path] = {}
    for path, spec in found.items():
        if spec.name in called:
            raise InputError(
                f"two specs have one name; the other is {called[spec.name]}",
                file=path,
                key="name",
                value=spec.name,
                remedy="rename one of them",
            )
        called[spec.name] = path
        if spec.published is not None and spec.published.endswith(".yaml"):
            load(spec.published)
    return tuple((spec, str(path)) for path, spec in found.items())


def load_setting(name: str) -> tuple[Setting, str]:
    """A packaged setting by name or one's own by path, with the file it came from.

    Raises:
        InputError: no such file, or a fault in it.
    """
    path = find(name, "settings")
    return read(path, Setting), str(path)
