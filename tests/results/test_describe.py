"""The documented columns are the stored ones."""

from pathlib import Path

from results.describe import columns_table


def test_the_documented_columns_are_those_of_a_record() -> None:
    text = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8")
    assert text.endswith(columns_table()), "python -m results.describe prints the new table"
