"""Takes an exception from a training or from Ray; gives the failure's name."""

from ray.exceptions import (
    ActorDiedError,
    ActorUnschedulableError,
    GetTimeoutError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.train import ControllerError, PreemptionError, TrainingFailedError, WorkerGroupError

# Under no public name: what Ray Train makes of a worker that is gone, or that does not answer.
from ray.train.v2._internal.exceptions import (
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from torch import OutOfMemoryError as TorchOutOfMemoryError

from csl.errors import InputError, NotANumberError
from results.schema import FINAL_FAILURES, Failure

_ON_NODE = "because its node has died"  # Ray says so in words only


class ActorKilledError(RayActorError):
    """A trial's process is gone for a reason that Ray tells by another kind of exception.

    Args:
        cause: what Ray tells, such as that its memory monitor has killed the process.
    """

    def __init__(self, cause: RayError) -> None:
        super().__init__(error_msg=str(cause))
        self.cause = cause


_NAMES: tuple[tuple[type[BaseException], Failure], ...] = (
    (NotANumberError, Failure.NOT_A_NUMBER),
    (InputError, Failure.BAD_DATA),
    (TorchOutOfMemoryError, Failure.OUT_OF_MEMORY),
    (OutOfMemoryError, Failure.OUT_OF_MEMORY),
    (MemoryError, Failure.OUT_OF_MEMORY),
    (NodeDiedError, Failure.NODE_LOST),
    (GetTimeoutError, Failure.TIMED_OUT),
    (WorkerHealthCheckTimeoutError, Failure.TIMED_OUT),
    (ActorUnschedulableError, Failure.NODE_LOST),
)

_LOSSES = (
    ActorDiedError,
    ActorUnschedulableError,
    GetTimeoutError,
    NodeDiedError,
    ControllerError,
    PreemptionError,
    WorkerCrashedError,
    WorkerHealthCheckTimeoutError,
)


def name_failure(error: BaseException) -> Failure:
    """The failure's name; an exception nobody knows is a crash of its worker.

    Where several workers failed, the first name of the list counts: one worker's NaN brings the
    others down with it.
    """
    causes = _causes(error)
    if any(isinstance(cause, PreemptionError) or _preempted(cause) for cause in causes):
        return Failure.PREEMPTED
    for kind, name in _NAMES:
        if any(isinstance(cause, kind) for cause in causes):
            return name
    if any(isinstance(cause, ActorDiedError) and _ON_NODE in str(cause) for cause in causes):
        return Failure.NODE_LOST
    return Failure.WORKER_CRASHED


def cause_of(error: BaseException, kinds: tuple[type[BaseException], ...]) -> BaseException | None:
    """It, or what it wraps, if that is an exception of these kinds; the first kind's first."""
    causes = _causes(error)
    return next((each for kind in kinds for each in causes if isinstance(each, kind)), None)


def innermost(error: BaseException) -> BaseException:
    """What was raised first, under all that wraps it; of one worker where several failed."""
    return _causes(error)[-1]


def is_loss(error: BaseException) -> bool:
    """Whether a machine or a process was lost, rather than an exception raised by the training.

    One worker's NaN or bad data ends the others too: that is no loss."""
    lost = any(isinstance(cause, _LOSSES) for cause in _causes(error))
    return lost and name_failure(error) not in FINAL_FAILURES


def _preempted(error: BaseException) -> bool:
    return isinstance(error, ActorDiedError) and error.preempted


def _causes(error: BaseException) -> list[BaseException]:
    """The exception and all that it wraps."""
    inner: list[BaseException | None] = []
    match error:
        case WorkerGroupError():
            inner = list(error.worker_failures.values())
        case ControllerError():
            inner = [error.controller_failure]
        case WorkerHealthCheckFailedError():
            inner = [error.health_check_failure]
        case RayTaskError() | ActorKilledError():
            inner = [error.cause]
        case TrainingFailedError():
            inner = [error.__cause__]
    return [error, *(cause for each in inner if each is not None for cause in _causes(each))]
