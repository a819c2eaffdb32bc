"""Takes stored trainings; gives their mIoU's intervals over validation images, and of differences.

Of the networks as they are: another validation set, not another training.
"""

import json
from collections.abc import Sequence
from typing import Any

from csl.errors import InputError
from results.schema import Record


def interval_object(record: Record) -> dict[str, Any] | None:
    """The best epoch's mIoU, its 95% limits in percent and how many images; None without any."""
    from results.stats.bootstrap import image_interval

    if record.best is None or not record.best.images.total:
        return None
    found = image_interval(record.best.images, record.scored_classes)
    return {
        "mean_iou": found.value,
        "low": found.low,
        "high": found.high,
        "images": record.best.images.total,
    }


def differences(record: Record, others: Sequence[Record]) -> list[dict[str, Any]]:
    """A record's best mIoU less that of each other over the same images, with 95% limits.

    Raises:
        InputError: one of them was not evaluated, or on other images than the first.
    """
    from results.stats.bootstrap import image_interval

    found = []
    for other in others:
        _refuse_other_images(record, other)
        assert record.best is not None, "refused otherwise"
        assert other.best is not None, "refused otherwise"
        difference = image_interval(
            record.best.images, record.scored_classes, reference=other.best.images
        )
        found.append(
            {
                "identity": other.identity,
                "launched_as": other.launched_as,
                "best_epoch": other.best.epoch,
                "difference": difference.value,
                "low": difference.low,
                "high": difference.high,
                "images": other.best.images.total,
            }
        )
    return found


def _refuse_other_images(record: Record, other: Record) -> None:
    pair = (record, other)
    for each in pair:
        if each.best is None:
            raise InputError(
                f"{each.identity} has no evaluation to compare: {each.failure}",
                key="--beside",
                value=other.identity,
                remedy="name trainings that are complete, or draw their curves with --out FOLDER",
            )
    one, two = (_judged_on(each) for each in pair)
    apart = [name for name in one if one[name] != two[name]]
    if apart:
        raise InputError(
            f"{record.identity} and {other.identity} cannot be compared image by image: they have "
            f"other {' and '.join(apart)}",
            key="--beside",
            value=other.identity,
            remedy="compare trainings of one split on one dataset, scored alike; or draw their "
            "curves with --out FOLDER",
        )


def _judged_on(record: Record) -> dict[str, object]:
    """What decides which pixels of which images an evaluation counts, and of which classes."""
    configuration = json.loads(record.configuration)
    cropped = configuration["evaluation"]["mode"] == "center_crop"
    return {
        "split lists": record.split_hash,
        "data": record.data_fingerprint,
        "crops of the images": configuration["data"]["crop"] if cropped else None,
        "scored classes": record.scored_classes,
    }
