"""Takes grids and a store; gives the grids' tables, from the store alone."""

from collections.abc import Mapping, Sequence

from ablations.expand import Grid
from ablations.naming import name_all
from ablations.places import Places
from csl.identity import Training
from results import published
from results.schema import Header
from results.table import CellRun, Rule, Table, TableLayout, build

_HARMLESS = "network.gradient_checkpointing="  # changes no number


def tabulate(
    grids: Sequence[Grid], places: Places, records: Mapping[str, Header], rule: Rule
) -> tuple[Table, ...]:
    """A table per grid.

    Args:
        grids: what is shown.
        places: where the datasets lie, if they are at hand (see ``naming.name_all``).
        records: what the store has of each training (``Store.latest``).
        rule: the epoch of a training that counts.

    Raises:
        InputError: a dataset is not given and the store holds a recipe for two datasets.
    """
    shown: list[dict[tuple[str, str], list[CellRun]]] = [{} for _ in grids]
    keys: list[dict[str, None]] = [{} for _ in grids]
    for named in name_all(grids, places, records):
        for place in named.places:
            cell = place.cell
            run = CellRun(cell.training.seed, named.key, cell.value)
            shown[place.grid].setdefault((cell.row, cell.column), []).append(run)
            keys[place.grid][named.key] = None
    return tuple(
        _table(grid, cells, [records[key] for key in own if key in records], records, rule)
        for grid, cells, own in zip(grids, shown, keys, strict=True)
    )


def _table(
    grid: Grid,
    cells: Mapping[tuple[str, str], Sequence[CellRun]],
    own: Sequence[Header],
    records: Mapping[str, Header],
    rule: Rule,
) -> Table:
    spec = grid.spec
    layout = TableLayout(
        name=spec.name,
        title=spec.title,
        rows=grid.rows,
        columns=grid.columns,
        cells={
            place: tuple(sorted(runs, key=lambda run: run.seed)) for place, runs in cells.items()
        },
        reference=spec.reference,
        ledger=spec.published,
        footer=_footer(grid, own),
    )
    return build(layout, records, rule=rule, same_setting_as_paper=_is_as_published(grid))


def _is_as_published(grid: Grid) -> bool:
    """Whether this is the setting that the ledger's numbers are from, and nothing was changed.

    A setting can be the paper's without being this table's: Cityscapes has splits of the same
    names as VOC.
    """
    if grid.spec.published is None or not all(setting.is_papers for setting in grid.settings):
        return False
    if any(not each.startswith(_HARMLESS) for each in grid.options.assignments):
        return False
    ledger = published.load(grid.spec.published)
    found = {row: ledger.find(row) for row in grid.rows}
    return all(
        place is None
        or (
            place[1].protocol.crop == cell.training.config.data.crop
            and place[1].protocol.splits.get(cell.split) == cell.training.split
        )
        for cell in grid.cells
        for place in [found[cell.row]]
    )


def _footer(grid: Grid, own: Sequence[Header]) -> tuple[str, ...]:
    options = grid.options
    epochs = sorted({cell.training.config.schedule.epochs for cell in grid.cells})
    lines = [f"Setting {setting.name}: {setting.about}." for setting in grid.settings]
    lines.append(
        f"Profile {options.profile}, epochs: {', '.join(map(str, epochs))}, "
        f"seeds {', '.join(map(str, grid.seeds))}; mIoU in percent on {_protocols(grid)}."
    )
    lists = dict.fromkeys(f"{cell.split} = list {cell.training.split}" for cell in grid.cells)
    hashes = sorted({(record.split, record.split_hash) for record in own})
    known = " (" + ", ".join(f"{split}: {value[:8]}" for split, value in hashes) + ")"
    lines.append(f"Splits: {', '.join(lists)}{known if hashes else ''}.")
    if options.assignments:
        lines.append(f"Overrides: {' '.join(options.assignments)}.")
    lines += [f"One training here: {', '.join(group)}." for group in _joined(grid)]
    return tuple(lines)


def _joined(grid: Grid) -> tuple[tuple[str, ...], ...]:
    """Variants that are the same training: in the paper their settings told them apart."""
    variants: dict[Training, dict[str, None]] = {}
    for cell in grid.cells:
        variants.setdefault(cell.training, {})[cell.variant] = None
    return tuple(dict.fromkeys(tuple(names) for names in variants.values() if len(names) > 1))


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
