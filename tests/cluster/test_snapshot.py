"""Snapshots: what runs is copied once per content, and stays what it was."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import csl
from cluster import snapshot
from cluster.snapshot import take_snapshot


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package that stands for all that workers import."""
    folder = tmp_path / "checkout" / "csl"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "inner" / "deep.py").write_text("depth = 1\n")
    (folder / "notes.md").write_text("notes\n")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "deep.cpython-311.pyc").write_bytes(b"\0")
    monkeypatch.setattr(csl, "__path__", [str(folder)])
    monkeypatch.setattr(snapshot, "_PACKAGES", (csl,))
    return folder


def files(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


def test_only_sources_are_copied_and_an_edit_is_another_copy(sources: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = take_snapshot(store)
    assert files(first) == {"csl/__init__.py": "", "csl/inner/deep.py": "depth = 1\n"}
    (sources / "notes.md").write_text("other notes\n")
    assert take_snapshot(store) == first
    (sources / "inner" / "deep.py").write_text("depth = 2\n")
    second = take_snapshot(store)
    assert second != first
    assert files(first)["csl/inner/deep.py"] == "depth = 1\n"
    assert sorted((store / "code").iterdir()) == sorted([first, second]), "nothing is left aside"


def test_many_drivers_at_once_share_one_copy(sources: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        taken = set(pool.map(take_snapshot, [tmp_path / "store"] * 64))
    (only,) = taken
    assert list((tmp_path / "store" / "code").iterdir()) == [only]
    assert len(files(only)) == 2


def test_the_running_sources_import_from_their_copy(tmp_path: Path) -> None:
    copy = take_snapshot(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", "import cluster.worker as w; print(w.__file__)"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(copy)
    assert not snapshot.runs_from(copy.name), "this process runs the checkout"
