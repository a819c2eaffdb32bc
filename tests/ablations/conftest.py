"""Specs, settings, stores and a command line, all in a temporary folder."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ablations.expand import Grid, Options, expand
from ablations.spec import load_setting, load_spec
from cluster.jobs import Code, Job, Resources
from csl.errors import InputError
from csl.identity import Identity, Training, identify
from csl.locations import Locations
from results.schema import Record
from results.store import Store
from tests.results.conftest import make_record

SPEC = """\
name: small
title: "A small spec"
reference: first
splits: ["1/16"]
seeds: [0]
variants:
  - name: first
    set: {selection.selector: threshold}
  - name: second
    set: {}
"""

VOC_SETTING = """\
name: tiny-voc
about: "four images"
splits: {"1/16": "2"}
set:
  data: {dataset: voc, classes: 3, crop: 32}
  network:
    architecture: deeplabv3plus
    backbone: test_resnet
    pretrained: false
    width: 8
    low_level_width: 4
  schedule: {epochs: 2, steps_per_epoch: 2, precision: fp32}
"""

SMALL = (
    "data.crop=32",
    "data.image_size=32",
    "data.train_images=16",
    "data.val_images=4",
    "network.width=8",
    "network.low_level_width=4",
    "schedule.epochs=1",
    "schedule.steps_per_epoch=2",
    "schedule.labeled_batch=2",
    "schedule.unlabeled_batch=2",
)

NOWHERE = Locations()

Write = Callable[[str, str], str]
MakeGrid = Callable[..., Grid]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CSL_STORE", "CSL_DATA_ROOT", "CSL_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file into the temporary folder and gives its path."""

    def write_file(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write_file


@pytest.fixture
def grid(write: Write) -> MakeGrid:
    """Expands a spec's text on a setting, both read from files."""

    def make(spec: str = SPEC, setting: str = "shapes", **options: Any) -> Grid:
        if "\n" in setting:
            setting = write("setting.yaml", setting)
        return expand(
            load_spec(write("spec.yaml", spec)), load_setting(setting), Options(**options)
        )

    return make


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def record_of(training: Training, identity: Identity, **changes: Any) -> Record:
    """What a worker would have stored for a training."""
    said = {
        "recipe": identity.recipe,
        "setting": "shapes",
        "split": training.split,
        "seed": training.seed,
        "configuration": training.config.model_dump_json(),
        "split_hash": identity.split_hash,
        "data_fingerprint": identity.data_fingerprint,
    }
    return make_record(identity.id, **said | changes)


@pytest.fixture
def stored(store: Store) -> Callable[..., Record]:
    """Stores a record for a training of a grid."""

    def write_record(training: Training, locations: Locations = NOWHERE, **changes: Any) -> Record:
        record = record_of(training, identify(training, locations), **changes)
        store.write(record)
        return record

    return write_record


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A VOC2012 folder of four images, 8x8 pixels, classes 0 to 2, with one split, "2"."""
    root = tmp_path / "voc"
    for folder in ("JPEGImages", "SegmentationClass", "splits/2"):
        (root / folder).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in "abcd":
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"JPEGImages/{name}.jpg")
        mask = generator.integers(0, 3, (8, 8), dtype=np.uint8)
        Image.fromarray(mask).save(root / f"SegmentationClass/{name}.png")
    lines = {name: f"JPEGImages/{name}.jpg SegmentationClass/{name}.png\n" for name in "abcd"}
    (root / "splits/2/labeled.txt").write_text(lines["a"] + lines["b"])
    (root / "splits/2/unlabeled.txt").write_text(lines["c"])
    (root / "splits/val.txt").write_text(lines["d"])
    return root


@dataclass(frozen=True)
class Trained:
    store: Path
    run: str


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A finished training of table5's last variant on shapes, with its network in a store."""
    from cluster.worker import run_job

    job = small_job(tmp_path_factory.mktemp("trained") / "store")
    with threads_kept():
        run_job(job, lambda _: None)
    return Trained(job.work, job.identity.id)


@contextmanager
def threads_kept() -> Iterator[None]:
    """A worker takes one thread; the tests after it want theirs back."""
    import torch

    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def small_job(store: Path, *assignments: str) -> Job:
    """The job of table5's last variant, small."""
    options = Options(assignments=(*SMALL, *assignments), splits=("1/16",), seeds=(0,))
    training = expand(load_spec("table5"), load_setting("shapes"), options).cells[-1].training
    identity = identify(training, Locations())
    return Job(
        training=training,
        identity=identity,
        locations=Locations(),
        store=str(store),
        work=store,
        setting="shapes",
        launched_as="table5/all/1/16/seed 0",
        resources=Resources(workers=1, cpus=1, gpus=0.0),
        code=Code(None, None, "f" * 16),
        command="csl run table5",
    )


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


Csl = Callable[..., Ended]


@pytest.fixture
def csl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Csl:
    """Runs the command in this process."""
    from ablations.cli import main

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["csl", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Ended(code or 0, captured.out, captured.err)

    return call


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The plans that would have been handed to Ray; nothing is."""
    plans: list[Any] = []

    def run_plan(plan: Any, *_: object, **__: object) -> None:
        plans.append(plan)

    monkeypatch.setattr("ablations.launch.run_plan", run_plan)
    return plans


def ray_folders() -> list[Path]:
    """Temporary folders of a Ray that this process started."""
    return list(Path(tempfile.gettempdir()).glob(f"csl-ray-{os.getpid()}-*"))


def refused(action: Callable[[], object]) -> InputError:
    """The input error that the action ends with."""
    with pytest.raises(InputError) as caught:
        action()
    return caught.value
