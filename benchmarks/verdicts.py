"""How often tables say what is not so: simulated tables of variants that are all the same.

    python benchmarks/verdicts.py

A table is a reference and four variants on two splits, as Table 5. A number is the seed's part,
which all variants share, and the training's own, of the noise that the line names. Printed is the
share of tables, in percent, that show any verdict (at most 5 are promised for normal noise), then
the share of columns where a row is not bold, and of 95% intervals that hold the true effect.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from results.stats.paired import paired_p, t_interval
from results.stats.verdict import LEVEL, holm

SEEDS = (2, 3, 4, 5, 6, 8, 9, 10)
TABLES = 20_000
SPLITS, ROWS = 2, 5
BATCH = 1000

Noise = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]
NOISE: dict[str, Noise] = {
    "normal": lambda random, shape: random.normal(size=shape),
    "heavy tails (t, 3 degrees)": lambda random, shape: random.standard_t(3, size=shape),
    "skewed (exponential)": lambda random, shape: random.exponential(size=shape),
    "two modes, 10 sd apart": lambda random, shape: (
        random.normal(size=shape) + 10 * random.integers(0, 2, size=shape)
    ),
}


def told(differences: NDArray[np.float64]) -> NDArray[np.bool_]:
    """What is told apart, of [tables, comparisons, seeds]; the rule of ``verdict.judge``."""
    interval = t_interval(differences)
    outside = (interval.low > 0) | (interval.high < 0)
    p = paired_p(differences, differences.shape[1], LEVEL)
    found: NDArray[np.bool_] = outside & (holm(p) < LEVEL)
    return found


def simulate(noise: Noise, seeds: int) -> tuple[float, float, float]:
    """Tables with a verdict, columns with a row that is not bold, intervals that cover; percent."""
    random = np.random.default_rng(seeds)
    verdicts, dull, covered = [], [], []
    upper, lower = np.triu_indices(ROWS, 1)
    for _ in range(TABLES // BATCH):
        shape = (BATCH, SPLITS, ROWS, seeds)
        runs = noise(random, shape) + random.normal(size=(BATCH, SPLITS, 1, seeds))
        differences = runs[:, :, 1:] - runs[:, :, :1]
        verdicts.append(told(differences.reshape(BATCH, -1, seeds)).any(axis=1))
        interval = t_interval(differences)
        covered.append((interval.low <= 0) & (interval.high >= 0))
        column = runs[:, 0]
        apart = told(column[:, upper] - column[:, lower])
        best = column.mean(axis=-1).argmax(axis=-1)[:, None]
        dull.append((apart & ((upper == best) | (lower == best))).any(axis=1))
    return tuple(100 * float(np.mean(each)) for each in (verdicts, dull, covered))  # type: ignore


def main() -> None:
    """Print a line per kind of noise and question."""
    print("| noise | | " + " | ".join(f"n={seeds}" for seeds in SEEDS) + " |")
    print("|---|---|" + "---|" * len(SEEDS))
    for name, noise in NOISE.items():
        found = zip(*(simulate(noise, seeds) for seeds in SEEDS), strict=True)
        for what, shares in zip(("verdict", "not bold", "covered"), found, strict=True):
            print(f"| {name} | {what} | " + " | ".join(f"{share:.1f}" for share in shares) + " |")


if __name__ == "__main__":
    main()
