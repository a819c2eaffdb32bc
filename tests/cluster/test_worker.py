"""The worker without Ray: what each kind of end leaves in the store and beside it."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ablations.expand import Options, expand
from ablations.spec import load_setting, load_spec
from cluster.jobs import Code, Job, Resources
from cluster.worker import FAILING, HUNG, PROGRESS, failed_record, run_job
from csl.errors import InputError, NotANumberError
from csl.identity import Training, identify
from csl.locations import Locations
from csl.trainer import BEST, RESUME
from results.schema import Failure
from results.store import Store
from tests.results.conftest import START

SMALL = (
    "data.crop=32",
    "data.image_size=32",
    "data.train_images=16",
    "data.val_images=4",
    "network.width=8",
    "network.low_level_width=4",
    "schedule.epochs=2",
    "schedule.steps_per_epoch=2",
    "schedule.labeled_batch=2",
    "schedule.unlabeled_batch=2",
)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def make_job(store: Path, *assignments: str) -> Job:
    options = Options(assignments=SMALL + assignments, splits=("1/16",), seeds=(0,))
    grid = expand(load_spec("table5"), load_setting("shapes"), options)
    training: Training = grid.cells[-1].training
    return Job(
        training=training,
        identity=identify(training, Locations()),
        locations=Locations(),
        store=str(store),
        work=store,
        setting="shapes",
        launched_as="table5/all/1/16/seed 0",
        resources=Resources(workers=1, cpus=1, gpus=0.0),
        code=Code(None, None, "f" * 16),
        command="csl run table5",
    )


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path / "store")


class Reports(list[dict[str, Any]]):
    """What a scheduler is told; stops the training after so many epochs, by any exception."""

    def __init__(self, error: BaseException | None = None, after: int = 0) -> None:
        super().__init__()
        self.error = error
        self.after = after

    def __call__(self, metrics: dict[str, float]) -> None:
        self.append(metrics)
        if self.error is not None and len(self) == self.after:
            raise self.error


def files(job: Job) -> set[str]:
    return {path.name for path in job.folder.glob("*")}


def test_a_whole_training_leaves_one_complete_record(job: Job) -> None:
    reports = Reports()
    run_job(job, reports)
    (record,) = Store(job.store).records()
    assert (record.status, record.failure) == ("complete", None)
    assert (record.identity, record.recipe) == (job.identity.id, job.training.recipe)
    assert (record.split, record.seed) == (job.training.split, job.training.seed)
    assert json.loads(record.configuration) == job.training.config.model_dump(mode="json")
    assert (record.launched_as, record.setting) == (job.launched_as, job.setting)
    assert (record.resumed, record.provenance.workers) == (0, 1)
    assert len(record.provenance.devices) == 1
    on_cpu = (record.provenance.gpu_seconds, record.provenance.energy_joules)
    assert on_cpu == (0.0, None), "a CPU does not say what it used"
    assert [epoch.epoch for epoch in record.curve] == [1, 2]
    assert record.last is not None
    assert record.last.epoch == 2
    assert sum(record.last.confusion) <= 4 * 32 * 32
    assert record.best is not None
    assert record.best.mean_iou == max(epoch.mean_iou or 0 for epoch in record.curve)
    assert files(job) == {BEST}
    assert [report["epoch"] for report in reports] == [1, 2]
    for report, epoch in zip(reports, record.curve, strict=True):
        assert report["epochs"] == 2
        assert (report["mean_iou"], report["seconds"]) == (epoch.mean_iou, epoch.seconds)


def test_a_lost_training_leaves_its_checkpoint_and_goes_on(tmp_path: Path, job: Job) -> None:
    lost = Reports(ConnectionError("the node is gone"), after=1)
    with pytest.raises(ConnectionError):
        run_job(job, lost)
    (crashed,) = Store(job.store).records()
    assert crashed.failure == Failure.WORKER_CRASHED
    assert {RESUME, PROGRESS} <= files(job)
    seen = json.loads((job.folder / PROGRESS).read_text())
    assert (seen["epoch"], seen["epochs"], seen["launched_as"]) == (1, 2, job.launched_as)

    reports = Reports()
    run_job(job, reports)
    assert [report["epoch"] for report in reports] == [2], "the first epoch is not repeated"
    record = Store(job.store).find(job.identity.id)
    assert (record.status, record.resumed) == ("complete", 1)
    assert files(job) == {BEST}

    undisturbed = replace(job, store=str(tmp_path / "other"), work=tmp_path / "other")
    run_job(undisturbed, Reports())
    (other,) = Store(undisturbed.store).records()
    assert (record.last, record.best) == (other.last, other.best)
    assert [epoch.loss for epoch in record.curve] == [epoch.loss for epoch in other.curve]


def test_what_two_codes_trained_is_neither_ones(job: Job) -> None:
    with pytest.raises(ConnectionError):
        run_job(job, Reports(ConnectionError("the node is gone"), after=1))
    run_job(replace(job, code=replace(job.code, fingerprint="e" * 16)), Reports())
    lost, whole = sorted(Store(job.store).records(), key=lambda each: each.resumed)
    assert lost.provenance.code_fingerprint == "f" * 16
    assert whole.provenance.code_fingerprint == f"{'e' * 16}+{'f' * 16}"


def test_a_gpu_that_cannot_be_opened_is_recorded(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for a GPU whose driver is too old for torch."""

    def device(gpus: float) -> None:
        raise RuntimeError("the NVIDIA driver on your system is too old")

    monkeypatch.setattr("cluster.worker.Device", device)
    with pytest.raises(RuntimeError):
        run_job(job, Reports())
    (record,) = Store(job.store).records()
    assert record.failure == Failure.WORKER_CRASHED
    assert "too old" in (record.failure_detail or "")


