"""Takes a store and searches; gives what each found there, for the report's page."""

from collections.abc import Sequence
from dataclasses import replace

from ablations.expand import Options
from ablations.places import Places
from ablations.search.problem import pose
from ablations.search.report import Found, find
from ablations.search.run import Search
from ablations.search.spec import SearchSpec
from ablations.search.study import find_study, journal, study_name
from ablations.search.views import (
    BEST,
    HEADINGS,
    NOT_CONFIRMED,
    cells_of,
    confirmed_cells,
    figures_of,
)
from ablations.spec import Setting
from csl.errors import InputError
from results.report import Findings, PlainTable
from results.report.pictures import picture
from results.store import Store


def findings(
    searches: Sequence[tuple[SearchSpec, str]],
    settings: Sequence[tuple[Setting, str]],
    options: Options,
    places: Places,
    store: Store,
) -> tuple[tuple[Findings, ...], tuple[str, ...]]:
    """What each search found on each setting, as far as the store has a study of it, and why one
    that is there is not shown."""
    if not store.has_work:
        return (), ()
    shown: list[Findings] = []
    notes: list[str] = []
    for spec in searches:
        for setting in settings:
            try:
                problem = pose(spec, setting, options)
                name = study_name(problem)
                if not journal(store.work, name).is_file():
                    continue
                study = find_study(problem, store.work, name, None)
                shown.append(_findings(find(Search(problem, places, store, name, None), study)))
            except InputError as error:
                if journal(store.work, f"{spec[0].name}-{setting[0].name}").is_file():
                    notes.append(
                        f"Search {spec[0].name} on {setting[0].name} is not shown: {error.problem}."
                    )
    return tuple(shown), tuple(notes)


def _findings(found: Found) -> Findings:
    spec, setting = found.problem.spec, found.problem.setting
    tried = ", ".join(f"{count} {name}" for name, count in found.counts.items() if count)
    said = Findings(
        name=f"{spec.name}-{setting.name}",
        title=f"{spec.title} ({spec.name} on {setting.name})",
        notes=(f"Trials: {tried or 'none yet'}; {found.hours:.3g} hours of training.",),
    )
    if not found.best:
        return said
    rows = tuple((row.name, *confirmed_cells(row)) for row in found.confirmed)
    best = tuple(tuple(cells_of(trial, found)) for trial in found.best[:BEST])
    return replace(
        said,
        notes=(*said.notes, NOT_CONFIRMED),
        tables=(
            PlainTable("Confirmed on fresh seeds, mIoU in percent", ("", *HEADINGS), rows),
            PlainTable(
                "Best trials of the search",
                ("trial", *(axis.label for axis in found.axes), *found.units),
                best,
            ),
        ),
        pictures=tuple(
            picture(f"{name}: {spec.title}", draw) for name, draw in figures_of(found).items()
        ),
    )
