"""Takes a command line; searches, confirms, and shows what was found. ``csl search``."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ablations.handover import RuntimeEnvOption, hand_over
from ablations.request import Launch, Request, with_options
from ablations.search.problem import pose
from ablations.search.spec import Budget, load_search
from ablations.spec import PAPERS, load_setting
from ablations.store import tidy
from csl.errors import InputError

if TYPE_CHECKING:
    from ablations.search.run import Search


@dataclass(frozen=True)
class SearchRequest(Request):
    """What is searched, and what is changed of it."""

    spec: Annotated[str, typer.Argument(help="A packaged search (alpha-theta-s), or a .yaml file.")]
    study: Annotated[
        str | None, typer.Option(help="The study's name; default: the search's and the setting's.")
    ] = None
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="CSL_STUDY_URL",
            help="A database for the study, as sqlite:///FILE; default: a journal in the store.",
        ),
    ] = None
    trials: Annotated[int | None, typer.Option(min=1, help="So many trials instead.")] = None

    def pose(self) -> "Search":
        """The search, posed.

        Raises:
            InputError: it, its setting or an option is faulty.
        """
        from ablations.search.run import Search
        from ablations.search.study import study_name

        spec, file = load_search(self.spec)
        if self.trials is not None:
            budget = Budget(trials=self.trials, hours=spec.budget.hours)
            spec = spec.model_copy(update={"budget": budget})
        name = spec.setting if self.setting == PAPERS else self.setting
        if name is None:
            raise InputError(
                "this search does not say where the paper ran its like",
                file=file,
                key="setting",
                remedy="add it, or choose a setting by --setting NAME",
            )
        problem = pose((spec, file), load_setting(name), self.options)
        study = self.study or study_name(problem)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", study):
            raise InputError(
                "not a study's name",
                key="--study",
                value=study,
                remedy="use letters, digits, dots, - and _",
            )
        return Search(problem, self.places, self.open_for_training(), study, self.storage)


@with_options
def search(
    request: SearchRequest,
    launch: Launch,
    concurrent: Annotated[
        int | None, typer.Option(min=1, help="Trainings at once; default: as many as fit.")
    ] = None,
    confirm: Annotated[
        bool, typer.Option(help="Train the best and the reference on fresh seeds afterwards.")
    ] = True,
    show: Annotated[
        bool, typer.Option("--show", help="Train nothing; show what was found so far.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="A folder for figures, report.md and confirmed.yaml.")
    ] = None,
    runtime_env: RuntimeEnvOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Search configuration keys for the best score, then confirm the best on fresh seeds.

    After any kill the same command goes on; what is stored costs nothing."""
    from ablations.search import run, views
    from ablations.search.report import find, found_object
    from ablations.search.study import find_study

    wanted = request.pose()
    if hand_over(request, sys.argv[1:], launch.address, runtime_env):
        return
    console = Console(soft_wrap=True, highlight=False, markup=False, stderr=as_json)
    stopped = interrupted = False
    if not show:
        try:
            stop = run.search(wanted, launch, console, concurrent, confirm=confirm)
            stopped = stop is not None
            interrupted = stop is not None and stop.interrupted
        except KeyboardInterrupt:
            interrupted = True
    found = find(wanted, find_study(wanted.problem, wanted.store.work, wanted.name, wanted.url))
    if as_json:
        print(json.dumps(found_object(found), indent=2, ensure_ascii=False))
    else:
        views.print_found(Console(width=None if sys.stdout.isatty() else 200), found)
    for path in views.write_found(out, found) if out is not None else ():
        print(f"written: {path}", file=sys.stderr)
    if not (show or interrupted):
        tidy(wanted.store, console)
    if interrupted or stopped:
        raise typer.Exit(130 if interrupted else 1)
