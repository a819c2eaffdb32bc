"""The command: what it prints, how it ends, and every mistake told before Ray starts."""

import csv
import io
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from results.schema import Failure, Record
from results.store import Store
from tests.ablations.conftest import (
    SPEC,
    VOC_SETTING,
    Csl,
    Ended,
    MakeGrid,
    Write,
    ray_folders,
    record_of,
)

Stored = Callable[..., Record]
COMMANDS = ("run", "plan", "table", "figure", "report", "status", "runs", "show", "doctor")


def assert_refused(ended: Ended, *parts: str) -> None:
    """One message with a remedy on standard error, exit code 2, and no Ray."""
    assert ended.code == 2, ended.out + ended.err
    assert ended.err.startswith("error: ")
    assert ended.err.count("error:") == 1
    assert ended.err.count("remedy: ") == 1
    assert "Traceback" not in ended.out + ended.err
    for part in parts:
        assert part in ended.err
    assert not ray_folders()


@pytest.fixture
def spec(write: Write) -> str:
    return write("small.yaml", SPEC)


@pytest.fixture
def filled(spec: str, store: Store, grid: MakeGrid, stored: Stored) -> tuple[str, str, Record]:
    """A spec, a store with its first variant complete and its second failed, and the former."""
    first, second = grid().cells
    stored(second.training, failure=Failure.NOT_A_NUMBER, launched_as=grid().label(second))
    complete = stored(first.training, mean_iou=40.0, launched_as=grid().label(first))
    return spec, store.location, complete


# What is printed


