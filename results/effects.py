"""Takes every cell's numbers by block; gives the differences to the reference, and the best rows.

A block is a split list and a seed: what two variants share, so that differences are paired.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from results.stats.paired import seed_correlation
from results.stats.summary import Comparison
from results.stats.verdict import judge, tell_apart

Place = tuple[str, str]
"""Row and column."""

Values = Mapping[tuple[str, int], float]
"""A cell's numbers by block: hash of the split's lists, seed."""


@dataclass(frozen=True)
class Effects:
    """What a table's numbers say about each other.

    Args:
        differences: to the reference row, by place; none where no block is shared.
        leading: the places that cannot be told from their column's best.
        correlation: of variants and reference over seeds (``seed_correlation``), if it is known.
    """

    differences: Mapping[Place, Comparison]
    leading: frozenset[Place]
    correlation: float | None


def effects(
    values: Mapping[Place, Values],
    rows: Sequence[str],
    columns: Sequence[str],
    reference: str,
    ranked: Sequence[str],
) -> Effects:
    """Compare the cells of a table.

    Args:
        values: per place the numbers of its complete trainings.
        rows, columns: the table's, in order.
        reference: the row that the others are compared with.
        ranked: the columns where more is better, which alone have a best row.
    """
    others = [row for row in rows if row != reference]
    places = [(row, column) for row in others for column in columns]
    pairs = {
        place: _common(values[place], values[reference, place[1]])
        for place in places
        if values[place].keys() & values[reference, place[1]].keys()
    }
    judged = judge([[a - b for a, b in pair] for pair in pairs.values()])
    differences = dict(zip(pairs, judged, strict=True))
    apart = {
        frozenset([place, (reference, place[1])])
        for place, found in differences.items()
        if found.verdict in ("higher", "lower")
    }
    return Effects(
        differences=differences,
        leading=frozenset(
            place for column in ranked for place in _leading(values, rows, column, apart)
        ),
        correlation=seed_correlation(
            ([a for a, _ in pair], [b for _, b in pair]) for pair in pairs.values()
        ),
    )


def _leading(
    values: Mapping[Place, Values],
    rows: Sequence[str],
    column: str,
    apart: set[frozenset[Place]],
) -> Iterator[Place]:
    """The best of a column and whatever is not told from it.

    Who is best is read from the same numbers, so that their difference is one of all the column's
    pairs: Holm goes over all of them. What the table already tells apart (``apart``) stays apart,
    and what shares no two blocks with the best was not compared with it.
    """
    places = [(row, column) for row in rows if len(values[row, column]) > 1]
    if len(places) < 2:  # alone, nothing is best
        return
    common = {pair: _common(values[pair[0]], values[pair[1]]) for pair in combinations(places, 2)}
    tested = {pair: [a - b for a, b in both] for pair, both in common.items() if len(both) > 1}
    told = apart | {
        frozenset(pair)
        for pair, differs in zip(tested, tell_apart(list(tested.values())), strict=True)
        if differs
    }
    best = max(places, key=lambda place: fmean(values[place].values()))
    compared = {frozenset(pair) for pair in tested}
    for place in places:
        pair = frozenset([place, best])
        if place == best or (pair in compared and pair not in told):
            yield place


def _common(ours: Values, theirs: Values) -> list[tuple[float, float]]:
    """Both numbers of every block that both have."""
    return [(ours[block], theirs[block]) for block in sorted(ours.keys() & theirs.keys())]
