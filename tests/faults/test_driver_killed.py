"""Kills a driver in the middle of a grid, or starts two: the table is the undisturbed one."""

import contextlib
import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from results.store import Store
from tests.faults.conftest import CSL, SMALL, Csl

GRID = ("table5", "--splits", "1/16", "--seeds", "0", *SMALL)


def table(output: str) -> str:
    """The table of a run's output: from its title to the end."""
    return output[output.index("Effectiveness") :]


def wait_until(condition: Callable[[], object], driver: "subprocess.Popen[bytes]") -> None:
    """Look again and again for a condition that must come while the driver lives."""
    while not condition():
        assert driver.poll() is None, "the driver ended before it could be killed"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, csl: Csl) -> tuple[Path, str]:
    """The store and the output of a run that nothing happens to."""
    store = tmp_path_factory.mktemp("undisturbed")
    return store, csl("run", *GRID, "--store", store).stdout


def test_a_finished_grid_launches_nothing(undisturbed: tuple[Path, str], csl: Csl) -> None:
    store, first = undisturbed
    before = sorted(store.rglob("*"))
    again = csl("run", *GRID, "--store", store).stdout
    assert "5 stored, nothing to run" in again
    assert table(again) == table(first)
    assert sorted(store.rglob("*")) == before, "something was written"


def test_a_killed_driver_goes_on_and_prints_the_same_table(
    undisturbed: tuple[Path, str], csl: Csl, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with (tmp_path / "output").open("wb") as output:
        driver = subprocess.Popen(
            [*CSL, "run", *GRID, "--store", str(store)], stdout=output, stderr=output
        )
    try:
        # Killed once one training is stored and another has a checkpoint it is not done with.
        wait_until(
            lambda: Store(store).latest() and list(store.glob("checkpoints/*/resume.pt")),
            driver,
        )
        family = psutil.Process(driver.pid).children(recursive=True)
        watches = [each for each in family if {"-I", "-S"} <= {*each.cmdline()}]
        assert watches, "no training has its watchdog"
        driver.send_signal(signal.SIGKILL)
        # A worker lives on for a second or two, and may see its own children die before it.
        for watch in watches:
            with contextlib.suppress(psutil.NoSuchProcess):
                watch.send_signal(signal.SIGKILL)
    finally:
        driver.kill()
        driver.wait()
    # Whatever could still write goes with the driver; Ray's node agents take a minute to notice.
    agents = [process for process in family if process.is_running() and "Agent" in process.name()]
    _, alive = psutil.wait_procs(set(family) - set(agents), timeout=60)
    assert not alive, "a training outlived its driver"

    stored = Store(store).latest()
    records = Store(store).records()
    failures = [record.failure_detail for record in records if record.status == "failed"]
    assert not failures, "what the driver's end brought about was taken for a failure"
    attempts = {record.attempt for record in records}
    plan = json.loads(csl("plan", *GRID, "--store", store, "--json").stdout)
    assert plan["states"]["stored"] == len(stored)
    assert 0 < plan["to_run"] < 5

    resumed = csl("run", *GRID, "--store", store).stdout
    assert f"{len(stored)} stored" in resumed
    records = Store(store).records()
    assert len(records) == 5, "a finished training was repeated, or one is missing"
    assert attempts <= {record.attempt for record in records}
    assert sum(record.resumed > 0 for record in records) == plan["states"].get("unfinished", 0)

    reference, first = undisturbed
    assert table(resumed) == table(first)
    for form in ("terminal", "md", "latex", "csv"):
        ours, theirs = (
            csl("table", *GRID, "--format", form, "--store", each).stdout
            for each in (store, reference)
        )
        assert ours == theirs
    for record in records:
        same = Store(reference).find(record.identity)
        assert (record.last, record.best) == (same.last, same.best)
    assert not list(store.glob("checkpoints/*/resume.pt"))
    _, alive = psutil.wait_procs(agents, timeout=150)
    assert not alive, "Ray's agents outlived their driver"
    assert {path.name for path in store.iterdir()} == {
        "checkpoints",
        "code",
        "drivers",
        "logs",
        "records",
    }


def test_two_drivers_share_a_grid_and_train_nothing_twice(
    undisturbed: tuple[Path, str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    command = [*CSL, "run", *GRID, "--store", str(store), "--cpus", "1"]
    drivers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        outputs = [driver.communicate(timeout=400)[0] for driver in drivers]
    finally:
        for driver in drivers:
            driver.kill()
            driver.wait()
    assert [driver.returncode for driver in drivers] == [0, 0], outputs
    records = Store(store).records()
    assert [record.status for record in records] == ["complete"] * 5
    assert len({record.identity for record in records}) == 5
    trained = [len(re.findall(r"seed 0  finished  ", output)) for output in outputs]
    assert sum(trained) == 5
    assert min(trained) > 0, f"one of them did all the work: {outputs}"
    for output in outputs:
        assert table(output) == table(undisturbed[1])
    assert not list(store.glob("checkpoints/*/lease-*"))