def test_help_lists_every_command(csl: Csl) -> None:
    ended = csl("--help")
    assert ended.code == 0
    assert all(command in ended.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_of_its_own(csl: Csl, command: str) -> None:
    ended = csl(command, "--help")
    assert ended.code == 0
    assert f"Example: csl {command}" in ended.out


def test_no_command_lists_them_all(csl: Csl) -> None:
    ended = csl()
    assert all(command in ended.out + ended.err for command in COMMANDS)


def test_plan(csl: Csl, filled: tuple[str, str, Record]) -> None:
    spec, location, complete = filled
    ended = csl("plan", spec, "--store", location)
    assert ended.code == 0
    assert complete.identity[:8] in ended.out
    assert "stored" in ended.out
    assert "not a number" in ended.out
    assert "nothing to run" in ended.out


def test_plan_as_json(csl: Csl, filled: tuple[str, str, Record]) -> None:
    spec, location, complete = filled
    seen = json.loads(csl("plan", spec, "--store", location, "--json").out)
    assert (seen["cells"], seen["unique"], seen["to_run"]) == (2, 2, 0)
    assert seen["states"] == {"stored": 1, "failed": 1}
    states = {each["identity"]: each["state"] for each in seen["trainings"]}
    assert states[complete.identity] == "stored"
    retried = csl("plan", spec, "--store", location, "--json", "--retry-failed", "--seeds", "0,1")
    assert json.loads(retried.out)["to_run"] == 3


def test_status(csl: Csl, filled: tuple[str, str, Record]) -> None:
    _, location, _ = filled
    assert "1 complete, 1 failed" in csl("status", "--store", location).out
    seen = json.loads(csl("status", "--store", location, "--json").out)
    assert (seen["complete"], seen["failed"]) == (1, {"not a number": 1})
    assert seen["settings"] == {"shapes": 2}


def test_runs(csl: Csl, filled: tuple[str, str, Record]) -> None:
    _, location, complete = filled
    assert complete.launched_as in csl("runs", "--store", location).out
    rows = json.loads(csl("runs", "--store", location, "--json").out)["runs"]
    assert {row["status"] for row in rows} == {"complete", "failed"}
    failed = json.loads(csl("runs", "--store", location, "--json", "--failed").out)["runs"]
    assert [row["failure"] for row in failed] == ["not a number"]


@pytest.mark.parametrize("digits", [4, 16])
def test_show(csl: Csl, filled: tuple[str, str, Record], digits: int) -> None:
    _, location, complete = filled
    name = complete.identity[:digits]
    page = csl("show", name, "--store", location).out
    for part in (complete.identity, "configuration", "curve", complete.class_names[1], "node-1"):
        assert part in page
    seen = json.loads(csl("show", name, "--store", location, "--json").out)
    assert seen["identity"] == complete.identity
    assert seen["configuration"] == json.loads(complete.configuration)
    assert [epoch["loss"] for epoch in seen["curve"]] == [e.loss for e in complete.curve]


def test_show_compares_over_the_same_images(
    csl: Csl, filled: tuple[str, str, Record], grid: MakeGrid, stored: Stored
) -> None:
    _, location, complete = filled
    assert complete.best is not None
    worse = replace(complete.best, images=replace(complete.best.images, intersection=(21, 10, 25)))
    training = grid(seeds=(1,)).cells[0].training
    other = stored(training, best=worse)
    shown = ("show", complete.identity, "--store", location)
    own, lost = 100 * (41 / 45 + 55 / 59) / 2, 100 * (20 / 45 + 20 / 59) / 2
    page = csl(*shown, "--beside", other.identity).out
    assert f"over images: {own:.1f} [" in page
    (line,) = (line for line in page.splitlines() if line.startswith(f"less {other.identity[:8]}"))
    assert f": +{lost:.1f} [" in line
    assert "the same 3 images" in line
    seen = json.loads(csl(*shown, "--beside", other.identity, "--json").out)
    assert seen["over_images"]["mean_iou"] == pytest.approx(own)
    (beside,) = seen["beside"]
    assert (beside["identity"], beside["images"]) == (other.identity, 3)
    assert beside["difference"] == pytest.approx(lost)
    assert beside["low"] <= beside["difference"] <= beside["high"]
    turned = ("show", other.identity, *shown[2:], "--beside", complete.identity)
    back = json.loads(csl(*turned, "--json").out)
    assert back["beside"][0]["difference"] == pytest.approx(-lost)


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"split_hash": "0" * 16}, "have other split lists"),
        ({"data_fingerprint": "0" * 16}, "have other data"),
        ({"scored_classes": (1,)}, "have other scored classes"),
        ({"center_crop": True}, "have other crops"),
        ({"failure": Failure.NODE_LOST}, "node lost"),
    ],
)
def test_other_images_are_not_compared(
    csl: Csl,
    filled: tuple[str, str, Record],
    grid: MakeGrid,
    stored: Stored,
    changes: dict[str, Any],
    because: str,
) -> None:
    _, location, complete = filled
    training = grid(seeds=(1,)).cells[0].training
    if changes == {"center_crop": True}:
        crop = training.config.evaluation.model_copy(update={"mode": "center_crop"})
        training = replace(training, config=training.config.model_copy(update={"evaluation": crop}))
        changes = {}
    other = stored(training, **changes)
    ended = csl("show", complete.identity, "--store", location, "--beside", other.identity)
    assert_refused(ended, "--beside", because, other.identity)
    if "failure" not in changes:
        assert complete.identity in ended.err


def test_show_of_a_failure_says_why(csl: Csl, filled: tuple[str, str, Record]) -> None:
    _, location, complete = filled
    rows = json.loads(csl("runs", "--store", location, "--json", "--failed").out)["runs"]
    page = csl("show", rows[0]["identity"], "--store", location).out
    assert "not a number" in page
    assert "loss is nan" in page
    assert complete.identity not in page


@pytest.mark.parametrize(
    ("format", "mark"),
    [("terminal", "Variant"), ("md", "| first"), ("latex", r"\toprule"), ("csv", "small,first")],
)
def test_table(csl: Csl, filled: tuple[str, str, Record], format: str, mark: str) -> None:
    spec, location, _ = filled
    ended = csl("table", spec, "--store", location, "--format", format)
    assert (ended.code, ended.err) == (0, "")
    assert mark in ended.out
    assert ended.out == csl("table", spec, "--store", location, "--format", format).out


