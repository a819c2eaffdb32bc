"""The ledgers hold together, and agree with what the paper's text says about them."""

import pytest
from pydantic import ValidationError

from results.published import Ledger, load, names


@pytest.mark.parametrize("name", names())
def test_every_ledger_loads_and_every_row_is_whole(name: str) -> None:
    ledger = load(name)
    for row, numbers in ledger.mean_iou.items():
        assert numbers.keys() == ledger.protocol.splits.keys(), row


def test_gains_that_the_text_of_section_4_3_names() -> None:
    ledger = load("table5")

    def gain(row: str, over: str) -> list[float]:
        pairs = [(ledger.number(row, c), ledger.number(over, c)) for c in ("1/16", "1/2")]
        return [round(a - b, 1) for a, b in pairs if a is not None and b is not None]

    assert gain("+M_i+ω", "+M_i") == [0.4, 0.5]
    assert gain("all", "SemiBaseline") == [3.9, 2.3]
    assert gain("L_u^m only", "SemiBaseline") == [0.7, 0.8]


def test_a_cell_that_the_paper_does_not_have() -> None:
    assert load("table5").number("all", "1/8") is None
    assert load("table5").number("none", "1/2") is None


@pytest.mark.parametrize("name", ["table99", "../published/table5", ""])
def test_unknown_ledger_names_the_known(name: str) -> None:
    with pytest.raises(ValueError, match="table5"):
        load(name)


@pytest.mark.parametrize(
    "change",
    [
        {"mean_iou": {"all": {"1/4": 80.0}}},
        {"mean_iou": {"all": {"1/2": "80"}}},
        {"mean_iou": {"all": {"1/2": 180.0}}},
        {"comment": "x"},
    ],
)
def test_malformed_ledgers_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Ledger.model_validate(load("table5").model_dump() | change)
