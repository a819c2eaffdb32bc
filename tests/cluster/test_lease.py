"""Leases: one holder at a time, whoever dies, sleeps or comes late."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cluster import lease
from cluster.lease import (
    HeldError,
    LeaseLostError,
    Watch,
    acquire,
    clear,
    holder_of,
    leased,
)

HOLD = """
import sys, time
from pathlib import Path
from cluster.lease import leased
with leased(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])) as ours:
    print("held", flush=True)
    sys.stdin.readline()
    try:
        ours.check()
        print("still held", flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
"""


class Other:
    """A process of its own that holds the folder's lease."""

    def __init__(self, folder: Path, run: str, seconds: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), run, str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.line() == "held"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> str:
        """Let it look whether it still holds the lease, and end; gives what it found."""
        out, _ = self.process.communicate("\n")
        return out.strip()


@contextmanager
def other(folder: Path, run: str = "theirs", seconds: float = 60.0) -> Iterator[Other]:
    held = Other(folder, run, seconds)
    try:
        yield held
    finally:
        held.process.kill()
        held.process.wait()


def until(condition: Callable[[], object]) -> None:
    """Wait for what must come."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def rewrite(path: Path, **changes: object) -> None:
    """Let the lease be another process's."""
    seen = json.loads(path.read_text())
    path.write_text(json.dumps(seen | {"process": seen["process"] | changes}))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_lease_is_one_file_and_is_given_back(tmp_path: Path) -> None:
    folder = tmp_path / "training"
    with leased(folder, "ours", 60) as ours:
        assert names(folder) == ["lease-1"]
        ours.check()
        holder = holder_of(folder)
        assert holder is not None
        assert (holder.run, holder.process.pid) == ("ours", os.getpid())
        assert str(os.getpid()) in str(holder)
        (folder / "resume.pt").touch()
    assert names(folder) == ["resume.pt"]
    with pytest.raises(LeaseLostError):
        ours.check()


def test_where_nothing_was_done_nothing_is_left(tmp_path: Path) -> None:
    with leased(tmp_path / "training", "ours", 60):
        pass
    assert names(tmp_path) == []


def test_what_a_living_process_holds_is_refused_by_its_name(tmp_path: Path) -> None:
    with other(tmp_path) as their:
        with pytest.raises(HeldError) as refused:
            acquire(tmp_path, "ours")
        assert refused.value.holder.process.pid == their.process.pid
        assert refused.value.holder.run == "theirs"
        assert names(tmp_path) == ["lease-1"]
        assert their.end() == "still held"
    with leased(tmp_path, "ours", 60):
        assert names(tmp_path) == ["lease-1"]


@pytest.mark.parametrize("reaped", [True, False])
def test_what_a_dead_process_of_this_machine_held_is_taken_at_once(
    tmp_path: Path, reaped: bool
) -> None:
    with other(tmp_path) as their:
        their.process.kill()
        until(lambda: psutil.Process(their.process.pid).status() == psutil.STATUS_ZOMBIE)
        if reaped:
            their.process.wait()
        with leased(tmp_path, "ours", 60) as ours:
            assert ours.path.name == "lease-2"


def test_another_process_with_the_same_number_is_not_the_holder(tmp_path: Path) -> None:
    ours = acquire(tmp_path, "theirs")
    rewrite(ours.path, started=time.time() - 10**6)
    acquire(tmp_path, "ours")


def test_a_run_takes_over_from_itself(tmp_path: Path) -> None:
    """Ray says that the process is lost: if it is not, it must find that out."""
    with other(tmp_path, run="ours") as their:
        with leased(tmp_path, "ours", 60) as ours:
            assert their.end() == "LeaseLostError"
            ours.check()
        assert names(tmp_path) == ["lease-1"], "only its own holder removes a lease"


def test_a_process_on_another_machine_is_dead_once_it_was_silent(tmp_path: Path) -> None:
    ours = acquire(tmp_path, "theirs")
    rewrite(ours.path, machine="far away", pid=2**22 + 1)
    with pytest.raises(HeldError):
        acquire(tmp_path, "ours")
    watch = Watch(0.5)
    assert watch.dead(tmp_path, "ours") is None, "it is seen for the first time"
    for _ in range(8):  # longer than half a second
        time.sleep(0.1)
        os.utime(ours.path)
        assert watch.dead(tmp_path, "ours") is None, "it gives signs of life"
    until(lambda: watch.dead(tmp_path, "ours"))
    dead = watch.dead(tmp_path, "ours")
    assert dead == {ours.token}
    assert acquire(tmp_path, "ours", dead).path.name == "lease-2"


def test_a_stopped_process_loses_its_lease_and_finds_out(tmp_path: Path) -> None:
    with other(tmp_path, seconds=0.4) as their:
        watch = Watch(0.4)
        for _ in range(10):  # far longer than that
            assert watch.dead(tmp_path, "ours") is None
            time.sleep(0.1)
        their.process.send_signal(signal.SIGSTOP)
        until(lambda: watch.dead(tmp_path, "ours"))
        with leased(tmp_path, "ours", 60, watch.dead(tmp_path, "ours") or frozenset()) as ours:
            their.process.send_signal(signal.SIGCONT)
            assert their.end() == "LeaseLostError"
            ours.check()


def test_a_late_judgement_is_not_acted_upon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking and making: who was taken for dead woke up and ended, and another came."""
    asleep = acquire(tmp_path, "theirs")
    create = lease._create

    def late(folder: Path, number: int, run: str) -> lease.Lease | None:
        monkeypatch.setattr(lease, "_create", create)
        asleep.path.unlink()
        acquire(tmp_path, "their second")
        return create(folder, number, run)

    monkeypatch.setattr(lease, "_create", late)
    with pytest.raises(HeldError) as refused:
        acquire(tmp_path, "ours", frozenset({asleep.token}))
    assert refused.value.holder.run == "their second"
    assert names(tmp_path) == ["lease-1"]


def test_a_torn_lease_is_somebodys_until_it_was_silent(tmp_path: Path) -> None:
    (tmp_path / "lease-4").write_text('{"token": "x", "run')
    with pytest.raises(HeldError):
        acquire(tmp_path, "ours")
    watch = Watch(0.05)
    until(lambda: watch.dead(tmp_path, "ours"))
    ours = acquire(tmp_path, "ours", watch.dead(tmp_path, "ours") or frozenset())
    assert ours.path.name == "lease-5"


def test_cleared_leases_are_nobodys(tmp_path: Path) -> None:
    ours = acquire(tmp_path, "ours")
    (tmp_path / "lease-notes").touch()
    clear(tmp_path)
    assert names(tmp_path) == ["lease-notes"]
    with pytest.raises(LeaseLostError):
        ours.check()


def test_of_many_at_once_one_succeeds(tmp_path: Path) -> None:
    start = threading.Barrier(16)

    def attempt(number: int) -> bool:
        start.wait()
        try:
            acquire(tmp_path, f"run {number}")
        except HeldError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(attempt, range(16))) == 1


def lives(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _contend(folder: Path, seed: int, until_time: float) -> None:
    """Take the lease again and again; whoever is inside with another leaves a mark. Some die."""
    chance = random.Random(seed)
    inside, trouble, rounds = folder / "inside", folder / "trouble", folder / "rounds"
    number = 0
    while time.monotonic() < until_time:
        number += 1
        try:
            with leased(folder, f"{os.getpid()} {number}", 60) as ours:
                mine = os.open(inside, os.O_CREAT | os.O_RDWR)
                try:
                    before = os.read(mine, 100)
                    if before and lives(int(before)):
                        trouble.write_bytes(before)
                    os.pwrite(mine, b"%d" % os.getpid(), 0)
                    time.sleep(chance.random() * 0.004)
                    with rounds.open("a") as file:
                        file.write(".")
                    if chance.random() < 0.1:
                        os.kill(os.getpid(), signal.SIGKILL)
                    ours.check()
                    os.ftruncate(mine, 0)
                finally:
                    os.close(mine)
        except HeldError:
            time.sleep(chance.random() * 0.002)


def test_never_two_holders_among_many_that_die(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    end = time.monotonic() + 5
    seeds = iter(range(10**6))

    def start() -> multiprocessing.process.BaseProcess:
        process = context.Process(target=_contend, args=(tmp_path, next(seeds), end))
        process.start()
        return process

    living = [start() for _ in range(8)]
    deaths = 0
    while time.monotonic() < end:
        for index, process in enumerate(living):
            if process.exitcode is not None and time.monotonic() < end:
                deaths += process.exitcode == -signal.SIGKILL
                living[index] = start()
        time.sleep(0.01)
    for process in living:
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
    assert not (tmp_path / "trouble").exists(), "two were inside at once"
    rounds = len((tmp_path / "rounds").read_text())
    assert rounds > 20, "a dull contest proves little"
    assert deaths > 0
