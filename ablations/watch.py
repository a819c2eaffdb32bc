"""Takes a store; gives what the runs on it are doing, as their drivers tell."""

import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ablations.views import grid
from cluster.drivers import DriverState, read_drivers

_EVERY = 2.0  # seconds, as often as a driver tells
_MOST_LINES = 20


def drivers_object(store: str) -> dict[str, Any]:
    """Every run that is under way, or whose driver died."""
    return {
        "runs": [{**asdict(state), "alive": state.is_alive} for state in read_drivers(Path(store))]
    }


def watch_store(console: Console, store: str) -> None:
    """Show the store's runs: on a terminal until Ctrl-C, else once."""
    if not console.is_terminal:
        console.print(_draw(store))
        return
    with Live(_draw(store), console=console, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(_EVERY)
                live.update(_draw(store), refresh=True)
        except KeyboardInterrupt:
            return  # whoever watches may stop watching


def _draw(store: str) -> RenderableType:
    states = read_drivers(Path(store))
    if not states:
        return Text(f"no run is under way on {store}")
    return Group(*(part for state in states for part in (_heading(state), _running(state))))


def _heading(state: DriverState) -> Text:
    parts = [
        f"{state.finished + state.elsewhere}/{state.trainings} trainings",
        f"{state.running_total} running, {state.waiting} waiting",
    ]
    parts += [f"{count} held by {holder}" for holder, count in state.held.items()]
    parts += [f"{count} failed: {name}" for name, count in state.failures.items()]
    if state.per_hour is not None:
        parts.append(f"{state.per_hour:.1f} an hour")
    if state.seconds_left is not None:
        low, high = (str(timedelta(seconds=round(each))) for each in state.seconds_left)
        parts.append(f"ETA {low} to {high}")
    if state.stopping:
        parts.append(f"stopping: {state.stopping}")
    if not state.is_alive:
        parts.append(f"its driver is gone for {state.quiet_seconds:.0f} s: give the command again")
    return Text(f"{state.command}\n  " + ", ".join(parts))


def _running(state: DriverState) -> Table:
    table = grid("running", "epoch", "mIoU")
    for each in state.running[:_MOST_LINES]:
        score = "–" if each.mean_iou is None else f"{each.mean_iou:.1f}"
        table.add_row(Text(each.label), f"{each.epoch}/{each.epochs}", score)
    if more := state.running_total - min(_MOST_LINES, len(state.running)):
        table.add_row(Text(f"and {more} more"), "", "")
    return table
