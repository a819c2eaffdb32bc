"""Rendered text shows every number and every failure, and says the same everywhere."""

import csv
import html
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.escape import latex, markdown
from results.render import FORMATS, Format, render, render_all
from results.render.latex import PACKAGES
from results.schema import Failure, Record
from results.table import CellRun, Table, TableLayout, build

Make = Callable[..., Record]


@pytest.fixture
def table(make: Make) -> Table:
    records = {
        "0": make(mean_iou=54.3),
        "1": make(mean_iou=55.3),
        "2": make(mean_iou=56.34),
        "3": make(failure=Failure.NOT_A_NUMBER),
        "5": make(failure=Failure.OUT_OF_MEMORY),
    }
    cells = {
        ("SemiBaseline", "1/16"): (CellRun(0, "0"), CellRun(1, "1")),
        ("SemiBaseline", "1/2"): (CellRun(0, "2"),),
        ("+M_i+ω", "1/16"): (CellRun(0, "2"), CellRun(1, "3"), CellRun(2, "4")),
        ("L_u^m only", "1/2"): (CellRun(0, "3"), CellRun(1, "5")),
    }
    rows = ("SemiBaseline", "+M_i+ω", "L_u^m only", "a | b [bold] & 100%")
    layout = TableLayout(
        "table5", "Components *of* CSL", rows, ("1/16", "1/2"), cells, "table5", ("csl run --all",)
    )
    return build(layout, records, rule="last", same_setting_as_paper=False)


def plain(text: str, format: Format) -> str:
    """What a reader sees of a cell, in one spelling."""
    if format == "latex":
        for spelling, character in (
            (r"$\pm$\,", "± "),
            (r"$\times$", "×"),
            (r"$\approx$", "≈"),
            ("$-$", "-"),
            ("{[}", "["),
            ("{]}", "]"),
            ("{*}", "*"),
            (r" & \,", " "),
        ):
            text = text.replace(spelling, character)
    return html.unescape(text) if format == "html" else text.replace(r"\*", "*")


@pytest.mark.parametrize("format", ["terminal", "md", "latex", "html"])
def test_every_number_and_failure_is_shown(table: Table, format: Format) -> None:
    text = plain(render(table, format), format)
    for shown in (
        "54.8 ± 0.7 (2)",
        "56.3 (n=1)",
        "56.3 (n=1 of 3)",
        "failed: not a number ×1",
        "failed: out of memory ×1",
        "missing ×1",
        "0 of 2",
        "72.9",
    ):
        assert shown in text, shown


def compared(make: Make, same: bool = True) -> Table:
    """Three variants: one resolved, one unresolved, one equal to the reference's first seed."""
    numbers = {
        "base": (50.0, 52.0, 51.0),
        "up": (60.0, 62.1, 61.0),
        "near": (50.1, 53.9, 50.0),
        "one": (51.0,),
    }
    cells = {
        (row, "1/2"): tuple(CellRun(seed, f"{row}{seed}") for seed in range(len(values)))
        for row, values in numbers.items()
    }
    records = {f"{r}{s}": make(mean_iou=v) for r, vs in numbers.items() for s, v in enumerate(vs)}
    layout = TableLayout("t", "T", tuple(numbers), ("1/2",), cells, None)
    return build(layout, records, rule="last", same_setting_as_paper=same)


@pytest.mark.parametrize("format", ["terminal", "md", "latex", "html"])
def test_every_difference_is_shown_with_its_verdict(make: Make, format: Format) -> None:
    text = plain(render(compared(make), format), format).replace("\\", "")
    for shown in ("+10.0 [9.9, 10.2] *", "+0.3 [-3.3, 4.0] n≈", "+1.0 (n=1)"):
        assert shown in text, shown
    assert "Holm's p over the table's 2 differences" in text
    assert "n≈9: unresolved" in text


def test_what_leads_is_bold(make: Make) -> None:
    table = compared(make)
    assert [cell.row for cell in table.cells if cell.leading] == ["up"]
    assert "**61.0 ± 1.1 (3)**" in render(table, "md")
    assert r"\bfseries 61.0 &" in render(table, "latex")
    assert "<b>61.0 ± 1.1 (3)</b>" in render(table, "html")
    assert "\x1b[1m61.0 ± 1.1 (3)" in render(table, "terminal", color=True)
    others: tuple[tuple[Format, str], ...] = (
        ("md", "**5"),
        ("latex", r"\bfseries 5"),
        ("html", "<b>5"),
    )
    for shape, bold in others:
        assert bold not in render(table, shape)


def test_the_papers_number_has_ours_less_it_in_its_own_setting_alone(make: Make) -> None:
    cells = {("all", "1/2"): (CellRun(0, "a"),)}
    layout = TableLayout("table5", "T", ("all",), ("1/2",), cells, "table5")
    for same in (True, False):
        table = build(layout, {"a": make(mean_iou=80.0)}, rule="last", same_setting_as_paper=same)
        assert ("80.9 (-0.9)" in render(table, "terminal")) == same


@pytest.mark.parametrize("format", FORMATS)
def test_text_depends_on_the_table_alone(
    table: Table, format: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = render(table, format), render(table, format, color=True)
    for name, value in (
        ("COLUMNS", "40"),
        ("FORCE_COLOR", "1"),
        ("NO_COLOR", "1"),
        ("TERM", "dumb"),
        ("TTY_COMPATIBLE", "1"),
        ("LC_ALL", "C"),
    ):
        monkeypatch.setenv(name, value)
    assert (render(table, format), render(table, format, color=True)) == before


def test_terminal_text_is_plain_and_fits(table: Table) -> None:
    for width in (100, 60, 40):
        lines = render(table, "terminal", width=width).splitlines()
        assert max(map(len, lines)) <= width
        assert not any("\x1b" in line or line != line.rstrip() for line in lines)


def test_columns_that_do_not_fit_stand_below(make: Make) -> None:
    columns = tuple(f"1/{2**power}" for power in range(9))
    cells = {("a variant", column): (CellRun(0, column),) for column in columns}
    layout = TableLayout("t", "T", ("a variant",), columns, cells, None)
    records = {column: make(mean_iou=10.0 + i) for i, column in enumerate(columns)}
    table = build(layout, records, rule="last", same_setting_as_paper=False)
    wide, narrow = (render(table, "terminal", width=width) for width in (200, 60))
    for text, panels in ((wide, 1), (narrow, 3)):
        assert text.count("a variant") == panels
        assert all(f"{10 + i}.0 (n=1)" in text for i in range(len(columns)))


def test_color_changes_style_only(table: Table) -> None:
    colored = render(table, "terminal", color=True)
    assert "\x1b[" in colored
    plain = re.sub(r"\x1b\[[0-9;]*m", "", colored)
    assert [line.rstrip() for line in plain.splitlines()] == render(table, "terminal").splitlines()


def test_names_are_no_markup_in_a_terminal(table: Table) -> None:
    assert "a | b [bold] & 100%" in render(table, "terminal")


def test_markdown_rows_have_equal_numbers_of_cells(table: Table) -> None:
    rows = [line for line in render(table, "md").splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(table.rows)
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_csv_has_full_precision_and_every_cell(table: Table) -> None:
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert len(rows) == len(table.cells)
    for row, cell in zip(rows, table.cells, strict=True):
        assert (row["row"], row["column"]) == (cell.row, cell.column)
        assert int(row["n"]) + int(row["failed"]) + int(row["missing"]) == int(row["wanted"])
        if cell.summary is None:
            assert row["mean"] == row["sd"] == ""
        else:
            assert float(row["mean"]) == cell.summary.mean
        assert (row["difference"] == "") == (cell.difference is None)


def test_csv_has_what_a_difference_rests_on(make: Make) -> None:
    rows = {row["row"]: row for row in csv.DictReader(io.StringIO(render(compared(make), "csv")))}
    up = rows["up"]
    assert (up["reference"], up["pairs"], up["verdict"], up["leading"]) == (
        "base",
        "3",
        "higher",
        "1",
    )
    assert float(up["p"]) < float(up["holm"]) < 0.05
    assert int(rows["near"]["seeds_needed"]) > 3
    assert rows["one"]["p"] == rows["one"]["low"] == rows["base"]["difference"] == ""


def test_html_escapes_every_name_and_needs_nothing_else(make: Make) -> None:
    evil = "<script>alert(1)</script>&"
    layout = TableLayout(
        "t", evil, (evil,), (evil,), {(evil, evil): (CellRun(0, "a"),)}, None, (evil,)
    )
    text = render(build(layout, {}, rule="last", same_setting_as_paper=False), "html")
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;&amp;") == 5
    assert not re.search(r"<script|<link|<img|url\(|https?:|@import", text)


def unescape(text: str) -> str:
    """What LaTeX would show: the inverse of each spelling, written independently."""
    for spelling, character in (
        (r"\textasciicircum{}", "^"),
        (r"\textasciitilde{}", "~"),
        (r"\textasciigrave{}", "`"),
        (r"\textless{}", "<"),
        (r"\textgreater{}", ">"),
        (r"\textbar{}", "|"),
        ("{''}", '"'),
        ("{[}", "["),
        ("{]}", "]"),
        ("{*}", "*"),
        ("{}", ""),
    ):
        text = text.replace(spelling, character)
    return re.sub(r"\\([{}$&#%_])", r"\1", text)


ascii_text = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\\{}"))


@given(ascii_text)
def test_latex_shows_any_ascii_text(text: str) -> None:
    escaped = latex(text)
    assert unescape(escaped) == text
    # No special character is left without its escape, nor a ligature.
    assert not re.search(r"(?<!\\)[$&#%_~^]|--|(?<!{)''|''(?!})", escaped)


def test_latex_of_the_papers_names() -> None:
    assert latex("+M_i+ω") == r"+M\_i+$\omega$"
    assert latex("54.3 ± 0.4") == r"54.3 $\pm$ 0.4"
    assert latex(r"\input{x}") == r"\textbackslash{}input\{x\}"


def test_latex_is_ascii_and_refuses_what_it_cannot_spell(table: Table) -> None:
    assert render(table, "latex").isascii()
    with pytest.raises(ValueError, match=r"U\+6F22"):
        latex("漢")


def test_markdown_escapes_what_would_be_markup() -> None:
    assert markdown("a|b *c* `d` <e>") == r"a\|b \*c\* \`d\` \<e\>"
    assert markdown("L_u^m") == "L_u^m"
    assert markdown("_x_") == r"\_x\_"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_latex_compiles(table: Table, make: Make, tmp_path: Path) -> None:
    (tmp_path / "table.tex").write_text(
        f"\\documentclass{{article}}\n\\usepackage{{{','.join(PACKAGES)}}}\n\\begin{{document}}\n"
        + render(table, "latex")
        + render(compared(make), "latex")
        + "\\end{document}\n",
        encoding="ascii",
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize("format", FORMATS)
def test_several_tables_are_one_text(table: Table, make: Make, format: Format) -> None:
    both = render_all([table, compared(make)], format)
    once = {"csv": "table,row,column", "html": "<!DOCTYPE html>"}
    for text in (render(table, format), render(compared(make), format)):
        missing = set(text.splitlines()) - set(both.splitlines())
        assert all(line.startswith("<title>") for line in missing)
    if format in once:
        assert both.count(once[format]) == 1
