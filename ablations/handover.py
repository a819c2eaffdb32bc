"""Takes a command line typed on a laptop; gives the one that a cluster's head runs in its place."""

import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ablations.documents import mapping
from ablations.request import DEFAULT_STORE, Request, refuse_credentials
from cluster.connect import is_submission
from cluster.submission import submit
from csl.errors import InputError

RuntimeEnvOption = Annotated[
    Path | None,
    typer.Option(help="With http://: a .yaml file of what Ray installs on its nodes first."),
]
_HERE_ONLY = ("--address", "--runtime-env")
_YAML = (".yaml", ".yml")
_STORE_THERE = '"${CSL_STORE:?give --store, or set CSL_STORE on the head}"'


def hand_over(
    request: Request, arguments: Sequence[str], address: str | None, environment: Path | None
) -> bool:
    """If the address asks for that, have a cluster's head run this, and say how to follow it.

    Args:
        request: what the arguments mean here, all of it valid; specs and settings of one's own go
            along.
        arguments: what followed ``csl``.
        address: the head's dashboard; anything else is joined from here.
        environment: a YAML file with a runtime environment for Ray to make there.

    Returns:
        Whether it was handed over.

    Raises:
        InputError: any part of it cannot be understood, or cannot be meant for another machine.
    """
    if address is None or not is_submission(address):
        if environment is not None:
            raise InputError(
                "only what is handed over has a runtime environment of its own",
                key="--runtime-env",
                value=environment,
                remedy="give --address http://HEAD:8265, or leave it out",
            )
        return False
    check_places(request)
    made = {} if environment is None else mapping(environment)
    with tempfile.TemporaryDirectory() as folder:
        collect_files(request, Path(folder))
        job = submit(
            address, command_there(arguments, request.store, request.work), Path(folder), made
        )
    print(f"{address} runs it as {job}, whatever becomes of this machine.")
    print(f"follow: csl watch {job} --address {address}")
    print(f"stop:   csl cancel {job} --address {address}")
    return True


def command_there(arguments: Sequence[str], store: str, work: Path | None = None) -> str:
    """The shell command for the head: the same, on the Ray that it finds there.

    Args:
        arguments: what followed ``csl`` here.
        store: the store as it was understood here; unsaid, the head's ``CSL_STORE`` counts.
        work: its work folder as it was understood here; unsaid, the head's ``CSL_WORK`` counts.
    """
    kept: list[str] = []
    rest = iter(arguments)
    for word in rest:
        option, equals, _ = word.partition("=")
        if option not in (*_HERE_ONLY, "--store", "--work"):
            kept.append(word)
        elif not equals:
            next(rest, None)
    there = shlex.quote(store) if says(arguments, "--store") else _STORE_THERE
    command = f"{shlex.join(['csl', *kept, '--address', 'auto'])} --store {there}"
    if work is None or not says(arguments, "--work"):
        return command
    return f"{command} --work {shlex.quote(str(work))}"


def says(arguments: Sequence[str], option: str) -> bool:
    """Whether an option stands on the command line: what only the environment says is meant for
    this machine, and the head has its own."""
    return any(word.partition("=")[0] == option for word in arguments)


def check_places(request: Request) -> None:
    """Refuse paths that mean something here only.

    Raises:
        InputError: a relative path of the cluster's.
    """
    paths: dict[str, Path | None] = {
        "--data-root": request.data_root,
        "--splits-root": request.splits_root,
        "--weights": request.weights,
    }
    check_store(request.store, request.work)
    for option, path in paths.items():
        if path is not None and not path.is_absolute():
            raise _relative(option, path)


def check_store(store: str, work: Path | None) -> None:
    """Refuse a store, or a work folder, whose place depends on where csl is called.

    Raises:
        InputError: it is a relative path, or has a secret in it.
    """
    refuse_credentials(store)
    if work is not None and not work.is_absolute():
        raise _relative("--work", work)
    if store != DEFAULT_STORE and "://" not in store and not Path(store).is_absolute():
        raise _relative("--store", store)


def collect_files(request: Request, folder: Path) -> None:
    """Copy one's own specs, settings and places into ``folder``, at the same relative paths.

    With each goes every other YAML file beside it, as they may name each other.

    Raises:
        InputError: a file lies outside the current folder.
    """
    names = [*request.spec.split(","), request.setting, str(request.places_file or "")]
    for name in (name.strip() for name in names):
        path = Path(name)
        if path.suffix not in _YAML or path.is_absolute():
            continue  # packaged, or on storage that the head sees at the same path
        if ".." in path.parts:
            raise InputError(
                "only files below the current folder go to the cluster",
                file=path,
                remedy="call csl from a folder above it",
            )
        for beside in path.parent.iterdir():
            if beside.suffix in _YAML and beside.is_file():
                (folder / path.parent).mkdir(parents=True, exist_ok=True)
                shutil.copy(beside, folder / path.parent)


def _relative(option: str, path: object) -> InputError:
    return InputError(
        "this path is relative, and the run is elsewhere",
        key=option,
        value=path,
        remedy="give the whole path, as the cluster's nodes see it",
    )
