"""Packaged settings: all of them resolve with every spec, and the documents say what they hold."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

import ablations
from ablations.documents import mapping
from ablations.expand import Grid, Options, expand
from ablations.launch import check_batches
from ablations.places import Places
from ablations.spec import load_setting, load_spec, load_specs
from ablations.tabulate import tabulate
from csl.config import PROFILES, TrainingConfig
from csl.locations import Locations
from results.store import Store
from tests.ablations.conftest import refused

PACKAGE = Path(ablations.__file__).parent
SETTINGS = sorted(path.stem for path in (PACKAGE / "settings").glob("*.yaml"))
SPECS = sorted(
    {
        spec.name: None
        for file in (PACKAGE / "specs").rglob("*.yaml")
        if "space" not in mapping(file)
        for spec, _ in load_specs(str(file))
    }
)
OWN = {"folder": ("data.classes=3",)}
"""What only the user can know."""


def grid(spec: str, setting: str, profile: str = "official", **options: tuple[str, ...]) -> Grid:
    where = load_setting(setting)
    given = {"splits": tuple(where[0].splits), "assignments": OWN.get(setting, ())} | options
    return expand(load_spec(spec), where, Options(profile=profile, **given))


def config(setting: str) -> TrainingConfig:
    """Of full CSL."""
    (found,) = {cell.training.config for cell in grid("table5", setting).cells if cell.row == "all"}
    return found


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("spec", SPECS)
def test_every_spec_resolves_on_every_setting(spec: str, setting: str) -> None:
    first = next(iter(load_setting(setting)[0].splits))
    for profile in PROFILES:
        found = grid(spec, setting, profile, splits=(first,))
        seeds, variants = found.spec.seeds, found.spec.expanded
        assert {cell.variant for cell in found.cells} == {variant.name for variant in variants}
        assert found.asked == len(variants) * len(seeds)


@pytest.mark.parametrize("spec", SPECS)
def test_every_spec_of_the_paper_runs_where_the_paper_ran_it(spec: str) -> None:
    what = load_spec(spec)
    if what[0].setting or any(variant.setting for variant in what[0].expanded):
        found = expand(what, None, Options(seeds=(0,)))
        assert found.asked == len(found.spec.expanded) * len(found.spec.splits)
        configs = {(cell.split, cell.training) for cell in found.cells}
        assert len(configs) == found.asked, "no two rows are one training"


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_is_called_what_its_file_is(setting: str) -> None:
    assert load_setting(setting)[0].name == setting


@pytest.mark.parametrize("setting", SETTINGS)
def test_four_workers_can_share_it(setting: str) -> None:
    check_batches(config(setting), workers=1)
    if setting != "shapes-tiny":
        check_batches(config(setting), workers=4)


@pytest.mark.parametrize("setting", [s for s in SETTINGS if load_setting(s)[0].is_papers])
def test_every_value_of_the_papers_settings_has_its_source(setting: str) -> None:
    lines = Path(load_setting(setting)[1]).read_text(encoding="utf-8").split("\nset:\n")[1]
    for line in filter(None, lines.split("\n")):
        assert "#" in line or line.rstrip().endswith(":"), line


def test_a_folder_needs_to_know_its_classes() -> None:
    error = refused(lambda: grid("table5", "folder", assignments=()))
    assert error.key == "data.classes"
    assert "--set data.classes=" in (error.remedy or "")


def row(setting: str) -> str:
    """The setting's line in docs/settings.md."""
    asked = config(setting)
    schedule, evaluation, network = asked.schedule, asked.evaluation, asked.network
    window, stride = asked.evaluation_window
    how = f"windows of {window}, {stride} apart" if evaluation.mode == "sliding_window" else "whole"
    if asked.evaluation_multiple > 1:
        how += f", sides multiples of {asked.evaluation_multiple}"
    rates = getattr(network, "atrous_rates", None)
    stride_and_rates = (
        "–" if rates is None else f"{network.output_stride}, {'/'.join(map(str, rates))}"
    )
    cells = [
        f"`{setting}`",
        f"{network.backbone}",
        f"{asked.data.crop}",
        "yours" if setting in OWN else f"{len(asked.scored_classes)}",
        f"{schedule.labeled_batch} + {schedule.unlabeled_batch}",
        f"{schedule.optimizer} {schedule.lr:g} × {schedule.head_lr_multiplier:g}",
        f"{schedule.epochs}"
        + (f" of {schedule.steps_per_epoch} steps" if schedule.steps_per_epoch else ""),
        asked.loss.supervised.upper(),
        how,
        stride_and_rates,
    ]
    return "| " + " | ".join(cells) + " |"


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_documents_table_is_what_the_settings_hold(setting: str) -> None:
    document = PACKAGE.parent / "docs" / "settings.md"
    assert row(setting) in document.read_text(encoding="utf-8").splitlines()


def test_documented_keys_exist() -> None:
    """Whatever the documents tell to --set is a configuration key."""
    known: set[str] = set()

    def collect(model: BaseModel, above: str) -> None:
        for name in type(model).model_fields:
            value = getattr(model, name)
            known.add(above + name)
            if isinstance(value, BaseModel):
                collect(value, f"{above}{name}.")

    for setting in SETTINGS:
        collect(config(setting), "")
    documents = [*(PACKAGE.parent / "docs").glob("*.md"), *(PACKAGE / "settings").glob("*.yaml")]
    named = {
        key
        for document in documents
        for key in re.findall(r"--set ([a-z_.]+)=", document.read_text(encoding="utf-8"))
    }
    assert "data.classes" in named
    assert named <= known


@pytest.mark.parametrize(
    ("setting", "options", "comparable"),
    [
        ("voc321", {}, True),
        ("voc321", {"assignments": ("network.gradient_checkpointing=true",)}, True),
        ("voc321", {"assignments": ("schedule.epochs=2",)}, False),
        ("voc513", {}, False),
        ("cityscapes801", {}, False),  # the paper's, but not what Table 5 was measured in
        ("blender321", {"splits": ("1/16",)}, False),
        ("shapes", {}, False),
    ],
)
def test_only_the_tables_own_setting_is_compared_with_the_paper(
    setting: str, options: dict[str, tuple[str, ...]], comparable: bool, tmp_path: Path
) -> None:
    asked = grid("table5", setting, **{"splits": ("1/16", "1/2")} | options)
    (empty,) = tabulate([asked], Places(Locations()), Store(str(tmp_path)).latest(), "best")
    warned = any("another setting than ours" in line for line in empty.footer)
    assert warned != comparable
