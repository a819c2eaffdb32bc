"""Takes a request; draws its tables as figures, from the store alone. ``csl figure``."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from ablations.request import Request, with_options
from ablations.spec import FigureKind
from ablations.texts import Rule, RuleOption
from csl.errors import InputError
from results.schema import EpochMetrics, Header
from results.store import Store, StoreError
from results.table import Table

FORMATS = (".pdf", ".svg", ".png")


@with_options
def figure(
    request: Request,
    out: Annotated[
        Path,
        typer.Option(help="A .pdf, .svg or .png; or a folder, for NAME.pdf and NAME.png of each."),
    ],
    kind: Annotated[
        FigureKind | None,
        typer.Option(
            help="Differences to the reference, bars (Fig. 4), a line along the rows (Fig. 5), "
            "or pseudo-labels over the epochs (Fig. 6).  [default: the spec's]"
        ),
    ] = None,
    rule: RuleOption = Rule.best,
) -> None:
    """Draw a spec's figure from the store; nothing is trained.

    Of several, those that the store has nothing for are named, the others drawn; exit 1 then."""
    from ablations.tabulate import tabulate

    store = request.open_store()
    records = store.latest()
    tables = tabulate(request.grids, request.places, records, rule.value)
    is_file = out.suffix.lower() in FORMATS
    if is_file and len(tables) > 1:
        raise InputError(
            f"there are {len(tables)} figures for one file",
            key="--out",
            value=out,
            remedy="name a folder, or one spec",
        )
    if out.suffix and not is_file and not out.is_dir():
        raise InputError(
            "figures are not drawn in this format",
            key="--out",
            value=out,
            remedy=f"end the file's name in {', '.join(FORMATS)}, or name a folder",
        )
    left_out = []
    for grid, table in zip(request.grids, tables, strict=True):
        chosen = kind or grid.spec.figure
        paths = (out,) if is_file else (out / f"{table.name}.pdf", out / f"{table.name}.png")
        try:
            paths[0].parent.mkdir(parents=True, exist_ok=True)
            draw(table, chosen, store, records, paths)
        except OSError as error:
            raise InputError(
                f"cannot be written: {error.strerror}",
                file=out,
                key="--out",
                remedy="name a file or a folder that can be written",
            ) from error
        except StoreError:
            raise
        except ValueError as error:
            undrawn = InputError(
                f"{table.name} is not drawn: {error}",
                key="--store",
                value=request.store,
                remedy=f"csl plan {table.name} says what is missing; another --kind may do",
            )
            if len(tables) == 1:
                raise undrawn from error
            left_out.append(table.name)
            print(undrawn, file=sys.stderr)
            continue
        for path in paths:
            print(path)
    if left_out:
        raise typer.Exit(1)


def draw(
    table: Table,
    kind: FigureKind,
    store: Store,
    records: Mapping[str, Header],
    paths: Sequence[Path],
) -> None:
    """Write a table's figure to every path, its format by the suffix.

    Raises:
        ValueError: the store has nothing to draw.
    """
    # They import matplotlib, which takes a second.
    from results import charts, figures

    if all(cell.summary is None for cell in table.cells):
        raise ValueError("no training of it is complete")
    if kind is FigureKind.curves:
        figures.draw_curves(_curves(table, store, records), paths)
    else:
        charts.draw(table, cast(charts.Kind, kind.value), paths)


def _curves(
    table: Table, store: Store, records: Mapping[str, Header]
) -> dict[str, tuple[EpochMetrics, ...]]:
    """For each row and list its complete training of the smallest seed."""
    chosen: dict[tuple[str, str], Header] = {}
    for cell in table.cells:
        for record in (records[key] for key in cell.runs if key in records):
            place = (cell.row, record.split)
            if record.status == "complete" and (
                place not in chosen or record.seed < chosen[place].seed
            ):
                chosen[place] = record
    return {
        f"{row}, list {split}, seed {record.seed}": store.find(record.identity).curve
        for (row, split), record in chosen.items()
    }
