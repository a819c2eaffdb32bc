"""What is shown of a search's trials: held against plain recomputation, and drawn."""

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from results.confirmed import confirmed
from results.search import SearchAxis, SearchTrial, best_so_far, heat_map, slices
from results.search_figures import (
    draw_front,
    draw_heat_map,
    draw_history,
    draw_importance,
    draw_parallel,
    draw_slices,
)

ALPHA = SearchAxis("a.alpha", "alpha", True, None, (2.0, 32.0))
THETA = SearchAxis("m.theta", "theta", False, (0.1, 0.3, 0.5), (0.1, 0.5))
SELECTOR = SearchAxis("s", "selector", False, ("csl", None, "daw"), None)
WIDTH = SearchAxis("w", "width", True, tuple(range(8, 65)), (8, 64))
AXES = (ALPHA, THETA, SELECTOR, WIDTH)


def trials(count: int, seed: int = 0) -> list[SearchTrial]:
    generator = random.Random(seed)
    found = []
    for number in range(count):
        state = generator.choice(["complete", "complete", "pruned", "failed"])
        point = {
            "a.alpha": 2.0 ** generator.uniform(1, 5),
            "m.theta": generator.choice([0.1, 0.3, 0.5]),
            "s": generator.choice(["csl", None, "daw"]),
            "w": generator.randint(8, 64),
        }
        if point["s"] == "daw":
            del point["a.alpha"]
        scores = () if state == "failed" else (generator.uniform(20, 80), generator.random())
        found.append(SearchTrial(number, state, generator.random() < 0.3, point, scores))  # type: ignore[arg-type]
    return found


@given(count=st.integers(0, 40), seed=st.integers(0, 5), maximize=st.booleans())
def test_the_best_so_far_is_the_best_of_what_was_complete(
    count: int, seed: int, maximize: bool
) -> None:
    tried = trials(count, seed)
    best = best_so_far(tried, maximize=maximize)
    for index in range(count):
        scores = [t.scores[0] for t in tried[: index + 1] if t.state == "complete"]
        assert best[index] == ((max if maximize else min)(scores) if scores else None)


def test_a_choice_is_shown_value_by_value_however_many_there_are() -> None:
    axis = SearchAxis("k", "k", False, tuple(f"v{i}" for i in range(30)), None)
    tried = [SearchTrial(0, "complete", False, {"k": "v29"}, (50.0,))]
    assert [each.count for each in slices(tried, axis, maximize=True)] == [0] * 29 + [1]


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.label)
def test_every_complete_trial_is_in_one_slice(axis: SearchAxis) -> None:
    tried = trials(200)
    own = [t for t in tried if t.state == "complete" and axis.key in t.point]
    found = slices(tried, axis, maximize=True)
    assert sum(each.count for each in found) == len(own)
    total = sum(each.count * each.mean for each in found if each.mean is not None)
    assert total == pytest.approx(sum(trial.scores[0] for trial in own))
    assert max(e.best for e in found if e.best is not None) == max(t.scores[0] for t in own)
    for trial in own:
        place = axis.bins[axis.place(trial.point[axis.key])]
        if axis.values is not None and len(axis.values) <= 12:
            assert place.low == trial.point[axis.key]
        else:
            assert place.low <= trial.point[axis.key] <= place.high


def test_parts_of_a_logarithmic_range_have_equal_ratios() -> None:
    edges = [ALPHA.bins[0].low, *(each.high for each in ALPHA.bins)]
    ratios = [high / low for low, high in pairwise(edges)]
    assert ratios == pytest.approx([16 ** (1 / 5)] * 5)
    assert ALPHA.place(2.0) == 0
    assert ALPHA.place(32.0) == 4


