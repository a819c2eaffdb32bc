"""Records that read like real ones."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from results.schema import (
    EpochMetrics,
    Evaluation,
    Failure,
    ImageCounts,
    Provenance,
    PseudoLabels,
    PseudoLabelScores,
    Record,
)

PSEUDO_LABELS = PseudoLabels(
    predicted=(60, 40),
    correct=(54, 30),
    selected=(50, 20),
    selected_correct=(48, 18),
    confidence_correct=(50, 20, 14, *[0] * 61),
    confidence_wrong=(2, 4, 10, *[0] * 61),
    dispersion_correct=(60, 14, 10, *[0] * 61),
    dispersion_wrong=(2, 4, 10, *[0] * 61),
    calibration_pixels=(*[0] * 13, 40, 60),
    calibration_correct=(*[0] * 13, 30, 54),
    calibration_confidence=(*[0] * 13, 36_000_000, 58_000_000),
)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make_record(
    identity: str = "a" * 16,
    *,
    mean_iou: float = 54.3,
    failure: Failure | None = None,
    minute: int = 0,
    **changes: Any,
) -> Record:
    """A record that finished ``minute`` minutes after the first; failed if a failure is named."""
    iou = (mean_iou, mean_iou)
    last_images = ImageCounts(3, (0, 0, 2), (0, 1, 1), (40, 30, 25), (45, 33, 27))
    best_images = ImageCounts(3, (0, 0, 2), (0, 1, 1), (41, 30, 25), (45, 32, 27))
    last = Evaluation(2, mean_iou, iou, (40, 2, 3, 55), last_images)
    best = Evaluation(1, min(mean_iou + 1, 100), iou, (41, 1, 3, 55), best_images)
    line = EpochMetrics(
        1, 30, 1.5, 1e-3, 0.7, 0.3, 0.2, None, 0.1, 88.0, 91.5, mean_iou, 0.25, PSEUDO_LABELS
    )
    record = Record(
        identity=identity,
        recipe=identity[::-1],
        status="failed" if failure else "complete",
        failure=failure,
        failure_detail="loss is nan" if failure else None,
        log_tail="it printed this" if failure else None,
        launched_as="table5/+M_i/1/16/seed 0",
        setting="shapes",
        split="15",
        seed=0,
        configuration='{"data":{"dataset":"shapes"}}',
        split_hash="c" * 16,
        data_fingerprint="d" * 16,
        weights_hash="",
        scored_classes=(0, 1),
        class_names=("background", "disc"),
        last=None if failure else last,
        best=None if failure else best,
        curve=(line, replace(line, epoch=2, step=60, mean_iou=None)),
        attempt=uuid4().hex,
        supersedes=False,
        steps=60,
        pseudo_label_scores=PseudoLabelScores(88.0, 91.5, 93.0),
        training_seconds=12.5,
        resumed=0,
        provenance=Provenance(
            git_commit=None,
            git_diff=None,
            code_fingerprint="e" * 16,
            snapshot=None,
            python="3.11.9",
            packages=("csl-ablations==0.1.0", "torch==2.11.0"),
            platform="Linux-x86_64",
            host="node-1",
            devices=("cpu",),
            gpu_driver=None,
            workers=1,
            started_at=START,
            finished_at=START + timedelta(minutes=minute),
            gpu_seconds=0.0,
            energy_joules=None,
            ray_job=None,
            ray_trial=None,
            command="csl run table5",
        ),
    )
    return replace(record, **changes)


@pytest.fixture
def record() -> Record:
    return make_record()


@pytest.fixture(scope="session")
def make() -> Callable[..., Record]:
    return make_record
