"""Gives the fault tests a small grid and the command line as a user has it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from results.schema import Record
from results.store import Store

CSL = (sys.executable, "-c", "from ablations.cli import main; main()")
SMALL = (
    *("--set", "data.train_images=24", "--set", "data.val_images=8", "--set", "network.width=8"),
    *("--set", "schedule.epochs=4", "--set", "schedule.steps_per_epoch=6"),
)
ONE_VARIANT = """
name: one
title: One variant
reference: all
splits: ["1/16"]
seeds: [0]
variants:
  - name: all
    set: {}
"""

Csl = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def csl() -> Csl:
    """Run the command to its end; ``code`` is what it must exit with."""

    def call(*arguments: str | Path, code: int = 0) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [*CSL, *map(str, arguments)], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    return call


@pytest.fixture(scope="session")
def one_variant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec of a single training."""
    path = tmp_path_factory.mktemp("spec") / "one.yaml"
    path.write_text(ONE_VARIANT)
    return path


@pytest.fixture(scope="session")
def quiet(csl: Csl, one_variant: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The record of that training where nothing happens to it."""
    store = tmp_path_factory.mktemp("quiet")
    csl("run", one_variant, *SMALL, "--store", store)
    (record,) = Store(store).records()
    return record


def assert_lost_once(store: Path, quiet: Record) -> Record:
    """One attempt was lost and recorded, the next resumed and ended alike; gives the lost one."""
    lost, ours = sorted(Store(store).records(), key=lambda record: record.status, reverse=True)
    assert (ours.last, ours.best) == (quiet.last, quiet.best)
    assert ours.resumed == 1
    assert lost.status == "failed"
    return lost
