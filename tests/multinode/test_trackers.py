"""What TensorBoard, MLflow and W&B read of a run that was stopped and went on."""

import os
import subprocess
from pathlib import Path

import pytest

from cluster.trackers import Trackers
from csl.errors import InputError
from results.store import Store
from tests.faults.conftest import CSL, ONE_VARIANT, SMALL
from tests.multinode.losses import ROOT

pytest.importorskip("tensorboard")
pytest.importorskip("mlflow")
pytest.importorskip("wandb")


def test_every_epoch_is_there_once(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (tmp_path / "one.yaml").write_text(ONE_VARIANT)
    command = (*CSL, "run", str(tmp_path / "one.yaml"), *SMALL, "--store", str(store))
    trackers = ("--log-to", "tensorboard,mlflow,wandb")
    offline = os.environ | {"WANDB_MODE": "offline"}
    stopped = ("--max-hours", "0.0001")  # before its first epoch, or after
    subprocess.run([*command, *trackers, *stopped], cwd=ROOT, env=offline, check=False)
    done = subprocess.run(
        [*command, *trackers], cwd=ROOT, env=offline, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert "nothing more is logged" not in done.stderr
    (record,) = Store(store).records()
    scores = [(epoch.epoch, epoch.mean_iou) for epoch in record.curve]

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (store / "tensorboard").iterdir()
    read = EventAccumulator(str(folder)).Reload()
    seen = {event.step: event.value for event in read.Scalars("mean_iou")}
    assert [(step, pytest.approx(seen[step], rel=1e-6)) for step in sorted(seen)] == scores

    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("csl")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == record.launched_as
    assert run.info.status == "FINISHED"
    assert run.data.tags["csl_identity"] == record.identity
    assert run.data.params["seed"] == "0"
    assert run.data.params["network.width"] == "8"
    history = client.get_metric_history(run.info.run_id, "mean_iou")
    assert {(each.step, each.value) for each in history} == set(scores)

    files = list(store.glob("wandb/offline-run-*/*.wandb"))
    assert {record.identity in file.name for file in files} == {True}


def test_one_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database")
    with pytest.raises(InputError, match="this tracker does not work"):
        Trackers(["mlflow"], [], tmp_path)
