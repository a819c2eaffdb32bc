"""The views of the sheet are those of the training's own batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from csl.augment import normalize
from csl.config import TrainingConfig
from csl.errors import InputError
from csl.identity import Training
from csl.locations import Locations
from csl.models import build_network
from csl.selection import build_selector
from csl.sheet import Judgment, Views, collect_views

SMALL = {
    "architecture": "deeplabv3plus",
    "backbone": "test_resnet",
    "pretrained": False,
    "width": 8,
    "low_level_width": 4,
}


def training(split: str = "4", **sections: Any) -> Training:
    data = {"dataset": "shapes", "crop": 64, "image_size": 64, "train_images": 12, "val_images": 2}
    content = {"data": data, "network": SMALL, "schedule": {"precision": "fp32"}, **sections}
    return Training(TrainingConfig.model_validate(content), split, 0)


def views(images: int = 4, checkpoint: Path | None = None, **sections: Any) -> tuple[Views, ...]:
    return collect_views(training(**sections), Locations(), images, checkpoint)


@pytest.fixture
def best(tmp_path: Path) -> Path:
    """A network as it starts, saved as a training saves its best one."""
    torch.manual_seed(0)
    config = training().config
    network = build_network(config.network, config.data.classes, None)
    selector = build_selector(config.selection, config.data.classes)
    path = tmp_path / "best.pt"
    torch.save({"network": network.state_dict(), "selector": selector.state_dict()}, path)
    return path


def judged(row: Views) -> Judgment:
    assert row.judged is not None
    return row.judged


def dropped(row: Views) -> np.ndarray:
    """Pixels that masking changed."""
    assert row.masked is not None
    assert row.unmasked is not None
    return (row.masked != row.unmasked).any(-1)


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


def test_the_networks_predictions_are_the_pseudo_labels(best: Path) -> None:
    row = views(checkpoint=best, augmentation={"scale": (0.7, 0.7)})[1]
    assert row.valid.any()
    assert not row.valid.all()
    config = training().config
    network = build_network(config.network, config.data.classes, None)
    network.load_state_dict(torch.load(best, weights_only=True)["network"])
    weak = torch.from_numpy(row.weak).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = network.eval()(normalize(weak, config.data.mean, config.data.std))
    seen = judged(row)
    agree = (seen.label == logits.argmax(1)[0].numpy())[row.valid]
    assert agree.mean() > 0.999, "but for rounding"
    assert set(np.unique(seen.label[~row.valid])) == {255}
    assert not seen.weight[~row.valid].any()
    assert not seen.reliable[~row.valid].any()


def test_masking_drops_reliable_pixels_only(best: Path) -> None:
    masking = {"patch": 8, "probability": 1.0}
    rows = views(checkpoint=best, masking=masking)
    assert any(dropped(row).any() for row in rows)
    for row, all_reliable in zip(rows, views(masking=masking), strict=True):
        reliable = judged(row).reliable
        assert 0 < reliable.sum() < row.valid.sum()
        assert (dropped(row) == (dropped(all_reliable) & reliable)).all()


@pytest.mark.parametrize(("target", "drops"), [("reliable", False), ("unreliable", True)])
def test_masking_follows_its_target(best: Path, target: str, drops: bool) -> None:
    nothing_reliable = {"selector": "threshold", "tau": 1.0}
    masking = {"patch": 8, "probability": 1.0, "target": target}
    for row in views(checkpoint=best, selection=nothing_reliable, masking=masking):
        assert not judged(row).reliable.any()
        assert dropped(row).any() == drops


@pytest.mark.parametrize(("threshold", "all_reliable"), [(0.0, True), (1.0, False)])
def test_the_selector_has_the_averages_of_its_training(
    best: Path, threshold: float, all_reliable: bool
) -> None:
    state = torch.load(best, weights_only=True)
    state["selector"] = {"threshold": torch.tensor(threshold, dtype=torch.float64)}
    torch.save(state, best)
    for row in views(checkpoint=best, selection={"selector": "corrmatch"}):
        assert (judged(row).reliable == (row.valid & all_reliable)).all()


def test_without_unlabeled_images_there_is_no_sheet(tmp_path: Path) -> None:
    for folder in ("images", "masks", "splits/1"):
        (tmp_path / folder).mkdir(parents=True)
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"images/{name}.png")
        Image.new("L", (8, 8)).save(tmp_path / f"masks/{name}.png")
    for path, name in {"1/labeled": "a", "1/unlabeled": "", "val": "b"}.items():
        line = f"images/{name}.png masks/{name}.png\n" if name else ""
        (tmp_path / f"splits/{path}.txt").write_text(line)
    wanted = training("1", data={"dataset": "folder", "classes": 2, "crop": 8})
    with pytest.raises(InputError, match="no image is unlabeled"):
        collect_views(wanted, Locations(tmp_path), 1)
