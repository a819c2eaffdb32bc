"""Figures: files of the asked kinds, with something in them, and no word of complaint."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from results.figures import (
    RIGHT,
    WRONG,
    FeaturePlane,
    draw_curves,
    draw_feature_plane,
    draw_reliability,
)
from results.selection import calibration
from tests.results.conftest import make_record


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def plane() -> FeaturePlane:
    generator = np.random.default_rng(0)
    residual = 10 ** generator.uniform(-6, -0.2, 4000)
    grid = np.logspace(-8, 0, 50)
    return FeaturePlane(
        title="an image",
        residual=residual,
        dispersion=residual**2 / 20,
        concentration=generator.random(4000),
        correct=generator.random(4000) > 2 * residual,
        grid_residual=grid,
        grid_dispersion=grid**2 / 20,
        grid_reliable=np.broadcast_to(grid < 1e-3, (50, 50)),
        grid_concentration=np.linspace(0, 1, 50),
        grid_concentration_reliable=np.broadcast_to(grid < 1e-3, (50, 50)),
        tau=0.95,
    )


def pixels_of(path: Path, color: str) -> int:
    """How many pixels have about this colour, drawn at half strength on white or fully."""
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    with Image.open(path) as image:
        array = np.asarray(image.convert("RGB")).astype(int)
    close = [np.abs(array - each).max(-1) < 24 for each in (wanted, (wanted + 255) // 2)]
    return int((close[0] | close[1]).sum())


def test_the_plane_shows_both_kinds(tmp_path: Path, plane: FeaturePlane) -> None:
    png, pdf = tmp_path / "a.png", tmp_path / "a.pdf"
    draw_feature_plane(plane, (png, pdf))
    assert pixels_of(png, RIGHT) > 500
    assert pixels_of(png, WRONG) > 500
    assert pdf.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("grid", "half"), [("grid_reliable", 0), ("grid_concentration_reliable", 1)]
)
def test_the_boundary_is_drawn_where_the_decision_changes(
    tmp_path: Path, plane: FeaturePlane, grid: str, half: int
) -> None:
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    draw_feature_plane(plane, (one,))
    moved = np.broadcast_to(plane.grid_residual < 1e-4, (50, 50))
    draw_feature_plane(replace(plane, **{grid: moved}), (other,))
    with Image.open(one) as first, Image.open(other) as second:
        differ = (np.asarray(first) != np.asarray(second)).any((0, 2))
    halves = np.array_split(differ, 2)
    assert halves[half].any()
    assert not halves[1 - half].any()


def test_a_plane_is_drawn_alike_twice(tmp_path: Path, plane: FeaturePlane) -> None:
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    draw_feature_plane(plane, (one,))
    draw_feature_plane(plane, (other,))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("pixels", [0, 1, 2])
def test_hardly_a_pixel(tmp_path: Path, plane: FeaturePlane, pixels: int) -> None:
    few = replace(
        plane,
        residual=np.zeros(pixels),  # total confidence
        dispersion=np.zeros(pixels),
        concentration=np.zeros(pixels),
        correct=np.ones(pixels, dtype=bool),
        grid_reliable=np.ones((50, 50), dtype=bool),
        tau=1.0,
    )
    draw_feature_plane(few, (tmp_path / "few.png",))
    assert (tmp_path / "few.png").stat().st_size > 1000


def test_curves_are_drawn_for_what_was_recorded(tmp_path: Path) -> None:
    line = make_record().curve[0]
    curves = {
        "one": tuple(replace(line, epoch=e, sampling_rate=50.0 + e) for e in range(1, 5)),
        "without truth": (replace(line, pseudo_label_accuracy=None),) * 2,
        "supervised": (replace(line, pseudo_label_accuracy=None, sampling_rate=None),),
    }
    png, pdf = tmp_path / "a.png", tmp_path / "a.pdf"
    draw_curves(curves, (png, pdf))
    assert pixels_of(png, RIGHT) > 500
    assert pixels_of(png, WRONG) > 30
    assert pdf.read_bytes().startswith(b"%PDF")
    draw_curves({"supervised": curves["supervised"]}, (png,))
    assert pixels_of(png, RIGHT) < 500, "its legend alone"


def test_reliability_has_its_bars(tmp_path: Path) -> None:
    confidence = np.linspace(0.5, 1, 1000)  # half of the bins are empty
    path = tmp_path / "reliability.png"
    draw_reliability(calibration(confidence, confidence > 0.6), (path,))
    assert pixels_of(path, RIGHT) > 5000
