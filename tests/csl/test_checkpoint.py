"""Checkpoints: whole or not at all, whatever moment a save was cut off at."""

import os
import pickle
import resource
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from csl import checkpoint

STATE = {
    "network": {
        "weight": torch.arange(6.0).reshape(2, 3).to(torch.bfloat16),
        "image": torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
        "seen": torch.tensor(2**60),
    },
    "epoch": 3,
    "curve": [{"loss": 0.1, "loss_masked": None}],
    "best": None,
    "confusion": (1, 2, 3),
}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        alike = one.dtype == other.dtype and one.stride() == other.stride()
        return alike and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return type(one) is type(other) and one == other


def load_quietly(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return checkpoint.load(path)


def test_everything_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "resume.pt"
    checkpoint.save(STATE, path)
    assert same(load_quietly(path), STATE)
    assert [file.name for file in path.parent.iterdir()] == ["resume.pt"]


def test_nothing_saved_is_no_damage(tmp_path: Path) -> None:
    assert load_quietly(tmp_path / "resume.pt") is None
    assert load_quietly(tmp_path / "no folder" / "resume.pt") is None


def test_a_later_save_replaces_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "resume.pt"
    for epoch in (1, 2):
        checkpoint.save({"epoch": epoch}, path)
    assert load_quietly(path) == {"epoch": 2}


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def almost_whole(content: bytes) -> bytes:
    return content[:-1]


def empty(content: bytes) -> bytes:
    return b""


def zeros(content: bytes) -> bytes:
    return bytes(len(content))


def other_text(content: bytes) -> bytes:
    return b"<html>quota exceeded</html>"


def flipped(content: bytes) -> bytes:
    """One bit of a tensor's payload."""
    image = STATE["network"]["image"].permute(0, 2, 3, 1)  # type: ignore[index]
    at = content.index(image.contiguous().numpy().tobytes())
    damaged = bytearray(content)
    damaged[at + 6] ^= 0x40
    return bytes(damaged)


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        almost_whole,
        empty,
        zeros,
        other_text,
        pytest.param(flipped),
    ],
)
def test_damage_is_told_and_nothing_is_loaded(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "resume.pt"
    checkpoint.save(STATE, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"resume\.pt is damaged"):
        assert checkpoint.load(path) is None


def test_a_disk_that_cannot_be_read_is_no_damage(tmp_path: Path) -> None:
    """Whoever started over would write over the very file that may be whole."""
    (tmp_path / "resume.pt").mkdir()
    with pytest.raises(OSError, match="directory"):
        checkpoint.load(tmp_path / "resume.pt")


class Bomb:
    """Creates a file when it is unpickled by anything that runs code."""

    def __init__(self, fuse: Path) -> None:
        self.fuse = fuse

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.fuse,)


@pytest.mark.parametrize("write", [torch.save, lambda x, p: p.write_bytes(pickle.dumps(x, 2))])
def test_a_checkpoint_runs_no_code(tmp_path: Path, write: Callable[[object, Path], None]) -> None:
    path, fuse = tmp_path / "resume.pt", tmp_path / "fuse"
    write({"epoch": Bomb(fuse)}, path)
    with pytest.warns(UserWarning, match="damaged"):
        assert checkpoint.load(path) is None
    assert not fuse.exists()
    pickle.loads(pickle.dumps(Bomb(fuse)))
    assert fuse.exists(), "the bomb was a dud"


def test_a_save_cut_off_before_it_is_on_disk_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "resume.pt"
    checkpoint.save({"epoch": 1}, path)

    def killed(file: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save({"epoch": 2}, path)
    assert load_quietly(path) == {"epoch": 1}


def test_a_save_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "resume.pt"
    checkpoint.save({"epoch": 1}, path)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        checkpoint.save({"epoch": 2, "callback": lambda: None}, path)
    assert load_quietly(path) == {"epoch": 1}
    checkpoint.save({"epoch": 3}, path)  # over what the failure left behind
    assert load_quietly(path) == {"epoch": 3}


@pytest.fixture
def two_kept(tmp_path: Path) -> Path:
    """A folder with the saves of two epochs."""
    path = tmp_path / "resume.pt"
    for epoch in (1, 2, 3):
        checkpoint.save({"epoch": epoch}, path, keep_previous=True)
    return path


def test_only_one_previous_save_is_kept(two_kept: Path) -> None:
    assert load_quietly(two_kept) == {"epoch": 3}
    assert load_quietly(checkpoint.previous(two_kept)) == {"epoch": 2}
    assert len(list(two_kept.parent.iterdir())) == 2
    checkpoint.remove(two_kept)
    assert not list(two_kept.parent.iterdir())


@pytest.mark.parametrize("damage", [truncated, empty, other_text])
def test_a_damaged_save_falls_back_to_the_one_before(
    two_kept: Path, damage: Callable[[bytes], bytes]
) -> None:
    two_kept.write_bytes(damage(two_kept.read_bytes()))
    with pytest.warns(UserWarning, match="the one before it is tried"):
        assert checkpoint.load(two_kept) == {"epoch": 2}


def test_where_both_are_damaged_it_starts_over(two_kept: Path) -> None:
    for path in (two_kept, checkpoint.previous(two_kept)):
        path.write_bytes(b"torn")
    with pytest.warns(UserWarning, match="starts over"):
        assert checkpoint.load(two_kept) is None


def test_a_kill_between_the_two_renames_leaves_the_previous_one(two_kept: Path) -> None:
    two_kept.replace(checkpoint.previous(two_kept))
    assert load_quietly(two_kept) == {"epoch": 3}


def test_a_full_disk_leaves_the_old_one_and_no_litter(two_kept: Path) -> None:
    # Writing further fails, as on a full disk.
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            checkpoint.save({"much": torch.zeros(2**20)}, two_kept, keep_previous=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert load_quietly(two_kept) == {"epoch": 3}
    assert len(list(two_kept.parent.iterdir())) == 2


def test_what_a_killed_save_left_aside_is_removed(two_kept: Path) -> None:
    (two_kept.parent / f".{two_kept.name}.12345.tmp").write_bytes(b"half")
    checkpoint.load(two_kept)
    assert len(list(two_kept.parent.iterdir())) == 2
