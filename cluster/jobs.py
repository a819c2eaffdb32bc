"""Takes a named training; gives what a worker on any node needs to run and record it.

Imports neither ray nor torch.
"""

import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex

import csl
from cluster.lease import Lease
from cluster.snapshot import fingerprint
from csl.identity import Identity, Training
from csl.locations import Locations
from results.schema import Provenance
from results.store import Store

# Another version of one of these may give other numbers.
_PACKAGES = (
    "csl-ablations",
    "numpy",
    "pillow",
    "ray",
    "safetensors",
    "timm",
    "torch",
    "torchvision",
    "transformers",
)


@dataclass(frozen=True)
class Code:
    """Which code a run was launched from.

    Args:
        commit: of the checkout that holds it; None outside one.
        diff: hash of what differs from that commit; None if nothing does.
        fingerprint: hash of the sources of ``csl/``.
        snapshot: names the copy of the sources that workers run; None without one.
    """

    commit: str | None
    diff: str | None
    fingerprint: str
    snapshot: str | None = None


@dataclass(frozen=True)
class Hardware:
    """What a training runs on.

    Args:
        devices: the name of each worker's accelerator or CPU.
        gpu_driver: its version.
        energy_joules: what the devices have used so far, where they say.
        host: the machine's name; None: this one.
    """

    devices: tuple[str, ...] = ()
    gpu_driver: str | None = None
    energy_joules: float | None = None
    host: str | None = None


UNKNOWN = Hardware()
"""For who only launched a training."""


@dataclass(frozen=True)
class RayNames:
    """What Ray calls the run and the trial, in its own logs and dashboard."""

    job: str
    trial: str


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
        lease_seconds: a worker that gives no sign of life for so long may lose its training to
            another driver.
        store_seconds: an object store that is out of reach for so long stops the run; what was
            trained is kept by its checkpoint.
    """

    checkpoint_steps: int = 1000
    hang_seconds: float = 1800.0
    lease_seconds: float = 120.0
    store_seconds: float = 600.0


@dataclass(frozen=True)
class Run:
    """One call of a driver: its name, and when it began."""

    id: str
    started_at: datetime

    @classmethod
    def new(cls) -> "Run":
        """A run that begins now; its name sorts by time and is nobody else's."""
        now = datetime.now(UTC)
        return cls(f"{now:%Y%m%dT%H%M%S}-{token_hex(3)}", now)


@dataclass(frozen=True)
class Job:
    """One training to run: everything the worker needs, nothing it must look up.

    Args:
        training, identity, locations: what, its name, and where its data lies (absolute paths).
        store: the store's folder, absolute, or URI, visible to every node.
        work: the folder of checkpoints and leases, absolute, visible to every node.
        setting: the setting's name.
        launched_as: the first table cell that asked for it, "table5/+M_i/1/16/seed 0".
        resources: what it occupies.
        code: what it was launched from.
        command: the command line that launched it.
        safety: what it loses at most.
        supersedes: complete attempts of the training that this one is to replace.
        run: whose call it belongs to.
        ray, lease, stop: known once its trial runs: what Ray calls it, its right to train, and
            files of which any asks it to stop.
    """

    training: Training
    identity: Identity
    locations: Locations
    store: str
    work: Path
    setting: str
    launched_as: str
    resources: Resources
    code: Code
    command: str
    safety: Safety = Safety()
    supersedes: tuple[str, ...] = ()
    run: Run = field(default_factory=Run.new)
    ray: RayNames | None = None
    lease: Lease | None = None
    stop: tuple[Path, ...] = ()

    def open_store(self) -> Store:
        """The store, patient while it is out of reach."""
        return Store(self.store, self.work, self.safety.store_seconds)

    @property
    def folder(self) -> Path:
        """Where its checkpoints are."""
        return self.work / "checkpoints" / self.identity.id


def read_code() -> Code:
    """The running code's git commit, if it is a checkout, and its fingerprint."""
    package = Path(csl.__path__[0])
    own = fingerprint(
        {path.relative_to(package).as_posix(): path.read_bytes() for path in package.rglob("*.py")}
    )
    if not _git(package, "ls-files", "--", "."):  # an environment inside somebody's checkout
        return Code(None, None, own)
    commit = _git(package, "rev-parse", "HEAD")
    diff = _git(package, "diff", "--no-ext-diff", "--no-relative", "--binary", "HEAD")
    return Code(
        commit=commit.decode().strip() if commit else None,
        diff=sha256(diff).hexdigest()[:16] if diff else None,
        fingerprint=own,
    )


def command_line() -> str:
    """How this process was called, quoted for a shell."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def provenance(
    job: Job, hardware: Hardware, started_at: datetime, training_seconds: float
) -> Provenance:
    """What ran where and when, ending now; ``training_seconds`` is the record's."""
    wants = job.resources
    return Provenance(
        git_commit=job.code.commit,
        git_diff=job.code.diff,
        code_fingerprint=job.code.fingerprint,
        snapshot=job.code.snapshot,
        python=platform.python_version(),
        packages=_versions(),
        platform=platform.platform(),
        host=hardware.host or platform.node(),
        devices=hardware.devices,
        gpu_driver=hardware.gpu_driver,
        workers=wants.workers,
        started_at=started_at,
        finished_at=datetime.now(UTC),
        gpu_seconds=training_seconds * wants.workers * wants.gpus,
        energy_joules=hardware.energy_joules,
        ray_job=job.ray.job if job.ray else None,
        ray_trial=job.ray.trial if job.ray else None,
        command=job.command,
    )


@cache
def _versions() -> tuple[str, ...]:
    return tuple(f"{name}=={version(name)}" for name in _PACKAGES)


def _git(folder: Path, *arguments: str) -> bytes | None:
    """One git answer about the checkout that holds ``folder``; None outside one."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout
