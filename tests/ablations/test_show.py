"""csl data show: a sheet from one command, and a clear word for what it cannot do."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from ablations.show import show
from csl.errors import InputError
from results.store import StoreError
from tests.ablations.conftest import Trained


def test_the_sheet_has_a_row_per_image(tmp_path: Path) -> None:
    heights = []
    for images in (1, 3):
        show(out=tmp_path / "sheet.png", images=images, cache="none")
        with Image.open(tmp_path / "sheet.png") as sheet:
            heights.append(sheet.height)
    assert heights[1] > 1.5 * heights[0]


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("--out", {"out": Path("sheet.txt")}),
        ("--variant", {"variant": "none"}),
        ("--out", {"out": Path("missing/folder/sheet.png")}),
    ],
)
def test_a_wrong_wish_is_named(tmp_path: Path, key: str, given: dict[str, object]) -> None:
    asked = {"out": Path("sheet.png"), **given}
    asked["out"] = tmp_path / str(asked["out"])
    with pytest.raises(InputError) as refused:
        show(**asked, cache="none")  # type: ignore[arg-type]
    assert refused.value.key == key


def test_a_stored_training_adds_what_its_network_says(tmp_path: Path, trained: Trained) -> None:
    def width(name: str, **given: object) -> int:
        show(out=tmp_path / name, images=1, cache="none", **given)  # type: ignore[arg-type]
        with Image.open(tmp_path / name) as sheet:
            return sheet.width

    stored = width("run.png", run=trained.run[:6], store=str(trained.store))
    assert stored == pytest.approx(width("plan.png") * 8 / 6, rel=0.01), "two columns more"


def test_a_stored_training_brings_its_own_configuration(tmp_path: Path, trained: Trained) -> None:
    asked = {"out": tmp_path / "sheet.png", "run": trained.run, "store": str(trained.store)}
    for option in ({"setting": "voc321"}, {"seed": 0}, {"assignments": ["data.crop=8"]}):
        with pytest.raises(InputError, match="a stored training has its own"):
            show(**asked, **option)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="starts with"):
        show(**{**asked, "run": "xyz"})  # type: ignore[arg-type]


def test_a_network_of_nan_is_named(tmp_path: Path, trained: Trained) -> None:
    best = trained.store / "checkpoints" / trained.run / "best.pt"
    content = best.read_bytes()
    try:
        state = torch.load(best, weights_only=True)
        for tensor in state["network"].values():
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)
        torch.save(state, best)
        with pytest.raises(InputError, match="cannot judge images") as refused:
            show(out=tmp_path / "s.png", run=trained.run, store=str(trained.store), cache="none")
    finally:
        best.write_bytes(content)
    assert refused.value.file == best
