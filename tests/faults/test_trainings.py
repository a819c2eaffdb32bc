"""Harms trainings on a real Ray: each ends with its numbers, or stands named in the store."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from results.schema import Failure, Record
from results.store import Store
from tests.faults.conftest import CSL, SMALL, Csl, assert_lost_once

SOURCES = Path(__file__).parents[2]
TRIALS, RANKS = ("ImplicitFunc", "_trial"), ("RayTrainWorker",)
"""What Ray names the processes that train, alone and as one of several."""


def workers_of(driver: psutil.Process, names: tuple[str, ...]) -> list[psutil.Process]:
    """The processes below the driver with one of these names."""
    return [
        process
        for process in driver.children(recursive=True)
        if any(name in " ".join(process.cmdline()) for name in names)
    ]


def harm_once_it_can_resume(
    store: Path,
    command: list[str],
    harm: signal.Signals,
    names: tuple[str, ...] = TRIALS,
    before: Callable[[], object] = lambda: None,
    sources: Path = SOURCES,
) -> None:
    """Run the command to its end; once there is a checkpoint, a worker gets a signal.

    Args:
        before: called just before that.
        sources: where the command is run, and has its code.
    """
    driver = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=sources,
        env={**os.environ, "PYTHONPATH": str(sources)},
    )
    try:
        while not list(store.glob("checkpoints/*/resume.pt")):
            assert driver.poll() is None, "the driver ended before its worker could be harmed"
            time.sleep(0.05)
        workers = workers_of(psutil.Process(driver.pid), names)
        assert workers, "no training process was found"
        before()
        os.kill(workers[0].pid, harm)
        assert driver.wait(timeout=240) == 0
    finally:
        driver.kill()
        driver.wait()


@pytest.mark.parametrize(
    ("harm", "failure"),
    [(signal.SIGKILL, Failure.WORKER_CRASHED), (signal.SIGSTOP, Failure.TIMED_OUT)],
)
def test_a_killed_or_hanging_worker_is_restarted_and_loses_nothing(
    one_variant: Path, quiet: Record, tmp_path: Path, harm: signal.Signals, failure: Failure
) -> None:
    harmed = tmp_path / "harmed"
    command = [*CSL, "run", str(one_variant), *SMALL, "--store", str(harmed)]
    harm_once_it_can_resume(harmed, [*command, "--hang-minutes", "0.2"], harm)
    assert assert_lost_once(harmed, quiet).failure is failure


@pytest.mark.slow
def test_an_edit_after_the_launch_changes_nothing(
    one_variant: Path, quiet: Record, tmp_path: Path
) -> None:
    """A new process imports everything again: it must not see what was edited meanwhile."""
    tree, store = tmp_path / "tree", tmp_path / "store"
    for package in ("ablations", "cluster", "csl", "results"):
        shutil.copytree(SOURCES / package, tree / package)

    def edit() -> None:
        for name in ("csl/trainer.py", "cluster/worker.py", "results/store.py"):
            source = tree / name
            source.write_text(source.read_text() + "\nraise RuntimeError('edited')\n")

    command = [*CSL, "run", str(one_variant), *SMALL, "--store", str(store)]
    harm_once_it_can_resume(store, command, signal.SIGKILL, before=edit, sources=tree)
    assert_lost_once(store, quiet)
    (snapshot,) = (store / "code").iterdir()
    for record in Store(store).records():
        assert record.provenance.snapshot == snapshot.name


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A store whose checkpoints lie on a disk of 300 kB."""
    store = tmp_path / "store"
    folder = store / "checkpoints"
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a disk")
    yield store
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_same_command_goes_on_once_there_is_room(
    csl: Csl, one_variant: Path, quiet: Record, small_disk: Path
) -> None:
    failed = csl("run", one_variant, *SMALL, "--store", small_disk, code=1).stdout
    assert "FAILED" in failed
    record = Store(small_disk).records()[-1]
    assert "No space left on device" in (record.failure_detail or "")
    room = ["mount", "-o", "remount,size=64m", str(small_disk / "checkpoints")]
    subprocess.run(room, check=True)
    csl("run", one_variant, *SMALL, "--store", small_disk)
    (ours,) = (each for each in Store(small_disk).records() if each.status == "complete")
    assert (ours.last, ours.best) == (quiet.last, quiet.best)


@pytest.mark.slow
def test_not_a_number_is_recorded_shown_and_not_repeated(
    csl: Csl, one_variant: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    diverging = (one_variant, *SMALL, "--set", "schedule.lr=1e30", "--store", store)
    first = csl("run", *diverging, code=1).stdout
    assert "failed: not a number" in first
    (record,) = Store(store).records()
    assert record.failure is Failure.NOT_A_NUMBER
    assert "NotANumberError" in (record.failure_detail or "")
    again = csl("run", *diverging, code=1).stdout
    assert "nothing to run" in again
    assert len(Store(store).records()) == 1
    plan = json.loads(csl("plan", *diverging, "--retry-failed", "--json").stdout)
    assert plan["to_run"] == 1


def test_a_damaged_checkpoint_starts_over(csl: Csl, one_variant: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    plan = json.loads(csl("plan", one_variant, *SMALL, "--store", store, "--json").stdout)
    checkpoint = store / "checkpoints" / plan["trainings"][0]["identity"] / "resume.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"PK\x03\x04 torn")
    csl("run", one_variant, *SMALL, "--store", store)
    (record,) = Store(store).records()
    assert record.status == "complete"
    assert record.resumed == 0


@pytest.mark.slow
def test_one_of_two_workers_is_killed_under_ray_train(one_variant: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    command = [*CSL, "run", str(one_variant), *SMALL, "--workers", "2", "--store", str(store)]
    harm_once_it_can_resume(store, command, signal.SIGKILL, RANKS)
    lost, record = sorted(Store(store).records(), key=lambda each: each.status, reverse=True)
    assert (lost.status, lost.failure) == ("failed", Failure.WORKER_CRASHED)
    assert record.provenance.workers == 2
    assert record.resumed == 1
    assert record.last is not None
    assert sum(record.last.confusion) == 8 * 64 * 64, "every validation pixel exactly once"
    assert len(record.curve) == 4
