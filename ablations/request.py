"""Takes the command-line options that name a grid; gives the grid, its data and its store."""

import getpass
import inspect
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

import typer

from ablations.expand import Grid, Options, expand
from ablations.judge import Policy
from ablations.places import Places
from ablations.plan import Limits
from ablations.spec import PAPERS, Occupancy, load_setting, load_specs
from cluster.jobs import Safety
from cluster.schedule import Limits as Ends
from csl.errors import InputError
from csl.locations import Locations
from results.store import Store, work_folder

_SECRETS = ("access_key", "secret_key", "session_token")

StoreOption = Annotated[
    str,
    typer.Option(
        "--store", envvar="CSL_STORE", help="The folder, or s3://..., that keeps every record."
    ),
]
DEFAULT_STORE = "csl-store"
WorkOption = Annotated[
    Path | None,
    typer.Option(
        "--work",
        envvar="CSL_WORK",
        help="With a store on s3:// or gs://: the shared folder of checkpoints, leases, logs.",
    ),
]
CacheOption = Annotated[
    str,
    typer.Option(
        envvar="CSL_CACHE",
        help="Each machine's folder for decoded images; none: decode each time.",
    ),
]
DEFAULT_CACHE = str(Path(tempfile.gettempdir()) / f"csl-cache-{getpass.getuser()}")
_DIGITS = 10  # of the largest seed


def cache_folder(option: str) -> Path | None:
    """What --cache means."""
    return None if option == "none" else Path(option)


def existing(key: str, location: str) -> Store:
    """A store that is there: a mistyped name reads as an empty one.

    Args:
        key: the argument that names it.
        location: as ``Store`` takes it.

    Raises:
        InputError: there is none.
        StoreError: the location cannot be read.
    """
    store = Store(location)
    if not store.files.exist:
        raise InputError(
            "there is no store here",
            key=key,
            value=location,
            remedy="name the store that csl run wrote",
        )
    return store


def to_read(location: str, work: Path | None = None) -> Store:
    """A store that is looked at; that it is not there yet is said, and no error.

    Raises:
        StoreError: the location cannot be read.
    """
    store = Store(location, work)
    if not store.files.exist:
        warnings.warn(f"there is no store at {location} yet (--store)", stacklevel=2)
    return store


