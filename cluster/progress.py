"""Takes what happens to jobs; gives a live view a person can read, or plain lines to a log."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluster.schedule import Stop

_HEARTBEAT_SECONDS = 30.0


@dataclass
class _Running:
    """One live training as last reported."""

    epochs: int
    epoch: int = 0
    mean_iou: float | None = None
    epoch_seconds: list[float] = field(default_factory=list)

    def seconds_left(self, usual: float | None) -> float | None:
        """From its own epochs, or, before the first, from the ``usual`` seconds of an epoch."""
        own = self.epoch_seconds
        each = sum(own) / len(own) if own else usual
        return None if each is None else (self.epochs - self.epoch) * each


class ProgressView:
    """A ``cluster.trials.Watcher`` on a console, used as a context.

    On a terminal: an overall bar with its estimate, and a line per running training. Otherwise a
    line per start and end, and one for all that runs at most every half minute.

    Args:
        console: where to print.
        labels: what each job is called, by index.
        epochs: how many epochs each job has.
        slots: how many run at once.
    """

    def __init__(
        self, console: Console, labels: Sequence[str], epochs: Sequence[int], slots: int
    ) -> None:
        self.console = console
        self.labels = labels
        self.epochs = epochs
        self.slots = slots
        self.running: dict[int, _Running] = {}
        self.waiting = set(range(len(labels)))
        self.failures = 0
        self.epoch_seconds: list[float] = []
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
        self.waiting.discard(index)
        self.running.setdefault(index, _Running(self.epochs[index]))
        self._say(index, "started", None)

    def reported(self, index: int, metrics: dict[str, Any]) -> None:
        run = self.running.setdefault(index, _Running(self.epochs[index]))
        run.epoch = int(metrics["epoch"])
        run.mean_iou = metrics.get("mean_iou", run.mean_iou)
        run.epoch_seconds.append(metrics["seconds"])
        self.epoch_seconds.append(metrics["seconds"])
        if not self.console.is_terminal and time.monotonic() > self.last_line + _HEARTBEAT_SECONDS:
            for each, run in self.running.items():
                self._say(each, "running", run)
            self.last_line = time.monotonic()

    def retried(self, index: int, reason: str) -> None:
        run = self.running.pop(index, None)
        self.waiting.add(index)
        self._say(index, f"again after: {reason}", run)

    def finished(self, index: int, *, elsewhere: bool) -> None:
        self._end(index, "finished by another driver" if elsewhere else "finished")

    def held(self, index: int, holder: str) -> None:
        run = self.running.pop(index, None)
        self.waiting.add(index)
        self._say(index, f"held by {holder}", run)

    def stopped(self, index: int) -> None:
        run = self.running.pop(index, None)
        self.waiting.add(index)
        self._say(index, "stopped", run)

    def stopping(self, stop: Stop) -> None:
        self.console.print(f"Stopping: {stop.why}.", highlight=False, markup=False)

    def failed(self, index: int, reason: str) -> None:
        self.failures += 1
        self._end(index, f"FAILED: {reason}")

    def _end(self, index: int, how: str) -> None:
        self.waiting.discard(index)
        run = self.running.pop(index, None)
        self._say(index, how, run)

    @property
    def ended(self) -> int:
        """Trainings that finished or failed."""
        return len(self.labels) - len(self.waiting) - len(self.running)

    def seconds_left(self) -> float | None:
        """Estimate for everything: what is left of all epochs, over the slots."""
        if not self.epoch_seconds:
            return None
        usual = sum(self.epoch_seconds) / len(self.epoch_seconds)
        left = [run.seconds_left(usual) or 0 for run in self.running.values()]
        waiting = usual * sum(self.epochs[index] for index in self.waiting)
        # Whatever runs longest cannot be split over the slots.
        return max([(sum(left) + waiting) / self.slots, *left])

    def _usual(self) -> float | None:
        return sum(self.epoch_seconds) / len(self.epoch_seconds) if self.epoch_seconds else None

    def _say(self, index: int, event: str, run: _Running | None) -> None:
        """A lasting line; on a terminal only for ends, which the live view forgets."""
        if self.console.is_terminal and event in ("started", "running"):
            return
        parts = [f"[{self.ended}/{len(self.labels)}]", self.labels[index], event]
        if run is not None and run.epoch:
            parts.append(f"epoch {run.epoch}/{run.epochs}")
            if run.mean_iou is not None:
                parts.append(f"mIoU {run.mean_iou:.1f}")
        if event == "running" and run is not None:
            parts.append(f"ETA {_clock(run.seconds_left(self._usual()))}")
        if (left := self.seconds_left()) is not None and event != "started":
            parts.append(f"all done in {_clock(left)}")
        self.console.print("  ".join(parts), highlight=False, markup=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        overall = Table.grid(padding=(0, 1))
        failed = f", {self.failures} failed" if self.failures else ""
        overall.add_row(
            Text(f"{self.ended}/{len(self.labels)} trainings{failed}"),
            ProgressBar(total=sum(self.epochs), completed=self._epochs_done(), width=30),
            Text(f"ETA {_clock(self.seconds_left())}"),
        )
        lines = Table(box=None, padding=(0, 2, 0, 0), show_header=bool(self.running))
        for heading, justify in (("running", "left"), ("epoch", "right"), ("mIoU", "right")):
            lines.add_column(heading, justify=justify, style="cyan")  # type: ignore[arg-type]
        lines.add_column("ETA", justify="right", style="cyan")
        for index, run in sorted(self.running.items()):
            lines.add_row(
                Text(self.labels[index]),
                f"{run.epoch}/{run.epochs}",
                "–" if run.mean_iou is None else f"{run.mean_iou:.1f}",
                _clock(run.seconds_left(self._usual())),
            )
        return Group(overall, lines)

    def _epochs_done(self) -> int:
        going = sum(run.epoch for run in self.running.values())
        untouched = self.waiting | self.running.keys()
        return going + sum(e for i, e in enumerate(self.epochs) if i not in untouched)


def _clock(seconds: float | None) -> str:
    return "–" if seconds is None else str(timedelta(seconds=round(seconds)))
