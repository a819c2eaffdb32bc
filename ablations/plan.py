"""Takes grids and a store; gives their unique trainings, why each does or does not run, in order.

Nothing is written, and neither torch nor ray is imported.
"""

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from ablations.cost import Estimate, Estimator, Price, price
from ablations.expand import Grid
from ablations.judge import USUAL, History, Policy, State, Verdict
from ablations.naming import Named, name_all
from ablations.places import Places
from ablations.spec import Occupancy
from cluster.jobs import read_code
from csl.errors import InputError
from csl.identity import Identity, Training
from csl.locations import Locations
from results.store import Store


@dataclass(frozen=True)
class Planned:
    """One unique training of a plan.

    Args:
        named: what it is and which cells show it.
        labels: what those cells are called; the first is who asks for it.
        verdict: its state and the reason.
        estimate: what it will probably cost; None if nobody knows.
        supersedes: complete attempts that it would replace if it ran.
        cut: whether it would run, but is beyond ``--budget`` or ``--max-runs``.
    """

    named: Named
    labels: tuple[str, ...]
    verdict: Verdict
    estimate: Estimate | None
    supersedes: tuple[str, ...] = ()
    cut: bool = False

    @property
    def training(self) -> Training:
        """What is trained."""
        return self.named.training

    @property
    def identity(self) -> Identity:
        """Its name; planned for a run, every training has one."""
        assert self.named.identity is not None, "the dataset is at hand"
        return self.named.identity

    @property
    def locations(self) -> Locations:
        """Where its data lies."""
        return self.named.locations

    @property
    def occupancy(self) -> Occupancy:
        """What it occupies where nobody says otherwise: its setting's."""
        return self.named.places[0].cell.setting.resources

    @property
    def state(self) -> State:
        """``stored`` and ``failed`` do not run; ``unfinished`` resumes from its checkpoint."""
        return self.verdict.state

    @property
    def runs(self) -> bool:
        """Whether a run would launch it."""
        return self.state in ("unfinished", "new") and not self.cut


@dataclass(frozen=True)
class Limits:
    """How much of a plan is run, and in which order.

    Args:
        slots: how many trainings run at once, for the price's wall time.
        first: names of specs that go first.
        max_runs, max_hours: no more trainings, no more GPU-hours (hours on CPUs) than these.
    """

    slots: int = 1
    first: tuple[str, ...] = ()
    max_runs: int | None = None
    max_hours: float | None = None


@dataclass(frozen=True)
class Share:
    """What one grid of a plan needs.

    Args:
        cells: its cells, over all seeds.
        unique: its trainings.
        adds: those that no grid before it has.
        shared: the others, by the first grid that has them.
        states: its trainings by state.
        cost: of what is to run of those it adds.
    """

    name: str
    cells: int
    unique: int
    adds: int
    shared: dict[str, int]
    states: dict[str, int]
    cost: Price


@dataclass(frozen=True)
class Plan:
    """What grids need, against what a store has; trainings in the order in which they would run."""

    grids: tuple[Grid, ...]
    store: Store
    trainings: tuple[Planned, ...]
    slots: int = 1

    @property
    def to_run(self) -> tuple[Planned, ...]:
        """The trainings that a run would launch, in order."""
        return tuple(each for each in self.trainings if each.runs)

    @property
    def cells(self) -> int:
        """Cells of all grids, over all seeds."""
        return sum(grid.asked for grid in self.grids)

    @property
    def cost(self) -> Price:
        """Of what is to run."""
        return price([each.estimate for each in self.to_run], self.slots)

    @property
    def reasons(self) -> dict[str, int]:
        """How many trainings run, by the kind of reason."""
        return dict(Counter(each.verdict.kind for each in self.to_run).most_common())

    def shares(self) -> tuple[Share, ...]:
        """What each grid needs, and what it shares with those before it."""
        return tuple(self._share(index) for index in range(len(self.grids)))

    def _share(self, index: int) -> Share:
        grid = self.grids[index]
        own = [each for each in self.trainings if index in _grids(each)]
        added = [each for each in own if min(_grids(each)) == index]
        owners = Counter(min(_grids(each)) for each in own)
        return Share(
            name=grid.spec.name,
            cells=grid.asked,
            unique=len(own),
            adds=len(added),
            shared={self.grids[i].spec.name: n for i, n in sorted(owners.items()) if i != index},
            states=dict(Counter(each.state for each in own)),
            cost=price([each.estimate for each in added if each.runs], self.slots),
        )


def _grids(planned: Planned) -> set[int]:
    return {place.grid for place in planned.named.places}


def make_plan(
    grids: Sequence[Grid],
    places: Places,
    store: Store,
    policy: Policy = USUAL,
    limits: Limits = Limits(),
) -> Plan:
    """Name every cell's training, join equal ones, look each up in the store, and put in order.

    Raises:
        InputError: a dataset, its lists or the weights cannot be used; a limit is on a spec that is
            not there, or on hours that nobody knows.
    """
    history = History(store, read_code().fingerprint, policy)
    estimator = Estimator(history.headers)
    trainings = []
    for named in name_all(grids, places, history.latest):
        labels = tuple(dict.fromkeys(grids[p.grid].label(p.cell) for p in named.places))
        steps = named.identity.steps if named.identity else None
        estimate = estimator.estimate(named.training.config, steps)
        verdict = history.judge(named, labels)
        replaced = history.superseded(named.key)
        trainings.append(Planned(named, labels, verdict, estimate, replaced))
    ordered = _ordered(trainings, grids, limits.first)
    return Plan(tuple(grids), store, _cut(ordered, limits), limits.slots)


def _ordered(
    trainings: Sequence[Planned], grids: Sequence[Grid], first: Sequence[str]
) -> list[Planned]:
    """Seed-major, so that after one seed every table is readable; specs of ``first`` before all.

    Within a seed what most tables show comes first; the rest is shuffled, by identity, so that no
    variant always runs at the same time of day.
    """
    names = [grid.spec.name for grid in grids]
    for name in first:
        if name not in names:
            raise InputError(
                "no spec of this plan has this name",
                key="--priority",
                value=name,
                remedy=f"use one of {', '.join(names)}",
            )
    rank = {names.index(name): place for place, name in enumerate(first)}

    def key(each: Planned) -> tuple[int, int, int, str]:
        wanted_by = _grids(each)
        priority = min(rank.get(grid, len(first)) for grid in wanted_by)
        shuffled = hashlib.sha256(each.named.key.encode()).hexdigest()
        return priority, each.training.seed, -len(wanted_by), shuffled

    return sorted(trainings, key=key)


def _cut(trainings: Sequence[Planned], limits: Limits) -> tuple[Planned, ...]:
    """Mark what is beyond the limits; what runs is the longest start of the order within them."""
    wanted = [each for each in trainings if each.runs]
    allowed = wanted[: limits.max_runs]
    if limits.max_hours is not None:
        unknown = sum(each.estimate is None for each in wanted)
        if unknown:
            raise InputError(
                f"a budget cannot be kept: nobody knows what {unknown} of the trainings cost",
                key="--budget",
                value=f"{limits.max_hours:g}",
                remedy="train one of them first (--max-runs 1), then the others have a price",
            )
        spent = list(accumulate(each.estimate.hours[0] for each in allowed if each.estimate))
        allowed = allowed[: bisect_right(spent, limits.max_hours)]
    kept = {each.named.key for each in allowed}
    return tuple(replace(each, cut=each.runs and each.named.key not in kept) for each in trainings)
