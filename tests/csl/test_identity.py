"""Identity: whatever decides the numbers names the training, and nothing else does."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import csl.identity
from csl.config import ShapesData, TrainingConfig
from csl.errors import InputError
from csl.identity import Training, hash_weights, identify
from csl.locations import Locations

SCRATCH = {"network": {"pretrained": False}}
SHAPES = {"data": {"dataset": "shapes", "train_images": 12, "val_images": 3}, **SCRATCH}
VOC = {"data": {"dataset": "voc"}, **SCRATCH}


def training(plain: dict[str, Any] = SHAPES, split: str = "4", seed: int = 0) -> Training:
    return Training(TrainingConfig.model_validate_json(json.dumps(plain)), split, seed)


def name(asked: Training, locations: Locations | None = None) -> str:
    return identify(asked, locations or Locations()).id


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A tiny VOC2012 folder: train images a, b, c, val image v, d in no list; split ``2`` labels
    a and b."""
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "splits/2"):
        (root / folder).mkdir(parents=True)
    for index, image in enumerate("abcvd"):
        (root / "JPEGImages" / f"{image}.jpg").write_bytes(b"x" * (index + 1))
        (root / "SegmentationClass" / f"{image}.png").write_bytes(b"m")
    lines = {image: f"JPEGImages/{image}.jpg SegmentationClass/{image}.png\n" for image in "abcv"}
    (root / "splits/2/labeled.txt").write_text(lines["a"] + lines["b"])
    (root / "splits/2/unlabeled.txt").write_text(lines["c"])
    (root / "splits/val.txt").write_text(lines["v"])
    return root


def voc_name(root: Path, split: str = "2", seed: int = 0) -> str:
    return name(training(VOC, split, seed), Locations(data_root=root))


def test_every_name_has_sixteen_hex_digits(voc: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"w")
    asked = training({"data": {"dataset": "voc"}}, "2")
    identity = identify(asked, Locations(data_root=voc, weights=weights))
    names = [identity.id, identity.recipe, identity.split_hash, identity.data_fingerprint]
    names.append(identity.weights_hash)
    assert all(len(each) == 16 and int(each, 16) >= 0 for each in names)
    assert len(set(names)) == len(names)


# What does not change it.


