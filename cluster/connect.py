"""Takes an address or none; gives a connection to that Ray, or to a local one of its own."""

import contextlib
import json
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from cluster.processes import ProcessName
from csl.errors import InputError

_TEMP_PREFIX = "csl-ray-"
_OWNER = "owner.json"
_LONGEST_ROOT = 18  # of the 107 bytes of a socket's path, Ray takes 64 and the folder 25
_OBJECT_STORE_BYTES = 256 * 2**20  # trials exchange kilobytes
_SUBMISSION = ("http://", "https://", "ray://")

AUTHENTICATE = (
    "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) as the cluster has them"
)


@dataclass(frozen=True)
class Cluster:
    """A connected Ray.

    Args:
        cpus, gpus: what it has in total, now.
        scratch: a folder that all its nodes may write to.
        may_grow: whether nodes may join: somebody adds them, or an autoscaler does.
        nodes: Ray's ids of those that are alive and have any CPUs or GPUs.
    """

    cpus: float
    gpus: float
    scratch: Path
    may_grow: bool = False
    nodes: frozenset[str] = frozenset()

    def now(self) -> "Cluster":
        """The same with what it has by now: nodes come and go."""
        import ray

        total = ray.cluster_resources()  # type: ignore[no-untyped-call]
        every = ray.nodes()  # type: ignore[no-untyped-call]
        alive = (node for node in every if node["Alive"])
        nodes = frozenset(
            node["NodeID"] for node in alive if {"CPU", "GPU"} & node["Resources"].keys()
        )
        return replace(self, cpus=total.get("CPU", 0), gpus=total.get("GPU", 0), nodes=nodes)


def is_submission(address: str | None) -> bool:
    """Whether a run is handed over to this address, rather than driven from here."""
    return address is not None and address.startswith(_SUBMISSION)


def check_address(address: str) -> None:
    """Make sure that somebody listens at an address before anything is started.

    Args:
        address: ``host:port``, or with ``ray://``, ``http://`` or ``https://`` before it. What
            ``auto`` finds is only known once it is joined.

    Raises:
        InputError: the address is malformed, or nobody answers.
    """
    if address == "auto":
        return
    scheme = next((each for each in _SUBMISSION if address.startswith(each)), "")
    host, separator, port = (
        address.removeprefix(scheme).rstrip("/" if scheme else "").rpartition(":")
    )
    if not (separator and port.isascii() and port.isdecimal() and len(port) < 6) or "/" in host:
        raise InputError(
            "the address is not host:port",
            key="--address",
            value=address,
            remedy="give the head node's address, such as 10.0.0.1:6379, or its dashboard's, such "
            "as http://10.0.0.1:8265, or auto on the head itself",
        )
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(
            f"no Ray answers at this address ({error})",
            key="--address",
            value=address,
            remedy="start one there with `ray start --head`, or leave --address out to start a "
            "local one",
        ) from error


def head_address() -> str:
    """Where the head of the Ray that was joined listens: host:port."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


@contextlib.contextmanager
def connect(
    address: str | None, cpus: int | None, shared: Path, code: Path | None = None
) -> Iterator[Cluster]:
    """Join the Ray at ``address``, or start a local one that ends with this context.

    A local Ray binds to loopback, asks for a random token, lives in a temporary folder of its own
    and leaves its logs in ``shared``.

    Args:
        address: ``host:port`` of a running head, ``auto`` for the one on this machine, or None.
        cpus: CPUs of the local Ray; None means those this process may use.
        shared: this run's folder, visible to every node.
        code: the folder that workers import their sources from; None: as this process does.

    Raises:
        InputError: the cluster refuses the connection.
    """
    set_environment(local=address is None)
    temp = _temp_folder(_short_root()) if address is None else None
    scratch = (temp or shared) / "scratch"
    import ray  # its environment has to be set before

    try:
        # Workers look first where the driver was when it connected, even before PYTHONPATH.
        with contextlib.chdir(code or "."):
            if temp is None:
                _join(address)
            else:
                _start(temp, cpus or len(os.sched_getaffinity(0)), shared)
        scratch.mkdir(parents=True)
        yield Cluster(cpus=0, gpus=0, scratch=scratch, may_grow=temp is None).now()
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)
        if temp is not None:
            _keep_logs(temp, shared)


def _start(temp: Path, cpus: int, logs: Path) -> None:
    import ray

    try:
        ray.init(
            address="local",  # whatever RAY_ADDRESS says
            num_cpus=cpus,
            object_store_memory=_OBJECT_STORE_BYTES,
            dashboard_host="127.0.0.1",
            _node_ip_address="127.0.0.1",
            _temp_dir=str(temp),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"a local Ray cannot be started: {str(error).splitlines()[0]}",
            file=logs,
            remedy="see the logs there; free memory or disk, or join a running Ray with --address",
        ) from error


def _join(address: str | None) -> None:
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if "InvalidAuthToken" in f"{error}{error.__cause__}":
            raise InputError(
                "this Ray does not accept the token",
                key="--address",
                value=address,
                remedy=AUTHENTICATE,
            ) from error
        raise InputError(
            f"this Ray cannot be joined: {str(error).splitlines()[0]}",
            key="--address",
            value=address,
            remedy="use the cluster's Ray and Python versions, and set RAY_AUTH_MODE as it has it",
        ) from error


def set_environment(*, local: bool) -> None:
    """What Ray reads when it is first imported; what the user has set stays, but for a ``local``
    Ray's token."""
    quiet = {
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # a run stops its trainings itself
        "TUNE_MAX_PENDING_TRIALS_PG": "100000",  # a run gives Tune only what there is room for
        "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # Tune's own state is never restored
        # How often Ray Train looks at its workers; at its default each report may block for 2 s.
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    if local:
        # An explicit token: left unset, Ray would write one into the user's home folder.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = _own_token()
        # Whatever its name says: without it Ray listens on every interface, for other nodes.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    elif {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # else Ray would not send it


@cache
def _own_token() -> str:
    """One for all local Rays of this process: Ray reads it once."""
    return secrets.token_hex(32)


def _short_root() -> Path:
    """Where temporary folders are, if sockets' paths fit there: TMPDIR may be a job's own."""
    root = Path(tempfile.gettempdir())
    short = len(str(root)) <= _LONGEST_ROOT
    return root if short else Path("/tmp")  # noqa: S108 (what is made there is this user's alone)


def _temp_folder(root: Path) -> Path:
    """A folder in ``root`` for a local Ray, owned by this process.

    Folders of drivers that were killed are removed first: of this machine's, as others may use the
    same root."""
    for left in root.glob(f"{_TEMP_PREFIX}*"):
        if not left.is_symlink() and _was_of_the_dead(left):
            shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f"{_TEMP_PREFIX}{os.getpid()}-", dir=root))
    (made / _OWNER).write_text(json.dumps(asdict(ProcessName.own())))
    return made


def _was_of_the_dead(folder: Path) -> bool:
    try:
        return ProcessName(**json.loads((folder / _OWNER).read_text())).has_died
    except (OSError, ValueError, TypeError):  # another user's, or not made by csl
        return False


def _keep_logs(temp: Path, logs: Path) -> None:
    for session in temp.glob("session_*"):
        if not session.is_symlink() and (session / "logs").is_dir():
            shutil.copytree(session / "logs", logs / session.name, symlinks=True)
    shutil.rmtree(temp, ignore_errors=True)
