"""Takes a store; writes one page with everything in it. ``csl report``."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablations import figures
from ablations.documents import packaged
from ablations.expand import Grid, expand
from ablations.request import Request, refuse_credentials, with_options
from ablations.search.names import is_trial
from ablations.spec import PAPERS, FigureKind, Setting, Spec, load_setting, load_specs
from ablations.texts import Rule, RuleOption
from csl.errors import InputError
from csl.identity import decisive
from results.schema import Header
from results.store import Store
from results.table import Table

if TYPE_CHECKING:
    from results.report import Findings
    from results.report.pictures import Picture

STORED = "stored"
"""As a setting: each one that the store has trainings of."""


@dataclass(frozen=True)
class ReportRequest(Request):
    """What stands on the page, and what is changed of it."""

    spec: Annotated[
        str,
        typer.Argument(
            help="Whose tables: packaged specs or campaigns, or .yaml files, separated by commas."
        ),
    ] = "paper"
    setting: Annotated[
        str,
        typer.Option(
            help="Where: a packaged setting, a .yaml file, paper (where the paper ran each), or "
            "stored: each packaged setting that the store has trainings of."
        ),
    ] = STORED


@with_options
def report(
    request: ReportRequest,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("report.html"),
    rule: RuleOption = Rule.best,
    searches: Annotated[
        str | None, typer.Option(help="Searches of one's own: .yaml files, separated by commas.")
    ] = None,
) -> None:
    """Write one page of everything in the store: tables, figures, searches, every run.

    It needs no other file and no network."""
    from ablations.tabulate import tabulate
    from results.report import Section, read_runs, render

    if not out.parent.is_dir():
        raise InputError(
            "the page's folder does not exist", file=out, key="--out", remedy="make it first"
        )
    refuse_credentials(request.store)  # the page is named after it
    store = request.open_store()
    runs = read_runs(store)
    if not runs.headers:
        raise InputError(
            "the store holds no attempt to report",
            key="--store",
            value=request.store,
            remedy="name the store that csl run wrote, or run something first",
        )
    grids, notes = chosen(request, runs.latest)
    tables = tabulate(grids, request.places, runs.latest, rule.value)
    sections = [
        Section(
            "+".join(setting.name for setting in grid.settings),
            table,
            tuple(_pictures(store, grid, table, runs.latest)),
        )
        for grid, table in zip(grids, tables, strict=True)
    ]
    found, more = _searches(request, runs.latest, searches)
    page = render(f"csl report: {request.store}", sections, found, runs, [*notes, *more])
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"the page cannot be written: {error.strerror}",
            file=out,
            key="--out",
            remedy="name a file that can be written",
        ) from error
    print(
        f"{out}: {len(sections)} tables, {len(found)} searches, {len(runs.headers)} attempts, "
        f"{len(page.encode()) / 1e6:.1f} MB"
    )


def chosen(
    request: Request, records: Mapping[str, Header]
) -> tuple[tuple[Grid, ...], tuple[str, ...]]:
    """The grids that the store has anything of, over the seeds it has, and why others are not.

    Raises:
        InputError: a spec or setting that was named is faulty.
    """
    known = _Known(records.values())
    specs = load_specs(request.spec)
    if request.setting != STORED:
        setting = None if request.setting == PAPERS else load_setting(request.setting)
        wanted = [(spec, setting) for spec in specs]
        return tuple(_grids(wanted, request, known)), ()
    names = sorted({header.setting for header in records.values()})
    here = [name for name in names if name in packaged("settings")]
    notes = [
        f"Setting {name} is none that csl has: its tables are shown by --setting FILE."
        for name in names
        if name not in here
    ]
    grids: list[Grid] = []
    for name in here:
        for spec in specs:
            try:
                grids += _grids([(spec, load_setting(name))], request, known)
            except InputError as error:
                if (name, spec[0].name) in known.asked:
                    notes.append(f"{spec[0].name} on {name} is not shown: {error.problem}.")
    return tuple(grids), tuple(notes)


class _Known:
    """Which seeds a store has of which configuration, and what was asked for where.

    A search's trials say nothing here: what it tried, and where it stopped early, is no table's
    choice of seeds."""

    def __init__(self, records: Iterable[Header]) -> None:
        self.seeds: dict[str, set[int]] = defaultdict(set)
        self.asked: set[tuple[str, str]] = set()
        spelled: dict[str, str] = {}
        for record in records:
            if is_trial(record.launched_as):
                continue
            text = record.configuration
            if text not in spelled:
                spelled[text] = _spelled(json.loads(text))
            self.seeds[spelled[text]].add(record.seed)
            self.asked.add((record.setting, record.launched_as.split("/")[0]))


def _spelled(configuration: dict[str, object]) -> str:
    network = configuration.get("network")
    if isinstance(network, dict):
        network.pop("gradient_checkpointing", None)  # changes no number
    return json.dumps(configuration, sort_keys=True)


def _grids(
    wanted: Sequence[tuple[tuple[Spec, str], tuple[Setting, str] | None]],
    request: Request,
    known: _Known,
) -> Iterable[Grid]:
    for spec, setting in wanted:
        options = request.options
        asked_for = expand(spec, setting, options)
        rows: dict[str, set[int]] = defaultdict(set)
        for cell in asked_for.cells:
            rows[cell.row] |= known.seeds.get(_spelled(decisive(cell.training.config)), set())
        with_any = [row for row, seeds in rows.items() if seeds]
        launched = any((each.name, spec[0].name) in known.asked for each in asked_for.settings)
        # The whole method is a row of nearly every table: alone it makes none of them.
        seeds = sorted(set().union(*rows.values())) if launched or len(with_any) > 1 else []
        if seeds:
            yield expand(spec, setting, replace(options, seeds=options.seeds or tuple(seeds)))


def _pictures(
    store: Store, grid: Grid, table: Table, records: Mapping[str, Header]
) -> "Iterable[Picture]":
    from results.report.pictures import picture

    if all(cell.summary is None for cell in table.cells):
        return
    captions = {
        FigureKind.forest: "Differences to the reference",
        FigureKind.bars: "As bars",
        FigureKind.line: "Along the rows",
        FigureKind.curves: "Pseudo-labels over the epochs, of the smallest seed",
    }
    kinds = dict.fromkeys([grid.spec.figure, FigureKind.forest])
    if not any(cell.difference for cell in table.cells):
        del kinds[FigureKind.forest]
    for kind in kinds:
        caption = f"{captions[kind]}: {table.title}"
        yield picture(caption, partial(figures.draw, table, kind, store, records))


def _searches(
    request: Request, records: Mapping[str, Header], own: str | None
) -> "tuple[tuple[Findings, ...], tuple[str, ...]]":
    from ablations.search.findings import findings
    from ablations.search.spec import load_search

    names = [*packaged("specs/search"), *([] if own is None else own.split(","))]
    here = packaged("settings")
    settings = {header.setting for header in records.values() if header.setting in here}
    if request.setting not in (STORED, PAPERS):
        settings.add(request.setting)
    return findings(
        [load_search(name.strip()) for name in names],
        [load_setting(name) for name in sorted(settings)],
        request.options,
        request.places,
        request.open_store(),
    )
