"""Takes what becomes of a search's trials; gives a live view, or plain lines to a log."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ablations.search.marks import FAILURE, SOURCE, WARM, counts
from ablations.search.names import said, short_keys
from ablations.search.space import Point
from ablations.search.spec import SearchSpec
from ablations.search.study import DIRECTIONS
from ablations.search.suggest import point_of

UNITS = {"miou": "mIoU", "worst_class": "worst class", "gpu_hours": "hours"}


@dataclass
class _Running:
    point: Point
    block: int = 0
    epoch: int = 0
    epochs: int = 0
    mean_iou: float | None = None


class SearchView:
    """An asker's display.

    Args:
        spec: the search.
        study: as it is at the start; only its trials are looked at.
        console: where to print.
    """

    def __init__(self, spec: SearchSpec, study: optuna.Study, console: Console) -> None:
        self.spec = spec
        self.console = console
        self.keys = short_keys(spec.space)
        self.running: dict[int, _Running] = {}
        self.ended = 0
        self.stored = 0
        self.pruned = 0
        self.best: FrozenTrial | None = None
        for trial in study.get_trials(deepcopy=False):
            self._count(trial)

    @contextlib.contextmanager
    def on(self, console: Console) -> Iterator[None]:
        """Within this context, print there; on a terminal with a live view at its foot."""
        before, self.console = self.console, console
        live = Live(
            console=console, get_renderable=self._render, refresh_per_second=2, transient=True
        )
        try:
            with live if console.is_terminal else contextlib.nullcontext():
                yield
        finally:
            self.console = before

    def asked(self, number: int, point: Point) -> None:
        self.running[number] = _Running(point)

    def reported(self, number: int, block: int, metrics: Mapping[str, Any]) -> None:
        run = self.running[number]
        run.block, run.epoch, run.epochs = block, int(metrics["epoch"]), int(metrics["epochs"])
        run.mean_iou = metrics.get("mean_iou", run.mean_iou)

    def told(self, trial: FrozenTrial) -> None:
        self.running.pop(trial.number, None)
        self._count(trial)
        most = self.spec.trials
        parts = [
            f"[{self.ended}{'' if most is None else f'/{most}'}]",
            f"trial {trial.number}:",
            said(point_of(trial.params, self.spec), self.keys),
            self._outcome(trial),
        ]
        if self.best is not None and len(self.spec.objectives) == 1:
            assert self.best.value is not None
            parts.append(f"best {self.best.value:.2f} (trial {self.best.number})")
        self._print("  ".join(parts))

    def noted(self, text: str) -> None:
        self._print(text)

    def _outcome(self, trial: FrozenTrial) -> str:
        stored = " (stored)" if trial.user_attrs.get(SOURCE) == "stored" else ""
        if trial.state == TrialState.COMPLETE:
            scores = zip(self.spec.objectives, trial.values, strict=True)
            return ", ".join(f"{UNITS[name]} {value:.4g}" for name, value in scores) + stored
        if trial.state == TrialState.PRUNED:
            reached = f"{trial.value:.2f}" if trial.value is not None else "nothing"
            return f"pruned at step {trial.last_step}, mIoU {reached}{stored}"
        return f"FAILED: {trial.user_attrs.get(FAILURE)}"

    def _count(self, trial: FrozenTrial) -> None:
        if not trial.state.is_finished():
            return
        self.ended += counts(trial)
        self.stored += trial.user_attrs.get(SOURCE) == "stored" and WARM not in trial.user_attrs
        self.pruned += trial.state == TrialState.PRUNED
        if trial.state == TrialState.COMPLETE and len(self.spec.objectives) == 1:
            sign = 1 if DIRECTIONS[self.spec.objectives[0]] == "maximize" else -1
            best = -float("inf") if self.best is None else sign * (self.best.value or 0)
            if sign * (trial.value or 0) > best:
                self.best = trial

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        most = self.spec.trials
        overall = Table.grid(padding=(0, 1))
        overall.add_row(
            Text(f"{self.ended}{'' if most is None else f'/{most}'} trials"),
            ProgressBar(total=most, completed=self.ended, width=30),
            Text(f"{self.pruned} pruned, {self.stored} stored"),
        )
        if self.best is not None:
            overall.add_row(
                Text("best so far"),
                Text(f"{self.best.value:.2f}", style="bold green"),
                Text(said(point_of(self.best.params, self.spec), self.keys)),
            )
        lines = Table(box=None, padding=(0, 2, 0, 0), show_header=bool(self.running))
        for heading in ("running", "point", "block", "epoch", "mIoU"):
            lines.add_column(heading, style="cyan")
        for number, run in self.running.items():
            lines.add_row(
                f"trial {number}",
                Text(said(run.point, self.keys)),
                f"{run.block + 1}/{self.spec.blocks}",
                f"{run.epoch}/{run.epochs or '–'}",
                "–" if run.mean_iou is None else f"{run.mean_iou:.1f}",
            )
        return Group(overall, lines)
