"""Configuration: what is refused, what is filled in, and profiles that fit it."""

import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from csl.config import PROFILES, ShapesData, TrainingConfig, VocData

SECTIONS = sorted(set(TrainingConfig.model_fields) - {"data"})


def resolve(overrides: dict[str, Any], dataset: str = "shapes") -> TrainingConfig:
    """A configuration with dotted overrides, as from a file."""
    plain = TrainingConfig.model_validate({"data": {"dataset": dataset}}).model_dump(mode="json")
    for dotted, value in overrides.items():
        *path, last = dotted.split(".")
        section = plain
        for name in path:
            section = section[name]
        section[last] = value
    return TrainingConfig.model_validate_json(json.dumps(plain))


def get(config: BaseModel, dotted: str) -> Any:
    value: Any = config
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


def refusal(overrides: dict[str, Any], dataset: str = "shapes") -> str:
    """The message about overrides, which must be refused."""
    with pytest.raises(ValidationError) as refused:
        resolve(overrides, dataset)
    return str(refused.value)


def test_only_the_dataset_must_be_named() -> None:
    assert isinstance(resolve({}).data, ShapesData)
    assert isinstance(resolve({}, "voc").data, VocData)
    for nothing in ({}, {"data": {}}, {"data": {"dataset": "imagenet"}}):
        with pytest.raises(ValidationError, match="data"):
            TrainingConfig.model_validate(nothing)


@pytest.mark.parametrize("section", ["", "data", *SECTIONS, "masking.color", "augmentation.strong"])
def test_unknown_keys_are_refused(section: str) -> None:
    dotted = f"{section}.thteta".lstrip(".")
    said = refusal({dotted: 1}).replace("data.shapes", "data").replace(".deeplabv3plus", "")
    assert dotted in said


def test_a_datasets_keys_are_its_own() -> None:
    assert resolve({"data.image_size": 40}).data.crop == ShapesData().crop
    assert "image_size" in refusal({"data.image_size": 40}, "voc")
    assert "classes" in refusal({"data.classes": 21})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schedule.epochs", "8"),
        ("schedule.epochs", 8.0),
        ("schedule.epochs", True),
        ("schedule.epochs", 0),
        ("schedule.epochs", None),
        ("schedule.steps_per_epoch", 0),
        ("schedule.labeled_batch", 0),
        ("schedule.unlabeled_batch", -1),
        ("schedule.lr", "1e-3"),
        ("schedule.lr", 0.0),
        ("schedule.momentum", 1.5),
        ("schedule.weight_decay", -1e-4),
        ("schedule.precision", "fp16"),
        ("network.pretrained", 1),
        ("network.pretrained", "false"),
        ("network.output_stride", 4),
        ("network.output_stride", "8"),
        ("network.atrous_rates", [1, 2]),
        ("network.atrous_rates", [1, 2, 0]),
        ("network.atrous_rates", "1,2,4"),
        ("network.backbone", "resnet1001"),
        ("data.mean", [0.5]),
        ("data.mean", 0.5),
        ("augmentation.scale", [2.0, 0.5]),
        ("augmentation.scale", [0.0, 1.0]),
        ("augmentation.flip", -0.1),
        ("augmentation.strong", None),
        ("schedule.optimizer", "adam"),
        ("loss.supervised", "focal"),
        ("loss.ohem_min_kept", 0),
        ("loss.ohem_threshold", 70),
        ("evaluation.mode", "original"),
        ("evaluation.size_multiple", 0),
        ("selection.tau", 1.01),
        ("selection.alpha", 0),
        ("selection.momentum", 1.0),
        ("selection.features", []),
        ("selection.features", ["p_max"]),
        ("selection.selector", "fixmatch"),
        ("masking.patch", 0),
        ("masking.images", "all"),
        ("masking.theta", 2),
        ("loss.feature_dropout", 1),
        ("loss.divisor", 0),
        ("loss.strong", -0.1),
        ("evaluation.every", 0),
        ("evaluation.classes", [-1]),
        ("evaluation.classes", ["1"]),
    ],
)
def test_nothing_is_guessed(key: str, value: object) -> None:
    assert key.split(".")[-1] in refusal({key: value})


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("key", ["lr", "poly_power", "weight_decay"])
def test_no_value_is_infinite(key: str, value: str) -> None:
    with pytest.raises(ValidationError, match=key):
        TrainingConfig.model_validate_json(
            f'{{"data": {{"dataset": "shapes"}}, "schedule": {{"{key}": {value}}}}}'
        )


