"""Takes the sources that workers run; gives a copy that no edit changes while trials wait."""

import shutil
import tempfile
from hashlib import sha256
from pathlib import Path

import cluster
import csl
import results

_PACKAGES = (csl, cluster, results)  # what a worker imports


def take_snapshot(store: Path) -> Path:
    """Copy the running sources to ``<store>/code/<hash of their content>``; gives that folder.

    A folder that is there holds just them: it was written aside and renamed. Any number of
    drivers may do this at once.
    """
    sources = {
        f"{package.__name__}/{path.relative_to(package.__path__[0]).as_posix()}": path.read_bytes()
        for package in _PACKAGES
        for path in Path(package.__path__[0]).rglob("*.py")
    }
    folder = store / "code" / fingerprint(sources)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
        for name, content in sources.items():
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        aside.chmod(0o755)  # made for its owner alone, and the cluster's nodes may be others
        try:
            aside.rename(folder)
        except OSError:
            shutil.rmtree(aside)
            if not folder.exists():  # else another driver was first
                raise
    return folder


def runs_from(snapshot: str) -> bool:
    """Whether this process imported its sources from the snapshot of this name."""
    return Path(csl.__path__[0]).parent.name == snapshot


def fingerprint(sources: dict[str, bytes]) -> str:
    """16 hex digits naming files by their names and content."""
    digest = sha256()
    for name in sorted(sources):
        digest.update(f"{name}\0".encode())
        digest.update(sha256(sources[name]).digest())  # of one length: no boundary blurs
    return digest.hexdigest()[:16]
