"""The ledgers hold together, and agree with each other and with what the paper's text says."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from results.documents import DocumentError
from results.published import Ledger, load, names

FRACTIONS = ("1/16", "1/8", "1/4", "1/2", "full")


def row(table: str, name: str, columns: tuple[str, ...], block: str | None = None) -> list[float]:
    numbers = [load(table).number(name, column, block) for column in columns]
    assert None not in numbers, (table, name)
    return numbers  # type: ignore[return-value]


def gain(table: str, name: str, over: str, *columns: str, block: str | None = None) -> list[float]:
    pairs = zip(row(table, name, columns, block), row(table, over, columns, block), strict=True)
    return [round(a - b, 1) for a, b in pairs]


def test_every_table_of_the_paper_is_there() -> None:
    assert names() == tuple(f"table{number}" for number in range(1, 14))
    assert all(load(name).source == f"Table {name.removeprefix('table')}" for name in names())


@pytest.mark.parametrize("name", names())
def test_every_row_is_found_by_the_name_that_the_ledger_gives_it(name: str) -> None:
    ledger = load(name)
    printed = [own for block in ledger.blocks.values() for own in block.rows]
    found = [ledger.find(each) for each in ledger.rows]
    assert [hit[0] for hit in found if hit] == printed
    assert len(set(ledger.rows)) == len(printed)


# Settings that are the same one: full CSL on VOC 2012 original, crop 321.
SAME = [
    ("table5", "all"),
    ("table7", "λ=(0.5, 0.5)"),
    ("table8", "CSL"),
    ("table10", "D_u"),
    ("table11", "w/o CutMix and grayscale"),
    ("table13", "v"),
]


@pytest.mark.parametrize(("table", "name"), SAME)
def test_the_default_row_is_the_same_in_every_table(table: str, name: str) -> None:
    ledger = load(table)
    assert row(table, name, ledger.columns) == row("table1", "CSL", ledger.columns)
    (block,), whole = ledger.blocks.values(), load("table1").blocks["321"]
    assert block.protocol.splits.items() <= whole.protocol.splits.items()
    assert block.protocol.model_copy(update={"splits": whole.protocol.splits}) == whole.protocol


def test_table_6_was_made_without_the_separation() -> None:
    default = load("table6").number("θ=0.7", "s=32")
    assert default == load("table5").number("L_u^m only", "1/2")
    assert default != load("table1").number("CSL", "1/2")
    numbers = [
        n for block in load("table6").blocks.values() for r in block.rows.values() for n in r
    ]
    assert default == max(n for n in numbers if n is not None)  # "optimal", Section 4.3


def test_allspark_is_one_network_in_tables_1_and_12() -> None:
    assert row("table1", "AllSpark", FRACTIONS, "513") == row("table12", "AllSpark", FRACTIONS)


def test_gains_that_section_4_2_names() -> None:
    assert gain("table1", "CSL", "Supervised", *FRACTIONS) == [31.4, 26.5, 19.1, 12.5, 9.1]
    assert gain("table1", "CSL", "UniMatch", "1/8", "1/4") == [2.4, 1.5]
    blender = ("1/16", "1/8", "1/4")
    assert gain("table2", "CSL", "CorrMatch", *blender, block="321") == [0.2, 0.7, 0.7]
    assert gain("table2", "CSL", "AllSpark", "1/16", block="513") == [0.6]
    assert gain("table2", "CSL", "AugSeg", "1/8", block="513, U2PL's splits") == [0.9]
    assert gain("table3", "CSL", "Supervised", "1/16", "1/8", "1/4") == [15.1, 8.3, 6.9]
    assert gain("table3", "CSL", "Supervised", "1/2") == [4.9]  # the text says 5.1
    assert gain("table3", "CSL", "CorrMatch", "1/16") == [0.9]
    assert gain("table4", "CSL", "LogicDiag", "1/512") == [2.0]


def test_gains_that_section_4_3_names() -> None:
    assert gain("table5", "+M_i+ω", "+M_i", "1/16", "1/2") == [0.4, 0.5]
    assert gain("table5", "all", "SemiBaseline", "1/16", "1/2") == [3.9, 2.3]
    assert gain("table5", "L_u^m only", "SemiBaseline", "1/16", "1/2") == [0.7, 0.8]


@pytest.mark.parametrize(
    ("table", "best"),
    [("table3", "CSL"), ("table4", "CSL"), ("table2", "CSL (321)"), *SAME],
)
def test_the_row_that_the_text_calls_best_is(table: str, best: str) -> None:
    ledger = load(table)
    found = ledger.find(best)
    assert found is not None
    own, block = found
    for index, number in enumerate(block.rows[own]):
        assert number == max(numbers[index] or 0 for numbers in block.rows.values())


def test_table_9_is_of_identical_predictions() -> None:
    """Selected and right, over selected of right, is the share of right predictions: it depends on
    no selection, so both must give the same up to rounding."""
    assert gain("table9", "CSL", "threshold", "mean", block="accuracy") == [4.1]
    assert gain("table9", "CSL", "threshold", "mean", block="recall") == [1.0]
    for column in load("table9").columns:
        right = {}
        for name in ("threshold", "CSL"):
            rate, accuracy, recall = (
                row("table9", name, (column,), block)[0]
                for block in ("sampling rate", "accuracy", "recall")
            )
            right[name] = rate * accuracy / recall
        assert right["CSL"] == pytest.approx(right["threshold"], abs=0.15), column


def test_table_9_is_of_no_miou() -> None:
    quantities = {name: {b.quantity for b in load(name).blocks.values()} for name in names()}
    assert quantities.pop("table9") == {"sampling rate", "accuracy", "recall"}
    assert all(kinds == {"mIoU"} for kinds in quantities.values())


def test_a_cell_that_the_paper_does_not_have() -> None:
    assert load("table5").number("all", "1/8") is None
    assert load("table5").number("none", "1/2") is None
    assert load("table1").number("LogicDiag", "full") is None  # a dash
    assert load("table1").number("CSL", "1/2", "513") is None


def test_a_row_of_several_blocks_is_found_with_its_block_only() -> None:
    ledger = load("table2")
    assert ledger.number("CSL", "1/16", "513") == ledger.number("CSL (513)", "1/16") == 78.9
    found = ledger.find("CSL (513, U2PL's splits)")
    assert found is not None
    assert found[1].protocol.splits["1/8"] == "u2pl_1_8"
    assert found[1].protocol.crop == 513
    with pytest.raises(DocumentError, match=r"CSL \(321\) or .* or CSL \(513\)"):
        ledger.number("CSL", "1/16")


@pytest.mark.parametrize("name", ["table99", "../published/table5", "", "published"])
def test_unknown_ledger_names_the_known(name: str) -> None:
    with pytest.raises(DocumentError, match="table5"):
        load(name)


OWN = """
source: Table 2
paper: Another paper
section: "5"
caption: Ours against theirs.
protocol:
  encoder: ResNet-50
  crop: 321
  dataset: mine
  evaluation: whole images
  selection: best epoch
  splits: {1/2: "10", 1/4: "5"}
