"""csl data show: a sheet from one command, and a clear word for what it cannot do."""

from pathlib import Path

import pytest
from PIL import Image

from ablations.show import show
from csl.errors import InputError


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
