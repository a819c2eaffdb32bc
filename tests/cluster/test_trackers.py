"""Trackers: refused before anything starts, left out once they fail."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from cluster import trackers
from cluster.jobs import Job
from cluster.trackers import Trackers, check_trackers
from csl.errors import InputError


def test_what_is_unknown_or_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="choose among tensorboard, mlflow, wandb"):
        check_trackers(["excel"])
    monkeypatch.setitem(trackers._PACKAGES, "mlflow", "a_package_that_nobody_has")
    with pytest.raises(InputError, match=r"pip install 'csl-ablations\[mlflow\]'"):
        check_trackers(["mlflow"])


class Full:
    """A tracker whose disk is full after its first epoch."""

    def __init__(self, store: Path) -> None:
        self.epochs: list[int] = []

    def begin(self, job: Job) -> None: ...
    def end(self, job: Job, *, failed: bool) -> None: ...

    def log(self, job: Job, epoch: int, metrics: Mapping[str, float]) -> None:
        self.epochs.append(epoch)
        if epoch > 1:
            raise OSError("No space left on device")


def test_one_that_fails_is_left_out_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full = Full(tmp_path)
    monkeypatch.setitem(trackers._KINDS, "tensorboard", lambda store: full)
    watcher = Trackers(["tensorboard"], [None], tmp_path)  # type: ignore[list-item]
    watcher.started(0)
    watcher.reported(0, {"epoch": 1, "loss": 0.5})
    with pytest.warns(UserWarning, match="nothing more is logged to tensorboard: No space left"):
        watcher.reported(0, {"epoch": 2, "loss": 0.5})
    watcher.reported(0, {"epoch": 3, "loss": 0.5})
    watcher.finished(0, elsewhere=False)
    assert full.epochs == [1, 2]
