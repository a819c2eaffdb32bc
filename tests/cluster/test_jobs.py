"""Jobs: they cross a process boundary, and name the code and the command they came from."""

import pickle
import shlex
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest

import csl
from cluster.jobs import (
    Code,
    Hardware,
    Job,
    RayNames,
    Resources,
    command_line,
    provenance,
    read_code,
)
from csl.config import DeepLabConfig, ShapesData, TrainingConfig
from csl.identity import Training, identify
from csl.locations import Locations


@pytest.fixture
def job(tmp_path: Path) -> Job:
    network = DeepLabConfig(pretrained=False)
    config = TrainingConfig.model_validate({"data": ShapesData(), "network": network})
    training = Training(config, "8", 3)
    return Job(
        training=training,
        identity=identify(training, Locations()),
        locations=Locations(data_root=tmp_path),
        store=str(tmp_path / "store"),
        work=tmp_path / "store",
        setting="shapes",
        launched_as="t/all/1/16/seed 3",
        resources=Resources(workers=2, cpus=1, gpus=0.5),
        code=Code("c" * 40, "d" * 16, "f" * 16),
        command="csl run t",
    )


def test_a_job_crosses_a_process_boundary(job: Job) -> None:
    copy = pickle.loads(pickle.dumps(job))
    assert copy == job
    assert copy.training.recipe == job.training.recipe
    assert identify(copy.training, Locations()) == job.identity


def test_trainings_do_not_share_a_folder(job: Job) -> None:
    other = replace(job.training, seed=4)
    assert job.folder.is_relative_to(job.work)
    assert job.folder != replace(job, identity=identify(other, Locations())).folder
    assert job.folder == replace(job, resources=Resources(1, 4, 0.0), command="other").folder


def test_provenance_says_code_place_and_cost(job: Job) -> None:
    started = datetime(2026, 1, 1, tzinfo=UTC)
    on_ray = replace(job, ray=RayNames("01000000", "trial-7"))
    made = provenance(on_ray, Hardware(("a GPU",) * 2, "580.1", 250.0), started, 60.0)
    assert (made.git_commit, made.git_diff) == (job.code.commit, job.code.diff)
    assert made.code_fingerprint == job.code.fingerprint
    assert (made.devices, made.gpu_driver, made.workers) == (("a GPU",) * 2, "580.1", 2)
    assert (made.ray_job, made.ray_trial, made.command) == ("01000000", "trial-7", "csl run t")
    assert made.started_at == started <= made.finished_at
    assert (made.gpu_seconds, made.energy_joules) == (60.0, 250.0), "two workers of half a GPU"
    assert {"csl-ablations", "ray", "timm", "torch"} <= {
        each.partition("==")[0] for each in made.packages
    }
    assert f"torch=={version('torch')}" in made.packages


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package in the place of ``csl``."""
    folder = tmp_path / "package"
    (folder / "inner").mkdir(parents=True)
    (folder / "loss.py").write_text("weight = 1\n")
    (folder / "inner" / "deep.py").write_text("depth = 1\n")
    (folder / "notes.md").write_text("notes\n")
    monkeypatch.setattr(csl, "__path__", [str(folder)])
    return folder


def test_the_fingerprint_follows_the_sources(package: Path) -> None:
    seen = [read_code().fingerprint]
    assert read_code().fingerprint == seen[0]

    (package / "loss.py").write_text("weight = 2\n")
    seen.append(read_code().fingerprint)
    (package / "inner" / "deep.py").write_text("depth = 2\n")
    seen.append(read_code().fingerprint)
    (package / "loss.py").rename(package / "losses.py")
    seen.append(read_code().fingerprint)
    (package / "inner" / "deep.py").unlink()
    seen.append(read_code().fingerprint)
    assert len(set(seen)) == len(seen)


def test_the_fingerprint_follows_nothing_else(package: Path) -> None:
    before = read_code().fingerprint
    (package / "notes.md").write_text("other notes\n")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "loss.pyc").write_bytes(b"\0")
    assert read_code().fingerprint == before
    moved = package.rename(package.with_name("moved"))
    csl.__path__ = [str(moved)]
    assert read_code().fingerprint == before


def test_a_source_that_swallows_the_next_is_other_code(package: Path) -> None:
    before = read_code().fingerprint
    first, second = package / "inner" / "deep.py", package / "loss.py"
    first.write_bytes(first.read_bytes() + b"loss.py" + second.read_bytes())
    second.unlink()
    assert read_code().fingerprint != before


def test_outside_a_checkout_there_is_no_commit(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(package.parent))
    assert (read_code().commit, read_code().diff) == (None, None)


def test_a_checkout_has_a_commit_and_perhaps_a_diff(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@localhost")

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    assert (read_code().commit, read_code().diff) == (None, None), "nothing is committed yet"
    (package / "notes.md").rename(package.parent / "notes.md")
    git("commit", "-q", "-m", "none", "--no-gpg-sign", "--allow-empty")
    assert (read_code().commit, read_code().diff) == (None, None), "somebody else's checkout"
    git("add", ".")
    git("commit", "-q", "-m", "all", "--no-gpg-sign")
    commit = git("rev-parse", "HEAD")
    assert (read_code().commit, read_code().diff) == (commit, None)
    seen = set()
    for weight in (3, 4, 3):
        (package / "loss.py").write_text(f"weight = {weight}\n")
        assert read_code().commit == commit
        seen.add(read_code().diff)
    assert len(seen) == 2, "equal changes are one, different ones are not"
    assert None not in seen


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "table5", "--set", "evaluation.classes=[0, 1]"],
        ["run", "my spec.yaml", "--store", "it's here"],
        ["plan", "$HOME", "; rm -r x", "", "*", "ω"],
    ],
)
def test_the_command_line_can_be_pasted(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/csl", *arguments])
    assert shlex.split(command_line()) == ["csl", *arguments]
