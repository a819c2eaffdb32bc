"""The tally: how many, how fast, how long still, of trainings that start, end and come again."""

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.tally import Listed, Tally


def make(
    count: int = 3, epochs: int = 2, slots: int = 1, clock: SimpleNamespace | None = None
) -> Tally:
    now = clock or SimpleNamespace(seconds=0.0)
    jobs = [Listed(f"job {number}", epochs) for number in range(count)]
    return Tally(jobs, slots, clock=lambda: now.seconds)


def epoch(number: int, seconds: float = 10.0, **more: Any) -> dict[str, Any]:
    return {"epoch": number, "epochs": 2, "seconds": seconds, **more}


def likely(tally: Tally) -> float:
    left = tally.seconds_left()
    assert left is not None
    assert left[0] <= left[1]
    return left[0]


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_what_is_left_shrinks_to_nothing(slots: int) -> None:
    tally = make(4, epochs=3, slots=slots)
    assert tally.seconds_left() is None, "nothing is known yet"
    left = []
    for first in range(0, 4, slots):
        together = range(first, min(first + slots, 4))
        for index in together:
            tally.started(index)
        for number in range(1, 4):
            for index in together:
                tally.reported(index, epoch(number))
                left.append(likely(tally))
        for index in together:
            tally.finished(index, elsewhere=False)
            left.append(likely(tally))
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    # 12 epochs of 10 s over the slots, the first of them done.
    assert left[0] == 110 / slots if slots < 4 else left[0] >= 20
    assert tally.epochs_done == 12


def test_the_longest_training_bounds_what_is_left() -> None:
    tally = make(2, epochs=10, slots=2)
    tally.started(0)
    tally.started(1)
    for number in range(1, 11):
        tally.reported(0, epoch(number, seconds=1.0))
    tally.finished(0, elsewhere=False)
    tally.reported(1, epoch(1, seconds=100.0))
    assert tally.seconds_left() == (900.0, 900.0), "a slot that is free cannot help"


def test_a_resumed_training_has_only_its_rest_before_it() -> None:
    tally = make(1, epochs=10)
    tally.started(0)
    tally.reported(0, epoch(8))
    assert likely(tally) == 20.0


def test_epochs_that_differ_give_a_band() -> None:
    tally = make(2, epochs=100, slots=1)
    tally.started(0)
    for number in range(1, 100):
        tally.reported(0, epoch(number, seconds=float(number)))
    low, high = tally.seconds_left() or (0, 0)
    assert low == pytest.approx(101 * 50)
    assert high == pytest.approx(101 * 89.2, rel=0.01)


def test_each_kind_has_its_own_time() -> None:
    jobs = [Listed("short", 10, "a"), Listed("long", 10, "b")]
    jobs += [Listed("short too", 10, "a"), Listed("unknown", 10, "c")]
    tally = Tally(jobs, slots=4)
    for index, seconds in ((0, 1.0), (1, 100.0)):
        tally.started(index)
        for number in range(1, 11):
            tally.reported(index, epoch(number, seconds=seconds))
        tally.finished(index, elsewhere=False)
    tally.failed(3, "bad data")
    assert likely(tally) == 10 / 4


def test_what_comes_again_counts_once() -> None:
    tally = make(2)
    for _ in range(2):
        tally.started(0)
        tally.reported(0, epoch(1))
        assert tally.epochs_done == 1
        tally.retried(0, "node lost")
        assert (tally.epochs_done, tally.waiting) == (0, {0, 1})
        assert likely(tally) == 40.0
    tally.started(0)
    tally.finished(0, elsewhere=True)
    tally.failed(1, "node lost")
    assert (tally.ended, tally.finished_here, tally.finished_elsewhere) == (2, 0, 1)
    assert tally.epochs_done == 4


def test_the_rate_is_the_last_hours() -> None:
    clock = SimpleNamespace(seconds=0.0)
    tally = make(200, clock=clock)
    assert tally.per_hour is None
    for index in range(100):
        clock.seconds += 10.0
        tally.finished(index, elsewhere=False)
    assert tally.per_hour == pytest.approx(360)
    for index in range(100, 190):
        clock.seconds += 100.0
        tally.finished(index, elsewhere=False)
    assert tally.per_hour == pytest.approx(36)
