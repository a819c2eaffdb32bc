"""Takes what a search found; gives what the terminal shows, figures, and a report in Markdown."""

from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ablations.out import out_folder
from ablations.search.names import short_keys, shown
from ablations.search.report import Found
from results.confirmed import Confirmed
from results.escape import markdown
from results.search import HeatMap, SearchTrial, best_so_far
from results.search_figures import (
    draw_front,
    draw_heat_map,
    draw_history,
    draw_importance,
    draw_parallel,
    draw_slices,
)

BEST = 8
"""Trials that are shown."""
_LEVELS = "▁▂▃▄▅▆▇█"
_BAR = 24

NOT_CONFIRMED = (
    "Search scores chose these rows, and the best of many noisy scores is too good; only the "
    "fresh ones count."
)
"""Stands under every table of a search."""

Draw = Callable[[Sequence[Path]], None]


def print_found(console: Console, found: Found) -> None:
    """Everything, for the terminal."""
    spec = found.problem.spec
    _say(console, f"{spec.title} ({spec.name} on {found.problem.setting.name})", style="bold")
    tried = ", ".join(f"{count} {name}" for name, count in found.counts.items() if count)
    _say(console, f"Trials: {tried or 'none yet'}; {found.hours:.3g} hours of training.")
    if not found.best:
        return
    _print_history(console, found)
    _show(console, _best_table(found))
    if found.front:
        _say(console, f"Pareto front: trials {', '.join(map(str, found.front))}.")
    _print_importance(console, found)
    for axis in found.axes:
        _show(console, _slice_table(found, axis.key, axis.label))
    if found.heat is not None:
        _show(console, _heat_table(found.heat, found.units[0]))
    _show(console, _confirmed_table(found.confirmed))
    _say(console, NOT_CONFIRMED)


def write_found(folder: Path, found: Found) -> tuple[Path, ...]:
    """Write report.md, confirmed.yaml (a spec: csl table shows it) and every figure; their paths.

    Raises:
        InputError: the folder cannot be written to.
    """
    with out_folder(folder):
        figures = _draw(folder, found)
        report, spec = folder / "report.md", folder / "confirmed.yaml"
        report.write_text(_report(found, figures), encoding="utf-8")
        spec.write_text(_spec(found), encoding="utf-8")
    return report, spec, *(path for path in figures)


def figures_of(found: Found) -> dict[str, Draw]:
    """Each figure that there is something for, by name: what draws it into files."""
    if not found.best:
        return {}
    trials, axes, unit = found.trials, found.axes, found.units[0]
    figures: dict[str, Draw] = {
        "history": lambda paths: draw_history(trials, unit, paths, maximize=found.maximize),
        "slices": lambda paths: draw_slices(trials, axes, unit, paths),
    }
    if len(axes) > 1:
        figures["parallel"] = lambda paths: draw_parallel(trials, axes, unit, paths)
    if found.importance:
        labels, importance = short_keys(found.problem.spec.space), found.importance
        figures["importance"] = lambda paths: draw_importance(importance, labels, paths)
    if found.heat is not None:
        heat = found.heat
        figures["heatmap"] = lambda paths: draw_heat_map(heat, unit, paths)
    if found.front:
        units = unit, found.units[1]
        figures["front"] = lambda paths: draw_front(trials, found.front, units, paths)
    return figures


def _draw(folder: Path, found: Found) -> tuple[Path, ...]:
    """Each figure as PNG and PDF."""
    written: list[Path] = []
    for name, draw in figures_of(found).items():
        paths = [folder / f"{name}.{suffix}" for suffix in ("png", "pdf")]
        draw(paths)
        written += paths
    return tuple(written)


def _print_history(console: Console, found: Found) -> None:
    """A character a trial: the height of its score; the line below is the best so far."""
    scored = [trial.scores[0] for trial in found.trials if trial.scores]
    low, high = min(scored), max(scored)

    def level(value: float) -> str:
        place = (value - low) / (high - low) if high > low else 1.0
        return _LEVELS[min(int(place * len(_LEVELS)), len(_LEVELS) - 1)]

    marks = "".join(
        {"pruned": "×", "failed": "!"}.get(trial.state) or level(trial.scores[0])
        for trial in found.trials
    )
    best = best_so_far(found.trials, maximize=found.maximize)
    line = "".join(" " if value is None else level(value) for value in best)
    _say(console, f"trials       {marks}   × pruned, ! failed")
    _say(console, f"best so far  {line}   {low:.2f} to {high:.2f} {found.units[0]}")


def _best_table(found: Found) -> Table:
    """The best trials' parallel coordinates, as lines of a table."""
    table = _table("trial", *(axis.label for axis in found.axes), *found.units)
    for trial in found.best[:BEST]:
        table.add_row(*cells_of(trial, found))
    return table


