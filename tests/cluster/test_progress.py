"""Progress: what is told of each training, on a terminal and in a log, and how long is left."""

import io
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from cluster.progress import ProgressView
from cluster.schedule import Stop
from cluster.tally import Listed, Tally

LABELS = ("t/all/1/16/seed 0", "t/[red]all[/]/1/8/seed 0", "t/none/1/8/seed 1")


class Screen:
    """A view on a console whose output is kept."""

    def __init__(self, view: ProgressView, file: io.StringIO) -> None:
        self.view = view
        self.file = file

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()

    def live(self) -> str:
        """What the live part of a terminal shows now."""
        console = Console(file=io.StringIO(), width=100)
        console.print(self.view.live.get_renderable())
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()


MakeScreen = Callable[..., Screen]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still until it is set."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr("cluster.progress.time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.fixture
def screen(clock: SimpleNamespace) -> MakeScreen:
    def make(
        labels: tuple[str, ...] = LABELS, epochs: int = 2, slots: int = 1, terminal: bool = False
    ) -> Screen:
        file = io.StringIO()
        console = Console(file=file, force_terminal=terminal, width=100, height=20)
        tally = Tally([Listed(label, epochs) for label in labels], slots)
        return Screen(ProgressView(console, tally), file)

    return make


def epoch(number: int, seconds: float = 10.0, **more: Any) -> dict[str, Any]:
    return {"epoch": number, "epochs": 2, "seconds": seconds, **more}


def test_a_log_has_a_line_per_start_and_end(screen: MakeScreen) -> None:
    seen = screen()
    with seen.view as view:
        view.started(0)
        view.reported(0, epoch(1, mean_iou=33.33))
        view.reported(0, epoch(2, mean_iou=44.44))
        view.finished(0, elsewhere=False)
        view.started(1)
        view.failed(1, "not a number")
        view.started(2)
        view.reported(2, epoch(1))
        view.reported(2, epoch(2))
        view.finished(2, elsewhere=False)
    counts = ["[0/3]", "[1/3]", "[1/3]", "[2/3]", "[2/3]", "[3/3]"]
    assert [line.split()[0] for line in seen.lines] == counts
    assert all(label in "\n".join(seen.lines) for label in LABELS), "markup is printed as it is"
    finished, failed = seen.lines[1], seen.lines[3]
    assert "epoch 2/2" in finished
    assert "mIoU 44.4" in finished
    assert "FAILED: not a number" in failed
    tally = view.tally
    assert (tally.ended, tally.finished_here, tally.running, tally.waiting) == (3, 2, {}, set())
    assert tally.failures == {"not a number": 1}
    assert "\x1b" not in seen.file.getvalue()


def test_a_log_hears_of_what_runs_now_and_then(screen: MakeScreen, clock: SimpleNamespace) -> None:
    seen = screen(epochs=9)
    with seen.view as view:
        view.started(0)
        view.started(1)
        for number in range(1, 4):
            view.reported(0, epoch(number))
        assert len(seen.lines) == 2, "nothing new within the half minute"
        clock.seconds = 3600.0
        view.reported(0, epoch(4, mean_iou=12.34))
        assert [LABELS[0] in seen.lines[2], LABELS[1] in seen.lines[3]] == [True, True]
        assert "epoch 4/9" in seen.lines[2]
        assert "mIoU 12.3" in seen.lines[2]
        view.reported(0, epoch(5))
        assert len(seen.lines) == 4


