"""The picture sheet: labels, outlines and legend are really drawn."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image

from results.sheet import PINK, YELLOW, Tile, class_color, draw_sheet

GRAY = np.full((8, 8, 3), 128, np.uint8)
NAMES = ("background", "cat", "dog")


def drawn(path: Path, *tiles: Tile) -> np.ndarray:
    draw_sheet([tiles], [f"title {i}" for i in range(len(tiles))], NAMES, "caption", path)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def share_of(picture: np.ndarray, color: tuple[float, ...]) -> float:
    return float((abs(picture - 255 * np.array(color)).max(-1) <= 3).mean())


def test_class_colors_are_those_of_voc() -> None:
    colors = [tuple(round(255 * c) for c in class_color(k)) for k in (0, 1, 2, 8, 15, 20)]
    assert colors == [
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (64, 0, 0), (192, 128, 128), (0, 64, 128),
    ]  # fmt: skip
    assert len({class_color(k) for k in range(255)}) == 255


def test_labels_tint_all_but_the_background(tmp_path: Path) -> None:
    labels = np.zeros((8, 8), np.uint8)
    plain = share_of(drawn(tmp_path / "a.png", Tile(GRAY, labels)), (0.5, 0.5, 0.5))
    labels[:, 4:] = 1
    picture = drawn(tmp_path / "b.png", Tile(GRAY, labels))
    half = share_of(picture, (0.5, 0.5, 0.5))
    assert 0.4 * plain < half < 0.6 * plain
    mixed = tuple(0.45 * 0.5 + 0.55 * c for c in class_color(1))
    assert share_of(picture, mixed) == pytest.approx(half, rel=0.1)
    assert share_of(picture, class_color(1)) > 0, "the legend names the class"


def test_an_outline_is_drawn_where_there_is_one(tmp_path: Path) -> None:
    box = np.zeros((8, 8), bool)
    yellow = (1.0, 212 / 255, 0.0)
    assert share_of(drawn(tmp_path / "a.png", Tile(GRAY, outline=box)), yellow) == 0
    box[2:5, 2:5] = True
    assert share_of(drawn(tmp_path / "b.png", Tile(GRAY, outline=box)), yellow) > 0


def test_weights_have_the_scales_colors_and_nan_leaves_the_image(tmp_path: Path) -> None:
    weights = np.zeros((8, 8))
    weights[:, 4:] = 1
    lowest, highest = ([0.75 * c + 0.25 * 0.5 for c in colormaps["viridis"](w)[:3]] for w in (0, 1))
    picture = drawn(tmp_path / "a.png", Tile(GRAY, weights=weights))
    half = share_of(picture, tuple(lowest))
    assert half > 0.1
    assert share_of(picture, tuple(highest)) == pytest.approx(half, rel=0.1)
    for w in (0.0, 1.0):
        assert share_of(picture, colormaps["viridis"](w)[:3]) > 0, "the scale beside it"
    weights[:, :4] = np.nan
    picture = drawn(tmp_path / "b.png", Tile(GRAY, weights=weights))
    assert share_of(picture, tuple(lowest)) == 0
    assert share_of(picture, (0.5, 0.5, 0.5)) == pytest.approx(half, rel=0.1)


def test_outlines_have_the_color_asked_for(tmp_path: Path) -> None:
    box = np.zeros((8, 8), bool)
    box[2:5, 2:5] = True
    picture = drawn(tmp_path / "a.png", Tile(GRAY, outline=box, outline_color=PINK))
    assert share_of(picture, to_rgb(PINK)) > 0
    assert share_of(picture, to_rgb(YELLOW)) == 0
