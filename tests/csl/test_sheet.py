"""The views of the sheet are those of the training's own batch."""

from typing import Any

import numpy as np
import pytest

from csl.config import TrainingConfig
from csl.identity import Training
from csl.locations import Locations
from csl.sheet import Views, collect_views


def views(images: int = 4, **sections: Any) -> tuple[Views, ...]:
    data = {"dataset": "shapes", "crop": 64, "image_size": 64, "train_images": 12, "val_images": 2}
    config = TrainingConfig.model_validate({"data": data, **sections})
    return collect_views(Training(config, "4", 0), Locations(), images)


def test_cutmix_shows_the_partner_in_the_box() -> None:
    rows = views(augmentation={"cutmix": 1.0})
    for one, other in ((0, 1), (1, 0), (2, 3), (3, 2)):
        box = rows[one].box
        assert box.any()
        assert (rows[one].mixed[box] == rows[other].strong[box]).all()
        assert (rows[one].mixed[~box] == rows[one].strong[~box]).all()


@pytest.mark.parametrize(("probability", "masks"), [(0.0, False), (1.0, True)])
def test_masking_drops_patches_of_the_masked_images_only(probability: float, masks: bool) -> None:
    for row in views(masking={"patch": 8, "probability": probability}):
        assert row.masked is not None
        assert row.unmasked is not None
        assert row.masks == masks
        dropped = (row.masked == 0).all(-1) & row.valid & (row.unmasked != 0).any(-1)
        assert dropped.any() == masks
        assert (row.masked[~dropped] == row.unmasked[~dropped]).all()


def test_without_masking_there_is_no_masked_view() -> None:
    assert all(row.masked is None for row in views(masking={"enabled": False}))


def test_one_row_still_has_a_partner_and_padding_is_black() -> None:
    (row,) = views(images=1, augmentation={"scale": (0.5, 0.5), "cutmix": 0.0})
    assert not row.valid.all()
    assert not row.weak[~row.valid].any()
    assert not row.strong[~row.valid].any()
    assert set(np.unique(row.mask)) > {255}
