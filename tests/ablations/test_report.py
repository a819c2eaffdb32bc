"""``csl report`` and ``csl figure``: what the store has is on the page, and in pictures."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.search.names import trial_label
from results.schema import Failure, Record
from results.store import Store
from tests.ablations.conftest import SPEC, Csl, MakeGrid, Write

Stored = Callable[..., Record]


@pytest.fixture
def spec(write: Write) -> str:
    return write("small.yaml", SPEC)


@pytest.fixture
def filled(store: Store, grid: MakeGrid, stored: Stored) -> str:
    """Seeds 0 and 3 of both variants, one of them failed."""
    made = grid(seeds=(0, 3))
    for number, cell in enumerate(made.cells):
        failure = Failure.NOT_A_NUMBER if number == 3 else None
        stored(cell.training, mean_iou=40.0 + number, failure=failure, launched_as=made.label(cell))
    return store.location


def test_it_shows_the_seeds_that_are_stored(
    csl: Csl, spec: str, filled: str, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    ended = csl("report", spec, "--store", filled, "-o", page)
    assert ended.code == 0
    assert "1 tables, 0 searches, 4 attempts" in ended.out
    text = page.read_text()
    assert "A small spec" in text
    assert "seeds 0, 3" in text
    assert "42.0 ± 1.4 (2)" in text
    assert "failed: not a number ×1" in text
    assert "data:image/svg+xml;base64," in text


def test_packaged_tables_are_found_by_what_is_stored(
    csl: Csl, store: Store, stored: Stored, grid: MakeGrid, tmp_path: Path
) -> None:
    *_, last = grid().cells  # the whole method: a row of nearly every table
    stored(last.training, launched_as="table9/CSL/1/16/seed 0")
    stored(grid(assignments=("schedule.epochs=3",)).cells[0].training, setting="mine")
    ended = csl("report", "--store", store.location, "-o", tmp_path / "page.html")
    assert ended.code == 0
    text = (tmp_path / "page.html").read_text()
    assert 'id="table9-shapes"' in text
    assert 'id="table5-shapes"' not in text
    assert "Setting mine is none that csl has" in text


def test_a_searchs_trials_choose_no_seeds(
    csl: Csl, spec: str, filled: str, stored: Stored, grid: MakeGrid, tmp_path: Path
) -> None:
    for cell in grid(seeds=(7,)).cells:
        stored(cell.training, launched_as=trial_label("alpha", 3, "1/16/seed 7"))
    for cell in grid(seeds=(8,)).cells:
        stored(cell.training, launched_as="alpha-confirmed/trial 3/1/16/seed 8")
    assert csl("report", spec, "--store", filled, "-o", tmp_path / "page.html").code == 0
    assert "seeds 0, 3, 8;" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("command", ["report", "figure"])
def test_an_empty_store_is_refused(csl: Csl, spec: str, tmp_path: Path, command: str) -> None:
    ended = csl(command, spec, "--store", tmp_path / "none", "--out", tmp_path / "x.pdf")
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert ended.err.count("remedy: ") == 1
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", ["report", "figure"])
def test_where_nothing_can_be_written_it_says_so(
    csl: Csl, spec: str, filled: str, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("")
    ended = csl(command, spec, "--store", filled, "--out", tmp_path / "file" / "x.pdf")
    assert ended.code == 2
    assert "--out" in ended.err


@pytest.mark.parametrize("kind", ["forest", "bars", "line", "curves"])
def test_every_kind_of_figure(csl: Csl, spec: str, filled: str, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "new" / "figure.svg"
    ended = csl("figure", spec, "--store", filled, "--seeds", "0,3", "--kind", kind, "--out", path)
    assert ended.code == 0, ended.err
    assert ended.out.strip() == str(path)
    assert "second" in path.read_text()


def test_a_folder_has_every_figure_twice(csl: Csl, spec: str, filled: str, tmp_path: Path) -> None:
    ended = csl("figure", f"{spec}", "--store", filled, "--out", tmp_path / "all")
    assert ended.code == 0, ended.err
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"small.pdf", "small.png"}
    both = csl("figure", f"{spec},table5", "--store", filled, "--out", tmp_path / "x.pdf")
    assert both.code == 2
    assert "2 figures for one file" in both.err


def test_what_cannot_be_drawn_keeps_nothing_else_from_it(
    csl: Csl, spec: str, filled: str, tmp_path: Path
) -> None:
    both = csl("figure", f"table5,{spec}", "--store", filled, "--out", tmp_path / "all")
    assert both.code == 1
    assert "table5 is not drawn: nothing is there to be compared with SemiBaseline" in both.err
    assert (tmp_path / "all" / "small.pdf").exists()


def test_a_forest_needs_something_to_compare(
    csl: Csl, spec: str, store: Store, grid: MakeGrid, stored: Stored, tmp_path: Path
) -> None:
    stored(grid().cells[0].training)
    ended = csl("figure", spec, "--store", store.location, "--out", tmp_path / "x.pdf")
    assert ended.code == 2
    assert "compared with first" in ended.err
    assert not (tmp_path / "x.pdf").exists()