def test_what_fails_once_its_driver_is_gone_is_no_failure(job: Job) -> None:
    reports = Reports(BrokenPipeError("its watchdog is gone"), after=1)

    def report(metrics: dict[str, float]) -> None:
        if metrics == FAILING:
            sys.exit()  # where Tune stops a trial, it does so inside its report
        reports(metrics)

    with pytest.raises(SystemExit):
        run_job(job, report)
    assert Store(job.store).records() == ()
    assert RESUME in files(job)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(1)])
def test_whatever_stops_the_process_is_no_result(job: Job, stop: BaseException) -> None:
    with pytest.raises(type(stop)):
        run_job(job, Reports(stop, after=1))
    assert Store(job.store).records() == ()
    assert RESUME in files(job)


def test_the_energy_of_all_resumptions_is_added_up(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands in for a GPU: no machine of ours has one."""
    monkeypatch.setattr("cluster.devices.Device.joules", lambda self: 40.0)
    with pytest.raises(ConnectionError):
        run_job(job, Reports(ConnectionError("the node is gone"), after=1))
    run_job(job, Reports())
    lost, whole = sorted(Store(job.store).records(), key=lambda each: each.resumed)
    assert lost.provenance.energy_joules == 40.0
    assert whole.provenance.energy_joules == 80.0


def test_an_old_mark_of_hanging_is_forgotten(job: Job) -> None:
    job.folder.mkdir(parents=True)
    (job.folder / HUNG).touch()
    run_job(job, Reports())
    assert files(job) == {BEST}


def test_out_of_memory_is_recorded_and_can_go_on(job: Job) -> None:
    with pytest.raises(MemoryError):
        run_job(job, Reports(MemoryError(), after=1))
    (record,) = Store(job.store).records()
    assert record.failure == Failure.OUT_OF_MEMORY
    run_job(job, Reports())
    assert Store(job.store).latest()[job.identity.id].resumed == 1


def test_a_record_keeps_the_end_of_what_its_worker_printed(job: Job) -> None:
    class Talkative(Reports):
        def __call__(self, metrics: dict[str, float]) -> None:
            if metrics != FAILING:
                os.write(2, b"a library says something\n")
            super().__call__(metrics)

    with pytest.raises(NotANumberError):
        run_job(job, Talkative(NotANumberError("later"), after=2))
    (record,) = Store(job.store).records()
    assert record.log_tail is not None
    assert record.log_tail.count("a library says something") == 2


def test_no_number_leaves_one_failed_record(tmp_path: Path) -> None:
    job = make_job(tmp_path / "store", "schedule.lr=1e30")
    with pytest.raises(NotANumberError):
        run_job(job, Reports())
    (record,) = Store(job.store).records()
    assert (record.status, record.failure) == ("failed", Failure.NOT_A_NUMBER)
    assert record.identity == job.identity.id
    assert record.failure_detail is not None
    assert "NotANumberError" in record.failure_detail
    assert (record.last, record.best) == (None, None)
    assert record.curve == ()


def test_no_number_keeps_the_curve_so_far_but_no_checkpoint(job: Job) -> None:
    with pytest.raises(NotANumberError):
        run_job(job, Reports(NotANumberError("later"), after=2))
    (record,) = Store(job.store).records()
    assert [epoch.epoch for epoch in record.curve] == [1, 2]
    assert files(job) == set(), "nothing would be resumed"


def test_bad_data_is_final_too(job: Job) -> None:
    gone = replace(job.training, split="no number")
    with pytest.raises(InputError):
        run_job(replace(job, training=gone), Reports())
    (record,) = Store(job.store).records()
    assert record.failure == Failure.BAD_DATA
    assert record.failure_detail is not None
    assert "no number" in record.failure_detail


def test_a_failed_record_says_what_failed(job: Job) -> None:
    try:
        raise ConnectionError("the node is gone")
    except ConnectionError as error:
        record = failed_record(job, Failure.NODE_LOST, error, START)
    assert (record.failure, record.identity) == (Failure.NODE_LOST, job.identity.id)
    assert record.failure_detail is not None
    assert "the node is gone" in record.failure_detail
    assert "test_worker.py" in record.failure_detail
    Store(job.store).write(record)
    assert Store(job.store).find(job.identity.id) == record


def test_an_endless_message_does_not_fill_the_store(job: Job) -> None:
    record = failed_record(job, Failure.WORKER_CRASHED, RuntimeError("x" * 10**6 + "end"), START)
    assert record.failure_detail is not None
    assert len(record.failure_detail) < 10_000
    assert "end" in record.failure_detail