def test_table_takes_the_rules_epoch(csl: Csl, filled: tuple[str, str, Record]) -> None:
    spec, location, complete = filled
    assert complete.best is not None
    assert complete.last is not None
    for rule, expected in (("best", complete.best), ("last", complete.last)):
        ended = csl("table", spec, "--store", location, "--format", "csv", "--rule", rule)
        row = next(csv.DictReader(io.StringIO(ended.out)))
        assert (float(row["mean"]), row["rule"]) == (expected.mean_iou, rule)


def test_a_torn_record_is_a_warning(csl: Csl, filled: tuple[str, str, Record]) -> None:
    spec, location, complete = filled
    (file,) = Path(location).glob(f"records/{complete.identity}-*")
    file.write_bytes(file.read_bytes()[:100])
    ended = csl("plan", spec, "--store", location, "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["to_run"] == 1
    assert ended.err.startswith("warning: ")
    assert str(file) in ended.err


def test_an_empty_store_is_no_mistake(csl: Csl, tmp_path: Path, spec: str) -> None:
    nothing = tmp_path / "nothing"
    for command in (["status"], ["runs"], ["table", spec]):
        ended = csl(*command, "--store", nothing)
        assert (ended.code, f"no store at {nothing} yet" in ended.err) == (0, True)
    assert csl("plan", spec, "--store", nothing).code == 0
    assert not nothing.exists(), "looking writes nothing"


@pytest.mark.parametrize("location", ["", "~/store", "s3:/bucket/store"])
def test_a_store_that_only_a_shell_would_understand(csl: Csl, location: str) -> None:
    ended = csl("runs", f"--store={location}")
    assert ended.code == 2
    assert "neither a folder nor a URI" in ended.err


@pytest.mark.parametrize("command", ["plan", "run", "table"])
def test_a_ledger_that_is_not_there_is_found_out_first(
    csl: Csl, spec: str, tmp_path: Path, command: str
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(Path(spec).read_text() + "published: nowhere.yaml\n")
    ended = csl(command, mine, "--store", tmp_path / "store")
    assert ended.code == 2
    assert f"{tmp_path / 'nowhere.yaml'}" in ended.err
    assert not (tmp_path / "store").exists()


def test_a_full_disk_under_the_output_is_one_message(spec: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from ablations.cli import main; main()", "table", spec]
    with open("/dev/full", "w") as full:  # noqa: PTH123 (a device)
        ended = subprocess.run(
            [*command, "--store", tmp_path], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 2
    assert ended.stderr == "error: the output cannot be written: No space left on device\n"


def test_options_come_from_the_environment(
    csl: Csl, filled: tuple[str, str, Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CSL_STORE", filled[1])
    assert json.loads(csl("status", "--json").out)["complete"] == 1


# How a run ends


def test_a_finished_spec_launches_nothing(
    csl: Csl, spec: str, store: Store, grid: MakeGrid, stored: Stored, launches: list[Any]
) -> None:
    for cell in grid().cells:
        stored(cell.training)
    before = sorted(Path(store.location).rglob("*"))
    ended = csl("run", spec, "--store", store.location)
    assert ended.code == 0
    assert not launches
    assert "nothing to run" in ended.out
    assert ended.out.endswith(csl("table", spec, "--store", store.location).out)
    assert sorted(Path(store.location).rglob("*")) == before, "nothing is written"


def test_a_run_trains_what_is_missing_and_prints_the_table(
    csl: Csl, spec: str, store: Store, stored: Stored, grid: MakeGrid, monkeypatch: Any
) -> None:
    stored(grid().cells[0].training)
    asked: list[str] = []

    def run_plan(plan: Any, *_: object, **__: object) -> None:
        for each in plan.to_run:
            asked.extend(each.labels)
            store.write(record_of(each.training, each.identity))

    monkeypatch.setattr("ablations.launch.run_plan", run_plan)
    ended = csl("run", spec, "--store", store.location)
    assert ended.code == 0
    assert asked == [grid().label(grid().cells[1])]
    assert csl("table", spec, "--store", store.location).out in ended.out


def test_a_run_that_leaves_work_says_so(
    csl: Csl, spec: str, store: Store, launches: list[Any]
) -> None:
    ended = csl("run", spec, "--store", store.location)
    assert ended.code == 1
    assert len(launches) == 1
    assert "2" in ended.out.splitlines()[-1]
    assert "still to run" in ended.out


def test_an_interrupted_run_prints_what_there_is(
    csl: Csl, spec: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ablations.launch.run_plan", interrupted)
    ended = csl("run", spec, "--store", store.location)
    assert ended.code == 130
    assert csl("table", spec, "--store", store.location).out in ended.out


def test_failures_for_good_end_with_1_and_are_not_launched(
    csl: Csl, filled: tuple[str, str, Record], launches: list[Any]
) -> None:
    spec, location, _ = filled
    ended = csl("run", spec, "--store", location)
    assert (ended.code, launches) == (1, [])
    assert "failed: not a number" in ended.out
    csl("run", spec, "--store", location, "--retry-failed")
    assert [len(plan.to_run) for plan in launches] == [1]


# Mistakes


@pytest.fixture
def setting(write: Write) -> str:
    return write("tiny-voc.yaml", VOC_SETTING)


@pytest.mark.parametrize("command", ["run", "plan", "table"])
@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["nothing"], ["spec", "nothing", "table5"]),
        (["nowhere.yaml"], ["nowhere.yaml"]),
        (["table5", "--setting", "nowhere"], ["setting", "nowhere", "shapes"]),
        (["table5", "--set", "schedule.epoch=3"], ["--set", "schedule.epoch"]),
        (["table5", "--set", "schedule.epochs=many"], ["--set", "schedule.epochs", "many"]),
        (["table5", "--set", "schedule.epochs"], ["--set", "schedule.epochs"]),
        (["tabel5"], ["spec", "did you mean table5?"]),
        (["table5", "--splits", "1/3"], ["--splits", "1/3", "1/16"]),
        (["table5", "--splits", "1/2,1/2"], ["--splits", "1/2,1/2"]),
        (["table5", "--seeds", "one"], ["--seeds", "one"]),
        (["table5", "--seeds", "-1"], ["--seeds", "-1"]),
        (["table5", "--seeds", "0,"], ["--seeds", "0,"]),
        (["table5", "--seeds", "1.5"], ["--seeds", "1.5"]),
        (["table5", "--seeds", "2147483648"], ["--seeds", "2147483648"]),
        (["table5", "--profile", "oficial"], ["--profile", "oficial", "paper"]),
        (["table5", "--store", "floppy://x"], ["floppy://x"]),
        pytest.param(["table5", "--seeds", "0,00"], ["--seeds"]),
    ],
    ids=lambda given: " ".join(given),
)
def test_a_mistake_on_the_command_line(
    csl: Csl,
    tmp_path: Path,
    launches: list[Any],
    command: str,
    options: list[str],
    parts: list[str],
) -> None:
    store = [] if "--store" in options else ["--store", tmp_path / "store"]
    assert_refused(csl(command, *options, *store), *parts)
    assert not launches
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("seeds:", "colour: red\nseeds:", "colour"),
        ("seeds: [0]", "seeds: zero", "seeds"),
        ("name: second", "name: first", "first"),
        ("reference: first", "reference: third", "third"),
        ("seeds:", "name: twice\nseeds:", "name"),
    ],
)
def test_a_mistake_in_a_spec(
    csl: Csl, write: Write, launches: list[Any], old: str, new: str, part: str
) -> None:
    path = write("faulty.yaml", SPEC.replace(old, new))
    assert_refused(csl("run", path), path, part)
    assert not launches


def test_a_mistake_in_a_setting(
    csl: Csl, spec: str, write: Write, store: Store, launches: list[Any]
) -> None:
    path = write("faulty.yaml", VOC_SETTING.replace("epochs: 2", "epochs: two"))
    ended = csl("run", spec, "--setting", path, "--store", store.location)
    assert_refused(ended, path, "schedule.epochs", "two")
    assert not launches


def test_a_sound_folder_passes_every_check(
    csl: Csl, spec: str, setting: str, voc: Path, store: Store, launches: list[Any]
) -> None:
    csl("run", spec, "--setting", setting, "--data-root", voc, "--store", store.location)
    assert [len(plan.to_run) for plan in launches] == [2]


def no_folder(voc: Path) -> None:
    shutil.rmtree(voc)


def no_mask(voc: Path) -> None:
    (voc / "SegmentationClass/b.png").unlink()


def unnamed_mask(voc: Path) -> None:
    (voc / "splits/2/labeled.txt").write_text("JPEGImages/a.jpg\n")


def value_outside(voc: Path) -> None:
    Image.new("L", (8, 8), 3).save(voc / "SegmentationClass/a.png")


def value_outside_in_val(voc: Path) -> None:
    Image.new("L", (8, 8), 200).save(voc / "SegmentationClass/d.png")


def torn_mask(voc: Path) -> None:
    path = voc / "SegmentationClass/b.png"
    path.write_bytes(path.read_bytes()[:30])


def other_size(voc: Path) -> None:
    Image.new("L", (8, 9)).save(voc / "SegmentationClass/a.png")


def color_mask(voc: Path) -> None:
    Image.new("RGB", (8, 8)).save(voc / "SegmentationClass/a.png")


def no_image(voc: Path) -> None:
    (voc / "JPEGImages/c.jpg").unlink()


def no_list(voc: Path) -> None:
    (voc / "splits/val.txt").unlink()


def empty_list(voc: Path) -> None:
    (voc / "splits/2/labeled.txt").write_text("\n")


def leaving_path(voc: Path) -> None:
    (voc / "splits/2/unlabeled.txt").write_text("../../etc/passwd\n")


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (no_folder, ["--data-root", "/voc"]),
        (no_mask, ["SegmentationClass/b.png"]),
        (unnamed_mask, ["labeled.txt, line 1", "mask"]),
        (value_outside, ["SegmentationClass/a.png", "data.classes", "3"]),
        (value_outside_in_val, ["SegmentationClass/d.png", "data.classes", "200"]),
        (torn_mask, ["SegmentationClass/b.png"]),
        (other_size, ["SegmentationClass/a.png", "8x9"]),
        (color_mask, ["SegmentationClass/a.png", "RGB"]),
        (no_image, ["JPEGImages/c.jpg"]),
        (no_list, ["val.txt"]),
        (empty_list, ["labeled.txt"]),
        (leaving_path, ["unlabeled.txt", "/etc/passwd"]),
    ],
)
def test_a_mistake_in_the_data(
    csl: Csl,
    spec: str,
    setting: str,
    voc: Path,
    store: Store,
    launches: list[Any],
    spoil: Callable[[Path], None],
    parts: list[str],
) -> None:
    spoil(voc)
    ended = csl("run", spec, "--setting", setting, "--data-root", voc, "--store", store.location)
    assert_refused(ended, *parts)
    assert not launches


