"""Takes a store or a cluster's address; gives what the runs there are doing, and stops one."""

import sys
import time
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ablations.request import DEFAULT_STORE, StoreOption, WorkOption
from ablations.views import grid, print_jobs, show_either
from cluster.drivers import DriverState, read_drivers
from csl.errors import InputError
from results.store import Store

_EVERY = 2.0  # seconds, as often as a driver tells
_MOST_LINES = 20


AddressOption = Annotated[
    str, typer.Option(envvar="CSL_ADDRESS", help="The cluster's dashboard: http://host:port.")
]


def watch(
    job: Annotated[
        str | None, typer.Argument(help="A run that was handed over; without: all of them.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            envvar="CSL_ADDRESS", help="Of runs that were handed over: the dashboard, http://…"
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    work: WorkOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Watch the runs on a store, from any terminal; with --address those handed over to a cluster.

    Ctrl-C leaves them running. A run that is followed by name ends this command as it ended."""
    if address is None:
        if job is not None:
            raise InputError(
                "a run that was handed over is at an address",
                key="--address",
                remedy="give the one it was handed to, or leave the name out",
            )
        place = Store(store, work)
        show_either(drivers_object(place), as_json, lambda console: watch_store(console, place))
        return
    from cluster.submission import jobs

    if job is not None:
        follow(job, address)
    seen = [vars(each) for each in jobs(address)]
    show_either({"jobs": seen}, as_json, lambda console: print_jobs(console, seen))


def cancel(
    job: Annotated[str, typer.Argument(help="See csl watch.")], address: AddressOption
) -> None:
    """Stop a run that was handed over: it writes checkpoints first, and can go on later."""
    from cluster.submission import cancel as stop

    print(f"{job}: {stop(address, job).state.lower()}; the same csl run goes on with what is left")


def follow(job: str, address: str) -> NoReturn:
    """Print what a handed-over run prints, and exit as it does; Ctrl-C leaves it running."""
    from cluster.submission import follow as read_on

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        code = read_on(address, job, write).code
    except KeyboardInterrupt:
        print(f"\n{job} runs on; stop it: csl cancel {job} --address {address}")
        code = 130
    raise typer.Exit(code)


def drivers_object(store: Store) -> dict[str, Any]:
    """Every run that is under way, or whose driver died."""
    return {
        "runs": [{**asdict(state), "alive": state.is_alive} for state in read_drivers(store.work)]
    }


def watch_store(console: Console, store: Store) -> None:
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


def _draw(store: Store) -> RenderableType:
    states = read_drivers(store.work)
    if not states:
        return Text(f"no run is under way on {store.location}")
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
