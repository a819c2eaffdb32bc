"""Takes tables, what searches found, and runs; gives the page that shows them."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from markupsafe import Markup

from results.render import words
from results.render.html import templates
from results.report.pictures import Picture
from results.report.runs import Runs
from results.table import Cell, Table


@dataclass(frozen=True)
class Section:
    """A table on the page.

    Args:
        setting: where its trainings ran.
        table: the table.
        pictures: of it.
    """

    setting: str
    table: Table
    pictures: tuple[Picture, ...]

    @property
    def anchor(self) -> str:
        """What a link to it ends in."""
        return f"{self.table.name}-{self.setting}"


@dataclass(frozen=True)
class PlainTable:
    """Its caption, its headings, and its rows."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Findings:
    """What a search found, as the page shows it."""

    name: str
    title: str
    notes: tuple[str, ...]
    tables: tuple[PlainTable, ...] = ()
    pictures: tuple[Picture, ...] = ()


def render(
    title: str,
    sections: Sequence[Section],
    findings: Sequence[Findings],
    runs: Runs,
    notes: Sequence[str] = (),
) -> str:
    """The page as text; the same arguments give the same text.

    Everything that comes from outside is escaped, or is data that the page's own program puts there
    as text. The page forbids its browser to run any other program or to load anything.

    Args:
        title: of the page.
        sections: the tables, in order.
        findings: the searches, in order.
        runs: every attempt.
        notes: what is not on the page, and why.
    """
    style, program = _part("page.css"), _part("page.js")
    place = {
        header.identity: index
        for index, header in enumerate(runs.headers)
        if runs.latest[header.identity] is header
    }
    return (
        templates()
        .get_template("report/page.html.jinja")
        .render(
            title=title,
            sections=sections,
            findings=findings,
            notes=notes,
            facts=_facts(runs),
            rows=runs.rows(),
            blocks=runs.blocks(),
            words=words,
            source=_source,
            places=lambda cell: _places(cell, place),
            style=Markup(style),  # noqa: S704 - this package's own
            program=Markup(program),  # noqa: S704 - likewise
            policy=f"default-src 'none'; img-src data:; style-src 'sha256-{_digest(style)}'; "
            f"script-src 'sha256-{_digest(program)}'",
        )
    )


def _places(cell: Cell, place: Mapping[str, int]) -> str:
    """The rows of a cell's runs in the page's list."""
    return ",".join(str(place[key]) for key in cell.runs if key in place)


def _facts(runs: Runs) -> dict[str, str]:
    """What stands above everything."""
    counted = runs.latest.values()
    failed = sum(header.status == "failed" for header in counted)
    days = sorted({f"{header.provenance.finished_at:%Y-%m-%d}" for header in runs.headers})
    gpu = sum(header.provenance.gpu_seconds for header in runs.headers) / 3600
    slots = sum(header.training_seconds for header in runs.headers) / 3600
    return {
        "trainings": f"{len(counted):,}",
        "complete": f"{len(counted) - failed:,}",
        "failed": f"{failed:,}",
        "attempts": f"{len(runs.headers):,}",
        "GPU-hours": f"{gpu:,.1f}",
        "hours of training": f"{slots:,.1f}",
        "settings": ", ".join(sorted({header.setting for header in runs.headers})),
        "finished": " to ".join(dict.fromkeys([*days[:1], *days[-1:]])),
    }


def _source(picture: Picture) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(picture.svg).decode()


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _part(name: str) -> str:
    return (files("results.report") / name).read_text(encoding="utf-8")
