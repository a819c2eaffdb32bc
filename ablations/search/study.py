"""Takes a store and a problem; gives the Optuna study of it, new or as it was left."""

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.exc import SQLAlchemyError

from ablations.search.problem import Problem
from ablations.search.spec import Objective
from csl.config import flatten
from csl.errors import InputError
from csl.identity import decisive

FOLDER = "studies"
DIRECTIONS: dict[Objective, Literal["maximize", "minimize"]] = {
    "miou": "maximize",
    "worst_class": "maximize",
    "gpu_hours": "minimize",
}
_ABOUT = "search"
_ELSEWHERE = "give the new search a study of its own (--study NAME), or change it back"


def study_name(problem: Problem) -> str:
    """What a search's study is called where nobody says otherwise."""
    return f"{problem.spec.name}-{problem.setting.name}"


def journal(work: Path, name: str) -> Path:
    """The file of a study, in a store's work folder."""
    return work / FOLDER / f"{name}.journal"


def open_study(problem: Problem, work: Path, name: str, url: str | None) -> optuna.Study:
    """Create the study, or go on with it.

    Args:
        problem: what is searched.
        work: the store's work folder; the study is a journal in it.
        name: the study's.
        url: of a database instead, as SQLAlchemy has it.

    Raises:
        InputError: the storage cannot be used, or the study is of another search.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    study = optuna.create_study(
        storage=_storage(journal(work, name), url, create=True),
        study_name=name,
        directions=[DIRECTIONS[each] for each in problem.spec.objectives],
        load_if_exists=True,
    )
    about = study.user_attrs.get(_ABOUT)
    if about is None:
        study.set_user_attr(_ABOUT, _about(problem))
        study.set_metric_names([*problem.spec.objectives])
        about = study.user_attrs[_ABOUT]
    _refuse_another(about, problem, name)
    return study


def find_study(problem: Problem, work: Path, name: str, url: str | None) -> optuna.Study:
    """An existing study, for looking at.

    Raises:
        InputError: there is none, or it is of another search.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = journal(work, name)
    try:
        if url is None and not path.is_file():
            raise KeyError
        study = optuna.load_study(study_name=name, storage=_storage(path, url, create=False))
    except KeyError as error:
        raise InputError(
            "this search has no study yet",
            file=path if url is None else None,
            key="--study",
            value=name,
            remedy="run it first, or give the --store, --setting and --study it ran with",
        ) from error
    _refuse_another(study.user_attrs.get(_ABOUT, {}), problem, name)
    return study


def _storage(path: Path, url: str | None, *, create: bool) -> BaseStorage:
    if url is not None:
        try:
            return RDBStorage(url)
        except (SQLAlchemyError, ImportError, ValueError) as error:
            raise InputError(
                f"the study's database cannot be opened: {str(error).splitlines()[0]}",
                key="--storage",
                remedy="give a URL such as sqlite:///study.db, or leave it out",
            ) from error
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
            _mend(path)
        return JournalStorage(JournalFileBackend(str(path)))
    except OSError as error:
        raise InputError(
            f"the study cannot be opened: {error.strerror}",
            file=path,
            remedy="give a --store that can be written to",
        ) from error
    except (ValueError, KeyError) as error:
        raise InputError(
            f"the study is damaged: {error}",
            file=path,
            remedy="move the file away: the search starts over, and stored trainings cost nothing",
        ) from error


def _mend(path: Path) -> None:
    """Cut off a line that a killed driver began: the next one written would be lost with it."""
    with _locked(path), path.open("ab+") as file:
        size = end = file.tell()
        while end and (file.seek(end - 1), file.read(1))[1] != b"\n":
            end -= 1
        if end < size:
            file.truncate(end)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _about(problem: Problem) -> dict[str, Any]:
    """What makes scores of one study comparable."""
    spec = problem.spec
    about = {
        "space": {key: each.model_dump(by_alias=True) for key, each in spec.space.items()},
        "derived": spec.derived,
        "constraints": spec.constraints,
        "objectives": spec.objectives,
        "rule": spec.rule,
        "blocks": [str(block) for block in problem.blocks],
        "lists": [block.labeled for block in problem.blocks],
        "configuration": decisive(problem.base),
    }
    return dict(json.loads(json.dumps(about)))


def _refuse_another(about: dict[str, Any], problem: Problem, name: str) -> None:
    """A study's trials have to be of one space, on one configuration."""
    before, now = flatten(about), flatten(_about(problem))
    for key in dict.fromkeys((*before, *now)):
        if before.get(key) != now.get(key):
            was, is_now = (json.dumps(each.get(key), ensure_ascii=False) for each in (before, now))
            raise InputError(
                f"this study was made by another search: {key} was {was} and is {is_now}",
                file=problem.file,
                key="--study",
                value=name,
                remedy=_ELSEWHERE,
            )
