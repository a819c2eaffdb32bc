"""The schedule: all start once, in order, where there is room; broken runs end early."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.connect import Cluster
from cluster.jobs import Resources
from cluster.schedule import Limits, Schedule, Start, slots

ONE = Resources(workers=1, cpus=1, gpus=0.0)
CRASH, NAN = "worker crashed", "not a number"


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def cluster(cpus: float, gpus: float = 0) -> Cluster:
    return Cluster(cpus, gpus, Path("scratch"))


def schedule(
    wants: Sequence[Resources],
    has: Cluster,
    limits: Limits | None = None,
    free_if: Callable[[int], frozenset[str] | None] = lambda index: None,
    clock: Clock | None = None,
) -> Schedule:
    return Schedule(wants, has, limits or Limits(0), free_if, clock or Clock())


def all_next(made: Schedule) -> list[Start]:
    """Everything that may start now."""
    return list(iter(made.next, None))


def indices(starts: list[Start]) -> list[int]:
    return [start.index for start in starts]


sizes = st.builds(
    Resources,
    workers=st.integers(1, 3),
    cpus=st.integers(1, 2),
    gpus=st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0]),
)


@given(
    st.lists(sizes, min_size=1, max_size=12),
    st.randoms(use_true_random=False),
    st.integers(0, 4),
)
def test_any_sizes_all_run_once_and_within_what_there_is(
    wants: list[Resources], chance: "object", canaries: int
) -> None:
    has = cluster(cpus=6, gpus=3)
    made = schedule(wants, has, Limits(canaries))
    started: list[int] = []
    while not made.is_over:
        ready = all_next(made)
        started += indices(ready)
        running = [made.running[index] for index in made.running]
        assert running, "nothing runs, and nothing may start"
        if len(running) > 1:
            assert sum(each.workers * each.cpus for each in running) <= has.cpus
            assert sum(each.workers * each.gpus for each in running) <= has.gpus + 1e-6
        ended = chance.choice(sorted(made.running))  # type: ignore[attr-defined]
        made.did_an_epoch()
        made.finished(ended)
    assert started == list(range(len(wants))), "in order: none is overtaken for ever"
    assert made.stopping is None


@given(st.integers(0, 200), st.integers(1, 3))
def test_a_cluster_that_may_grow_learns_of_the_demand(nodes: int, workers: int) -> None:
    wants = [Resources(workers=workers, cpus=1, gpus=1.0)] * 1000
    made = Schedule(wants, cluster(nodes, nodes), Limits(0), lambda _: None, Clock(), ahead=True)
    waiting = len(all_next(made)) - nodes // workers
    if workers == 1:  # some, and about as many as run already
        assert max(8, nodes - 2) <= waiting <= max(8, nodes)
    else:  # half of one's workers would keep places from another
        assert waiting == (nodes < workers)


def test_a_large_one_waits_for_room_and_is_not_overtaken() -> None:
    made = schedule([ONE, Resources(2, 1, 0.0), ONE], cluster(2))
    assert indices(all_next(made)) == [0]
    made.finished(0)
    assert indices(all_next(made)) == [1]
    made.finished(1)
    assert indices(all_next(made)) == [2]


def test_what_there_is_may_change() -> None:
    made = schedule([ONE] * 6, cluster(1))
    assert indices(all_next(made)) == [0]
    made.cluster = cluster(3)
    assert indices(all_next(made)) == [1, 2]
    made.cluster = cluster(0)
    made.finished(0)
    assert all_next(made) == []
    made.finished(1)
    made.finished(2)
    assert indices(all_next(made)) == [3], "with nothing running, Ray waits for a node"


@pytest.mark.parametrize(
    ("wants", "has", "together"),
    [(ONE, cluster(3), 1), (Resources(1, 1, 0.5), cluster(8, 2), 2)],
)
def test_what_crashed_comes_again_after_all_others_by_itself(
    wants: Resources, has: Cluster, together: int
) -> None:
    made = schedule([wants] * 3, has)
    assert len(all_next(made)) == 3
    assert made.failed(0, CRASH, "KeyError")
    assert not made.failed(1, NAN, "NotANumberError")
    assert all_next(made) == [], "one of them still runs"
    assert made.failed(2, CRASH, "KeyError")
    again = all_next(made)
    assert indices(again) == [0, 2][:together]
    assert all(start.resources.gpus == (1.0 if wants.gpus else 0.0) for start in again)
    made.finished(0)
    assert indices(again + all_next(made)) == [0, 2]
    assert not made.failed(2, CRASH, "KeyError"), "once more is enough"
    assert made.is_over


def test_what_was_lost_too_often_does_not_come_again() -> None:
    made = schedule([ONE], cluster(1))
    all_next(made)
    assert not made.failed(0, CRASH, "", lost=True)
    assert made.is_over


def test_what_others_hold_is_put_aside_until_they_let_go() -> None:
    clock = Clock()
    free: dict[int, frozenset[str]] = {}
    made = schedule([ONE] * 3, cluster(1), free_if=free.get, clock=clock)
    assert indices(all_next(made)) == [0]
    made.was_held(0)
    free[0] = frozenset({"token"})
    assert indices(all_next(made)) == [1], "those that nobody holds come first"
    made.was_held(1)
    assert indices(all_next(made)) == [2]
    made.finished(2)
    assert all_next(made) == [Start(0, ONE, frozenset({"token"}))]
    made.finished(0, elsewhere=True)
    clock.now += 100
    assert all_next(made) == []
    assert not made.is_over
    free[1] = frozenset()
    assert all_next(made) == [], "it looks about once a second"
    clock.now += 2
    assert indices(all_next(made)) == [1]
    made.finished(1, elsewhere=True)
    assert made.is_over


# Ends before the end.


def test_only_a_few_start_until_one_has_done_an_epoch() -> None:
    made = schedule([ONE] * 10, cluster(8), Limits(3))
    assert indices(all_next(made)) == [0, 1, 2]
    made.failed(0, NAN, "NotANumberError")
    assert indices(all_next(made)) == [3]
    made.did_an_epoch()
    assert indices(all_next(made)) == [4, 5, 6, 7, 8]


def fail(made: Schedule, *exceptions: str) -> None:
    for exception in exceptions:
        start = made.next()
        assert start is not None
        made.failed(start.index, CRASH, exception)


def test_if_the_first_few_fail_alike_nothing_more_starts() -> None:
    made = schedule([ONE] * 10, cluster(1), Limits(3))
    fail(made, "KeyError", "KeyError", "KeyError")
    assert made.stopping is not None
    assert made.stopping.example == 2
    assert "worker crashed (KeyError)" in made.stopping.why
    assert not made.stopping.interrupted
    assert all_next(made) == []
    assert made.is_over, "none of them is tried again"


@pytest.mark.parametrize(
    ("count", "canaries", "ends"),
    [
        (10, 3, ("KeyError", "KeyError", "TypeError", "KeyError", "KeyError")),
        (10, 0, ("KeyError",) * 9),
        (3, 3, ("KeyError",) * 3),  # there is nothing to be saved
    ],
)
def test_a_run_goes_on(count: int, canaries: int, ends: tuple[str, ...]) -> None:
    made = schedule([ONE] * count, cluster(1), Limits(canaries))
    fail(made, *ends)
    assert made.stopping is None
    assert made.next() is not None


def test_one_that_finished_first_is_enough_to_go_on() -> None:
    made = schedule([ONE] * 10, cluster(1), Limits(3))
    fail(made, "KeyError", "KeyError")
    all_next(made)
    made.finished(2)
    fail(made, "KeyError", "KeyError", "KeyError")
    assert made.stopping is None


def test_a_runs_time_ends_and_what_runs_has_some_grace() -> None:
    clock = Clock()
    made = schedule(
        [ONE] * 3, cluster(2), Limits(0, max_seconds=7200, grace_seconds=60), clock=clock
    )
    all_next(made)
    clock.now += 7199
    made.tick()
    assert made.stopping is None
    clock.now += 1
    made.tick()
    assert made.stopping is not None
    assert "2 hours" in made.stopping.why
    made.finished(0)
    assert all_next(made) == []
    assert (made.is_over, made.must_end) == (False, False)
    clock.now += 60
    assert made.must_end
    assert made.gave_up() == [1]
    assert made.is_over


@pytest.mark.parametrize(
    ("has", "wants", "fit"),
    [
        (cluster(4), ONE, 4),
        (cluster(4), Resources(2, 1, 0.0), 2),
        (cluster(16, 2), Resources(1, 1, 0.5), 4),
        (cluster(1, 2), Resources(1, 1, 1.0), 1),
        (cluster(1), Resources(4, 1, 0.0), 1),
    ],
)
def test_slots(has: Cluster, wants: Resources, fit: int) -> None:
    assert slots(has, wants) == fit


def test_one_node_of_several_does_not_end_a_run() -> None:
    has = replace(cluster(cpus=8), nodes=frozenset("ab"))
    made = schedule([ONE] * 8, has, Limits(stop_after_failures=3))
    for node in "aaa":
        (start, *_) = all_next(made)
        made.failed(start.index, CRASH, "OSError", node)
    assert made.stopping is None, "the node may be full"
    (start, *_) = all_next(made)
    made.failed(start.index, CRASH, "OSError", "b")
    assert made.stopping is not None
    assert "the first 4 trainings all failed alike" in made.stopping.why


def test_a_training_that_fails_by_itself_is_not_its_nodes_fault() -> None:
    has = replace(cluster(cpus=8), nodes=frozenset("ab"))
    made = schedule([ONE] * 8, has, Limits(stop_after_failures=3))
    for _ in range(3):
        (start, *_) = all_next(made)
        made.failed(start.index, NAN, "NotANumberError", "a")
    assert made.stopping is not None


def test_what_leaves_its_node_is_the_next_to_start() -> None:
    made = schedule([ONE] * 4, cluster(2))
    assert indices(all_next(made)) == [0, 1]
    made.was_moved(1)
    assert not made.is_over
    assert indices(all_next(made)) == [1]
    made.finished(0)
    assert indices(all_next(made)) == [2]
