"""Takes masks to make, one job each; gives them as palette PNGs, and all that went wrong."""

import io
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from PIL import Image

from csl.data.writing import write_whole
from csl.errors import InputError

_NAMED = 5  # faults shown in a message; the rest is counted
_FEW = 200  # masks that are made sooner than processes are started


@dataclass(frozen=True)
class Job:
    """One mask to make.

    Args:
        target: the file to write. What is there already is kept.
        draw: gives the mask, mode L, or None where the target is right as it is. It runs in
            another process, so it is a module's function.
        arguments: of ``draw``.
        original: where to put what is at ``target`` before it is replaced. None: never replaced.
    """

    target: Path
    draw: Callable[..., Image.Image | None]
    arguments: tuple[Any, ...]
    original: Path | None = None


@dataclass(frozen=True)
class Summary:
    """How many masks were written, how many were there already, and what went wrong."""

    written: int
    kept: int
    faults: tuple[InputError, ...]


def make_masks(jobs: Sequence[Job], advance: Callable[[], object] = lambda: None) -> Summary:
    """Do all jobs, on every core if there are many; one bad file stops no other.

    Whatever ends this, no file is torn, and the next call goes on.

    Args:
        jobs: with different targets.
        advance: called after each.
    """
    outcomes = []
    with _mapped(jobs) as results:
        for outcome in results:
            outcomes.append(outcome)
            advance()
    return Summary(
        outcomes.count(True),
        outcomes.count(False),
        tuple(outcome for outcome in outcomes if isinstance(outcome, InputError)),
    )


def refuse_faults(summary: Summary) -> None:
    """Name the first faults and count them all.

    Raises:
        InputError: there is one.
    """
    if not summary.faults:
        return
    lines = [f"{fault.file}: {fault.problem}" for fault in summary.faults[:_NAMED]]
    if len(summary.faults) > _NAMED:
        lines.append(f"and {len(summary.faults) - _NAMED} more")
    raise InputError(
        "\n  ".join(
            [f"{len(summary.faults)} masks could not be made; all others are there", *lines]
        ),
        remedy=f"{summary.faults[0].remedy}; then run the same command again",
    )


def palette() -> list[int]:
    """PASCAL VOC's 256 colors, red, green, blue in turn: index PNGs look as people know them.

    The bits of an index, three at a time, are the highest bits of its color.
    """
    colors = []
    for index in range(256):
        for channel in range(3):
            bits = (index >> (3 * place + channel) & 1 for place in range(8))
            colors.append(sum(bit << (7 - place) for place, bit in enumerate(bits)))
    return colors


@contextmanager
def _mapped(jobs: Sequence[Job]) -> Iterator[Iterator[bool | InputError]]:
    """The outcome of every job, in order."""
    if len(jobs) < _FEW:
        yield map(_make, jobs)
        return
    # Spawned: forking a process with threads (a progress bar has one) can hang.
    pool = ProcessPoolExecutor(
        os.cpu_count(), get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield pool.map(_make, jobs, chunksize=16)
    finally:
        pool.shutdown(cancel_futures=True)


def _make(job: Job) -> bool | InputError:
    """Whether a mask was written, or why it could not be."""
    try:
        if job.original is None and job.target.exists():
            return False
        mask = job.draw(*job.arguments)
        if mask is None:
            return False
        if job.original is not None:
            _set_aside(job.target, job.original)
        mask.putpalette(palette())
        content = io.BytesIO()
        mask.save(content, "PNG", optimize=True)
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(job.target, content.getvalue())
    except InputError as error:
        return error
    except OSError as error:
        return InputError(
            f"cannot be written: {error.strerror or error}",
            file=job.target,
            remedy="make room and see to the folder's permissions",
        )
    return True


def _set_aside(target: Path, original: Path) -> None:
    content = target.read_bytes()
    if original.exists() and original.read_bytes() != content:
        raise InputError(
            "the place for the original is taken by another file",
            file=target,
            value=original,
            remedy=f"move {original.parent} away",
        )
    original.parent.mkdir(parents=True, exist_ok=True)
    write_whole(original, content)
