"""Takes grids and where their data lies; gives the unique trainings behind their cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablations.expand import Cell, Grid
from ablations.places import Places
from csl.errors import InputError
from csl.identity import Identity, Training, identify_all
from csl.locations import Locations
from results.schema import Header


@dataclass(frozen=True)
class Place:
    """Where a training is shown: the grid's index and its cell there."""

    grid: int
    cell: Cell


@dataclass(frozen=True)
class Named:
    """One unique training.

    Args:
        training, locations: what, and where its data lies.
        identity: its name; None where the dataset is not at hand.
        key: the identity that its records have; its recipe where nobody knows better.
        places: every cell that shows it; the first is who asks for it.
    """

    training: Training
    locations: Locations
    identity: Identity | None
    key: str
    places: tuple[Place, ...]


def name_all(
    grids: Sequence[Grid], places: Places, records: Mapping[str, Header]
) -> tuple[Named, ...]:
    """Name every cell's training and join equal ones, in the cells' order.

    Where the dataset is at hand a training is named by identity. Without it (a plan or a table on a
    laptop) it is found among the records by recipe, as long as that is unambiguous.

    Raises:
        InputError: data, lists or weights cannot be used, or the store holds a recipe for two
            datasets and none is given.
    """
    shown: dict[Training, list[Place]] = {}
    for index, grid in enumerate(grids):
        for cell in grid.cells:
            shown.setdefault(cell.training, []).append(Place(index, cell))
    where = {training: places.of(training.config) for training in shown}
    at_hand = [training for training in shown if places.have(training.config)]
    identities = dict(
        zip(at_hand, identify_all((each, where[each]) for each in at_hand), strict=True)
    )
    by_recipe = _by_recipe(records) if len(at_hand) < len(shown) else {}
    found: dict[str, Named] = {}
    for training, cells in shown.items():
        identity = identities.get(training)
        key = identity.id if identity else _recorded(training, by_recipe)
        first = found.get(key, Named(training, where[training], identity, key, ()))
        found[key] = Named(
            first.training, first.locations, first.identity, key, (*first.places, *cells)
        )
    return tuple(found.values())


def _by_recipe(records: Mapping[str, Header]) -> dict[str, list[str]]:
    by_recipe: dict[str, list[str]] = {}
    for key, record in records.items():
        by_recipe.setdefault(record.recipe, []).append(key)
    return by_recipe


def _recorded(training: Training, by_recipe: Mapping[str, list[str]]) -> str:
    candidates = by_recipe.get(training.recipe, [training.recipe])
    if len(candidates) > 1:
        raise InputError(
            f"the store holds this training for {len(candidates)} different datasets",
            key="--data-root",
            value=f"split {training.split}, seed {training.seed}",
            remedy="say which by giving --data-root (and --weights)",
        )
    return candidates[0]
