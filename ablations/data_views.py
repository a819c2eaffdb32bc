"""Takes the report on a dataset; gives what the terminal and ``--json`` show of it."""

import re
from collections import defaultdict
from collections.abc import Iterable
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from csl.data.check import Frequencies, Report
from csl.errors import InputError

_NAMED = 3  # faults of a kind that are shown


def report_object(report: Report) -> dict[str, Any]:
    """A report as one JSON object."""
    return {
        "folder": str(report.folder),
        "images": len(report.sizes),
        "width": _spread(width for width, _ in report.sizes),
        "height": _spread(height for _, height in report.sizes),
        "splits": {
            name: {
                **split.counts,
                "content_hash": split.content_hash,
                "fingerprint": split.fingerprint,
                "classes": {
                    list_name: _classes(frequencies, report.class_names)
                    for list_name, frequencies in (("labeled", split.labeled), ("val", split.val))
                },
            }
            for name, split in report.splits.items()
        },
        "faults": [
            {
                key: None if value is None else str(value)
                for key, value in vars(fault).items()
                if key in ("problem", "file", "key", "value", "remedy")
            }
            for fault in report.faults
        ],
        "notes": list(report.notes),
    }


def print_report(console: Console, report: Report) -> None:
    """Splits, class frequencies, notes, faults by kind, and the verdict."""
    console.print(Text(f"{report.folder}: {len(report.sizes)} images {_extent(report)}"))
    splits = _table("split", "labeled", "unlabeled", "val", "lists", "data")
    for name, split in report.splits.items():
        counts = [str(split.counts.get(each, "-")) for each in ("labeled", "unlabeled", "val")]
        splits.add_row(name, *counts, split.content_hash or "-", split.fingerprint or "-")
    console.print(splits)
    console.print(_class_table(report))
    for note in report.notes:
        console.print(Text(f"note: {note}"))
    for kind, faults in _by_kind(report.faults).items():
        console.print(Text(f"fault: {kind} ({len(faults)})", style="bold red"))
        for fault in faults[:_NAMED]:
            value = "" if fault.value is None else f" ({fault.value})"
            console.print(Text(f"  {fault.file}{value}"))
        if len(faults) > _NAMED:
            console.print(Text(f"  and {len(faults) - _NAMED} more"))
        console.print(Text(f"  remedy: {faults[0].remedy}"))
    verdict = f"{len(report.faults)} faults." if report.faults else "No fault."
    console.print(Text(verdict, style="bold red" if report.faults else "bold green"))


def _class_table(report: Report) -> Table:
    """Per class: images that show it and its share of the pixels, for each labeled list and val.

    Val is shared by the splits, so that of the first one is shown.
    """
    columns = {f"{name} labeled": split.labeled for name, split in report.splits.items()}
    if report.splits:
        columns["val"] = next(iter(report.splits.values())).val
    table = _table("class", *columns)
    for index, name in enumerate(report.class_names):
        if any(frequencies.images[index] for frequencies in columns.values()):
            cells = [
                f"{f.images[index]}  {_percent(f.pixels[index], sum(f.pixels))}"
                for f in columns.values()
            ]
            table.add_row(Text(name), *cells)
    ignored = [_percent(f.ignored, f.ignored + sum(f.pixels)) for f in columns.values()]
    table.add_row("(ignored)", *ignored)
    return table


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:6.2%}" if whole else "-"


def _classes(frequencies: Frequencies, names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "names": list(names),
        "pixels": list(frequencies.pixels),
        "images": list(frequencies.images),
        "ignored_pixels": frequencies.ignored,
    }


def _extent(report: Report) -> str:
    spreads = [_spread(sizes) for sizes in zip(*report.sizes, strict=True)]
    parts = [
        f"{what} {spread[0]} / {spread[1]:g} / {spread[2]}"
        for what, spread in zip(("width", "height"), spreads, strict=False)
        if spread
    ]
    return f"({', '.join(parts)}; lowest / median / highest)" if parts else ""


def _spread(values: Iterable[int]) -> tuple[int, float, int] | None:
    """Lowest, median, highest."""
    known = list(values)
    return (min(known), median(known), max(known)) if known else None


def _by_kind(faults: Iterable[InputError]) -> dict[str, list[InputError]]:
    """Faults by the clause that their problems begin with: what follows names one file."""
    kinds: dict[str, list[InputError]] = defaultdict(list)
    for fault in faults:
        kinds[re.split(r"[,:] ", fault.problem)[0]].append(fault)
    return kinds


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table
