"""Plans: what runs, what does not, and why; from the store, without torch or ray."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.plan import Plan, make_plan
from csl.locations import Locations
from results.schema import FINAL_FAILURES, Failure, Record
from results.store import Store
from tests.ablations.conftest import SPEC, VOC_SETTING, MakeGrid, Write, refused

Stored = Callable[..., Record]
INFRASTRUCTURE = sorted(set(Failure) - FINAL_FAILURES)
HERE = Locations()


@pytest.fixture
def plan(grid: MakeGrid, store: Store) -> Callable[..., Plan]:
    """Plans the small spec on shapes: one cell per variant."""

    def make(*, retry_failed: bool = False, spec: str = SPEC) -> Plan:
        return make_plan(grid(spec), HERE, store, retry_failed=retry_failed)

    return make


def checkpoint(store: Store, identity: str) -> None:
    folder = Path(store.location) / "checkpoints" / identity
    folder.mkdir(parents=True)
    (folder / "resume.pt").touch()


def test_an_empty_store_has_everything_to_run(plan: Callable[..., Plan], store: Store) -> None:
    made = plan()
    assert [each.state for each in made.trainings] == ["new", "new"]
    assert made.to_run == made.trainings
    assert not Path(store.location).exists(), "planning writes nothing"


def test_what_is_complete_does_not_run(plan: Callable[..., Plan], stored: Stored) -> None:
    first, second = plan().trainings
    stored(first.training, launched_as="elsewhere/row")
    after = plan()
    assert [each.state for each in after.trainings] == ["stored", "new"]
    assert "elsewhere/row" in after.trainings[0].reason
    assert [each.identity for each in after.to_run] == [second.identity]
    assert plan(retry_failed=True).trainings[0].state == "stored"


def test_a_complete_attempt_outweighs_failures_and_checkpoints(
    plan: Callable[..., Plan], store: Store, stored: Stored
) -> None:
    first = plan().trainings[0]
    stored(first.training)
    stored(first.training, failure=Failure.NOT_A_NUMBER, minute=9)
    checkpoint(store, first.identity.id)
    assert plan().trainings[0].state == "stored"


@pytest.mark.parametrize("failure", sorted(FINAL_FAILURES))
def test_what_would_fail_again_runs_only_when_asked(
    plan: Callable[..., Plan], stored: Stored, failure: Failure
) -> None:
    first = plan().trainings[0]
    stored(first.training, failure=failure)
    seen = plan().trainings[0]
    assert (seen.state, seen.runs) == ("failed", False)
    assert failure in seen.reason
    assert "--retry-failed" in seen.reason
    again = plan(retry_failed=True).trainings[0]
    assert (again.state, again.runs) == ("new", True)
    assert failure in again.reason


@pytest.mark.parametrize("failure", INFRASTRUCTURE)
def test_what_its_machines_lost_runs_again(
    plan: Callable[..., Plan], store: Store, stored: Stored, failure: Failure
) -> None:
    first = plan().trainings[0]
    stored(first.training, failure=failure)
    seen = plan().trainings[0]
    assert (seen.state, seen.runs) == ("new", True)
    assert failure in seen.reason
    checkpoint(store, first.identity.id)
    assert plan().trainings[0].state == "unfinished"


def test_only_the_latest_failure_counts(plan: Callable[..., Plan], stored: Stored) -> None:
    first = plan().trainings[0]
    stored(first.training, failure=Failure.NOT_A_NUMBER, minute=1)
    stored(first.training, failure=Failure.NODE_LOST, minute=2)
    assert plan().trainings[0].state == "new"


def test_a_checkpoint_is_unfinished_and_runs(plan: Callable[..., Plan], store: Store) -> None:
    second = plan().trainings[1]
    checkpoint(store, second.identity.id)
    assert [each.state for each in plan().trainings] == ["new", "unfinished"]
    assert plan().to_run == plan().trainings


def test_another_trainings_record_counts_for_nothing(
    plan: Callable[..., Plan], store: Store, make: Callable[..., Record]
) -> None:
    store.write(make("f" * 16))
    assert [each.state for each in plan().trainings] == ["new", "new"]


@pytest.fixture
def make() -> Callable[..., Record]:
    from tests.results.conftest import make_record

    return make_record


def test_equal_variants_are_one_training(plan: Callable[..., Plan], stored: Stored) -> None:
    twin = SPEC + "  - name: twin\n    set: {selection: {selector: csl}, masking.enabled: true}\n"
    made = plan(spec=twin)
    assert len(made.grid.cells) == 3
    assert [each.labels for each in made.trainings] == [
        ("small/first/1/16/seed 0",),
        ("small/second/1/16/seed 0", "small/twin/1/16/seed 0"),
    ]
    stored(made.trainings[1].training)
    assert [each.state for each in plan(spec=twin).trainings] == ["new", "stored"]


def test_seeds_and_splits_are_different_trainings(grid: MakeGrid, store: Store) -> None:
    made = make_plan(grid(splits=("1/16", "1/8"), seeds=(0, 1)), HERE, store)
    assert len({each.identity.id for each in made.trainings}) == len(made.grid.cells) == 8
    asked = [made.grid.label(cell) for cell in made.grid.cells]
    assert [each.labels for each in made.trainings] == [(label,) for label in asked]


def test_a_record_of_other_data_does_not_count(
    grid: MakeGrid, store: Store, stored: Stored, voc: Path
) -> None:
    here, made = Locations(data_root=voc), grid(setting=VOC_SETTING)
    for cell in made.cells:
        stored(cell.training, here)
    assert not make_plan(made, here, store).to_run
    (voc / "splits/2/labeled.txt").write_text("JPEGImages/a.jpg SegmentationClass/a.png\n")
    assert len(make_plan(made, here, store).to_run) == len(made.cells)


def test_paths_are_not_identity(grid: MakeGrid, store: Store, stored: Stored, voc: Path) -> None:
    made = grid(setting=VOC_SETTING)
    for cell in made.cells:
        stored(cell.training, Locations(data_root=voc))
    moved = voc.rename(voc.with_name("moved"))
    elsewhere = Locations(data_root=moved, splits_root=moved / "splits")
    assert not make_plan(made, elsewhere, store).to_run


def test_planning_without_the_folder_is_refused(grid: MakeGrid, store: Store) -> None:
    error = refused(lambda: make_plan(grid(setting=VOC_SETTING), HERE, store))
    assert error.key == "--data-root"


LOOKING = """
import json, sys
from ablations.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["csl", *arguments]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, (arguments, ended.code)
    heavy = {"torch", "torchvision", "timm", "ray", "optuna"} & sys.modules.keys()
    assert not heavy, (arguments, heavy)
"""


def test_looking_imports_neither_torch_nor_ray(
    grid: MakeGrid, store: Store, stored: Stored, write: Write
) -> None:
    spec = write("looked_at.yaml", SPEC)
    first = stored(grid().cells[0].training)
    stored(
        replace(grid().cells[1].training, seed=7), failure=Failure.NOT_A_NUMBER, launched_as="other"
    )
    commands = [
        ["plan", spec],
        ["plan", spec, "--json"],
        ["status"],
        ["runs"],
        ["show", first.identity],
        ["table", spec, "--format", "md"],
    ]
    arguments = json.dumps([[*command, "--store", store.location] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", LOOKING, arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("selection:") == 1, "show has come to its end"
