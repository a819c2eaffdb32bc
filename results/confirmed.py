"""Takes scores of a search and of fresh seeds; gives what is left of the first in the second."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import special

from results.stats import Summary, summarize

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
        difference: mean over common blocks, row minus reference; None for the reference itself.
        low, high: its 95% paired t interval; None below two common blocks.
        blocks: how many are common.
    """

    name: str
    searched: float | None
    fresh: Summary | None
    missing: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    blocks: int = 0

    @property
    def shrinkage(self) -> float | None:
        """What the search promised too much."""
        if self.searched is None or self.fresh is None:
            return None
        return self.searched - self.fresh.mean


def confirmed(
    rows: Sequence[tuple[str, float | None, Mapping[Block, float]]], blocks: int
) -> tuple[Confirmed, ...]:
    """Each row with its difference to the first, the reference.

    Args:
        rows: names, search scores, and fresh scores by block.
        blocks: how many each row should have.
    """
    reference = rows[0][2]
    return tuple(
        _row(name, searched, fresh, None if index == 0 else reference, blocks)
        for index, (name, searched, fresh) in enumerate(rows)
    )


def _row(
    name: str,
    searched: float | None,
    fresh: Mapping[Block, float],
    reference: Mapping[Block, float] | None,
    blocks: int,
) -> Confirmed:
    summary = summarize([*fresh.values()]) if fresh else None
    row = Confirmed(name, searched, summary, blocks - len(fresh))
    common = [block for block in fresh if reference is not None and block in reference]
    if reference is None or not common:
        return row
    own = summarize([fresh[block] - reference[block] for block in common])
    low = high = None
    if own.sd is not None:
        half = float(special.stdtrit(own.n - 1, 0.975)) * own.sd / own.n**0.5
        low, high = own.mean - half, own.mean + half
    return Confirmed(name, searched, summary, row.missing, own.mean, low, high, len(common))
