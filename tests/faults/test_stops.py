"""Stops runs and their trainings in every way a user or a machine may: nothing done is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from results.schema import Failure, Record
from results.store import Store
from tests.faults.conftest import CSL, SMALL, Csl
from tests.faults.test_trainings import TRIALS, workers_of

SLEEPER = """
import sys
from dataclasses import replace
from ablations.launch import _jobs
from ablations.plan import make_plan
from ablations.request import Choice, Request
from cluster.jobs import Run
from cluster.lease import LeaseLostError, leased
from cluster.worker import run_job

request = Request(sys.argv[1], store=sys.argv[2], assignments=sys.argv[3:])
choice = Choice()
store = request.open_store()
plan = make_plan(request.grids, request.places, store, choice.policy, choice.limits)
(job,) = _jobs(plan)
job = replace(job, run=Run.new())
with leased(job.folder, job.run.id, 1.0) as lease:
    try:
        run_job(replace(job, lease=lease), lambda report: None)
    except LeaseLostError:
        print("lost", flush=True)
"""


def until(condition: Callable[[], object]) -> None:
    """Wait for what must come."""
    end = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


class Driver:
    """A command in a session of its own, as in a terminal: a key there reaches all processes."""

    def __init__(self, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [*CSL, *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def press_ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> str:
        """What it printed until its end."""
        return self.process.communicate(timeout=240)[0]


def checkpoints(store: Path) -> list[Path]:
    return list(store.glob("checkpoints/*/resume.pt"))


def test_a_stopped_run_goes_on_as_if_nothing_had_been(
    csl: Csl, one_variant: Path, quiet: Record, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    command = ("run", one_variant, *SMALL, "--store", store)
    driver = Driver(*command)
    until(lambda: checkpoints(store))
    driver.press_ctrl_c()
    said = driver.end()
    assert driver.process.returncode == 130
    assert "Stopping: interrupted" in said
    assert "1 still to run" in said
    assert Store(store).records() == (), "it is neither complete nor failed"
    assert not list(store.glob("checkpoints/*/lease-*"))

    said = csl(*command, "--max-hours", "0.0005", code=1).stdout
    assert "its 0.0005 hours are over" in said
    assert Store(store).records() == ()

    csl(*command)
    (record,) = Store(store).records()
    assert (record.last, record.best) == (quiet.last, quiet.best)
    assert [epoch.loss for epoch in record.curve] == [epoch.loss for epoch in quiet.curve]
    assert record.resumed >= 1


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once_what_cannot_stop(one_variant: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    driver = Driver("run", one_variant, *SMALL, "--store", store)
    until(lambda: checkpoints(store))
    (worker,) = workers_of(psutil.Process(driver.process.pid), TRIALS)
    worker.suspend()
    driver.press_ctrl_c()
    assert driver.process.stdout is not None
    until(lambda: "Stopping" in driver.process.stdout.readline())  # type: ignore[union-attr]
    driver.press_ctrl_c()
    said = driver.end()
    assert driver.process.returncode == 130, said
    assert "1 still to run" in said
    psutil.wait_procs([worker], timeout=60)
    assert not worker.is_running()


@pytest.mark.slow
def test_a_process_that_slept_writes_nothing_once_another_took_over(
    csl: Csl, one_variant: Path, quiet: Record, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    settings = [value for value in SMALL if value != "--set"]
    sleeper = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(one_variant), str(store), *settings],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: checkpoints(store))
        sleeper.send_signal(signal.SIGSTOP)
        said = csl("run", one_variant, *SMALL, "--store", store, "--lease-seconds", "1").stdout
        assert f"process {sleeper.pid}" in said, "it says whom it waits for"
        (record,) = Store(store).records()
        files = {path: path.stat().st_mtime_ns for path in store.glob("checkpoints/*/*")}
        sleeper.send_signal(signal.SIGCONT)
        assert sleeper.communicate(timeout=240)[0] == "lost\n"
    finally:
        sleeper.kill()
        sleeper.wait()
    assert (record.last, record.best) == (quiet.last, quiet.best)
    assert Store(store).records() == (record,)
    left = {path: path.stat().st_mtime_ns for path in store.glob("checkpoints/*/*.pt")}
    assert left.items() <= files.items(), "a checkpoint was written"


@pytest.mark.slow
def test_a_grid_that_is_broken_for_all_ends_after_a_few(
    csl: Csl, one_variant: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    broken = (one_variant, *SMALL, "--set", "schedule.lr=1e30", "--seeds", "0,1,2,3,4,5")
    said = csl("run", *broken, "--store", store, code=1).stdout
    assert "the first 3 trainings all failed alike: not a number" in said
    records = Store(store).records()
    assert 3 <= len(records) < 6, "no more than those that ran already"
    assert {record.failure for record in records} == {Failure.NOT_A_NUMBER}
    name = said.split("What went wrong: csl show ")[1].split()[0]
    assert "NotANumberError" in csl("show", name, "--store", store).stdout
    plan = json.loads(csl("plan", *broken, "--store", store, "--json").stdout)
    assert plan["to_run"] == 6 - len(records)