def refuse_credentials(store: str) -> None:
    """Refuse a store's address with a secret in it.

    Raises:
        InputError: it has one.
    """
    parts = urlsplit(store) if "://" in store else None
    if parts and ("@" in parts.netloc or any(key in _SECRETS for key, _ in parse_qsl(parts.query))):
        raise InputError(
            "the address has credentials, and records and jobs name the command that made them",
            key="--store",
            remedy="leave them out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )


@dataclass(frozen=True)
class Request:
    """What every command about a grid takes: a spec, a setting, and what is changed of them."""

    spec: Annotated[
        str,
        typer.Argument(
            help="A packaged spec (table5) or campaign (paper), a .yaml file, or several, "
            "separated by commas."
        ),
    ]
    setting: Annotated[
        str,
        typer.Option(
            help="Where to run it: a packaged setting, a .yaml file, or paper: each spec where "
            "the paper ran it."
        ),
    ] = "shapes"
    store: StoreOption = DEFAULT_STORE
    work: WorkOption = None
    data_root: Annotated[
        Path | None, typer.Option(envvar="CSL_DATA_ROOT", help="The dataset's folder.")
    ] = None
    splits_root: Annotated[
        Path | None, typer.Option(help="The split lists' folder, if elsewhere.")
    ] = None
    weights: Annotated[
        Path | None, typer.Option(envvar="CSL_WEIGHTS", help="The backbone's .pth or .safetensors.")
    ] = None
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Override key=value; may be repeated.")
    ] = None
    profile: Annotated[
        str, typer.Option(help="official: as the code has it; paper: as the text says.")
    ] = "official"
    splits: Annotated[str | None, typer.Option(help="Only these splits: 1/16,1/2.")] = None
    seeds: Annotated[str | None, typer.Option(help="These seeds instead: 0,1,2.")] = None

    places_file: Annotated[
        Path | None,
        typer.Option(
            "--places", envvar="CSL_PLACES", help="A .yaml of datasets and weights files."
        ),
    ] = None
    cache: CacheOption = DEFAULT_CACHE
    cache_gb: Annotated[
        float, typer.Option(min=0, max=10**6, help="The most that --cache may hold.")
    ] = 8.0

    @cached_property
    def places(self) -> Places:
        """Where data and weights lie.

        Raises:
            InputError: the places file cannot be used.
        """
        common = Locations(
            self.data_root,
            self.splits_root,
            self.weights,
            cache_folder(self.cache),
            int(self.cache_gb * 10**9),
        )
        return Places.read(common, self.places_file)

    def open_store(self) -> Store:
        """The store; nothing is touched yet."""
        return Store(self.store, self.work)

    def open_to_read(self) -> Store:
        """The store, for looking at it; see ``to_read``."""
        return to_read(self.store, self.work)

    def open_for_training(self) -> Store:
        """The store, for training.

        Raises:
            StoreError: it has no work folder.
            InputError: its address has a secret in it, which every record would have too.
        """
        refuse_credentials(self.store)
        work_folder(self.store, self.work)
        return self.open_store()

    @property
    def options(self) -> Options:
        """What the command line changes of the spec and its setting.

        Raises:
            InputError: a list of it is none.
        """
        return Options(
            profile=self.profile,
            assignments=tuple(self.assignments or ()),
            splits=None if self.splits is None else distinct("--splits", self.splits),
            seeds=None if self.seeds is None else _seeds(self.seeds),
        )

    @cached_property
    def grids(self) -> tuple[Grid, ...]:
        """The grids that are asked for.

        Raises:
            InputError: any part of them is unknown or does not fit.
        """
        setting = None if self.setting == PAPERS else load_setting(self.setting)
        return tuple(expand(spec, setting, self.options) for spec in load_specs(self.spec))


class CodeChoice(StrEnum):
    """Whether records of other sources count."""

    strict = "strict"
    warn = "warn"
    ignore = "ignore"


@dataclass(frozen=True)
class Choice:
    """What every command about a plan takes: which records count, and how much is run."""

    code: Annotated[
        CodeChoice,
        typer.Option(help="Records of other sources: strict trains again, warn says so."),
    ] = CodeChoice.warn
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also run again what would fail the same way.")
    ] = False
    force: Annotated[
        bool, typer.Option("--force", help="Run everything again; the new records count.")
    ] = False
    priority: Annotated[str | None, typer.Option(help="These specs first: table5,table7.")] = None
    max_runs: Annotated[int | None, typer.Option(min=0, help="No more trainings than so many.")] = (
        None
    )
    budget: Annotated[
        str | None, typer.Option(help="No more than this is expected to take: 40gpuh, or 8h.")
    ] = None
    slots: Annotated[
        int, typer.Option(min=1, help="Trainings at once, for the expected wall time.")
    ] = 1

    @property
    def policy(self) -> Policy:
        """Which records count."""
        return Policy(self.code.value, self.retry_failed, self.force)

    @property
    def limits(self) -> Limits:
        """How much is run, in which order.

        Raises:
            InputError: the budget is none.
        """
        first = () if self.priority is None else distinct("--priority", self.priority)
        hours = None if self.budget is None else _hours(self.budget)
        return Limits(self.slots, first, self.max_runs, hours)


