"""What becomes of trainings that are asked to leave nodes which are about to go."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster import campaign as module
from cluster.campaign import Campaign
from cluster.connect import Cluster
from cluster.jobs import Job, Resources
from cluster.schedule import Limits, Schedule, Stop

ONE = Resources(workers=1, cpus=1, gpus=0.0)
TWO = Resources(workers=2, cpus=1, gpus=0.0)


class Told:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda index=-1, *_, **__: self.events.append((name, index))


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """Trainings on "stays", on "goes", whose end is announced, and of two workers on both."""
    monkeypatch.setattr(module.state, "get_draining_nodes", lambda: {"goes": 0})
    cluster = Cluster(4, 0, tmp_path, may_grow=True)
    jobs = [SimpleNamespace(identity=SimpleNamespace(id=name)) for name in "abc"]
    made = Campaign(
        cast("list[Job]", jobs),
        cluster,
        Told(),
        lambda free: Schedule([ONE, ONE, TWO], cluster, Limits(0), free),
        1.0,
    )
    for index, nodes in enumerate((["stays"], ["goes"], ["goes", "stays"])):
        assert made.next() is not None
        made.reported(index, {"nodes": nodes})
    made._leave_nodes_that_go()
    return made


def asked(campaign: Campaign) -> set[str]:
    return {path.name for path in campaign.cluster.scratch.glob("move-*")}


def events(campaign: Campaign) -> list[tuple[str, int]]:
    return [event for event in cast("Any", campaign.watcher).events if event[0] != "reported"]


@pytest.mark.parametrize(("index", "other"), [(1, "move-c"), (2, "move-b")])
def test_what_trains_there_is_asked_and_starts_again_elsewhere(
    campaign: Campaign, index: int, other: str
) -> None:
    assert asked(campaign) == {"move-b", "move-c"}
    assert campaign.to_avoid(index) == {"goes"}
    campaign.ended(index, {"stopped": True})
    assert asked(campaign) == {other}
    assert events(campaign) == [("retried", index)]
    start = campaign.next()
    assert start is not None
    assert start.index == index
    campaign._leave_nodes_that_go()
    assert asked(campaign) == {other}, "it is asked again before it has said where it is"


@pytest.mark.parametrize("result", [{}, {"held": "another"}, {"failure": "a", "exception": ""}])
def test_however_it_ends_it_is_asked_no_longer(campaign: Campaign, result: dict[str, Any]) -> None:
    campaign.ended(1, result)
    assert asked(campaign) == {"move-c"}


def test_a_run_that_stops_starts_nothing_again(campaign: Campaign) -> None:
    campaign.schedule.stop(Stop("interrupted", interrupted=True))
    campaign.ended(1, {"stopped": True})
    assert events(campaign) == [("stopped", 1)]
    assert campaign.next() is None


def test_a_store_that_stays_away_stops_the_run(campaign: Campaign) -> None:
    campaign.ended(0, {"stopped": True, "unreachable": "it cannot be reached"})
    assert campaign.schedule.stopping is not None
    assert campaign.schedule.stopping.why == "it cannot be reached"
