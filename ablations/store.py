"""Takes ``csl store`` command lines; gives a store checked, packed, merged, exported."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ablations.request import DEFAULT_STORE, StoreOption, existing
from csl.errors import InputError
from results.store import Store

if TYPE_CHECKING:
    from results.upkeep import Fault, Moved

store_app = typer.Typer(
    help="Check a store's files, pack them, merge another's in, export them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@store_app.command(epilog="Example: csl store check --store /shared/csl-store")
def check(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Read every file wholly; name what is torn, damaged, foreign or newer; exit 1 if any is."""
    from results import upkeep

    found = upkeep.check(existing("--store", store))

    def draw() -> None:
        print(f"{found.attempts} attempts in {found.files} whole files, {len(found.faults)} not.")
        for path in found.left_behind:
            print(f"left behind by a killed writer (csl store compact deletes it): {path}")

    _report(asdict(found), as_json, draw, found.faults)


def tidy(store: Store, console: Console) -> None:
    """At the end of a run: pack the store's files once they are many; may be interrupted."""
    from results import upkeep

    upkeep.compact_if_many(
        store,
        lambda files: console.print(f"Packing {files} records into few files (csl store compact)."),
    )


@store_app.command(epilog="Example: csl store compact --store s3://bucket/csl-store")
def compact(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Pack files of one attempt into files of up to a thousand; safe to kill and beside runs."""
    from results import upkeep

    _report_moved(upkeep.compact(existing("--store", store)), "packed", as_json)


@store_app.command(epilog="Example: csl store merge csl-store /mnt/other-cluster/csl-store")
def merge(
    into: Annotated[str, typer.Argument(help="The store that gets what it lacks.")],
    other: Annotated[str, typer.Argument(help="The store that is copied from.")],
    as_json: JsonOption = False,
) -> None:
    """Copy the attempts that OTHER has and INTO lacks; records only, no checkpoints."""
    from results import upkeep

    _report_moved(upkeep.merge(Store(into), existing("OTHER", other)), "copied", as_json)


@store_app.command(epilog="Example: csl store export attempts.csv")
def export(
    out: Annotated[Path, typer.Argument(help="The file to write: .csv or .parquet.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write one row per attempt: header, provenance and the IoU of every class."""
    from results.export import attempts_table, write_table

    if out.suffix not in (".csv", ".parquet"):
        raise InputError(
            "not a kind of file that can be exported",
            key="OUT",
            value=out,
            remedy="give a name that ends in .csv or .parquet",
        )
    table = attempts_table(existing("--store", store))
    if not table.num_rows:
        raise InputError(
            "the store holds no attempt to export",
            key="--store",
            value=store,
            remedy="name the store that csl run wrote",
        )
    try:
        write_table(table, out)
    except OSError as error:
        raise InputError(
            f"the file cannot be written: {error.strerror or error}",
            file=out,
            key="OUT",
            remedy="give a place that can be written to",
        ) from error
    print(f"{table.num_rows} attempts, {table.num_columns} columns: {out}")


def _report_moved(moved: "Moved", verb: str, as_json: bool) -> None:
    def draw() -> None:
        print(
            f"{moved.attempts} attempts {verb} into {moved.files} files, "
            f"{moved.deleted} files deleted."
        )

    _report(asdict(moved), as_json, draw, moved.faults)


def _report(
    content: dict[str, Any], as_json: bool, draw: Callable[[], None], faults: "tuple[Fault, ...]"
) -> None:
    """Print what was found; exit 1 if a file is at fault."""
    if as_json:
        print(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        draw()
        for fault in faults:
            print(
                f"{fault.problem}\n  file: {fault.file}\n  remedy: {fault.remedy}",
                file=sys.stderr,
            )
    if faults:
        raise typer.Exit(1)