@dataclass(frozen=True)
class Launch:
    """What every command that trains takes: where on Ray, and how a training is guarded."""

    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes per training (Ray Train if > 1).  [default: the setting's, 1]"
        ),
    ] = None
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(min=0, help="Default: the setting's, or 1 where the cluster has GPUs."),
    ] = None
    cpus: Annotated[
        int | None, typer.Option(min=1, help="CPUs of the local Ray; default: all.")
    ] = None
    loader_workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes that prepare batches; default: up to 4 with a GPU."),
    ] = None
    address: Annotated[
        str | None,
        typer.Option(
            help="Join the Ray at host:port (auto: on this machine), or hand the run over to "
            "the one whose dashboard is at http://host:port."
        ),
    ] = None
    checkpoint_steps: Annotated[
        int, typer.Option(min=1, help="Steps between checkpoints within an epoch.")
    ] = 1000
    hang_minutes: Annotated[
        float, typer.Option(min=0.01, help="A worker without a step for so long is restarted.")
    ] = 30
    lease_seconds: Annotated[
        float, typer.Option(min=1, help="Another run takes over from one that is silent so long.")
    ] = 120
    store_minutes: Annotated[
        float, typer.Option(min=0.01, help="An object store out of reach so long stops the run.")
    ] = 10
    stop_after_failures: Annotated[
        int, typer.Option(min=0, help="Give up if the first so many all fail alike; 0: never.")
    ] = 3
    max_hours: Annotated[
        float | None, typer.Option(min=0, help="Stop after so long, to be gone on with later.")
    ] = None

    def occupancy(self, setting: Occupancy) -> Occupancy:
        """What a training occupies, where the setting says this."""
        gpus = setting.gpus if self.gpus_per_worker is None else self.gpus_per_worker
        return Occupancy(workers=self.workers or setting.workers, gpus=gpus)

    @property
    def safety(self) -> Safety:
        """How each training is guarded."""
        return Safety(
            self.checkpoint_steps,
            60 * self.hang_minutes,
            self.lease_seconds,
            60 * self.store_minutes,
        )

    @property
    def ends(self) -> Ends:
        """When to end early."""
        hours = self.max_hours
        return Ends(self.stop_after_failures, None if hours is None else 3600 * hours)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Turn each parameter that is a dataclass of options into one option per field of it."""
    own = inspect.signature(command).parameters
    groups: dict[str, Any] = {
        name: each.annotation for name, each in own.items() if is_dataclass(each.annotation)
    }
    fields = {name: inspect.signature(group).parameters for name, group in groups.items()}

    def call(**given: Any) -> None:
        made = {
            name: groups[name](**{field: given.pop(field) for field in fields[name]})
            for name in groups
        }
        command(**made, **given)

    # Typer reads names, defaults and help from the signature and the annotations.
    parameters = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in own.items()
        for each in (fields[name].values() if name in groups else (parameter,))
    ]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    call.__name__, call.__doc__ = command.__name__, command.__doc__
    return call


def _hours(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(gpu)?h", text)
    if found is None:
        raise InputError(
            "not a budget",
            key="--budget",
            value=text,
            remedy="give GPU-hours such as 40gpuh, or hours of CPU slots such as 8h",
        )
    return float(found[1])


def distinct(option: str, text: str) -> tuple[str, ...]:
    """The values of an option that takes several.

    Raises:
        InputError: one is empty, or named twice.
    """
    values = tuple(part.strip() for part in text.split(","))
    if len(set(values)) < len(values) or not all(values):
        raise InputError(
            "empty or named twice",
            key=option,
            value=text,
            remedy="separate different values by commas",
        )
    return values


def _seeds(text: str) -> tuple[int, ...]:
    values = distinct("--seeds", text)
    for value in values:
        # Written as a number is printed: 0 and 00 are one seed.
        if not (value.isascii() and value.isdecimal() and len(value) <= _DIGITS) or (
            int(value) >= 2**31 or str(int(value)) != value
        ):
            raise InputError(
                "not a seed",
                key="--seeds",
                value=value,
                remedy="give whole numbers from 0 to 2^31-1",
            )
    return tuple(map(int, values))
