"""Takes the command-line options that name a grid; gives the grid, its data and its store."""

import getpass
import inspect
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ablations.expand import Grid, Options, expand
from ablations.spec import load_setting, load_spec
from csl.errors import InputError
from csl.locations import Locations
from results.store import Store

StoreOption = Annotated[
    str, typer.Option("--store", envvar="CSL_STORE", help="The folder that keeps every record.")
]
DEFAULT_STORE = "csl-store"
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


@dataclass(frozen=True)
class Request:
    """What every command about a grid takes: a spec, a setting, and what is changed of them."""

    spec: Annotated[str, typer.Argument(help="A packaged spec (table5) or a .yaml file.")]
    setting: Annotated[
        str, typer.Option(help="Where to run it: a packaged setting or a .yaml file.")
    ] = "shapes"
    store: StoreOption = DEFAULT_STORE
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

    cache: CacheOption = DEFAULT_CACHE
    cache_gb: Annotated[float, typer.Option(min=0, help="The most that --cache may hold.")] = 8.0

    @property
    def locations(self) -> Locations:
        """Where data and weights lie."""
        return Locations(
            self.data_root,
            self.splits_root,
            self.weights,
            cache_folder(self.cache),
            int(self.cache_gb * 10**9),
        )

    def open_store(self) -> Store:
        """The store; nothing is touched yet."""
        return Store(self.store)

    def grid(self) -> Grid:
        """The grid that is asked for.

        Raises:
            InputError: any part of it is unknown or does not fit.
        """
        options = Options(
            profile=self.profile,
            assignments=tuple(self.assignments or ()),
            splits=None if self.splits is None else _distinct("--splits", self.splits),
            seeds=None if self.seeds is None else _seeds(self.seeds),
        )
        return expand(load_spec(self.spec), load_setting(self.setting), options)


def with_request(command: Callable[..., None]) -> Callable[..., None]:
    """Turn a command's first parameter, a ``Request``, into one option per field of it."""
    fields = inspect.signature(Request).parameters
    own = list(inspect.signature(command).parameters.values())[1:]

    def call(**given: Any) -> None:
        command(Request(**{name: given.pop(name) for name in fields}), **given)

    # Typer reads names, defaults and help from the signature and the annotations.
    parameters = [*fields.values(), *own]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    call.__name__, call.__doc__ = command.__name__, command.__doc__
    return call


def _distinct(option: str, text: str) -> tuple[str, ...]:
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
    values = _distinct("--seeds", text)
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
