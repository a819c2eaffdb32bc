"""Small pure functions on numbers: what a table says of means, differences, ranks and seeds.

How tables use them, and why so: docs/decisions/0009-statistics.md. ``bootstrap`` and ``aggregate``
are imported by their own names.
"""

from results.stats.agreement import kendall_tau, same_sign
from results.stats.paired import Interval, paired_p, seed_correlation, sign_flip_p, t_interval, t_p
from results.stats.power import seeds_to_resolve
from results.stats.summary import Summary, summarize
from results.stats.verdict import LEVEL, Comparison, holm, judge

__all__ = [
    "LEVEL",
    "Comparison",
    "Interval",
    "Summary",
    "holm",
    "judge",
    "kendall_tau",
    "paired_p",
    "same_sign",
    "seed_correlation",
    "seeds_to_resolve",
    "sign_flip_p",
    "summarize",
    "t_interval",
    "t_p",
]
