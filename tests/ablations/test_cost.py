"""Prices: from what like trainings took, scaled where only others are stored, else unknown."""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.cost import Estimate, Estimator, price
from ablations.layers import resolve_setting
from ablations.spec import load_setting
from csl.config import TrainingConfig
from results.schema import Failure, Header
from tests.results.conftest import make_record

STEPS = 160


@cache
def config(*assignments: str) -> TrainingConfig:
    return resolve_setting(load_setting("shapes"), assignments)


@cache
def header(*assignments: str) -> Header:
    return make_record(configuration=config(*assignments).model_dump_json()).header()


def took(
    seconds: float, *assignments: str, steps: int = STEPS, gpus: float = 0.0, **changes: Any
) -> Header:
    """A stored training of this configuration that took so long."""
    whole = header(*assignments)
    place = replace(whole.provenance, gpu_seconds=gpus * seconds)
    return replace(whole, training_seconds=seconds, steps=steps, provenance=place, **changes)


def test_nothing_seen_is_unknown() -> None:
    assert Estimator([]).estimate(config(), STEPS) is None
    failed = took(60.0, failure=Failure.NODE_LOST, status="failed")
    assert Estimator([failed]).estimate(config(), STEPS) is None


@given(st.lists(st.floats(1, 1e5), min_size=1, max_size=30))
def test_like_trainings_give_their_quantiles(seconds: list[float]) -> None:
    found = Estimator([took(each) for each in seconds]).estimate(config("loss.strong=0.5"), None)
    assert found is not None
    assert found.basis == "like"
    assert found.p50 == pytest.approx(np.quantile(seconds, 0.5))
    assert found.p90 == pytest.approx(np.quantile(seconds, 0.9))


@pytest.mark.parametrize(
    ("assignment", "steps", "factor"),
    [
        ("schedule.epochs=16", 2 * STEPS, 2.0),
        ("data.crop=128", STEPS, 4.0),
        ("schedule.labeled_batch=16", STEPS, (16 + 24) / (8 + 24)),
        ("masking.enabled=false", STEPS, (8 + 16) / (8 + 24)),
    ],
)
def test_another_workload_of_the_same_network_is_scaled(
    assignment: str, steps: int, factor: float
) -> None:
    estimator = Estimator([took(100.0)])
    found = estimator.estimate(config(assignment), steps)
    assert found is not None
    assert (found.basis, found.p50) == ("scaled", pytest.approx(100.0 * factor))
    assert estimator.estimate(config(assignment), None) is None, "its length is not known"


def test_another_network_is_unknown() -> None:
    assert Estimator([took(100.0)]).estimate(config("network.width=64"), STEPS) is None


def test_gpus_are_what_like_trainings_held() -> None:
    found = Estimator([took(3600.0, gpus=4.0)]).estimate(config(), STEPS)
    assert found is not None
    assert (found.gpus, found.hours) == (4.0, (4.0, 4.0))
    assert price([found], slots=1).gpus


ESTIMATES = st.lists(
    st.builds(
        lambda p50, more, gpus: Estimate(p50, p50 + more, gpus, "like"),
        st.floats(1, 1e6),
        st.floats(0, 1e6),
        st.sampled_from([0.0, 1.0, 2.0]),
    )
)


@given(ESTIMATES, st.integers(1, 64), st.integers(0, 3))
def test_a_price_adds_up_and_more_slots_never_take_longer(
    estimates: list[Estimate], slots: int, unknown: int
) -> None:
    total = price([*estimates, *[None] * unknown], slots)
    assert total.p50 == pytest.approx(sum(each.hours[0] for each in estimates))
    assert total.p50 <= total.p90 + 1e-9
    assert (total.known, total.unknown) == (len(estimates), unknown)
    more = price(estimates, slots + 1)
    longest = max((each.p50 for each in estimates), default=0.0) / 3600
    assert (
        longest
        <= more.wall[0]
        <= total.wall[0]
        <= math.fsum(e.p50 for e in estimates) / 3600 + 1e-9
    )
