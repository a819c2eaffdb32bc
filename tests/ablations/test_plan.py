"""Plans: what runs, what does not, why, and in which order; without torch or ray."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.judge import Policy
from ablations.places import Places
from ablations.plan import Limits, Plan, Planned, make_plan
from cluster.jobs import read_code
from csl.locations import Locations
from results.schema import FINAL_FAILURES, Failure, Record
from results.store import Store
from tests.ablations.conftest import SPEC, VOC_SETTING, MakeGrid, Write, refused
from tests.results.conftest import make_record

Stored = Callable[..., Record]
INFRASTRUCTURE = sorted(set(Failure) - FINAL_FAILURES)
HERE = Places(Locations())
FIRST, SECOND = "small/first/1/16/seed 0", "small/second/1/16/seed 0"


@pytest.fixture
def plan(grid: MakeGrid, store: Store) -> Callable[..., Plan]:
    """Plans the small spec on shapes: one cell per variant."""

    def make(*, spec: str = SPEC, **policy: object) -> Plan:
        return make_plan([grid(spec)], HERE, store, Policy(**policy))  # type: ignore[arg-type]

    return make


def named(plan: Plan, label: str) -> Planned:
    """The training of a plan that a cell shows."""
    (found,) = (each for each in plan.trainings if label in each.labels)
    return found


def states(plan: Plan) -> dict[str, str]:
    """The state of every training, by its first cell."""
    return {each.labels[0]: each.state for each in plan.trainings}


def checkpoint(store: Store, identity: str) -> None:
    folder = Path(store.location) / "checkpoints" / identity
    folder.mkdir(parents=True)
    (folder / "resume.pt").touch()


def test_an_empty_store_has_everything_to_run(plan: Callable[..., Plan], store: Store) -> None:
    made = plan()
    assert states(made) == {FIRST: "new", SECOND: "new"}
    assert made.to_run == made.trainings
    assert made.reasons == {"not in the store": 2}
    assert not Path(store.location).exists(), "planning writes nothing"


def test_what_is_complete_does_not_run(plan: Callable[..., Plan], stored: Stored) -> None:
    first = named(plan(), FIRST)
    stored(first.training, launched_as="elsewhere/row")
    after = plan()
    assert states(after) == {FIRST: "stored", SECOND: "new"}
    assert "elsewhere/row" in named(after, FIRST).verdict.reason
    assert [each.labels for each in after.to_run] == [(SECOND,)]
    assert named(plan(retry_failed=True), FIRST).state == "stored"


def test_a_complete_attempt_outweighs_failures_and_checkpoints(
    plan: Callable[..., Plan], store: Store, stored: Stored
) -> None:
    first = named(plan(), FIRST)
    stored(first.training)
    stored(first.training, failure=Failure.NOT_A_NUMBER, minute=9)
    checkpoint(store, first.identity.id)
    assert named(plan(), FIRST).state == "stored"


@pytest.mark.parametrize("failure", sorted(FINAL_FAILURES))
def test_what_would_fail_again_runs_only_when_asked(
    plan: Callable[..., Plan], stored: Stored, failure: Failure
) -> None:
    stored(named(plan(), FIRST).training, failure=failure)
    seen = named(plan(), FIRST)
    assert (seen.state, seen.runs) == ("failed", False)
    assert failure in seen.verdict.reason
    assert "--retry-failed" in seen.verdict.reason
    again = named(plan(retry_failed=True), FIRST)
    assert (again.state, again.runs) == ("new", True)
    assert again.verdict.kind == f"failed before: {failure}"


@pytest.mark.parametrize("failure", INFRASTRUCTURE)
def test_what_its_machines_lost_runs_again(
    plan: Callable[..., Plan], store: Store, stored: Stored, failure: Failure
) -> None:
    first = named(plan(), FIRST)
    stored(first.training, failure=failure)
    seen = named(plan(), FIRST)
    assert (seen.state, seen.runs) == ("new", True)
    assert failure in seen.verdict.reason
    checkpoint(store, first.identity.id)
    assert named(plan(), FIRST).state == "unfinished"


def test_only_the_latest_failure_counts(plan: Callable[..., Plan], stored: Stored) -> None:
    first = named(plan(), FIRST)
    stored(first.training, failure=Failure.NOT_A_NUMBER, minute=1)
    stored(first.training, failure=Failure.NODE_LOST, minute=2)
    assert named(plan(), FIRST).state == "new"


def test_a_checkpoint_is_unfinished_and_runs(plan: Callable[..., Plan], store: Store) -> None:
    checkpoint(store, named(plan(), SECOND).identity.id)
    assert states(plan()) == {FIRST: "new", SECOND: "unfinished"}
    assert plan().to_run == plan().trainings


def test_another_trainings_record_counts_for_nothing(
    plan: Callable[..., Plan], store: Store
) -> None:
    store.write(make_record("f" * 16))
    assert states(plan()) == {FIRST: "new", SECOND: "new"}


def test_equal_variants_are_one_training(plan: Callable[..., Plan], stored: Stored) -> None:
    twin = SPEC + "  - name: twin\n    set: {selection: {selector: csl}, masking.enabled: true}\n"
    made = plan(spec=twin)
    assert made.cells == 3
    assert named(made, SECOND).labels == (SECOND, "small/twin/1/16/seed 0")
    stored(named(made, SECOND).training)
    assert states(plan(spec=twin)) == {FIRST: "new", SECOND: "stored"}


def test_seeds_and_splits_are_different_trainings(grid: MakeGrid, store: Store) -> None:
    asked = grid(splits=("1/16", "1/8"), seeds=(0, 1))
    made = make_plan([asked], HERE, store)
    assert len({each.identity.id for each in made.trainings}) == len(asked.cells) == 8
    assert {each.labels for each in made.trainings} == {(asked.label(c),) for c in asked.cells}


# Reasons


def test_a_changed_configuration_is_named_key_by_key(
    grid: MakeGrid, store: Store, stored: Stored
) -> None:
    before = grid(assignments=("loss.strong=0.75", "masking.patch=4"))
    for cell in before.cells:
        stored(cell.training, launched_as=before.label(cell))
    made = make_plan([grid()], HERE, store)
    assert made.reasons == {"configuration changed": 2}
    reason = named(made, SECOND).verdict.reason
    assert "loss.strong 0.75 → 0.25" in reason
    assert "masking.patch 4 → 8" in reason


def test_changed_data_is_told_from_changed_configuration(
    grid: MakeGrid, store: Store, stored: Stored, voc: Path
) -> None:
    there, made = Places(Locations(data_root=voc)), grid(setting=VOC_SETTING)
    for cell in made.cells:
        stored(cell.training, there.common, launched_as=made.label(cell), setting=cell.setting.name)
    assert not make_plan([made], there, store).to_run
    (voc / "splits/2/labeled.txt").write_text("JPEGImages/a.jpg SegmentationClass/a.png\n")
    after = make_plan([made], there, store)
    assert after.reasons == {"data changed": 2}
    assert "split lists" in after.to_run[0].verdict.reason


def test_other_code_counts_with_a_word_unless_told_otherwise(
    plan: Callable[..., Plan], store: Store, stored: Stored
) -> None:
    first = named(plan(), FIRST).training
    stored(first)  # its code fingerprint is made up
    kept = named(plan(code="warn"), FIRST)
    assert (kept.state, kept.verdict.other_code) == ("stored", True)
    assert not named(plan(code="ignore"), FIRST).verdict.other_code
    strict = named(plan(code="strict"), FIRST)
    assert (strict.state, strict.verdict.kind) == ("new", "code changed")
    now = make_record("0" * 16).provenance
    record = stored(first, minute=5)
    own = replace(now, code_fingerprint=read_code().fingerprint)
    store.write(replace(record, attempt="e" * 32, provenance=own))
    after = named(plan(code="strict"), FIRST)
    assert (after.state, after.verdict.other_code) == ("stored", False)


def test_what_is_trained_again_replaces_what_is_complete_even_when_it_resumes(
    plan: Callable[..., Plan], store: Store, stored: Stored
) -> None:
    first = named(plan(), FIRST)
    record = stored(first.training)  # of other sources
    assert named(plan(force=True), FIRST).supersedes == (record.attempt,)
    assert named(plan(code="strict"), FIRST).supersedes == (record.attempt,)
    checkpoint(store, first.identity.id)
    resumed = named(plan(code="strict"), FIRST)
    assert (resumed.state, resumed.supersedes) == ("unfinished", (record.attempt,))
    assert named(plan(), SECOND).supersedes == ()


def test_force_runs_everything_again(plan: Callable[..., Plan], stored: Stored) -> None:
    stored(named(plan(), FIRST).training)
    assert plan(force=True).reasons == {"forced": 2}


# Order and limits


def test_seeds_come_first_and_what_more_tables_show_before_the_rest(
    grid: MakeGrid, store: Store
) -> None:
    several = [
        grid(SPEC, seeds=(0, 1, 2), splits=("1/16", "1/8")),
        grid(
            SPEC.replace("small", "other")
            .replace("first", "third")
            .replace("threshold", "softmatch"),
            seeds=(0, 1, 2),
            splits=("1/16",),
        ),
    ]
    made = make_plan(several, HERE, store)
    order = [
        (each.training.seed, -len({p.grid for p in each.named.places})) for each in made.trainings
    ]
    assert order == sorted(order)
    assert order[0] == (0, -2)
    first = make_plan(several, HERE, store, limits=Limits(first=("other",))).trainings
    shown = [1 in {p.grid for p in each.named.places} for each in first]
    assert shown == sorted(shown, reverse=True)
    assert make_plan(several, HERE, store).trainings == made.trainings, "the same every time"


def test_no_more_run_than_allowed(grid: MakeGrid, store: Store) -> None:
    whole = make_plan([grid(seeds=(0, 1))], HERE, store)
    part = make_plan([grid(seeds=(0, 1))], HERE, store, limits=Limits(max_runs=3))
    assert [each.named.key for each in part.to_run] == [e.named.key for e in whole.to_run[:3]]
    assert [each.cut for each in part.trainings] == [False, False, False, True]


def test_a_budget_cuts_by_what_is_expected(grid: MakeGrid, store: Store, stored: Stored) -> None:
    made = grid(seeds=(0, 1, 2))
    for cell in made.cells[:2]:
        stored(cell.training, training_seconds=1800.0)
    part = make_plan([made], HERE, store, limits=Limits(max_hours=1.1))
    assert [each.estimate.hours for each in part.to_run if each.estimate] == [(0.5, 0.5)] * 2
    assert sum(each.cut for each in part.trainings) == 2


def test_a_budget_of_unknown_prices_is_refused(grid: MakeGrid, store: Store) -> None:
    error = refused(lambda: make_plan([grid()], HERE, store, limits=Limits(max_hours=1)))
    assert error.key == "--budget"
    assert "--max-runs 1" in (error.remedy or "")


def test_an_unknown_priority_is_refused(grid: MakeGrid, store: Store) -> None:
    error = refused(lambda: make_plan([grid()], HERE, store, limits=Limits(first=("tabel5",))))
    assert (error.key, error.value) == ("--priority", "tabel5")
    assert "small" in (error.remedy or "")


def test_shares_say_who_adds_what(grid: MakeGrid, store: Store) -> None:
    other = SPEC.replace("small", "other").replace("threshold", "softmatch")
    made = make_plan([grid(SPEC), grid(other)], HERE, store)
    first, second = made.shares()
    assert (first.name, first.cells, first.adds, first.shared) == ("small", 2, 2, {})
    assert (second.unique, second.adds, second.shared) == (2, 1, {"small": 1})
    assert (made.cells, len(made.trainings)) == (4, 3)


# Data


def test_paths_are_not_identity(grid: MakeGrid, store: Store, stored: Stored, voc: Path) -> None:
    made = grid(setting=VOC_SETTING)
    for cell in made.cells:
        stored(cell.training, Locations(data_root=voc))
    moved = voc.rename(voc.with_name("moved"))
    elsewhere = Locations(data_root=moved, splits_root=moved / "splits")
    assert not make_plan([made], Places(elsewhere), store).to_run


def test_without_the_data_a_plan_goes_by_recipe(
    grid: MakeGrid, store: Store, stored: Stored, voc: Path
) -> None:
    made = grid(setting=VOC_SETTING)
    stored(made.cells[0].training, Locations(data_root=voc))
    plan = make_plan([made], HERE, store)
    assert states(plan) == {"small/first/1/16/seed 0": "stored", "small/second/1/16/seed 0": "new"}
    assert plan.to_run[0].named.identity is None


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
