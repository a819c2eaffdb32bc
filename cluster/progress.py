"""Takes a tally and what happens to it; gives a live view a person can read, or plain lines."""

import time
from collections import Counter
from datetime import timedelta
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluster.schedule import Stop
from cluster.tally import Band, Running, Tally

_HEARTBEAT_SECONDS = 30.0
_FEW = 100  # trainings, of which every start and end is told
_FEW_RUNNING = 8  # of which a log has a line each
_OTHER_LINES = 6  # of a terminal


class ProgressView:
    """A ``cluster.campaign.Watcher`` on a console, used as a context; it keeps the tally.

    On a terminal: an overall bar with its estimate, and as many running trainings as there is room
    for. Otherwise a line per start and end, and for all that runs one at most every half minute. Of
    more than a hundred trainings only losses and failures are told one by one.

    Args:
        console: where to print.
        tally: is told of everything.
    """

    def __init__(self, console: Console, tally: Tally) -> None:
        self.console = console
        self.tally = tally
        self.tells_all = len(tally.jobs) <= _FEW
        self.last_line = time.monotonic()
        self.live = Live(
            console=console, get_renderable=self._render, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def started(self, index: int) -> None:
        self.tally.started(index)
        if self.tells_all and not self.console.is_terminal:
            self._say(index, "started")

    def reported(self, index: int, metrics: dict[str, Any]) -> None:
        self.tally.reported(index, metrics)
        self._now_and_then()

    def retried(self, index: int, reason: str) -> None:
        run = self.tally.running.get(index)
        self.tally.retried(index, reason)
        self._say(index, f"again after: {reason}", run)

    def finished(self, index: int, *, elsewhere: bool) -> None:
        run = self.tally.running.get(index)
        self.tally.finished(index, elsewhere=elsewhere)
        if self.tells_all:
            self._say(index, "finished by another driver" if elsewhere else "finished", run)
        self._now_and_then()

    def failed(self, index: int, reason: str) -> None:
        run = self.tally.running.get(index)
        self.tally.failed(index, reason)
        self._say(index, f"FAILED: {reason}", run)

    def held(self, index: int, holder: str) -> None:
        run = self.tally.running.get(index)
        self.tally.held(index, holder)
        if self.tells_all:
            self._say(index, f"held by {holder}", run)

    def stopped(self, index: int) -> None:
        run = self.tally.running.get(index)
        self.tally.stopped(index)
        if self.tells_all:
            self._say(index, "stopped", run)

    def stopping(self, stop: Stop) -> None:
        self.tally.stopping(stop)
        running = len(self.tally.running)
        text = f"Stopping: {stop.why}. Nothing more starts"
        if running:
            text += f"; {running} running end after their step (Ctrl-C: at once)"
        self._print(f"{text}.")

    def _say(self, index: int, event: str, run: Running | None = None) -> None:
        """A lasting line."""
        parts = [self._count(), self.tally.jobs[index].label, event]
        if run is not None and run.epoch:
            parts.append(f"epoch {run.epoch}/{run.job.epochs}")
            if run.mean_iou is not None:
                parts.append(f"mIoU {run.mean_iou:.1f}")
        left = self.tally.seconds_left()
        if left is not None and event != "started":
            parts.append(f"all done in {_band(left)}")
        self._print("  ".join(parts))

    def _now_and_then(self) -> None:
        """In a log: what runs, or how many."""
        if self.console.is_terminal or time.monotonic() <= self.last_line + _HEARTBEAT_SECONDS:
            return
        self.last_line = time.monotonic()
        running = self.tally.running
        if self.tells_all and len(running) <= _FEW_RUNNING:
            for index, run in sorted(running.items()):
                left = _clock(self.tally.seconds_left_of(run))
                self._say(index, f"running  ETA {left}", run)
        else:
            self._print("  ".join(part.plain for part in (self._totals(), self._time())))

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _count(self) -> str:
        return f"[{self.tally.ended}/{len(self.tally.jobs)}]"

    def _totals(self) -> Text:
        tally = self.tally
        parts = [f"{tally.ended}/{len(tally.jobs)} trainings", f"{len(tally.running)} running"]
        if failed := tally.failures.total():
            names = ", ".join(f"{name} ×{count}" for name, count in tally.failures.most_common())
            parts.append(f"{failed} failed ({names})")
        holders = Counter(tally.held_by.values())
        parts += [f"{count} held by {holder}" for holder, count in holders.most_common(2)]
        if len(holders) > 2:
            parts.append(f"{len(tally.held_by)} held in all")
        return Text(", ".join(parts))

    def _time(self) -> Text:
        left, rate = self.tally.seconds_left(), self.tally.per_hour
        parts = [f"ETA {'–' if left is None else _band(left)}"]
        if rate is not None:
            parts.append(f"{rate:.3g} an hour")
        if self.tally.stop is not None:
            parts.append(f"stopping: {self.tally.stop.why}")
        return Text(", ".join(parts))

    def _render(self) -> RenderableType:
        tally = self.tally
        overall = Table.grid(padding=(0, 1))
        total = sum(job.epochs for job in tally.jobs)
        bar = ProgressBar(total=total, completed=tally.epochs_done, width=30)
        overall.add_row(bar, self._time())
        running = sorted(tally.running.items())
        lines = Table(box=None, padding=(0, 2, 0, 0), show_header=bool(running))
        for heading, justify in (("running", "left"), ("epoch", "right"), ("mIoU", "right")):
            lines.add_column(heading, justify=justify, style="cyan")  # type: ignore[arg-type]
        lines.add_column("ETA", justify="right", style="cyan")
        room = max(1, self.console.size.height - _OTHER_LINES)
        for _, run in running[:room]:
            lines.add_row(
                Text(run.job.label),
                f"{run.epoch}/{run.job.epochs}",
                "–" if run.mean_iou is None else f"{run.mean_iou:.1f}",
                _clock(tally.seconds_left_of(run)),
            )
        more = [Text(f"and {len(running) - room} more")] if len(running) > room else []
        return Group(self._totals(), overall, lines, *more)


def _clock(seconds: float | None) -> str:
    return "–" if seconds is None else str(timedelta(seconds=round(seconds)))


def _band(left: Band) -> str:
    likely, careful = map(_clock, left)
    return likely if likely == careful else f"{likely} to {careful}"
