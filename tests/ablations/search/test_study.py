"""Studies: opened again as they were left, whatever became of their drivers."""

import json
import os
import pickle
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.samplers import CmaEsSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from ablations.search import suggest
from ablations.search.drivers import BEAT_SECONDS, STALE_SECONDS, Drivers
from ablations.search.marks import AGAIN, DRIVER, SURPLUS, counts
from ablations.search.study import find_study, journal, open_study
from tests.ablations.conftest import refused
from tests.ablations.search.conftest import SEARCH, Pose
from tests.ablations.search.driving import Driver
from tests.ablations.search.test_asker import COLD
from tests.ablations.search.test_spec import ALPHA, END

FOR_KILLING = """
import sys, time
from pathlib import Path
from ablations.expand import Options
from ablations.search.problem import pose
from ablations.search.spec import load_search
from ablations.spec import load_setting
from tests.ablations.search.driving import Driver

class Slow(Driver):
    def train(self, job):
        print("training", flush=True)
        time.sleep(float(sys.argv[3]))
        super().train(job)

problem = pose(load_search(sys.argv[1]), load_setting("shapes-tiny"), Options())
driver = Slow(problem, Path(sys.argv[2]))
while not driver.asker.done:
    driver.run()
    time.sleep(0.05)
driver.asker.hand_back()
"""


