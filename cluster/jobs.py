"""Takes a named training; gives what a worker on any node needs to run and record it.

Imports neither ray nor torch.
"""

import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import csl
from csl.identity import Identity, Training
from csl.locations import Locations
from results.schema import Provenance


@dataclass(frozen=True)
class Code:
    """Which code a run was launched from; ``fingerprint`` hashes the sources of ``csl/``."""

    commit: str | None
    dirty: bool | None
    fingerprint: str


@dataclass(frozen=True)
class Resources:
    """What one training occupies: ``workers`` processes of ``cpus`` CPUs and ``gpus`` GPUs each.

    ``loader_workers`` processes prepare the batches of each; no number depends on them.
    """

    workers: int
    cpus: int
    gpus: float
    loader_workers: int = 0


@dataclass(frozen=True)
class Safety:
    """How a training is guarded; none of its numbers depends on it.

    Args:
        checkpoint_steps: a checkpoint is written after so many steps, and after each epoch.
        hang_seconds: a worker that takes no step for so long is killed, and its training goes on
            from the last checkpoint.
    """

    checkpoint_steps: int = 1000
    hang_seconds: float = 1800.0


@dataclass(frozen=True)
class Job:
    """One training to run: everything the worker needs, nothing it must look up.

    Args:
        training, identity, locations: what, its name, and where its data lies (absolute paths).
        store: the store's folder, absolute, visible to every node.
        setting: the setting's name.
        launched_as: the first table cell that asked for it, "table5/+M_i/1/16/seed 0".
        resources: what it occupies.
        code: what it was launched from.
        command: the command line that launched it.
        safety: what it loses at most.
    """

    training: Training
    identity: Identity
    locations: Locations
    store: Path
    setting: str
    launched_as: str
    resources: Resources
    code: Code
    command: str
    safety: Safety = Safety()

    @property
    def folder(self) -> Path:
        """Where its checkpoints are."""
        return self.store / "checkpoints" / self.identity.id


def read_code() -> Code:
    """The running code's git commit, if it is a checkout, and its fingerprint."""
    package = Path(csl.__path__[0])
    digest = sha256()
    for source in sorted(package.rglob("*.py")):
        digest.update(source.relative_to(package).as_posix().encode())
        digest.update(sha256(source.read_bytes()).digest())  # of one length: no boundary blurs
    commit = _git(package, "rev-parse", "HEAD")
    status = _git(package, "status", "--porcelain", "--untracked-files=no")
    return Code(
        commit=commit,
        dirty=None if commit is None else bool(status),
        fingerprint=digest.hexdigest()[:16],
    )


def command_line() -> str:
    """How this process was called, quoted for a shell."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def provenance(job: Job, device: str, started_at: datetime) -> Provenance:
    """What ran where and when, ending now; ``device`` names the accelerator or CPU."""
    return Provenance(
        csl_version=version("csl-ablations"),
        git_commit=job.code.commit,
        git_dirty=job.code.dirty,
        code_fingerprint=job.code.fingerprint,
        python=platform.python_version(),
        torch=version("torch"),
        ray=version("ray"),
        platform=platform.platform(),
        host=platform.node(),
        device=device,
        workers=job.resources.workers,
        started_at=started_at,
        finished_at=datetime.now(UTC),
        command=job.command,
    )


def _git(folder: Path, *arguments: str) -> str | None:
    """One git answer about the checkout that holds ``folder``; None outside one."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
