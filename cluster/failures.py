"""Takes an exception from a training or from Ray; gives the failure's name."""

from ray.exceptions import (
    ActorDiedError,
    ActorUnschedulableError,
    GetTimeoutError,
    NodeDiedError,
    OutOfMemoryError,
    RayTaskError,
)
from ray.train import TrainingFailedError, WorkerGroupError
from torch import OutOfMemoryError as TorchOutOfMemoryError

from csl.errors import InputError, NotANumberError
from results.schema import Failure

_NAMES: tuple[tuple[type[BaseException], Failure], ...] = (
    (NotANumberError, Failure.NOT_A_NUMBER),
    (InputError, Failure.BAD_DATA),
    (TorchOutOfMemoryError, Failure.OUT_OF_MEMORY),
    (OutOfMemoryError, Failure.OUT_OF_MEMORY),
    (MemoryError, Failure.OUT_OF_MEMORY),
    (NodeDiedError, Failure.NODE_LOST),
    (GetTimeoutError, Failure.TIMED_OUT),
    (ActorUnschedulableError, Failure.NODE_LOST),
    (ActorDiedError, Failure.WORKER_CRASHED),
)


def name_failure(error: BaseException) -> Failure:
    """The failure's name; an exception nobody knows is a crash of its worker."""
    for cause in _causes(error):
        for kind, name in _NAMES:
            if isinstance(cause, kind):
                return name
    return Failure.WORKER_CRASHED


def _causes(error: BaseException) -> list[BaseException]:
    """The exception and what it wraps, innermost first."""
    inner: list[BaseException] = []
    if isinstance(error, WorkerGroupError):
        inner = [cause for each in error.worker_failures.values() for cause in _causes(each)]
    elif isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        inner = _causes(error.cause)
    elif isinstance(error, TrainingFailedError) and isinstance(error.__cause__, BaseException):
        inner = _causes(error.__cause__)
    return [*inner, error]
