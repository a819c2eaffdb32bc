"""Takes a command and the address of a head's dashboard; has the head run it, follows and stops it.

The command's process is on the head and outlives whoever submitted it.
"""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.connect import AUTHENTICATE, check_address, set_environment
from csl.errors import InputError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

STOP_SECONDS = 600
"""How long a job that is stopped may take to write its checkpoints, before it is killed."""

_INTERRUPTED = 130
_KIND = "csl"  # what our jobs are marked with
_DASHBOARD = "give the address of the head's dashboard, http://HOST:8265; what was started runs on"
_RUNTIME_FAULTS = (ValueError, TypeError, FileNotFoundError)

# Another node that shares this one's file system unpacks sent files anew, and takes away the folder
# of them that the command started in: it goes on in a copy.
_STAY = 'here=$(mktemp -d) && cp -R . "$here" && cd "$here" && exec '


@dataclass(frozen=True)
class RemoteJob:
    """A command that was handed over.

    Args:
        id: its name.
        state: Ray's word: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        command: what it runs.
        started_at: when it was handed over.
        exit_code: its process's, where Ray knows one.
    """

    id: str
    state: str
    command: str
    started_at: datetime
    exit_code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.state in ("SUCCEEDED", "FAILED", "STOPPED")

    @property
    def code(self) -> int:
        """What its command line would have exited with; 130 where it was stopped."""
        if self.state == "STOPPED":
            return _INTERRUPTED
        return 0 if self.state == "SUCCEEDED" else self.exit_code or 1


def submit(
    address: str,
    command: str,
    files: Path | None = None,
    environment: Mapping[str, Any] | None = None,
) -> str:
    """Have the head run a command, and return at once; gives the job's name.

    Args:
        address: the dashboard's.
        command: for the head's shell.
        files: a folder whose content the command finds where it starts.
        environment: a runtime environment that Ray makes for the command and its trainings.

    Raises:
        InputError: nobody answers, the token is wrong, Ray is of another version, or the runtime
            environment is none.
    """
    with _client(address) as client:
        wanted = dict(environment or {})
        variables = {
            **wanted.pop("env_vars", {}),
            # As Ctrl-C: checkpoints are written before it ends.
            "RAY_JOB_STOP_SIGNAL": "SIGINT",
            "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
        }
        if files is not None:
            wanted["working_dir"] = str(files)
        try:
            job: str = client.submit_job(
                entrypoint=command if files is None else _STAY + command,
                submission_id=f"{_KIND}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
                runtime_env={**wanted, "env_vars": variables},
                metadata={"kind": _KIND},
            )
        except RuntimeError as error:
            raise InputError(
                f"the head did not take the job: {error}",
                key="--address",
                value=address,
                remedy="see dashboard_agent.log on the head; another Ray's agent on that machine "
                "may hold its port (ray start --dashboard-agent-listen-port)",
            ) from error
        except _RUNTIME_FAULTS as error:
            raise InputError(
                f"this is no runtime environment: {error}",
                key="--runtime-env",
                remedy="see Ray's documentation of runtime environments",
            ) from error
    return job


def jobs(address: str) -> list[RemoteJob]:
    """What csl has handed over to this address, oldest first."""
    with _client(address) as client:
        found = [_job(each) for each in client.list_jobs() if each.metadata == {"kind": _KIND}]
    return sorted(found, key=lambda job: job.started_at)


def follow(address: str, job: str, write: Callable[[str], None]) -> RemoteJob:
    """Give ``write`` all that a job printed and prints until it ends; gives how it ended.

    Raises:
        InputError: there is no such job, or the connection was lost.
    """

    async def tail(client: "JobSubmissionClient") -> None:
        async for text in client.tail_job_logs(job):
            write(text)

    with _client(address) as client:
        _find(client, address, job)
        try:
            asyncio.run(tail(client))
        except RuntimeError as error:  # Ray's word for a connection that was cut
            raise InputError(
                f"the connection was lost ({error}); the job runs on",
                key="--address",
                value=address,
                remedy=f"csl watch {job} --address {address}",
            ) from error
        while not (found := _find(client, address, job)).ended:
            time.sleep(0.2)
        return found


def cancel(address: str, job: str) -> RemoteJob:
    """Interrupt a job, wait until its checkpoints are written, and give how it ended.

    One that has ended stays as it is.
    """
    with _client(address) as client:
        if not _find(client, address, job).ended:
            client.stop_job(job)
        while not (found := _find(client, address, job)).ended:
            time.sleep(0.2)
        return found


def _find(client: "JobSubmissionClient", address: str, job: str) -> RemoteJob:
    try:
        return _job(client.get_job_info(job))
    except RuntimeError as error:
        if "404" not in str(error):
            raise
        raise InputError(
            f"there is no such job at {address}",
            key="JOB",
            value=job,
            remedy=f"csl watch --address {address} lists them",
        ) from error


def _job(details: Any) -> RemoteJob:
    return RemoteJob(
        id=details.submission_id,
        state=details.status.value,
        command=details.entrypoint.removeprefix(_STAY),
        started_at=datetime.fromtimestamp(details.start_time / 1000, UTC),
        exit_code=details.driver_exit_code,
    )


@contextlib.contextmanager
def _client(address: str) -> Iterator["JobSubmissionClient"]:
    """Ray's client of this address; what goes wrong between the two is a user's to mend."""
    check_address(address)
    set_environment(local=False)
    if not address.startswith("ray://"):
        os.environ["RAY_API_SERVER_ADDRESS"] = address  # else RAY_ADDRESS would count, not this
    import aiohttp
    import ray
    import requests
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    def fault(problem: str, remedy: str) -> InputError:
        return InputError(problem, key="--address", value=address, remedy=remedy)

    try:
        try:
            client = JobSubmissionClient(address)
        except (RuntimeError, KeyError, TypeError) as error:  # something else answers there
            raise fault(f"no Ray dashboard answers there ({error})", _DASHBOARD) from error
        theirs = client._server_ray_version  # under no public name
        if theirs != ray.__version__:
            raise fault(
                f"the cluster's Ray is {theirs}, this one {ray.__version__}",
                f"install ray=={theirs} here, and the cluster's csl",
            )
        yield client
    except AuthenticationError as error:
        raise fault("this Ray does not accept the token", AUTHENTICATE) from error
    except (aiohttp.ClientError, requests.RequestException, ConnectionError) as error:
        raise fault(f"the connection to this Ray failed ({error})", _DASHBOARD) from error
