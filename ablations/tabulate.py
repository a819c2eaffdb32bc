"""Takes a grid and a store; gives the grid's table, from the store alone."""

from collections.abc import Mapping

from ablations.expand import Grid
from csl.errors import InputError
from csl.identity import Training, identify_all
from csl.locations import Locations
from results import published
from results.schema import Header
from results.store import Store
from results.table import CellRun, Rule, Table, TableLayout, build

_HARMLESS = "network.gradient_checkpointing="  # changes no number


def tabulate(grid: Grid, locations: Locations, store: Store, rule: Rule) -> Table:
    """The grid's table, from the store alone.

    Where the dataset is at hand, cells find their trainings by identity. Without it (a table on
    a laptop) they are found by recipe, as long as that is unambiguous.

    Raises:
        InputError: the dataset is not given and the store holds the recipe for two datasets.
    """
    records = store.latest()
    keys = _keys(grid, locations, records)
    cells: dict[tuple[str, str], list[CellRun]] = {}
    for cell in grid.cells:
        key = keys[cell.training]
        cells.setdefault((cell.row, cell.column), []).append(CellRun(cell.training.seed, key))
    spec = grid.spec
    layout = TableLayout(
        name=spec.name,
        title=spec.title,
        rows=tuple(variant.name for variant in spec.variants),
        columns=grid.splits,
        cells={place: tuple(runs) for place, runs in cells.items()},
        reference=spec.reference,
        ledger=spec.published,
        footer=_footer(grid, [records[key] for key in keys.values() if key in records]),
    )
    return build(layout, records, rule=rule, same_setting_as_paper=_is_as_published(grid))


def _is_as_published(grid: Grid) -> bool:
    """Whether this is the setting that the ledger's numbers are from, and nothing was changed.

    A setting can be the paper's without being this table's: Cityscapes has splits of the same
    names as VOC.
    """
    spec, setting = grid.spec, grid.setting
    if spec.published is None or not setting.is_papers:
        return False
    protocol = published.load(spec.published).protocol
    changed = [each for each in grid.options.assignments if not each.startswith(_HARMLESS)]
    return (
        not changed
        and {cell.training.config.data.crop for cell in grid.cells} == {protocol.crop}
        and all(protocol.splits.get(name) == setting.splits[name] for name in grid.splits)
    )


def _keys(grid: Grid, locations: Locations, records: Mapping[str, Header]) -> dict[Training, str]:
    """The record key of each training; one that is not stored gets a key that no record has."""
    trainings = tuple(dict.fromkeys(cell.training for cell in grid.cells))
    at_hand = (
        locations.data_root is not None or grid.cells[0].training.config.data.dataset == "shapes"
    )
    if at_hand:
        identities = identify_all(trainings, locations)
        return {each: found.id for each, found in zip(trainings, identities, strict=True)}
    by_recipe: dict[str, list[str]] = {}
    for key, record in records.items():
        by_recipe.setdefault(record.recipe, []).append(key)
    keys = {each: by_recipe.get(each.recipe, [each.recipe]) for each in trainings}
    for each, candidates in keys.items():
        if len(candidates) > 1:
            raise InputError(
                f"the store holds this training for {len(candidates)} different datasets",
                key="--data-root",
                value=f"split {each.split}, seed {each.seed}",
                remedy="say which by giving --data-root (and --weights)",
            )
    return {each: candidates[0] for each, candidates in keys.items()}


def _footer(grid: Grid, records: list[Header]) -> tuple[str, ...]:
    setting, options = grid.setting, grid.options
    epochs = sorted({cell.training.config.schedule.epochs for cell in grid.cells})
    lines = [
        f"Setting {setting.name}: {setting.about}.",
        f"Profile {options.profile}, epochs: {', '.join(map(str, epochs))}, "
        f"seeds {', '.join(map(str, grid.seeds))}; mIoU in percent on {_protocols(grid)}.",
        "Splits: " + ", ".join(f"{name} = list {setting.splits[name]}" for name in grid.splits),
    ]
    hashes = sorted({(record.split, record.split_hash) for record in records})
    if hashes:
        lines[-1] += " (" + ", ".join(f"{split}: {value[:8]}" for split, value in hashes) + ")"
    lines[-1] += "."
    if options.assignments:
        lines.append(f"Overrides: {' '.join(options.assignments)}.")
    return tuple(lines)


def _protocols(grid: Grid) -> str:
    """What is scored, in words; two if a variant changes it."""
    names = []
    for config in dict.fromkeys(cell.training.config for cell in grid.cells):
        window, stride = config.evaluation_window
        name = {
            "whole": "whole validation images",
            "sliding_window": f"validation images in windows of {window}, {stride} apart",
            "center_crop": f"{config.data.crop}x{config.data.crop} centers of validation images",
        }[config.evaluation.mode]
        if config.evaluation_multiple > 1:
            name += f" resized to multiples of {config.evaluation_multiple}"
        names.append(name)
    return " or ".join(dict.fromkeys(names))