def test_no_data_folder_given(
    csl: Csl, spec: str, setting: str, store: Store, launches: list[Any]
) -> None:
    ended = csl("run", spec, "--setting", setting, "--store", store.location)
    assert_refused(ended, "--data-root")
    assert not launches


@pytest.mark.parametrize("content", [None, b"missing", b"these are no weights\n", b""])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_that_cannot_be_used(
    csl: Csl,
    spec: str,
    store: Store,
    tmp_path: Path,
    launches: list[Any],
    content: bytes | None,
    suffix: str,
) -> None:
    path = tmp_path / f"weights{suffix}"
    given = [] if content is None else ["--weights", path]
    if content != b"missing" and content is not None:
        path.write_bytes(content)
    options = ["--set", "network.pretrained=true", "--store", store.location]
    ended = csl("run", spec, *options, *given)
    assert_refused(ended, "--weights", *([] if content is None else [str(path)]))
    assert not launches


def test_weights_of_another_network(
    csl: Csl, spec: str, store: Store, tmp_path: Path, launches: list[Any]
) -> None:
    import torch

    path = tmp_path / "other.pth"
    torch.save({"a.tensor": torch.zeros(1)}, path)
    options = ["--set", "network.pretrained=true", "--weights", path]
    ended = csl("run", spec, *options, "--store", store.location)
    assert_refused(ended, str(path), "network.backbone", "test_resnet")
    assert not launches


