"""The watchdog: a silent process is killed and named, a living or a dead one left alone."""

import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from cluster.watchdog import watched

SUBJECT = """
import sys, time
from pathlib import Path
from cluster.watchdog import watched
with watched(float(sys.argv[1]), Path(sys.argv[2])) as alive:
    for _ in range(4):
        alive()
        time.sleep(float(sys.argv[3]))
    print("done", flush=True)
    sys.stdin.read()
"""


def start(seconds: float, marker: Path, pause: float) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SUBJECT, str(seconds), str(marker), str(pause)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_signs_of_life_keep_a_process_alive(tmp_path: Path) -> None:
    subject = start(20, tmp_path / "marker", 0.6)
    output, _ = subject.communicate("")
    assert output.strip() == "done"
    assert subject.returncode == 0
    assert not (tmp_path / "marker").exists()


def test_a_silent_process_is_killed_and_the_marker_says_why(tmp_path: Path) -> None:
    subject = start(0.3, tmp_path / "marker", 30)
    assert subject.wait(timeout=30) == -signal.SIGKILL
    assert (tmp_path / "marker").exists()


def test_a_stopped_process_is_killed_too(tmp_path: Path) -> None:
    subject = start(2, tmp_path / "marker", 0.01)
    assert subject.stdout is not None
    assert subject.stdout.readline().strip() == "done"
    subject.send_signal(signal.SIGSTOP)
    assert subject.wait(timeout=30) == -signal.SIGKILL
    assert (tmp_path / "marker").exists()


def test_the_watch_ends_with_its_killed_subject(tmp_path: Path) -> None:
    subject = start(3600, tmp_path / "marker", 0.01)
    assert subject.stdout is not None
    subject.stdout.readline()
    watches = psutil.Process(subject.pid).children()
    assert len(watches) == 1
    subject.kill()
    subject.wait()
    _, left = psutil.wait_procs(watches, timeout=30)
    assert not left
    assert not (tmp_path / "marker").exists()


def test_the_watch_ends_with_its_context(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    with watched(0.5, tmp_path / "marker") as alive:
        alive()
        assert set(psutil.Process().children()) - before
    time.sleep(0.6)  # longer than the bound
    assert set(psutil.Process().children()) == before
    assert not (tmp_path / "marker").exists()


def test_a_forked_child_that_holds_the_pipe_delays_nothing(tmp_path: Path) -> None:
    """As loader processes do while an exception ends their training."""
    before = set(psutil.Process().children())
    with watched(3600, tmp_path / "marker") as alive:
        alive()
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,))
        child.start()
    try:
        assert child.is_alive()
        assert set(psutil.Process().children()) - before == {psutil.Process(child.pid)}
    finally:
        child.kill()
        child.join()
