"""What a driver tells other terminals: while it lives, and what becomes of it when it is killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.drivers import DriverState, read_drivers, told
from cluster.jobs import Run
from cluster.schedule import Stop
from cluster.tally import Listed, Tally

TELL = """
import sys, time
from pathlib import Path
from cluster.drivers import told
from cluster.jobs import Run
from cluster.tally import Listed, Tally
with told(Path(sys.argv[1]), Run.new(), Tally([Listed("job", 1)], 1)):
    while not list(Path(sys.argv[1]).glob("drivers/*.json")):
        time.sleep(0.01)
    print("told", flush=True)
    sys.stdin.read()
"""


def tally() -> Tally:
    made = Tally([Listed(f"job {number}", 4) for number in range(300)], 2)
    for index in range(250):
        made.started(index)
    made.reported(0, {"epoch": 1, "epochs": 4, "seconds": 10.0, "mean_iou": 33.3})
    made.finished(1, elsewhere=False)
    made.finished(2, elsewhere=True)
    made.failed(3, "not a number")
    made.held(4, "node-7, process 5")
    made.stopping(Stop("interrupted", interrupted=True))
    return made


def until_told(store: Path) -> tuple[DriverState, ...]:
    while not (seen := read_drivers(store)):
        pass
    return seen


def test_a_run_tells_where_it_stands_and_is_gone_at_its_end(tmp_path: Path) -> None:
    assert read_drivers(tmp_path) == ()
    run = Run.new()
    with told(tmp_path, run, tally()):
        (seen,) = until_told(tmp_path)
        assert (seen.run, seen.started_at, seen.is_alive) == (run.id, run.started_at, True)
        assert (seen.trainings, seen.waiting, seen.finished, seen.elsewhere) == (300, 50, 1, 1)
        assert (seen.held, seen.failures) == ({"node-7, process 5": 1}, {"not a number": 1})
        assert (seen.running_total, len(seen.running)) == (246, 200)
        first = seen.running[0]
        assert (first.label, first.epoch, first.epochs, first.mean_iou) == ("job 0", 1, 4, 33.3)
        assert seen.seconds_left is not None
        assert seen.stopping == "interrupted"
        assert seen.command
    assert list((tmp_path / "drivers").iterdir()) == []


def test_a_killed_driver_is_told_from_a_living_one_and_cleared_by_the_next(tmp_path: Path) -> None:
    killed = subprocess.Popen(
        [sys.executable, "-c", TELL, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert killed.stdout is not None
    assert killed.stdout.readline() == "told\n"
    (seen,) = read_drivers(tmp_path)
    assert seen.is_alive
    killed.kill()
    killed.wait()
    (seen,) = read_drivers(tmp_path)
    assert not seen.is_alive
    with told(tmp_path, Run.new(), tally()):
        assert seen.run not in {state.run for state in read_drivers(tmp_path)}


def test_a_driver_on_another_machine_is_alive_while_it_tells(tmp_path: Path) -> None:
    run = Run.new()
    with told(tmp_path, run, tally()):
        until_told(tmp_path)
        told_of = json.loads((tmp_path / "drivers" / f"{run.id}.json").read_text())
    told_of["process"]["machine"] = "far away"
    path = tmp_path / "drivers" / "far.json"
    path.write_text(json.dumps(told_of))
    (seen,) = read_drivers(tmp_path)
    assert seen.is_alive

    os.utime(path, (0, 0))
    (seen,) = read_drivers(tmp_path)
    assert not seen.is_alive


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"run": "x", "process": {}}', "\x00"])
def test_foreign_files_are_left_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "drivers").mkdir()
    (tmp_path / "drivers" / "x.json").write_text(content)
    assert read_drivers(tmp_path) == ()
