"""Takes a posed search; has it suggested, trained and confirmed, from wherever it stands."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache

import optuna
from rich.console import Console

from ablations.expand import Grid
from ablations.launch import OnRay, check_inputs, check_trainings, make_job, on_ray, train
from ablations.places import Places
from ablations.plan import make_plan
from ablations.request import Launch
from ablations.search.asker import Asker
from ablations.search.confirm import candidates, confirmation
from ablations.search.drivers import Drivers
from ablations.search.live import SearchView
from ablations.search.problem import Problem
from ablations.search.study import open_study
from ablations.search.warm import warm_up
from cluster.jobs import Job
from cluster.schedule import Stop
from csl.identity import Identity, Training, identify
from results.schema import Record
from results.store import Store


@dataclass(frozen=True)
class Search:
    """A search and where everything of it lies.

    Args:
        problem: what is searched, and on which setting.
        places: where its data lies.
        store: the store; it has a work folder.
        name: of the study.
        url: of the study's database; None: a journal in the work folder.
    """

    problem: Problem
    places: Places
    store: Store
    name: str
    url: str | None = None

    def open(self) -> optuna.Study:
        """Its study, made if need be."""
        return open_study(self.problem, self.store.work, self.name, self.url)

    def identify(self, training: Training) -> Identity:
        """A training's name, from the data at hand."""
        return identify(training, self.places.of(training.config))

    def look_up(self, key: str) -> Record | None:
        """What the store has of an identity."""
        return self.store.find(key) if self.store.attempts_of(key) else None

    def make_job(self, training: Training, identity: Identity, label: str) -> Job:
        """A training of a trial as a job."""
        where = self.places.of(training.config)
        return make_job(training, identity, where, self.store, self.problem.setting.name, label)


def search(
    wanted: Search, launch: Launch, console: Console, concurrent: int | None, *, confirm: bool
) -> Stop | None:
    """Go on with a search until its budget is spent, then confirm; nothing stored is trained.

    Args:
        launch: where on Ray, and how each training is guarded.
        console: where to print.
        concurrent: how many trainings run at once; None: as many as fit.
        confirm: whether the best and the reference are trained on fresh seeds.

    Returns:
        Why it was stopped; None if it came to its end.

    Raises:
        InputError: data or weights cannot be used, the study is of another search, or the cluster
            cannot be joined.
    """
    problem = wanted.problem
    where = wanted.places.of(problem.base)
    check_trainings(
        [
            (Training(problem.base, each.labeled, each.seed), where, problem.setting.resources)
            for each in problem.blocks
        ],
        launch,
    )
    wanted.store.check_writable()
    study = wanted.open()
    with ExitStack() as stack:

        @cache
        def ray() -> OnRay:
            """Connected when it is first needed: a finished search needs none."""
            return stack.enter_context(on_ray(wanted.store.work, launch))

        stop = _search(wanted, study, ray, console, concurrent)
        if confirm and stop is None:
            plan = make_plan((confirmed_grid(wanted, study),), wanted.places, wanted.store)
            if plan.to_run:
                check_inputs(plan, launch)
                stop = train(plan, ray())
        return stop


def _search(
    wanted: Search,
    study: optuna.Study,
    ray: Callable[[], OnRay],
    console: Console,
    concurrent: int | None,
) -> Stop | None:
    drivers = Drivers(study)
    known = warm_up(
        wanted.problem, study, drivers, wanted.store.headers(), wanted.identify, wanted.look_up
    )
    view = SearchView(wanted.problem.spec, study, console)
    console.print(_opening(wanted, known), highlight=False, markup=False, soft_wrap=True)
    asker = Asker(
        wanted.problem, study, drivers, wanted.identify, wanted.look_up, wanted.make_job, view
    )
    try:
        first = asker.propose()
        if first is None and asker.done:
            return None
        with view.on(ray().console):
            from cluster.search_trials import run_search

            own = wanted.problem.setting.resources
            ray().check_paths(wanted.store, [wanted.places.common])
            return run_search(
                asker,
                first,
                ray().cluster,
                ray().resources(own),
                lambda job: ray().finish(job, own),
                ray().limits,
                concurrent,
                lease_seconds=ray().launch.safety.lease_seconds,
            )
    finally:
        asker.hand_back()


def confirmed_grid(wanted: Search, study: optuna.Study) -> Grid:
    """What the study's best have to pass."""
    return confirmation(wanted.problem, candidates(wanted.problem, study))


def _opening(wanted: Search, known: int) -> str:
    spec, problem = wanted.problem.spec, wanted.problem
    limits = [f"{spec.trials} trials"] if spec.trials is not None else []
    limits += [f"{spec.budget.hours:g} hours"] if spec.budget.hours is not None else []
    blocks = len(problem.blocks)
    each = "1 training" if blocks == 1 else f"{blocks} trainings"
    lines = f"{spec.name} on {problem.setting.name}: {' or '.join(limits)} of {each}"
    sampler = f"{spec.sampler.name}, pruner {spec.pruner.name}, study {wanted.name}"
    warm = f"; {known} trials known from the store" if known else ""
    return f"{lines}; {sampler}{warm}."