def test_a_terminal_shows_what_runs(screen: MakeScreen) -> None:
    seen = screen(terminal=True, slots=2)
    with seen.view as view:
        assert "0/3 trainings, 0 running" in seen.live()
        view.started(0)
        view.started(1)
        view.reported(1, epoch(1, mean_iou=45.67))
        live = seen.live()
        assert all(part in live for part in (*LABELS[:2], "0/2", "1/2", "45.7"))
        assert LABELS[2] not in live
        view.failed(0, "node lost")
        live = seen.live()
        assert "1/3 trainings, 1 running, 1 failed (node lost ×1)" in live
        assert LABELS[0] not in live
    text = seen.file.getvalue()
    assert "FAILED: node lost" in text, "ends stay when the live view goes"
    assert "started" not in text
    # Styles are escapes; the label's own brackets are text.
    assert LABELS[1] in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def test_a_terminal_is_given_back_after_an_error(screen: MakeScreen) -> None:
    seen = screen(terminal=True)
    with pytest.raises(KeyboardInterrupt), seen.view:
        raise KeyboardInterrupt
    assert not seen.view.live.is_started


def test_a_metric_that_was_not_evaluated_keeps_the_last(screen: MakeScreen) -> None:
    seen = screen(terminal=True, epochs=5)
    seen.view.started(0)
    assert "–" in seen.live(), "nothing is known before the first"
    seen.view.reported(0, epoch(1, mean_iou=45.67))
    seen.view.reported(0, epoch(2))
    assert "45.7" in seen.live()


def test_a_retried_training_counts_once(screen: MakeScreen) -> None:
    seen = screen()
    for _ in range(2):
        seen.view.started(0)
        seen.view.reported(0, epoch(1))
    seen.view.finished(0, elsewhere=False)
    assert seen.lines[-1].startswith("[1/3]")
    assert seen.view.tally.ended == 1


def test_a_training_that_never_started_counts_once(screen: MakeScreen) -> None:
    seen = screen()
    seen.view.failed(0, "node lost")
    assert seen.view.tally.ended == 1
    assert seen.lines[-1].startswith("[1/3]")


def test_of_thousands_only_what_goes_wrong_is_told(
    screen: MakeScreen, clock: SimpleNamespace
) -> None:
    seen = screen(tuple(f"t/all/1/16/seed {number}" for number in range(3000)), slots=64)
    with seen.view as view:
        for index in range(200):
            view.started(index)
            view.reported(index, epoch(1))
        for index in range(100):
            view.finished(index, elsewhere=False)
        view.failed(100, "out of memory")
        view.retried(101, "node lost")
        view.held(102, "node-7, process 4")
        assert len(seen.lines) == 2
        clock.seconds = 3600.0
        view.reported(103, epoch(2))
    (line,) = seen.lines[2:]
    assert line.startswith("101/3000 trainings, 97 running, 1 failed (out of memory ×1)")
    assert "1 held by node-7, process 4" in line
    assert "ETA" in line


def test_a_terminal_shows_no_more_than_it_has_room_for(screen: MakeScreen) -> None:
    seen = screen(tuple(f"job {number:04}" for number in range(3000)), slots=500, terminal=True)
    for index in range(500):
        seen.view.started(index)
    live = seen.live().splitlines()
    assert len(live) <= 20
    assert "and 486 more" in live[-1]


def test_a_run_that_stops_says_why_and_what_still_ends(screen: MakeScreen) -> None:
    seen = screen()
    seen.view.started(0)
    seen.view.stopping(Stop("interrupted", interrupted=True))
    seen.view.stopped(0)
    assert "Stopping: interrupted" in seen.lines[1]
    assert "1 running" in seen.lines[1]
    assert "stopped" in seen.lines[2]
    assert (seen.view.tally.ended, seen.view.tally.waiting) == (0, {0, 1, 2})


def test_what_others_hold_is_told_until_it_ends(screen: MakeScreen) -> None:
    seen = screen(terminal=True)
    seen.view.started(0)
    seen.view.held(0, "node-7, process 4")
    assert "1 held by node-7, process 4" in seen.live()
    seen.view.started(0)
    seen.view.finished(0, elsewhere=True)
    assert "held" not in seen.live()
    assert "1/3 trainings" in seen.live()
    assert "finished by another driver" in seen.file.getvalue()