def test_a_heat_map_has_the_mean_and_count_of_each_pair() -> None:
    tried = trials(300)
    heat = heat_map(tried, THETA, SELECTOR)
    for i, theta in enumerate((0.1, 0.3, 0.5)):
        for j, selector in enumerate(("csl", None, "daw")):
            own = [
                t.scores[0]
                for t in tried
                if t.state == "complete" and (t.point["m.theta"], t.point["s"]) == (theta, selector)
            ]
            assert heat.counts[i][j] == len(own)
            assert heat.means[i][j] == (pytest.approx(fmean(own)) if own else None)
    empty = heat_map([], THETA, SELECTOR)
    assert {mean for line in empty.means for mean in line} == {None}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are written, to be looked into."""
    figures: list[Figure] = []

    def keep(figure: Figure, paths: Sequence[Path]) -> None:
        figures.append(figure)
        for path in paths:
            figure.savefig(path, dpi=50)

    monkeypatch.setattr("results.search_figures.save", keep)
    return figures


@pytest.mark.parametrize("count", [0, 1, 60])
def test_every_figure_is_drawn_however_few_trials_there_are(
    tmp_path: Path, drawn: list[Figure], count: int
) -> None:
    tried = trials(count, seed=1)
    paths = [tmp_path / "x.png", tmp_path / "x.pdf"]
    draw_history(tried, "mIoU, %", paths, maximize=True)
    draw_slices(tried, AXES, "mIoU, %", paths)
    draw_heat_map(heat_map(tried, THETA, SELECTOR), "mIoU, %", paths)
    draw_front(tried, [0], ("mIoU, %", "GPU-hours"), paths)
    draw_parallel(tried, AXES, "mIoU, %", paths)
    assert all(path.stat().st_size > 500 for path in paths)
    complete = [trial for trial in tried if trial.state == "complete"]
    history, sliced, _, _, parallel = (figure.axes[0] for figure in drawn)
    shown = [line for line in history.lines if line.get_linestyle() == "None"]
    scored = [t for t in tried if t.state == "complete" or (t.state == "pruned" and t.scores)]
    assert sum(len(line.get_xdata()) for line in shown) == len(scored)
    assert len(sliced.collections[0].get_offsets()) == sum("a.alpha" in t.point for t in complete)
    lines = [line for line in parallel.lines if len(line.get_xdata()) == len(AXES)]
    assert len(lines) == len(complete)


def test_importance_says_where_a_method_knows_nothing(tmp_path: Path, drawn: list[Figure]) -> None:
    shares = {"PED-ANOVA": {"a": 0.7, "b": 0.3}, "fANOVA": {"b": 1.0}}
    draw_importance(shares, {"a": "alpha", "b": "theta"}, [tmp_path / "x.png"])
    texts = [text.get_text() for text in drawn[0].axes[0].texts]
    assert sorted(texts) == ["0.30", "0.70", "1.00", "not known"]


def test_what_confirms_is_paired_by_block() -> None:
    reference = {("1/2", 100): 50.0, ("1/2", 101): 60.0, ("1/2", 102): 55.0}
    better = {block: reference[block] + gain for gain, block in enumerate(reference, start=1)}
    partly = {("1/2", 101): 59.0}
    rows = confirmed(
        [("reference", 54.0, reference), ("a", 61.0, better), ("b", 70.0, partly), ("c", None, {})],
        3,
    )
    assert [row.missing for row in rows] == [0, 0, 2, 3]
    assert rows[0].comparison is None
    assert rows[0].shrinkage == pytest.approx(54 - 55)
    a, b, c = rows[1:]
    assert a.comparison is not None
    assert (a.comparison.mean, a.comparison.n) == (2.0, 3)
    # t(0.975, 2) = 4.3027; the differences' sd is 1.
    assert a.comparison.low == pytest.approx(2 - 4.30265 / math.sqrt(3), abs=1e-4)
    assert a.comparison.high == pytest.approx(2 + 4.30265 / math.sqrt(3), abs=1e-4)
    assert a.comparison.verdict == "unresolved"
    assert a.shrinkage == pytest.approx(61 - 57)
    assert b.comparison is not None
    assert (b.comparison.mean, b.comparison.low, b.comparison.n) == (-1.0, None, 1)
    assert (c.fresh, c.comparison, c.shrinkage) == (None, None, None)