def test_boundaries_that_mean_something_are_allowed() -> None:
    edges = {
        "schedule.unlabeled_batch": 0,
        "schedule.poly_power": 0,
        "schedule.steps_per_epoch": None,
        "selection.tau": 1,
        "masking.theta": 0,
        "loss.strong": 0,
        "loss.feature_dropout": 0,
        "augmentation.scale": [1, 1],
    }
    config = resolve(edges)
    assert config.schedule.unlabeled_batch == 0
    assert config.augmentation.scale == (1.0, 1.0)


def test_lists_of_a_file_become_tuples() -> None:
    config = resolve({"network.atrous_rates": [1, 2, 4], "evaluation.classes": [3, 1]})
    assert config.network.atrous_rates == (1, 2, 4)
    assert config.evaluation.classes == (3, 1)
    assert isinstance(hash(config), int)  # usable as a key: nothing inside can be changed


@pytest.mark.parametrize("dataset", ["shapes", "voc"])
def test_json_gives_the_same_configuration_back(dataset: str) -> None:
    config = resolve({"evaluation.classes": [0, 2]}, dataset)
    assert TrainingConfig.model_validate_json(config.model_dump_json()) == config


def test_nothing_can_be_changed_afterwards() -> None:
    config = resolve({})
    with pytest.raises(ValidationError, match="frozen"):
        config.schedule.epochs = 3  # type: ignore[misc]


def test_equal_configurations_are_one_key_and_changed_copies_another() -> None:
    one, same = resolve({}), resolve({})
    changed = one.schedule.model_copy(update={"epochs": 99})
    for config in (one, changed, one.model_copy(update={"schedule": changed})):
        assert hash(config) == hash(config.model_copy())
        assert hash(config) == hash(pickle.loads(pickle.dumps(config)))
    assert {one, same, one.model_copy(update={"schedule": changed})} == {
        one,
        resolve({"schedule.epochs": 99}),
    }


def test_scored_classes() -> None:
    assert resolve({}).scored_classes == tuple(range(8))
    assert resolve({"data.classes": 3}, "voc").scored_classes == (0, 1, 2)
    assert resolve({"evaluation.classes": [5, 2]}).scored_classes == (5, 2)
    assert resolve({"evaluation.classes": [7]}).scored_classes == (7,)


@pytest.mark.parametrize(
    ("classes", "dataset"),
    [([1, 8, 30], "shapes"), ([1, 1], "shapes"), ([], "shapes"), ([3], "voc")],
)
def test_scored_classes_are_classes_of_the_data_each_once(classes: list[int], dataset: str) -> None:
    named = {"evaluation.classes": classes}
    with pytest.raises(ValidationError) as refused:
        resolve(named | ({"data.classes": 3} if dataset == "voc" else {}), dataset)
    (error,) = refused.value.errors()
    assert error["ctx"]["key"] == "evaluation.classes"
    assert error["ctx"]["value"] == classes
    assert "data.classes, 3" in error["ctx"]["remedy"] or dataset == "shapes"


@pytest.mark.parametrize("mode", ["whole", "center_crop"])
@pytest.mark.parametrize("key", ["window", "stride"])
def test_windows_belong_to_sliding_windows(mode: str, key: str) -> None:
    given = {"evaluation.mode": mode, f"evaluation.{key}": 32}
    assert f"{mode} evaluation has no windows" in refusal(given)
    resolve(given | {"evaluation.mode": "sliding_window"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"data.crop": 801}, (801, 534)),
        ({"data.crop": 769}, (769, 512)),
        ({"data.crop": 801, "evaluation.window": 99}, (99, 66)),
        ({"data.crop": 801, "evaluation.stride": 99}, (801, 99)),
        ({"data.crop": 2}, (2, 1)),
    ],
)
def test_a_window_is_the_crop_and_moves_by_two_thirds(
    given: dict[str, int], expected: tuple[int, int]
) -> None:
    sliding = {"evaluation.mode": "sliding_window"}
    assert resolve(given | sliding, "voc").evaluation_window == expected


