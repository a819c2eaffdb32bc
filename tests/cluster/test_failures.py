"""Failures: every exception has one name, however deep Ray has wrapped it."""

from collections.abc import Callable

import pytest
import ray.exceptions as ray_errors
import torch
from ray.train import TrainingFailedError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import ControllerError

from cluster.failures import ActorKilledError, is_loss, name_failure
from csl.errors import InputError, NotANumberError
from results.schema import Failure

ON_DEAD_NODE = ray_errors.ActorDiedError()
ON_DEAD_NODE.error_msg = "The actor died because its node has died. Node Id: fff"
KNOWN: list[tuple[Exception, Failure]] = [
    (NotANumberError("the loss is nan"), Failure.NOT_A_NUMBER),
    (InputError("no mask", remedy="draw one"), Failure.BAD_DATA),
    (torch.OutOfMemoryError("CUDA out of memory"), Failure.OUT_OF_MEMORY),
    (ray_errors.OutOfMemoryError("killed by the memory monitor"), Failure.OUT_OF_MEMORY),
    (ActorKilledError(ray_errors.OutOfMemoryError("likewise")), Failure.OUT_OF_MEMORY),
    (MemoryError(), Failure.OUT_OF_MEMORY),
    (ray_errors.NodeDiedError("the node is gone"), Failure.NODE_LOST),
    (ray_errors.ActorUnschedulableError("nowhere to go"), Failure.NODE_LOST),
    (ray_errors.GetTimeoutError("no answer"), Failure.TIMED_OUT),
    (ray_errors.ActorDiedError(), Failure.WORKER_CRASHED),
    (ON_DEAD_NODE, Failure.NODE_LOST),
    (ray_errors.WorkerCrashedError(), Failure.WORKER_CRASHED),
    (RuntimeError("nobody knows"), Failure.WORKER_CRASHED),
    (ArithmeticError("not ours"), Failure.WORKER_CRASHED),
    (ValueError("not the user's"), Failure.WORKER_CRASHED),
]


def in_task(error: Exception) -> Exception:
    return ray_errors.RayTaskError("train", "Traceback ...", error)


def as_both(error: Exception) -> Exception:
    """What ``ray.get`` raises: an instance of the cause's class and of RayTaskError."""
    return ray_errors.RayTaskError("train", "Traceback ...", error).as_instanceof_cause()  # type: ignore[no-any-return]


def in_group(error: Exception) -> Exception:
    return WorkerGroupError("one worker failed", {1: error})


def in_health_check(error: Exception) -> Exception:
    """What Ray Train makes of a worker that is gone."""
    return in_group(WorkerHealthCheckFailedError("worker 1 cannot be polled", error))


def in_training(error: Exception) -> Exception:
    failed = TrainingFailedError("the run failed")
    failed.__cause__ = error
    return failed


def bare(error: Exception) -> Exception:
    return error


def in_everything(error: Exception) -> Exception:
    return as_both(in_group(in_task(error)))


@pytest.mark.parametrize(
    "wrap",
    [bare, in_task, as_both, in_group, in_health_check, in_training, in_everything],
    ids=lambda w: w.__name__,
)
@pytest.mark.parametrize(("error", "name"), KNOWN, ids=lambda each: type(each).__name__)
def test_each_kind_has_its_name(
    wrap: Callable[[Exception], Exception], error: Exception, name: Failure
) -> None:
    assert name_failure(wrap(error)) is name


def test_the_known_cause_of_a_group_counts() -> None:
    errors = {0: RuntimeError("connection reset"), 1: NotANumberError("nan"), 2: RuntimeError("x")}
    assert name_failure(WorkerGroupError("three failed", errors)) is Failure.NOT_A_NUMBER


def test_an_empty_group_is_a_crash() -> None:
    assert name_failure(WorkerGroupError("nobody says why", {})) is Failure.WORKER_CRASHED


def test_the_order_of_ranks_does_not_matter() -> None:
    died, nan = ray_errors.ActorDiedError(), in_task(NotANumberError("nan"))
    names = {
        name_failure(WorkerGroupError("both", dict(enumerate(p))))
        for p in ([died, nan], [nan, died])
    }
    assert names == {Failure.NOT_A_NUMBER}


def test_a_controllers_failure_has_its_name() -> None:
    lost = ControllerError(ray_errors.NodeDiedError("the node is gone"))
    assert name_failure(lost) is Failure.NODE_LOST


def test_a_preempted_actor_is_preempted() -> None:
    from ray.core.generated.common_pb2 import ActorDiedErrorContext, NodeDeathInfo

    info = NodeDeathInfo(reason=NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED)
    died = ray_errors.ActorDiedError(
        ActorDiedErrorContext(node_death_info=info, actor_id=b"\x01" * 16)
    )
    assert died.preempted
    assert name_failure(died) is Failure.PREEMPTED


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (ray_errors.ActorDiedError(), True),
        (ray_errors.NodeDiedError("the node is gone"), True),
        (RuntimeError("a bug"), False),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (NotANumberError("nan"), False),
    ],
)
def test_a_lost_machine_is_told_from_an_exception(error: Exception, lost: bool) -> None:
    assert is_loss(in_group(error)) is lost
    assert is_loss(in_health_check(error)) is lost
    both = WorkerGroupError("two failed", {0: RuntimeError("connection reset"), 1: error})
    assert is_loss(both) is lost


def test_a_nan_that_brings_others_down_is_no_loss() -> None:
    both = {0: ray_errors.ActorDiedError(), 1: NotANumberError("nan")}
    assert not is_loss(WorkerGroupError("two failed", both))