def start(search: Path, store: Path, seconds: float) -> "subprocess.Popen[str]":
    """A driver in a process of its own that takes its time for each training."""
    return subprocess.Popen(
        [sys.executable, "-c", FOR_KILLING, str(search), str(store), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


def assert_consistent(driver: Driver, trials: int) -> None:
    """No trial is left running or waiting, none lost, none doubled, none trained twice."""
    assert driver.asker.done
    found = driver.trials
    assert {trial.state for trial in found} <= {TrialState.COMPLETE, TrialState.FAIL}
    assert sum(map(counts, found)) == trials
    asked_again = [t.user_attrs[AGAIN] for t in found if AGAIN in t.user_attrs]
    assert len(asked_again) == len(set(asked_again))
    for number in asked_again:
        (repeat,) = (trial for trial in found if trial.user_attrs.get(AGAIN) == number)
        assert found[number].params.items() <= repeat.params.items(), "the same suggestion"
    abandoned = [t for t in found if t.state == TrialState.FAIL and SURPLUS not in t.user_attrs]
    assert {trial.number for trial in abandoned} == set(asked_again)
    attempts = Counter(record.identity for record in driver.store.records())
    assert set(attempts.values()) == {1}


@pytest.fixture
def search(tmp_path: Path) -> Path:
    path = tmp_path / "search.yaml"
    path.write_text(SEARCH + COLD)
    return path


def test_killed_again_and_again_a_study_ends_as_it_should(
    problem: Pose, search: Path, tmp_path: Path
) -> None:
    generator = random.Random(5)
    store = tmp_path / "store"
    for _ in range(3):
        process = start(search, store, 0.1)
        assert process.stdout is not None
        assert process.stdout.readline() == "training\n"
        time.sleep(generator.uniform(0, 0.3))
        process.kill()
        process.wait()
        process.stdout.close()
    driver = Driver(problem(search.read_text()), store)
    assert len(driver.display.lines) == 1, "one trial was under way"
    driver.run()
    assert_consistent(driver, 8)
    assert sum(DRIVER in trial.user_attrs for trial in driver.trials) == len(driver.trials)


def test_two_drivers_share_one_study(problem: Pose, search: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    processes = [start(search, store, 0.05) for _ in range(2)]
    processes[0].communicate(timeout=60)
    processes[1].communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0]
    driver = Driver(problem(search.read_text()), store)
    assert driver.asker.propose() is None
    assert_consistent(driver, 8)
    workers = {trial.user_attrs[DRIVER] for trial in driver.trials}
    assert len(workers) == 2
    points = [tuple(trial.params.values()) for trial in driver.trials]
    assert len(set(points)) == len(points), "they do not repeat each other's draws"


def test_what_an_interrupted_driver_hands_back_is_asked_again(
    problem: Pose, tmp_path: Path
) -> None:
    posed = problem(changes=[(END, END + COLD)])
    first = Driver(posed, tmp_path)
    job = first.asker.propose()
    assert job is not None
    first.asker.reported(job.identity.id, first.epoch(1, 40))
    first.asker.hand_back()
    second = Driver(posed, tmp_path)
    again = second.asker.propose()
    assert again is not None
    assert again.identity == job.identity
    assert second.trials[1].intermediate_values == {1: 10.0}, "what it reported is kept"
    second.train(again)
    assert_consistent(second.run(), 8)


def test_a_training_that_ray_stopped_is_no_failure(problem: Pose, tmp_path: Path) -> None:
    driver = Driver(problem(changes=[(END, END + COLD)]), tmp_path)
    job = driver.asker.propose()
    assert job is not None
    driver.asker.ended(job.identity.id, None)  # and it left no record
    again = driver.asker.propose()
    assert again is not None
    assert again.identity == job.identity
    driver.train(again)
    assert_consistent(driver.run(), 8)


def test_what_is_lost_every_time_is_given_up(problem: Pose, tmp_path: Path) -> None:
    driver = Driver(problem(changes=[(END, "budget: {trials: 1}\n" + COLD)]), tmp_path)
    lost = []
    for _ in range(7):
        job = driver.asker.propose()
        assert job is not None
        lost.append(job.identity.id)
        driver.asker.ended(job.identity.id, None)
    assert len(set(lost[:6])) == 1
    assert lost[6] != lost[0]


def test_a_driver_that_was_declared_dead_does_no_harm(problem: Pose, tmp_path: Path) -> None:
    posed = problem(changes=[(END, END + COLD)])
    slow, other = Driver(posed, tmp_path), Driver(posed, tmp_path)
    job = slow.asker.propose()
    assert job is not None
    slow.drivers.leave()
    other.asker.reclaim()
    repeat = other.asker.propose()
    assert repeat is not None
    assert repeat.identity == job.identity
    slow.train(job)
    assert "taken over" in slow.display.lines[-1]
    other.train(repeat)
    other.run()
    assert other.asker.done
    assert sum(map(counts, other.trials)) == 8


def test_of_two_that_ask_again_for_a_lost_trial_one_is_heard(problem: Pose, tmp_path: Path) -> None:
    posed = problem(changes=[(END, END + COLD)])
    first = Driver(posed, tmp_path)
    first.asker.propose()
    first.asker.hand_back()
    twice = first.study.get_trials()[1]
    first.study.add_trial(twice)  # as a driver does that looked at the same moment
    driver = Driver(posed, tmp_path).run()
    assert driver.asker.done
    assert sum(map(counts, driver.trials)) == 8
    assert sum(SURPLUS in trial.user_attrs for trial in driver.trials) == 1


def test_a_trial_lost_between_giving_up_and_asking_again_is_found(
    problem: Pose, tmp_path: Path
) -> None:
    posed = problem(changes=[(END, END + COLD)])
    first = Driver(posed, tmp_path)
    assert first.asker.propose()
    first.study.tell(0, state=TrialState.FAIL)  # and then it was killed
    first.drivers.leave()
    driver = Driver(posed, tmp_path).run()
    assert_consistent(driver, 8)
    assert driver.trials[1].params == driver.trials[0].params


def test_a_torn_journal_is_mended(problem: Pose, tmp_path: Path) -> None:
    posed = problem(changes=[(END, END + COLD)])
    Driver(posed, tmp_path).run(3)
    path = journal(tmp_path, "two-shapes-tiny")
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rpartition(b"\n")[2]
    path.write_bytes(whole + last[: len(last) // 2])
    driver = Driver(posed, tmp_path).run()
    assert_consistent(driver, 8)
    damaged = path.read_bytes().split(b"\n")
    damaged[4] = damaged[4][:20]
    path.write_bytes(b"\n".join(damaged))
    error = refused(lambda: Driver(posed, tmp_path))
    assert "damaged" in error.problem
    assert error.file == path


def test_a_silent_driver_elsewhere_is_gone_after_a_while(
    problem: Pose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posed = problem(changes=[(END, END + COLD)])
    now = 1000.0
    monkeypatch.setattr("ablations.search.drivers._host", lambda: "elsewhere/1")
    far = Drivers(open_study(posed, tmp_path, "s", None), lambda: now)
    monkeypatch.undo()
    near = Drivers(open_study(posed, tmp_path, "s", None), lambda: now)
    assert not near.is_gone(far.id, 0)
    now += STALE_SECONDS - 1
    assert not near.is_gone(far.id, 0)
    assert far.beat()
    assert not near.is_gone(far.id, 0)
    now += STALE_SECONDS - 1
    assert not near.is_gone(far.id, 0)
    now += 2
    assert near.is_gone(far.id, 0)
    far.beat()
    assert not near.is_gone(far.id, 0), "it only was slow"
    now += BEAT_SECONDS / 2
    assert not far.beat()


def test_a_trial_that_nobody_signed_is_taken_over(problem: Pose, tmp_path: Path) -> None:
    posed = problem(changes=[(END, END + COLD)])
    open_study(posed, tmp_path, "two-shapes-tiny", None).ask()
    driver = Driver(posed, tmp_path).run()
    assert_consistent(driver, 8)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (ALPHA, "{float: [2, 64], log: true}", "space.selection.alpha.float was [2.0, 32.0]"),
        ("seeds: [0]", "seeds: [0, 1]", "blocks"),
        (END, END + "rule: last\n", 'rule was "best" and is "last"'),
        (END, END + "objectives: [miou, gpu_hours]\n", "objectives"),
        (END, END + "set: {loss.feature: 0.1}\n", "configuration.loss.feature was 0.5"),
        (END, END + "constraints: ['selection.alpha <= 30']\n", "constraints"),
    ],
)
def test_a_study_of_another_search_is_refused(
    problem: Pose, tmp_path: Path, old: str, new: str, said: str
) -> None:
    open_study(problem(), tmp_path, "s", None)
    changed = problem(changes=[(old, new)])
    error = refused(lambda: open_study(changed, tmp_path, "s", None))
    assert said in error.problem
    assert error.key == "--study"


def test_budget_sampler_and_pruner_may_change(problem: Pose, tmp_path: Path) -> None:
    Driver(problem(changes=[(END, END + COLD)]), tmp_path).run()
    more = "budget: {trials: 10}\nsampler: {name: random}\npruner: {name: asha}\n" + COLD
    driver = Driver(problem(changes=[(END, more)]), tmp_path).run()
    assert sum(map(counts, driver.trials)) == 10


def test_a_study_may_lie_in_a_database(problem: Pose, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    posed = problem(changes=[(END, END + COLD)])
    Driver(posed, tmp_path / "store", url=url).run(3)
    driver = Driver(posed, tmp_path / "store", url=url).run()
    assert_consistent(driver, 8)
    assert find_study(posed, tmp_path, "two-shapes-tiny", url).best_value > 0
    error = refused(lambda: open_study(posed, tmp_path, "s", "nosuch://x/y"))
    assert error.key == "--storage"


def test_a_study_that_is_not_there_is_said_to_be_missing(problem: Pose, tmp_path: Path) -> None:
    error = refused(lambda: find_study(problem(), tmp_path, "two-shapes-tiny", None))
    assert "no study yet" in error.problem
    assert not (tmp_path / "studies").exists()


def test_nothing_pickled_in_a_study_is_run(problem: Pose, tmp_path: Path) -> None:
    cmaes = "budget: {trials: 16}\nsampler: {name: cmaes, population: 4}\n" + COLD
    posed = problem(changes=[(END, cmaes)])
    Driver(posed, tmp_path).run(10)

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "run"),)

    path = journal(tmp_path, "two-shapes-tiny")
    planted = 0
    lines = []
    for line in path.read_text().splitlines():
        log = json.loads(line)
        for key in log.get("system_attr", {}):
            if key.startswith("cma:optimizer"):
                log["system_attr"][key] = pickle.dumps(Evil()).hex()
                planted += 1
        lines.append(json.dumps(log))
    assert planted
    path.write_text("\n".join(lines) + "\n")
    copy = tmp_path / "copy.journal"
    copy.write_text(path.read_text())
    Driver(posed, tmp_path).run()
    assert not (tmp_path / "run").exists()
    storage = JournalStorage(JournalFileBackend(str(copy)))
    alone = optuna.load_study(
        study_name="two-shapes-tiny", storage=storage, sampler=CmaEsSampler(popsize=4)
    )
    suggest.suggest(alone.ask(), posed.spec)
    assert (tmp_path / "run").exists(), "Optuna's own sampler runs it"