@pytest.mark.parametrize("given", [{"stride": 33}, {"window": 1}, {"window": 20, "stride": 21}])
def test_windows_leave_no_gaps(given: dict[str, int]) -> None:
    sliding = {"data.crop": 32, "evaluation.mode": "sliding_window"}
    message = refusal(sliding | {f"evaluation.{key}": value for key, value in given.items()})
    assert "windows would leave pixels between them" in message


def test_dpt_is_evaluated_at_whole_patches() -> None:
    dpt = {
        "data.crop": 518,
        "network": {"architecture": "dpt", "backbone": "vit_small_patch14_dinov2"},
    }
    assert resolve(dpt, "voc").evaluation_multiple == 14
    assert resolve(dpt | {"evaluation.size_multiple": 28}, "voc").evaluation_multiple == 28
    assert "whole patches of 14" in refusal(dpt | {"evaluation.size_multiple": 16}, "voc")
    assert resolve({}, "voc").evaluation_multiple == 1


def test_groups_of_hard_examples_divide_the_batch() -> None:
    three = {"schedule.labeled_batch": 4, "loss.ohem_group": 3}
    resolve(three)  # cross-entropy has no groups
    assert "a labeled batch of 4" in refusal(three | {"loss.supervised": "ohem"})
    resolve(three | {"loss.supervised": "ohem", "loss.ohem_group": 4})


def test_parts_of_batches_are_equal_and_tear_no_group_apart() -> None:
    four = {"schedule.labeled_batch": 8, "schedule.unlabeled_batch": 4, "schedule.accumulate": 4}
    resolve(four)
    resolve(four | {"schedule.unlabeled_batch": 0})
    assert "a batch of 6 " in refusal(four | {"schedule.unlabeled_batch": 6})
    assert "a batch of 2 " in refusal(four | {"schedule.labeled_batch": 2})
    pairs = four | {"loss.supervised": "ohem", "loss.ohem_group": 2}
    resolve(pairs)
    assert "in 4 parts" in refusal(pairs | {"schedule.labeled_batch": 4})
    assert "in 4 parts" in refusal(pairs | {"loss.ohem_group": 4})


def test_the_supervised_baseline_masks_no_labeled_images() -> None:
    both = {"masking.images": "both", "schedule.unlabeled_batch": 0}
    assert "supervised baseline masks no images" in refusal(both)
    resolve(both | {"masking.enabled": False})
    resolve(both | {"masking.images": "unlabeled"})


def leaves(model: BaseModel, above: str = "") -> Iterator[str]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{above}{name}.")
        yield above + name


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("dataset", ["shapes", "voc"])
def test_profiles_fit_the_configuration(profile: str, dataset: str) -> None:
    overrides = PROFILES[profile]
    plain = resolve({}, dataset)
    assert overrides.keys() <= set(leaves(plain))
    config = resolve(overrides, dataset)
    for key, value in overrides.items():
        found = get(config, key)
        assert (found.model_dump() if isinstance(found, BaseModel) else found) == value
        assert found != get(plain, key), f"{key} says nothing"


def test_the_official_profile_is_the_default_and_the_papers_is_not() -> None:
    assert resolve(PROFILES["official"]) == resolve({})
    assert resolve(PROFILES["paper"]) != resolve({})


@pytest.mark.parametrize(
    ("architecture", "crop", "remedy"),
    [("dpt", 321, "322"), ("dpt", 513, "518"), ("dpt", 3, "14"), ("segformer", 28, "29")],
)
def test_a_crop_that_the_network_cannot_take_is_refused(
    architecture: str, crop: int, remedy: str
) -> None:
    def plain(size: int) -> dict[str, Any]:
        data = {"dataset": "shapes", "crop": size}
        return {"data": data, "network": {"architecture": architecture}}

    with pytest.raises(ValidationError) as refused:
        TrainingConfig.model_validate(plain(crop))
    said = refused.value.errors()[0]["ctx"]
    assert (said["key"], said["value"]) == ("data.crop", crop)
    assert remedy in said["remedy"]
    assert TrainingConfig.model_validate(plain(int(remedy))).data.crop == int(remedy)


def test_an_architecture_has_its_own_keys() -> None:
    for architecture in ("segformer", "dpt"):
        network = {"architecture": architecture, "output_stride": 8}
        with pytest.raises(ValidationError, match="output_stride"):
            TrainingConfig.model_validate({"data": {"dataset": "shapes"}, "network": network})