def cells_of(trial: SearchTrial, found: Found) -> list[str]:
    values = [
        shown(trial.point[axis.key]) if axis.key in trial.point else "–" for axis in found.axes
    ]
    return [str(trial.number), *values, *(f"{score:.4g}" for score in trial.scores)]


def _print_importance(console: Console, found: Found) -> None:
    if not found.importance:
        _say(console, "Too few different scores to say which key matters.")
        return
    table = _table("importance", *found.importance)
    labels = short_keys(found.problem.spec.space)
    first = next(iter(found.importance.values()))
    for key, share in first.items():
        others = [own.get(key) for own in found.importance.values()]
        numbers = ["–" if other is None else f"{other:.2f}" for other in others]
        bar = "█" * round(share * _BAR)
        table.add_row(labels[key], f"{bar:<{_BAR}} {numbers[0]}", *numbers[1:])
    _show(console, table)


def _slice_table(found: Found, key: str, label: str) -> Table:
    table = _table(label, "trials", "mean", "best")
    for each in found.slices()[key]:
        numbers = ["–" if value is None else f"{value:.2f}" for value in (each.mean, each.best)]
        table.add_row(Text(each.label), str(each.count), *numbers)
    return table


def _heat_table(heat: HeatMap, unit: str) -> Table:
    """Means, with the number of trials; the best cell is bold."""
    means = [mean for line in heat.means for mean in line if mean is not None]
    best = max(means, default=None)
    columns = [f"{heat.column.label}={each.label}" for each in heat.column.bins]
    table = _table(f"mean {unit}", *columns)
    for bin_, line, counts in zip(heat.row.bins, heat.means, heat.counts, strict=True):
        table.add_row(
            f"{heat.row.label}={bin_.label}",
            *(
                Text("–", style="dim")
                if mean is None
                else Text(f"{mean:.1f} ({count})", style="bold" if mean == best else "")
                for mean, count in zip(line, counts, strict=True)
            ),
        )
    return table


def _confirmed_table(rows: Sequence[Confirmed]) -> Table:
    table = _table("confirmed on fresh seeds", *HEADINGS)
    for row in rows:
        table.add_row(Text(row.name), *confirmed_cells(row))
    return table


HEADINGS = ("search", "fresh mean ± sd (n)", "difference", "95% interval", "verdict", "shrinkage")


def confirmed_cells(row: Confirmed) -> list[str]:
    fresh, compared = "not yet", row.comparison
    if row.fresh is not None:
        sd = "" if row.fresh.sd is None else f" ± {row.fresh.sd:.1f}"
        fresh = f"{row.fresh.mean:.1f}{sd} ({row.fresh.n})"
        fresh += f", {row.missing} missing" if row.missing else ""
    interval, verdict = "–", "–"
    if compared is not None and compared.low is not None:
        interval = f"{compared.low:+.1f} to {compared.high:+.1f}"
        verdict = str(compared.verdict)
        if compared.verdict == "unresolved" and compared.seeds is not None:
            verdict += f" (about {compared.seeds} seeds would do)"
    return [
        "–" if row.searched is None else f"{row.searched:.1f}",
        fresh,
        "–" if compared is None else f"{compared.mean:+.1f}",
        interval,
        verdict,
        "–" if row.shrinkage is None else f"{row.shrinkage:+.1f}",
    ]


def _report(found: Found, figures: Sequence[Path]) -> str:
    spec = found.problem.spec
    tried = ", ".join(f"{count} {name}" for name, count in found.counts.items() if count)
    parts = [
        f"# {markdown(spec.title)}",
        f"`csl search {spec.name} --setting {found.problem.setting.name}`: {tried}; "
        f"{found.hours:.3g} hours of training.",
        "## Confirmed",
        _rows(
            ("", *HEADINGS),
            [[markdown(row.name), *confirmed_cells(row)] for row in found.confirmed],
        ),
        f"mIoU in percent. {NOT_CONFIRMED}",
        "## Best trials of the search",
        _rows(
            ("trial", *(axis.label for axis in found.axes), *found.units),
            [cells_of(trial, found) for trial in found.best[:BEST]],
        ),
    ]
    parts += [f"![{path.stem}]({path.name})" for path in figures if path.suffix == ".png"]
    return "\n\n".join(parts) + "\n"


def _rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spec(found: Found) -> str:
    """The comparison that confirmed, as a spec of its own."""
    spec = found.grid.spec
    content = spec.model_dump(mode="json", exclude_defaults=True, by_alias=True)
    opening = f"# csl table confirmed.yaml --setting {found.problem.setting.name}"
    body = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return f"{opening}\n{body}"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(Text(first), no_wrap=True)
    for heading in others:
        table.add_column(Text(heading), justify="right", no_wrap=True)
    return table


def _show(console: Console, table: Table) -> None:
    console.print()
    console.print(table)


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)