def reversed_keys(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {key: reversed_keys(plain[key]) for key in reversed(plain)}
    return plain


def test_the_order_of_keys_and_what_is_left_out_do_not_matter() -> None:
    whole = training().config.model_dump(mode="json")
    turned = reversed_keys(whole)
    assert json.dumps(turned) != json.dumps(whole)
    assert name(training(turned)) == name(training(whole)) == name(training())
    assert training(turned).recipe == training().recipe


def test_an_integer_is_the_float_it_stands_for() -> None:
    one, other = ({**SHAPES, "loss": {"divisor": divisor}} for divisor in (2, 2.0))
    assert name(training(one)) == name(training(other))


def test_the_place_does_not_matter(voc: Path, tmp_path: Path) -> None:
    here = voc_name(voc)
    elsewhere = shutil.copytree(voc, tmp_path / "other" / "VOCdevkit" / "VOC2012")
    assert voc_name(elsewhere) == voc_name(tmp_path / "other") == here
    splits = shutil.move(elsewhere / "splits", tmp_path / "lists")
    apart = Locations(data_root=elsewhere, splits_root=Path(splits))
    assert name(training(VOC, "2"), apart) == here


def test_the_splits_name_and_masks_of_unlabeled_images_do_not_matter(voc: Path) -> None:
    here = voc_name(voc)
    shutil.copytree(voc / "splits/2", voc / "splits/two")
    (voc / "splits/two/unlabeled.txt").write_text("JPEGImages/c.jpg\n")
    assert voc_name(voc, "two") == here


def test_weights_do_not_matter_from_scratch(tmp_path: Path) -> None:
    nowhere = Locations(weights=tmp_path / "missing.pth")
    identity = identify(training(), nowhere)
    assert identity.id == name(training())
    assert identity.weights_hash == ""


# What changes it.


def leaves(
    plain: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in plain.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def alternatives(value: Any) -> Iterator[Any]:
    """Other values that a field holding this one may allow."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (value + 1, value * 2, value / 2, value + 0.001)
    elif isinstance(value, list):
        for at, element in enumerate(value):
            for other in alternatives(element):
                yield [*value[:at], other, *value[at + 1 :]]
    elif value is None:
        yield from (1, 0.5, [1])
    else:
        yield from LITERALS


LITERALS = (
    "tf_efficientnet_lite0", "test_resnet", "fp32", "bf16", "csl", "threshold", "gaussian",
    "binary", "any", "all", "std", "variance", "image", "batch", "round", "floor", "paper",
    "mean_threshold", "margin", "labeled", "unreliable", "block", "sum",
)  # fmt: skip


def changed(plain: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    head, *rest = path
    below = changed(plain[head], tuple(rest), value) if rest else value
    return {**plain, head: below}


def variants(plain: dict[str, Any], path: tuple[str, ...], value: Any) -> Iterator[Training]:
    for other in alternatives(value):
        try:
            variant = training(changed(plain, path, other))
        except ValidationError:
            continue
        if variant.config != training(plain).config:
            yield variant


@pytest.mark.parametrize("data", [SHAPES, VOC], ids=["shapes", "voc"])
def test_every_field_of_the_configuration_matters(data: dict[str, Any]) -> None:
    plain = training(data).config.model_dump(mode="json")
    names = [training(plain).recipe]
    fixed = set()
    for path, value in leaves(plain):
        found = [variant.recipe for variant in variants(plain, path, value)]
        names += found
        if not found:
            fixed.add(".".join(path))
    only_one_value = {"data.dataset"} | ({"data.classes"} if data is SHAPES else set())
    assert fixed == only_one_value, "no other value was found to try"
    # Equal configurations may come up twice (a leaf's +1 and *2), others must all differ.
    distinct = {
        variant.config.model_dump_json()
        for path, value in leaves(plain)
        for variant in variants(plain, path, value)
    }
    assert len(set(names)) == len(distinct) + 1
    assert len(distinct) > 50


def test_every_field_of_the_configuration_is_in_the_id_too() -> None:
    plain = training().config.model_dump(mode="json")
    before = name(training(plain))
    for path, value in leaves(plain):
        if path == ("network", "pretrained"):
            continue  # asks for a file
        for variant in variants(plain, path, value):
            assert name(variant) != before, path


def test_the_dataset_matters() -> None:
    assert training(SHAPES).recipe != training(VOC).recipe


def test_the_seed_matters() -> None:
    assert len({name(training(seed=seed)) for seed in range(3)}) == 3
    assert len({training(seed=seed).recipe for seed in range(3)}) == 3


def test_the_labeled_images_of_shapes_matter() -> None:
    assert name(training(split="4")) != name(training(split="5"))
    assert training(split="4").recipe != training(split="5").recipe


def test_the_schema_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    before = name(training()), training().recipe
    monkeypatch.setattr(csl.identity, "SCHEMA", csl.identity.SCHEMA + 1)
    assert name(training()) != before[0]
    assert training().recipe != before[1]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("splits/2/labeled.txt", "JPEGImages/a.jpg SegmentationClass/a.png\n"),
        (
            "splits/2/labeled.txt",  # the same two, in another order
            "JPEGImages/b.jpg SegmentationClass/b.png\nJPEGImages/a.jpg SegmentationClass/a.png\n",
        ),
        (
            "splits/2/labeled.txt",  # another mask
            "JPEGImages/a.jpg SegmentationClass/v.png\nJPEGImages/b.jpg SegmentationClass/b.png\n",
        ),
        ("splits/2/unlabeled.txt", "JPEGImages/d.jpg\nJPEGImages/c.jpg\n"),
        ("splits/val.txt", "JPEGImages/d.jpg SegmentationClass/c.png\n"),
        ("JPEGImages/a.jpg", "longer than before"),
        ("JPEGImages/c.jpg", "longer than before"),
        ("JPEGImages/v.jpg", "longer than before"),
        ("SegmentationClass/b.png", "longer than before"),
        ("SegmentationClass/v.png", "longer than before"),
    ],
)
def test_lists_and_files_matter_but_not_to_the_recipe(voc: Path, file: str, content: str) -> None:
    asked, here = training(VOC, "2"), Locations(data_root=voc)
    before = identify(asked, here)
    (voc / file).write_text(content)
    after = identify(asked, here)
    assert after.id != before.id
    assert after.recipe == before.recipe == asked.recipe
    same_lists = after.split_hash == before.split_hash
    assert same_lists != file.startswith("splits")


def test_an_unlabeled_images_mask_file_does_not_matter(voc: Path) -> None:
    before = voc_name(voc)
    (voc / "SegmentationClass/c.png").unlink()
    assert voc_name(voc) == before


def test_without_an_unlabeled_image_only_the_supervised_baseline_is_named(voc: Path) -> None:
    (voc / "splits/2/unlabeled.txt").write_text("")
    with pytest.raises(InputError, match="no image is unlabeled") as refused:
        voc_name(voc)
    assert refused.value.file == voc / "splits/2/unlabeled.txt"
    assert refused.value.key == "schedule.unlabeled_batch"
    assert name(training({**VOC, "schedule": {"unlabeled_batch": 0}}, "2"), Locations(voc))


def test_the_weights_content_matters_and_their_place_does_not(tmp_path: Path) -> None:
    asked = training({**SHAPES, "network": {"pretrained": True}})
    one, other, copy = (tmp_path / f"{file}.pth" for file in ("one", "other", "copy"))
    one.write_bytes(b"weights 1")
    other.write_bytes(b"weights 2")
    shutil.copy(one, copy)
    names = [identify(asked, Locations(weights=path)) for path in (one, other, copy)]
    assert names[0] == names[2]
    assert names[0].id != names[1].id
    assert names[0].recipe == names[1].recipe
    assert names[0].id != name(training())  # from scratch


def test_weights_are_read_again_when_the_file_was_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"weights 1")
    before = hash_weights(path)
    path.write_bytes(b"weights 2")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))  # whatever the clock's resolution
    assert hash_weights(path) != before


@pytest.mark.parametrize("weights", [None, "missing.pth", "."])
def test_missing_weights_are_the_users_to_give(tmp_path: Path, weights: str | None) -> None:
    path = None if weights is None else tmp_path / weights
    asked = training({**SHAPES, "network": {"pretrained": True}})
    with pytest.raises(InputError) as refused:
        identify(asked, Locations(weights=path))
    assert refused.value.key == "--weights"
    assert refused.value.file == path


def test_training_is_a_value() -> None:
    asked = training()
    assert asked == training()
    assert replace(asked, seed=1) != asked
    assert isinstance(asked.config.data, ShapesData)


def test_planning_needs_neither_torch_nor_numpy() -> None:
    script = (
        "import sys\n"
        "from csl.config import ShapesData, TrainingConfig\n"
        "from csl.identity import Training, identify\nfrom csl.locations import Locations\n"
        "config = TrainingConfig.model_validate(\n"
        "    {'data': {'dataset': 'shapes'}, 'network': {'pretrained': False}})\n"
        "print(identify(Training(config, '8', 0), Locations()).id)\n"
        "print(sorted({'torch', 'numpy', 'timm', 'PIL', 'torchvision'} & sys.modules.keys()))\n"
    )
    root = Path(csl.identity.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    there, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    config = TrainingConfig.model_validate({"data": {"dataset": "shapes"}, **SCRATCH})
    assert there == name(Training(config, "8", 0))  # and another process gives the same name
