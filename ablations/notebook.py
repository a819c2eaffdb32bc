"""Takes a store's location; gives its runs and tables to Python and to notebooks."""

from os import PathLike
from pathlib import Path

from ablations.expand import Options, expand
from ablations.places import Places
from ablations.spec import PAPERS, load_setting, load_specs
from ablations.tabulate import tabulate
from csl.errors import InputError
from csl.locations import Locations
from results.store import Store as Records
from results.table import Rule, Table


class Store(Records):
    """A store whose tables can be asked for; see ``results.Store`` for its records."""

    def table(
        self,
        spec: str,
        setting: str = "shapes",
        *,
        seeds: tuple[int, ...] | None = None,
        splits: tuple[str, ...] | None = None,
        set: tuple[str, ...] = (),  # as the command's option
        profile: str = "official",
        rule: Rule = "best",
        data_root: str | PathLike[str] | None = None,
        weights: str | PathLike[str] | None = None,
    ) -> Table:
        """What ``csl table`` prints: rich in a notebook, text by ``print``.

        Args:
            spec: a packaged spec's name or the path of a .yaml.
            setting: where its trainings ran.
            seeds, splits: instead of the spec's.
            set: overrides, each as ``key=value``.
            profile: ``official`` or ``paper``.
            rule: which epoch of a training counts.
            data_root, weights: needed only where a store has one recipe for several datasets.

        Raises:
            InputError: a name or a value is faulty, or it is a campaign of several tables.
            StoreError: the store is out of reach.
        """
        specs = load_specs(spec)
        if len(specs) != 1:
            raise InputError(
                f"these are {len(specs)} tables",
                key="spec",
                value=spec,
                remedy=f"name one of them: {', '.join(each.name for each, _ in specs)}",
            )
        where = None if setting == PAPERS else load_setting(setting)
        grid = expand(specs[0], where, Options(profile, set, splits, seeds))
        root, file = (None if path is None else Path(path) for path in (data_root, weights))
        places = Places(Locations(data_root=root, weights=file))
        (table,) = tabulate([grid], places, self.latest(), rule)
        return table