columns: [1/4, 1/2]
rows:
  theirs: [10, 20.5]
  ours: [11.5, null]
notes: [{row: ours, column: 1/4, text: two runs}]
"""


def own(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_ledger_of_ones_own(tmp_path: Path) -> None:
    ledger = load(own(tmp_path, OWN))
    assert ledger.number("theirs", "1/4") == 10
    assert ledger.number("ours", "1/2") is None
    assert str(ledger.notes[0]) == "ours, 1/4: two runs"


def test_blocks_say_only_what_differs(tmp_path: Path) -> None:
    content = yaml.safe_load(OWN)
    content["blocks"] = {
        "a": {"rows": content.pop("rows")},
        "b": {"protocol": {"crop": 513}, "rows": {"ours": [1.0, 2.0]}},
    }
    content["notes"] = [{"row": "ours (b)", "text": "larger"}]
    ledger = load(own(tmp_path, yaml.safe_dump(content, sort_keys=False)))
    assert ledger.rows == ("theirs", "ours (a)", "ours (b)")
    a, b = ledger.blocks.values()
    assert b.protocol == a.protocol.model_copy(update={"crop": 513})


FAULTS: list[tuple[str, str, str, str]] = [
    ("columns: [1/4, 1/2]", "columns: [1/4, 1/8]", "1/8", "splits"),
    ("columns: [1/4, 1/2]", "columns: [1/4, 1/4]", "1/4", "twice"),
    ("[10, 20.5]", "[10]", "theirs", "1 numbers for 2 columns"),
    ("[10, 20.5]", '[10, "20.5"]', "rows.theirs.1", "number"),
    ("[10, 20.5]", "[10, 120.5]", "rows.theirs.1", "100"),
    ("[10, 20.5]", "[10, .nan]", "rows.theirs.1", "finite"),
    ("crop: 321", "crop: large", "protocol.crop", "integer"),
    ("  crop: 321\n", "", "protocol.crop", "required"),
    ("rows:\n  theirs", "row:\n  theirs", "blocks", "required"),
    ("row: ours,", "row: my own,", "my own", "not there"),
    ("column: 1/4", "column: 1/8", "1/8", "not there"),
    ("  ours: [11.5, null]", "  theirs: [11.5, null]", "theirs", "twice"),
    ("source: Table 2", "source: Table 2\nblocks: {}", "blocks", "both inside and outside"),
    ("source: Table 2", "sources: Table 2", "source", "required"),
    (OWN, "- a list", "own.yaml", "no mapping"),
    (OWN, "a: [", "own.yaml", "not valid YAML"),
    (OWN, "a: !!python/object/apply:os.getcwd []", "own.yaml", "not valid YAML"),
]


@pytest.mark.parametrize(("good", "bad", "where", "what"), FAULTS)
def test_a_faulty_ledger_names_file_key_and_remedy(
    tmp_path: Path, good: str, bad: str, where: str, what: str
) -> None:
    assert good in OWN
    path = own(tmp_path, OWN.replace(good, bad))
    with pytest.raises(DocumentError) as caught:
        load(path)
    message = str(caught.value)
    assert where in message
    assert what in message
    assert f"file: {path}" in message
    assert "remedy: " in message


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="cannot be read"):
        load(str(tmp_path / "absent.yaml"))
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(DocumentError, match="cannot be read"):
        load(str(tmp_path / "folder.yaml"))
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DocumentError, match="not valid"):
        load(str(tmp_path / "bytes.yaml"))


def test_python_callers_may_build_one() -> None:
    content: dict[str, Any] = yaml.safe_load(OWN)
    assert Ledger.model_validate(content).number("theirs", "1/2") == 20.5


def test_the_documents_example_is_a_ledger(tmp_path: Path) -> None:
    document = Path(__file__).parents[2] / "docs/tables.md"
    example = document.read_text(encoding="utf-8").split("```yaml\n")[2].split("```")[0]
    assert load(own(tmp_path, example)).number("SemiBaseline", "1/8") == 77.2
