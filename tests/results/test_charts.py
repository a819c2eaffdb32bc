"""Tables as pictures: everything is named in them, and nothing is drawn that is not there."""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from PIL import Image

from results.charts import Kind, draw
from results.schema import Record
from results.table import CellRun, Table, TableLayout, build

Make = Callable[..., Record]
KINDS: tuple[Kind, ...] = ("forest", "bars", "line")


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def made(
    make: Make,
    numbers: Mapping[tuple[str, str], tuple[float, ...]],
    rows: tuple[str, ...],
    columns: tuple[str, ...],
    ledger: str | None = None,
) -> Table:
    cells = {
        (row, column): tuple(CellRun(seed, f"{row}{column}{seed}") for seed in range(3))
        for row in rows
        for column in columns
    }
    records = {
        f"{row}{column}{seed}": make(mean_iou=value)
        for (row, column), values in numbers.items()
        for seed, value in enumerate(values)
    }
    layout = TableLayout("t", "The title", rows, columns, cells, ledger)
    return build(layout, records, rule="last", same_setting_as_paper=False)


@pytest.fixture
def table(make: Make) -> Table:
    numbers = {
        ("SemiBaseline", "1/16"): (50.0, 51.0, 52.0),
        ("all", "1/16"): (60.0, 61.1, 62.0),
        ("$x$ & <y>", "1/16"): (50.0, 53.0, 51.0),
        ("SemiBaseline", "1/2"): (70.0,),
        ("all", "1/2"): (71.0,),
    }
    return made(make, numbers, ("SemiBaseline", "all", "$x$ & <y>"), ("1/16", "1/2"), "table5")


def words(path: Path) -> str:
    """The text of an SVG, as it stands in it."""
    return " ".join(re.findall(r">([^<>]+)</(?:text|tspan)>", path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_written_and_the_same_twice(
    tmp_path: Path, table: Table, kind: Kind
) -> None:
    paths = [tmp_path / f"a.{suffix}" for suffix in ("png", "pdf", "svg")]
    again = [path.with_stem("b") for path in paths]
    draw(table, kind, paths)
    draw(table, kind, again)
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(paths, again, strict=True))
    assert paths[1].read_bytes().startswith(b"%PDF")
    with Image.open(paths[0]) as image:
        assert image.convert("L").getextrema() == (0, 255)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_columns_and_title_are_named(tmp_path: Path, table: Table, kind: Kind) -> None:
    draw(table, kind, [tmp_path / "a.svg"])
    shown = words(tmp_path / "a.svg")
    for name in ("The title", "all", "$x$ &amp; &lt;y&gt;", "1/16", "1/2", "SemiBaseline"):
        assert name in shown, name


def test_a_forest_says_what_its_marks_mean(tmp_path: Path, table: Table) -> None:
    draw(table, "forest", [tmp_path / "a.svg"])
    shown = words(tmp_path / "a.svg")
    for mark in ("differs", "unresolved", "one seed", "paper", "no common seed"):
        assert mark in shown, mark


def test_a_forest_explains_no_mark_that_it_does_not_have(tmp_path: Path, make: Make) -> None:
    one = made(make, {("a", "c"): (1.0,), ("b", "c"): (2.0,)}, ("a", "b"), ("c",))
    draw(one, "forest", [tmp_path / "a.svg"])
    shown = words(tmp_path / "a.svg")
    assert "one seed" in shown
    for mark in ("differs", "unresolved", "paper", "no common seed"):
        assert mark not in shown, mark


def test_without_a_difference_there_is_no_forest(tmp_path: Path, make: Make) -> None:
    alone = made(make, {("a", "c"): (1.0, 2.0, 3.0)}, ("a", "b"), ("c",))
    with pytest.raises(ValueError, match="compared with a"):
        draw(alone, "forest", [tmp_path / "a.svg"])
    for kind in KINDS[1:]:
        draw(alone, kind, [tmp_path / "a.svg"])


def test_numbers_in_names_are_places_on_the_axis(tmp_path: Path, make: Make) -> None:
    rows = ("α=32.0", "α=2.0", "α=8.0")
    numbers = {(row, "1/2"): (50.0 + i, 51.0 + i, 52.0 + i) for i, row in enumerate(rows)}
    draw(made(make, numbers, rows, ("1/2",)), "line", [tmp_path / "a.svg"])
    shown = words(tmp_path / "a.svg").split()
    assert "α" in shown
    assert {"2.0", "8.0", "32.0"} <= set(shown)
    assert "α=2.0" not in shown


def test_an_axis_that_does_not_start_at_0_says_so(tmp_path: Path, make: Make) -> None:
    for low, said in ((80.0, True), (0.2, False)):
        numbers = {(row, "c"): (low, low + 0.5, low + 1.0) for row in ("a", "b")}
        draw(made(make, numbers, ("a", "b"), ("c",)), "bars", [tmp_path / "a.svg"])
        assert ("(axis from" in words(tmp_path / "a.svg")) == said
