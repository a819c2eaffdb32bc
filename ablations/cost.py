"""Takes trainings and the durations a store has; gives what the trainings will probably cost.

A training that is like a stored one but for its method costs what that did. Where only other
schedules, crops or batches of the same network were seen, their time per pixel is scaled; where the
network was not seen, the cost is unknown.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean
from typing import Literal

from csl.config import TrainingConfig
from results.schema import Header

Basis = Literal["like", "scaled"]
_Seen = tuple[float, float]  # seconds, or seconds per pixel, and the GPUs held meanwhile


@dataclass(frozen=True)
class Estimate:
    """What one training will probably take of its slot.

    Args:
        p50, p90: seconds; equal where one duration is all that is known.
        gpus: how many GPUs it holds meanwhile; 0 on CPUs.
        basis: from trainings ``like`` it, or ``scaled`` from others of its network.
    """

    p50: float
    p90: float
    gpus: float
    basis: Basis

    @property
    def hours(self) -> tuple[float, float]:
        """p50 and p90 in GPU-hours; on CPUs in hours of its slot."""
        each = (self.gpus or 1) / 3600
        return self.p50 * each, self.p90 * each


@dataclass(frozen=True)
class Price:
    """What several trainings will probably cost together.

    Args:
        p50, p90: GPU-hours (hours of a slot on CPUs), of those whose cost is known.
        wall: hours until all of them are done on so many slots, p50 and p90.
        gpus: whether any of it is on GPUs.
        known, scaled, unknown: how many trainings; the scaled ones are among the known.
    """

    p50: float
    p90: float
    wall: tuple[float, float]
    gpus: bool
    known: int
    scaled: int
    unknown: int


class Estimator:
    """Durations of complete trainings, by what decides them.

    Args:
        headers: a store's attempts.
    """

    def __init__(self, headers: Iterable[Header]) -> None:
        like: dict[str, list[_Seen]] = defaultdict(list)
        per_pixel: dict[str, list[_Seen]] = defaultdict(list)

        @cache
        def keys(configuration: str) -> tuple[str, str, float]:
            config = TrainingConfig.model_validate_json(configuration)
            return _workload(config), _network(config), _pixels(config, steps=1)

        for header in headers:
            if header.failure is None and header.training_seconds and header.steps:
                workload, network, pixels = keys(header.configuration)
                seconds = header.training_seconds
                gpus = header.provenance.gpu_seconds / seconds
                like[workload].append((seconds, gpus))
                per_pixel[network].append((seconds / (pixels * header.steps), gpus))
        self._like = {key: _estimate(seen, "like") for key, seen in like.items()}
        self._per_pixel = {key: _estimate(seen, "scaled") for key, seen in per_pixel.items()}

    def estimate(self, config: TrainingConfig, steps: int | None) -> Estimate | None:
        """What a training will probably take; None if its network was never seen.

        Args:
            config: what is trained.
            steps: of the whole training; None where its lists are not at hand.
        """
        if like := self._like.get(_workload(config)):
            return like
        each = self._per_pixel.get(_network(config))
        if each is None or steps is None:
            return None
        pixels = _pixels(config, steps)
        return replace(each, p50=each.p50 * pixels, p90=each.p90 * pixels)


def price(estimates: Sequence[Estimate | None], slots: int) -> Price:
    """Add up estimates; None is an unknown one.

    The wall time is that of trainings that are started in any order on ``slots`` slots: at least
    their sum shared out, at least the longest one.
    """
    known = [each for each in estimates if each is not None]
    hours = [each.hours for each in known]
    wall = tuple(
        max(math.fsum(times) / slots, max(times, default=0.0)) / 3600
        for times in ([each.p50 for each in known], [each.p90 for each in known])
    )
    return Price(
        p50=math.fsum(p50 for p50, _ in hours),
        p90=math.fsum(p90 for _, p90 in hours),
        wall=(wall[0], wall[1]),
        gpus=any(each.gpus for each in known),
        known=len(known),
        scaled=sum(each.basis == "scaled" for each in known),
        unknown=len(estimates) - len(known),
    )


def _estimate(seen: Sequence[_Seen], basis: Basis) -> Estimate:
    durations = sorted(seconds for seconds, _ in seen)
    gpus = fmean(gpus for _, gpus in seen)
    return Estimate(_quantile(durations, 0.5), _quantile(durations, 0.9), gpus, basis)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between the two nearest, as numpy has it by default."""
    at = share * (len(ordered) - 1)
    below, above = ordered[math.floor(at)], ordered[math.ceil(at)]
    return below + (above - below) * (at - math.floor(at))


def _workload(config: TrainingConfig) -> str:
    """Everything that decides how long a training takes, but for the method's choices."""
    parts = config.model_dump(mode="json", include={"data", "network", "schedule", "evaluation"})
    return json.dumps([parts, _views(config)])


def _network(config: TrainingConfig) -> str:
    return json.dumps([config.network.model_dump(mode="json"), config.schedule.precision])


def _views(config: TrainingConfig) -> int:
    """Images that pass forward per step: the labeled, and each view of the unlabeled ones."""
    schedule, masking = config.schedule, config.masking
    unlabeled = schedule.unlabeled_batch * (3 if masking.enabled else 2)
    return schedule.labeled_batch + unlabeled


def _pixels(config: TrainingConfig, steps: int) -> float:
    return float(steps) * _views(config) * config.data.crop**2
