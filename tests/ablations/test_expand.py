"""Expanding: which layer wins, in which order cells come, and who is blamed for a bad value."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.expand import Grid, Options, expand
from ablations.layers import Layer, command_line, profile, resolve
from ablations.spec import Setting, Spec, Variant
from csl.config import PROFILES, TrainingConfig
from tests.ablations.conftest import refused

SPEC_FILE, SETTING_FILE = "/mine/spec.yaml", "/mine/setting.yaml"
SHAPES = {"data": {"dataset": "shapes"}, "network": {"architecture": "deeplabv3plus"}}


def make_spec(**changes: Any) -> Spec:
    fields: dict[str, Any] = {
        "name": "small",
        "title": "small",
        "reference": "all",
        "splits": ("1/16",),
        "seeds": (0,),
        "variants": (Variant(name="all", set={}),),
    }
    return Spec(**{**fields, **changes})


def make_setting(values: dict[str, Any] = SHAPES, **changes: Any) -> Setting:
    fields: dict[str, Any] = {
        "name": "mine",
        "about": "mine",
        "splits": {"1/16": "8", "1/8": "16", "1/2": "64"},
        "set": values,
    }
    return Setting(**{**fields, **changes})


def grid(spec: Spec | None = None, setting: Setting | None = None, **options: Any) -> Grid:
    what, where = spec or make_spec(), setting or make_setting()
    return expand((what, SPEC_FILE), (where, SETTING_FILE), Options(**options))


def config(*args: Any, **options: Any) -> TrainingConfig:
    return grid(*args, **options).cells[0].training.config


@pytest.mark.parametrize("layers", range(5))
def test_the_later_layer_wins(layers: int) -> None:
    # The profile sets this key too; each layer more takes over from all before.
    key, values = "loss.divisor", [2.5, 3.5, 4.5, 5.5]
    given = [{key: value} if index < layers else {} for index, value in enumerate(values)]
    seen = config(
        make_spec(set=given[1], variants=(Variant(name="all", set=given[2]),)),
        make_setting({**SHAPES, **given[0]}),
        assignments=tuple(f"{name}={value}" for name, value in given[3].items()),
        profile="paper",
    )
    assert seen.loss.divisor == [PROFILES["paper"][key], *values][layers]


@pytest.mark.parametrize(
    "key",
    [
        "loss.strong",
        "augmentation.strong.jitter",
        pytest.param("masking.color.jitter"),
    ],
)
def test_a_layer_touches_only_what_it_names(key: str) -> None:
    def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for name, value in values.items():
            deeper = isinstance(value, dict)
            flat |= leaves(value, f"{prefix}{name}.") if deeper else {f"{prefix}{name}": value}
        return flat

    plain = leaves(config().model_dump())
    assert leaves(config(assignments=(f"{key}=0.375",)).model_dump()) == plain | {key: 0.375}


def test_a_variants_values_stay_in_its_row() -> None:
    variants = (
        Variant(name="all", set={"masking": {"color": {"jitter": 0.3}}}),
        Variant(name="other", set={"masking.patch": 4}),
    )
    first, second = grid(make_spec(variants=variants, set={"masking.patch": 2})).cells
    assert (first.training.config.masking.patch, second.training.config.masking.patch) == (2, 4)
    assert first.training.config.masking.color.jitter == 0.3
    assert second.training.config.masking.color == config().masking.color


def test_lists_replace_and_do_not_merge() -> None:
    setting = make_setting({**SHAPES, "evaluation": {"classes": [0, 1, 2]}})
    assert config(None, setting, assignments=("evaluation.classes=[5]",)).scored_classes == (5,)


def test_null_takes_back_a_choice() -> None:
    setting = make_setting({**SHAPES, "schedule.steps_per_epoch": 3})
    seen = config(None, setting, assignments=("schedule.steps_per_epoch=",))
    assert seen.schedule.steps_per_epoch is None


VALUES = {
    "schedule.epochs": st.integers(1, 99),
    "schedule.lr": st.floats(1e-6, 1),
    "masking.patch": st.integers(1, 64),
    "masking.color.jitter": st.floats(0, 1),
    "masking.color.blur": st.floats(0, 1),
    "selection.selector": st.sampled_from(["csl", "threshold"]),
    "evaluation.classes": st.lists(st.integers(0, 7), min_size=1, unique=True),
}
CHOICES = st.fixed_dictionaries({}, optional=VALUES)


def nested(dotted: str, value: object, cut: int) -> dict[str, Any]:
    """``a.b.c`` as {"a": {"b": {"c": value}}} to the depth ``cut``, dotted above it."""
    parts = dotted.split(".")
    cut = min(cut, len(parts) - 1)
    head, tail = ".".join(parts[: len(parts) - cut]), parts[len(parts) - cut :]
    for part in reversed(tail):
        value = {part: value}
    return {head: value}


def merged(into: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merged(into[key], value)
        else:
            into[key] = value
    return into


@given(CHOICES, st.data())
def test_neither_form_nor_order_of_keys_matters(
    choice: dict[str, Any], data: st.DataObject
) -> None:
    values: dict[str, Any] = {}
    for key in data.draw(st.permutations(sorted(choice))):
        merged(values, nested(key, choice[key], data.draw(st.integers(0, 2))))
    items = data.draw(st.permutations(list({**values, **SHAPES}.items())))
    plain = config(make_spec(set=choice))
    assert config(make_spec(set=values)) == plain
    assert config(None, make_setting(dict(items))) == plain
    assert config(None, None, assignments=tuple(f"{k}={json.dumps(v)}" for k, v in choice.items()))


@given(CHOICES, CHOICES, CHOICES, CHOICES)
def test_expanding_leaves_its_documents_alone(
    in_setting: dict[str, Any],
    in_spec: dict[str, Any],
    in_variant: dict[str, Any],
    on_command_line: dict[str, Any],
) -> None:
    def tree(values: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in values.items():
            merged(made, nested(key, value, 2))
        return made

    spec = make_spec(
        set=tree(in_spec),
        variants=(Variant(name="all", set=tree(in_variant)), Variant(name="other", set={})),
    )
    setting = make_setting({**tree(in_setting), **copy.deepcopy(SHAPES)})
    before = spec.model_dump_json(), setting.model_dump_json()
    assignments = tuple(f"{key}={json.dumps(value)}" for key, value in on_command_line.items())
    first = grid(spec, setting, assignments=assignments, profile="paper")
    assert (spec.model_dump_json(), setting.model_dump_json()) == before
    assert grid(spec, setting, assignments=assignments, profile="paper") == first
    assert grid(spec, setting, profile="paper") == grid(spec, setting, profile="paper")


def test_dotted_keys_inside_a_group_are_the_same_values() -> None:
    inside = config(make_spec(set={"masking": {"color.jitter": 0.3}}))
    assert inside.masking.color.jitter == 0.3


def test_cells_come_seed_by_seed() -> None:
    variants = (Variant(name="all", set={}), Variant(name="other", set={"masking.patch": 4}))
    spec = make_spec(variants=variants, splits=("1/8", "1/16"), seeds=(7, 3))
    seen = [(cell.training.seed, cell.column, cell.row) for cell in grid(spec).cells]
    assert seen == [
        (seed, split, row)
        for seed in (7, 3)
        for split in ("1/8", "1/16")
        for row in ("all", "other")
    ]


def test_splits_and_seeds_are_chosen() -> None:
    chosen = grid(make_spec(splits=("1/8", "1/16")), splits=("1/2",), seeds=(4, 5))
    assert (chosen.splits, chosen.seeds) == (("1/2",), (4, 5))
    assert [(c.training.split, c.training.seed) for c in chosen.cells] == [("64", 4), ("64", 5)]


def test_a_label_says_spec_row_column_and_seed() -> None:
    made = grid(seeds=(4,))
    label = made.label(made.cells[0])
    assert all(part in label for part in ("small", "all", "1/16", "4"))


def test_an_unknown_split_is_blamed_on_who_asked_and_names_the_choices() -> None:
    error = refused(lambda: grid(splits=("1/3",)))
    assert (error.key, error.value) == ("--splits", "1/3")
    assert all(split in error.remedy for split in ("1/16", "1/8", "1/2"))
    error = refused(lambda: grid(make_spec(splits=("1/16", "1/5"))))
    assert (error.file, error.key, error.value) == (SPEC_FILE, "splits", "1/5")


def test_an_unknown_profile_names_the_choices() -> None:
    error = refused(lambda: grid(profile="oficial"))
    assert (error.key, error.value) == ("--profile", "oficial")
    assert "official" in error.remedy
    assert "paper" in error.remedy


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schedule.epochs", "four"),
        ("schedule.epochs", 0),
        ("schedule.epoch", 4),
        ("masking.color.jitter", 1.5),
        ("data.corp", 3),
        ("selection", 3),
        ("network.atrous_rates", [1, 2]),
    ],
)
@pytest.mark.parametrize("place", ["setting", "spec", "variant", "--set"])
def test_a_faulty_value_is_blamed_on_the_layer_that_set_it(
    place: str, key: str, value: object
) -> None:
    bad = {key: value}
    # Every other layer sets a harmless key of the same group.
    harmless = {"masking.theta": 0.5, "schedule.momentum": 0.5}
    spec = make_spec(
        set=bad if place == "spec" else harmless,
        variants=(Variant(name="all", set=bad if place == "variant" else harmless),),
    )
    setting = make_setting(json.loads(json.dumps({**SHAPES, **harmless})))
    if place == "setting":
        setting = make_setting({**SHAPES, **bad})
    assigned = bad if place == "--set" else harmless
    assignments = tuple(f"{name}={json.dumps(given)}" for name, given in assigned.items())
    error = refused(lambda: grid(spec, setting, assignments=assignments))
    sources = {"setting": SETTING_FILE, "spec": SPEC_FILE, "variant": SPEC_FILE, "--set": None}
    assert error.file == sources[place]
    assert error.key is not None
    assert error.key.startswith("--set ") == (place == "--set")
    assert error.key.removeprefix("--set ").startswith(key)
    assert error.remedy


def test_the_last_of_two_layers_that_set_a_key_is_blamed() -> None:
    setting = make_setting({**SHAPES, "schedule.epochs": "many"})
    error = refused(lambda: grid(None, setting, assignments=("schedule.epochs=few",)))
    assert error.key is not None
    assert (error.key.split(), error.value) == (["--set", "schedule.epochs"], "few")
    assert config(None, setting, assignments=("schedule.epochs=3",)).schedule.epochs == 3


def test_a_key_below_a_value_is_refused() -> None:
    error = refused(
        lambda: grid(make_spec(set={"schedule.lr": 0.5}), assignments=("schedule.lr.x=1",))
    )
    assert "schedule.lr.x" in str(error.key)
    assert "--set" in f"{error.file} {error.key}"


def test_a_misspelled_key_is_told_the_closest() -> None:
    assert "schedule.epochs" in refused(lambda: grid(assignments=("schedule.epocs=3",))).remedy


@pytest.mark.parametrize("classes", ["[0, 9]", "[1, 1]"])
def test_contradicting_values_are_told_with_key_and_value(classes: str) -> None:
    error = refused(lambda: grid(assignments=(f"evaluation.classes={classes}",)))
    assert "evaluation.classes" in str(error.key)
    assert "--set" in f"{error.file} {error.key}"
    assert error.value is not None


def test_a_missing_key_is_blamed_on_the_setting() -> None:
    error = refused(lambda: grid(None, make_setting({"schedule.epochs": 3})))
    assert (error.file, error.key) == (SETTING_FILE, "data")


@pytest.mark.parametrize("assignment", ["", "schedule.epochs", "=3", "schedule.epochs:3"])
def test_an_assignment_needs_key_and_value(assignment: str) -> None:
    error = refused(lambda: grid(assignments=(assignment,)))
    assert (error.key, error.value) == ("--set", assignment)


@pytest.mark.parametrize("text", ["[1", "{a: b", "'", "!!python/name:os.system", "a: b: c"])
def test_an_assigned_value_has_to_be_yaml(text: str) -> None:
    error = refused(lambda: grid(assignments=(f"schedule.epochs={text}",)))
    assert error.key == "--set schedule.epochs"
    assert text in str(error.value)


@pytest.mark.parametrize(
    "text", ["2020-01-01", "2020-13-45", "!!int x", "&a [*a]", "!!set {a}", "{2020-01-01: 1}"]
)
def test_an_assigned_value_that_no_configuration_holds_is_refused(text: str) -> None:
    assert refused(lambda: grid(assignments=(f"schedule={text}",))).remedy


def test_a_learning_rate_may_be_written_with_an_exponent() -> None:
    assert config(assignments=("schedule.lr=1e-3",)).schedule.lr == 0.001


def test_two_spellings_of_one_key_are_refused_in_a_document() -> None:
    twice = {"masking": {"patch": 4}, "masking.patch": 8}
    error = refused(lambda: resolve([profile("official"), Layer("mine.yaml", twice)]))
    assert (error.problem, error.file) == ("this key is given twice", "mine.yaml")
    assert error.key == "masking.patch"
    both = command_line(["masking.patch=4", "masking={patch: 8}", "data={dataset: shapes}"])
    assert resolve([profile("official"), both]).masking.patch == 8, "a shell's last word counts"


def test_an_assigned_group_may_not_name_a_key_twice() -> None:
    refused(lambda: grid(assignments=("schedule={epochs: 2, epochs: 3}",)))


@pytest.mark.parametrize(
    ("network", "key", "remedy"),
    [
        ({"backbone": "mit_b0"}, "network.architecture", "add"),
        ({"architecture": "unet"}, "network.architecture", "segformer"),
        ({"architecture": "segformer", "backbone": "resnet101s"}, "network.backbone", ""),
        ({"architecture": "dpt", "width": 8}, "network.width", "remove"),
    ],
)
def test_a_networks_keys_are_named_without_its_tag(
    network: dict[str, Any], key: str, remedy: str
) -> None:
    setting = make_setting({"data": {"dataset": "shapes"}, "network": network})
    error = refused(lambda: grid(None, setting))
    assert (error.file, error.key) == (SETTING_FILE, key)
    assert remedy in error.remedy