@pytest.mark.parametrize("below", ["", "/below"])
def test_a_store_that_cannot_be_written(
    csl: Csl, spec: str, tmp_path: Path, launches: list[Any], below: str
) -> None:
    (tmp_path / "file").touch()
    location = f"{tmp_path / 'file'}{below}"
    assert_refused(csl("run", spec, "--store", location), location)
    assert not launches


@pytest.mark.parametrize(
    "uri",
    [
        "file:///tmp/store",
        "s3://bucket/store?region=eu-west-1",  # without a region pyarrow asks the network for it
        pytest.param("hdfs://nobody/store"),
    ],
)
def test_a_store_that_keeps_no_checkpoints(
    csl: Csl, spec: str, launches: list[Any], uri: str
) -> None:
    assert_refused(csl("run", spec, "--store", uri), "--store", uri)
    assert not launches


@pytest.fixture
def silent() -> Iterator[str]:
    """An address at which nobody listens: the port is held, but not open."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def test_an_address_that_nobody_answers(
    csl: Csl, spec: str, store: Store, launches: list[Any], silent: str
) -> None:
    ended = csl("run", spec, "--store", store.location, "--address", silent)
    assert_refused(ended, "--address", silent)
    assert not launches


@pytest.mark.parametrize("address", ["Auto", "localhost", "host:port", "ftp://127.0.0.1:10001", ""])
def test_an_address_that_is_none(
    csl: Csl, spec: str, store: Store, launches: list[Any], address: str
) -> None:
    ended = csl("run", spec, "--store", store.location, "--address", address)
    assert_refused(ended, "--address", "host:port")
    assert not launches


def test_workers_that_cannot_share_a_batch(
    csl: Csl, spec: str, store: Store, launches: list[Any]
) -> None:
    ended = csl("run", spec, "--store", store.location, "--workers", 3)
    assert_refused(ended, "labeled_batch", "--workers")
    assert not launches
    csl("run", spec, "--store", store.location, "--workers", 4)
    assert len(launches) == 1


def test_workers_that_tear_groups_of_hard_examples_apart(
    csl: Csl, spec: str, store: Store, launches: list[Any]
) -> None:
    ohem = (spec, "--store", store.location, "--set", "loss.supervised=ohem")
    ended = csl("run", *ohem, "--workers", 8)
    assert_refused(ended, "loss.ohem_group", "--workers", "divisors of 4")
    assert not launches
    csl("run", *ohem, "--workers", 4)
    assert len(launches) == 1


def test_workers_and_parts_share_a_batch_together(
    csl: Csl, spec: str, store: Store, launches: list[Any]
) -> None:
    run = ("run", spec, "--store", store.location, "--set", "schedule.accumulate=4")
    ended = csl(*run, "--workers", 4)
    assert_refused(ended, "schedule.labeled_batch", "schedule.accumulate", "divisors of 2")
    # Two of each kind a worker, but one at a time.
    ended = csl(*run, "--workers", 2)
    assert_refused(ended, "schedule.unlabeled_batch", "pairs", "CutMix", "schedule.accumulate")
    alone = (*run, "--workers", 2, "--set", "augmentation.cutmix=0.0")
    ended = csl(*alone, "--set", "masking.enabled=false")
    assert_refused(ended, "schedule.unlabeled_batch", "BatchNorm", "schedule.accumulate")
    assert not launches
    csl(*run, "--workers", 1)
    csl(*alone)
    assert len(launches) == 2
    three = csl(*run[:-1], "schedule.accumulate=3")
    assert_refused(three, "schedule.accumulate", "divisors")


def test_workers_that_tear_pairs_for_cutmix_apart(
    csl: Csl, spec: str, store: Store, launches: list[Any]
) -> None:
    ended = csl("run", spec, "--store", store.location, "--workers", 8)
    assert_refused(ended, "schedule.unlabeled_batch", "CutMix", "--workers")
    assert not launches


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["table", "table5", "--rule", "median"], ["--rule", "best", "last"]),
        (["table", "table5", "--format", "word"], ["--format", "latex"]),
        (["run", "table5", "--workers", "0"], ["--workers"]),
        (["run", "table5", "--workers", "two"], ["--workers"]),
        (["run", "table5", "--cpus", "0"], ["--cpus"]),
        (["run", "table5", "--gpus-per-worker", "-1"], ["--gpus-per-worker"]),
        (["run", "table5", "--sedes", "0"], ["--sedes"]),
        (["run"], ["SPEC"]),
        (["rum"], ["rum"]),
    ],
    ids=lambda given: " ".join(given),
)
def test_what_the_parser_refuses(
    csl: Csl, launches: list[Any], arguments: list[str], parts: list[str]
) -> None:
    ended = csl(*arguments)
    assert ended.code == 2
    assert not launches
    assert "Traceback" not in ended.err
    for part in parts:
        assert part.lower() in ended.err.lower()


@pytest.mark.parametrize("command", [["status"], ["runs"], ["show", "a"], ["plan", "table5"]])
def test_a_store_that_is_a_file(csl: Csl, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "file").touch()
    assert_refused(csl(*command, "--store", tmp_path / "file"), str(tmp_path / "file"))


def test_show_of_nobody_and_of_several(csl: Csl, filled: tuple[str, str, Record]) -> None:
    _, location, complete = filled
    assert_refused(csl("show", "zzzz", "--store", location), "zzzz")
    assert_refused(csl("show", "", "--store", location), complete.identity)


@pytest.mark.parametrize("option", [[], ["--format", "latex"]])
def test_a_table_that_cannot_be_made(
    csl: Csl, write: Write, store: Store, option: list[str]
) -> None:
    faulty = SPEC + "published: table99\n" if not option else SPEC.replace("second", "日本")
    path = write("faulty.yaml", faulty)
    Path(store.location).mkdir()
    assert_refused(csl("table", path, "--store", store.location, *option))


def test_a_store_whose_library_is_missing(csl: Csl) -> None:
    assert_refused(csl("runs", "--store", "hdfs://nobody/store"), "hdfs://nobody/store")


def test_an_address_that_no_host_can_have(csl: Csl, spec: str, store: Store) -> None:
    ended = csl("run", spec, "--store", store.location, "--address", "head..node:6379")
    assert_refused(ended, "--address", "head..node:6379")


def test_show_draws_the_epochs_of_several_trainings(
    csl: Csl, filled: tuple[str, str, Record], tmp_path: Path
) -> None:
    _, location, complete = filled
    alone, both = tmp_path / "alone", tmp_path / "both"
    rows = json.loads(csl("runs", "--store", location, "--json").out)["runs"]
    other = next(row["identity"] for row in rows if row["identity"] != complete.identity)
    shown = ("show", complete.identity, "--store", location)
    assert str(alone / "figure6.png") in csl(*shown, "--out", alone).err
    assert csl(*shown, "--out", both, "--beside", other, "--json").code == 0
    assert (both / "figure6.png").read_bytes() != (alone / "figure6.png").read_bytes()
    assert (both / "figure6.pdf").read_bytes().startswith(b"%PDF")
    (tmp_path / "file").touch()
    assert_refused(csl(*shown, "--out", tmp_path / "file"), "--out", str(tmp_path / "file"))
