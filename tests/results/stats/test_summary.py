"""Mean and sd against numpy, whatever the order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.stats.summary import Summary, summarize

values = st.lists(st.floats(0, 100), min_size=2, max_size=12)


@given(values, st.randoms(use_true_random=False))
def test_agrees_with_numpy_in_any_order(numbers: list[float], random: object) -> None:
    summary = summarize(numbers)
    assert summary.mean == pytest.approx(np.mean(numbers))
    assert summary.sd == pytest.approx(np.std(numbers, ddof=1), abs=1e-6)
    random.shuffle(numbers)  # type: ignore[attr-defined]
    assert summarize(numbers) == summary


def test_one_number_has_no_spread() -> None:
    assert summarize([54.3]) == Summary(54.3, None, 1)


def test_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        summarize([])
