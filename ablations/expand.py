"""Takes a spec, a setting and the user's options; gives the grid's cells, fully resolved."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ablations.documents import did_you_mean
from ablations.layers import Layer, command_line, profile, resolve
from ablations.spec import Setting, Spec, TableDesign, load_setting
from ablations.variants import Variant, fill
from csl.config import TrainingConfig, flatten
from csl.errors import InputError
from csl.identity import Training
from results.published import Quantity


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
    """One training's place in the table: what of it stands there, and which variant and split of
    the spec it is."""

    row: str
    column: str
    value: Quantity
    variant: str
    split: str
    setting: Setting
    training: Training


@dataclass(frozen=True)
class Grid:
    """A spec resolved on its settings: every cell of its table, seed-major."""

    spec: Spec
    options: Options
    splits: tuple[str, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]

    def label(self, cell: Cell) -> str:
        """What people call it: "table5/+M_i/1/16/seed 0"."""
        return f"{self.spec.name}/{cell.variant}/{cell.split}/seed {cell.training.seed}"

    @property
    def asked(self) -> int:
        """How many times it asks for a training: variants × splits × seeds."""
        return len({self.label(cell) for cell in self.cells})

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Where its trainings run, in order; one, unless the paper used several."""
        return tuple({cell.setting.name: cell.setting for cell in self.cells}.values())

    @property
    def rows(self) -> tuple[str, ...]:
        """The table's rows, in order."""
        return tuple(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns, in order."""
        return tuple(dict.fromkeys(cell.column for cell in self.cells))


def expand(
    spec: tuple[Spec, str], setting: tuple[Setting, str] | None, options: Options = Options()
) -> Grid:
    """Every variant × split × seed, seed-major: after the first seed the table is readable.

    Later layers win: profile, setting, the spec's ``set``, the variant's, the command line.

    Args:
        spec, setting: each with the file it came from, for messages; no setting means that each
            variant runs where the paper ran it.

    Raises:
        InputError: an unknown key or split, a value that does not fit, a condition that no block
            meets, or two trainings in one place of the table.
    """
    what, file = spec
    places = [setting or _papers_setting(variant, what, file) for variant in what.expanded]
    variants = [
        _Resolved.of(variant, what, file, where, options)
        for variant, where in zip(what.expanded, places, strict=True)
    ]
    splits, seeds = options.splits or what.splits, options.seeds or what.seeds
    cells = tuple(
        each.cell(what.table, value, split, seed, file)
        for seed in seeds
        for split in splits
        for value in what.table.values
        for each in variants
        if each.is_for(split, seed)
    )
    _check(what, file, cells)
    return Grid(what, options, splits, seeds, cells)


def _papers_setting(variant: Variant, spec: Spec, file: str) -> tuple[Setting, str]:
    name = variant.setting or spec.setting
    if name is None:
        raise InputError(
            "this spec does not say where the paper ran it",
            file=file,
            key="setting",
            remedy="add it, or choose a setting by --setting NAME",
        )
    return load_setting(name)


@dataclass(frozen=True)
class _Resolved:
    """A variant with its whole configuration, where it runs."""

    variant: Variant
    setting: Setting
    setting_file: str
    from_option: bool
    config: TrainingConfig
    values: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        variant: Variant,
        spec: Spec,
        file: str,
        setting: tuple[Setting, str],
        options: Options,
    ) -> "_Resolved":
        where, setting_file = setting
        config = resolve(
            [
                profile(options.profile),
                Layer(setting_file, where.set),
                Layer(file, spec.set),
                Layer(file, variant.set),
                command_line(options.assignments),
            ]
        )
        values = flatten(config.model_dump(mode="json"))
        for key in variant.when:
            if key not in (*values, "split", "seed"):
                raise InputError(
                    "a condition on a key that no configuration has",
                    file=file,
                    key=f"when.{key}",
                    remedy=did_you_mean(key, (*values, "split", "seed")),
                )
        return cls(variant, where, setting_file, options.splits is not None, config, values)

    def is_for(self, split: str, seed: int) -> bool:
        """Whether the variant is part of this block."""
        block = {**self.values, "split": split, "seed": seed}
        return all(
            block[key] in (wanted if isinstance(wanted, list) else [wanted])
            for key, wanted in self.variant.when.items()
        )

    def cell(self, table: TableDesign, value: Quantity, split: str, seed: int, file: str) -> Cell:
        """Its place for one split and seed."""
        if split not in self.setting.splits:
            raise InputError(
                f"setting {self.setting.name} has no such split",
                file=self.setting_file if self.from_option else file,
                key="--splits" if self.from_option else "splits",
                value=split,
                remedy=f"use one of {', '.join(self.setting.splits)}",
            )
        said = {
            **self.values,
            "variant": self.variant.name,
            "split": split,
            "value": value,
        }
        try:
            row, column = fill(table.rows, said), fill(table.columns, said)
        except KeyError as error:
            raise InputError(
                "the table names a key that no configuration has",
                file=file,
                key="table",
                value=f"{{{error.args[0]}}}",
                remedy=did_you_mean(error.args[0], said),
            ) from error
        training = Training(self.config, self.setting.splits[split], seed)
        return Cell(row, column, value, self.variant.name, split, self.setting, training)


def _shown(cell: Cell) -> str:
    return f"{cell.value} of {cell.variant} at {cell.split}"


def _check(spec: Spec, file: str, cells: tuple[Cell, ...]) -> None:
    """Refuse what could not be shown honestly."""
    shown = {cell.variant for cell in cells}
    absent = [variant.name for variant in spec.expanded if variant.name not in shown]
    if absent:
        raise InputError(
            "its condition holds for no split and seed",
            file=file,
            key="when",
            value=absent[0],
            remedy="mend the condition, or remove the variant",
        )
    places: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        first = places.setdefault((cell.row, cell.column), cell)
        if _shown(first) != _shown(cell):
            raise InputError(
                "two different things would stand in one place of the table: "
                f"{_shown(first)} and {_shown(cell)}",
                file=file,
                key="table",
                value=f"row {cell.row}, column {cell.column}",
                remedy="name what tells them apart in table.rows or table.columns: "
                "{variant}, {split}, {value} or a configuration key",
            )
    rows = dict.fromkeys(cell.row for cell in cells)
    if spec.reference not in rows:
        raise InputError(
            "the reference is no row",
            file=file,
            key="reference",
            value=spec.reference,
            remedy=f"use one of {', '.join(rows)}",
        )
