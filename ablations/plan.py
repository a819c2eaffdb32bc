"""Takes a grid, the data's place and a store; gives the unique trainings and why each would run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ablations.expand import Cell, Grid
from csl.identity import Identity, Training, identify_all
from csl.locations import Locations
from results.schema import FINAL_FAILURES, Header
from results.store import Store

State = Literal["stored", "failed", "unfinished", "new"]


@dataclass(frozen=True)
class Planned:
    """One unique training of a plan.

    Args:
        training, identity: what it is.
        labels: every cell that shows it, the first is who asks for it.
        state: ``stored`` and ``failed`` do not run; ``unfinished`` resumes from its checkpoint.
        reason: why, in a clause.
    """

    training: Training
    identity: Identity
    labels: tuple[str, ...]
    state: State
    reason: str

    @property
    def runs(self) -> bool:
        """Whether a run would launch it."""
        return self.state in ("unfinished", "new")


@dataclass(frozen=True)
class Plan:
    """What a grid needs, against what a store has."""

    grid: Grid
    store: Store
    trainings: tuple[Planned, ...]

    @property
    def to_run(self) -> tuple[Planned, ...]:
        """The trainings that a run would launch, in order."""
        return tuple(each for each in self.trainings if each.runs)


def make_plan(
    grid: Grid, locations: Locations, store: Store, *, retry_failed: bool = False
) -> Plan:
    """Name every cell's training, join equal ones, and look each up in the store.

    Args:
        retry_failed: also run again what failed in a way that would repeat.

    Raises:
        InputError: the dataset, its lists or the weights cannot be used.
    """
    records = store.latest()
    found: dict[str, tuple[Cell, Identity, list[str]]] = {}
    identities = identify_all((cell.training for cell in grid.cells), locations)
    for cell, identity in zip(grid.cells, identities, strict=True):
        found.setdefault(identity.id, (cell, identity, []))[2].append(grid.label(cell))
    trainings = []
    for cell, identity, labels in found.values():
        state, reason = _judge(records.get(identity.id), identity, store, retry_failed)
        trainings.append(Planned(cell.training, identity, tuple(labels), state, reason))
    return Plan(grid, store, tuple(trainings))


def _judge(
    record: Header | None, identity: Identity, store: Store, retry_failed: bool
) -> tuple[State, str]:
    if record is not None and record.failure is None:
        return "stored", f"complete in {record.launched_as}"
    if record is not None and record.failure in FINAL_FAILURES and not retry_failed:
        return "failed", f"{record.failure}: it would fail again; --retry-failed runs it anyway"
    if any((Path(store.location) / "checkpoints" / identity.id).glob("*resume.pt")):
        return "unfinished", "resumes from its checkpoint"
    if record is not None:
        return "new", f"runs again after: {record.failure}"
    return "new", "not in the store"
