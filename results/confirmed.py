"""Takes scores of a search and of fresh seeds; gives what is left of the first in the second."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from results.stats.summary import Comparison, Summary, summarize
from results.stats.verdict import judge

Block = tuple[str, int]
"""A split and a seed."""


@dataclass(frozen=True)
class Confirmed:
    """One row: the reference, or a trial that the search found good.

    Args:
        name: of the row.
        searched: its score in the search; None if it was no trial there.
        fresh: its scores on the seeds that confirm; None without any.
        missing: how many of those are not there, failed ones among them.
        comparison: with the reference, over common blocks; None for the reference itself.
    """

    name: str
    searched: float | None
    fresh: Summary | None
    missing: int
    comparison: Comparison | None = None

    @property
    def shrinkage(self) -> float | None:
        """What the search promised too much."""
        if self.searched is None or self.fresh is None:
            return None
        return self.searched - self.fresh.mean


def confirmed(
    rows: Sequence[tuple[str, float | None, Mapping[Block, float]]], blocks: int
) -> tuple[Confirmed, ...]:
    """Each row with its difference to the first, the reference; p values are Holm's over all rows.

    Args:
        rows: names, search scores, and fresh scores by block.
        blocks: how many each row should have.
    """
    reference = rows[0][2]
    differences = {
        index: [fresh[block] - reference[block] for block in fresh if block in reference]
        for index, (_, _, fresh) in enumerate(rows[1:], start=1)
    }
    compared = {index: each for index, each in differences.items() if each}
    judged = dict(zip(compared, judge([*compared.values()]), strict=True))
    return tuple(
        Confirmed(
            name,
            searched,
            summarize([*fresh.values()]) if fresh else None,
            blocks - len(fresh),
            judged.get(index),
        )
        for index, (name, searched, fresh) in enumerate(rows)
    )
