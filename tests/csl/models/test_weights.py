"""Weights files: published ones, and strangers'."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor

from csl.config import DeepLabConfig, DptConfig, SegFormerConfig
from csl.errors import InputError
from csl.models import build_network, check_weights, require_weights
from csl.models.download import download_weights
from csl.models.weights import SOURCES

SMALL = {"backbone": "test_resnet", "atrous_rates": (1, 2, 4), "width": 8, "low_level_width": 8}
SCRATCH = DeepLabConfig(pretrained=False, **SMALL)
PRETRAINED = DeepLabConfig(pretrained=True, **SMALL)
CLASSES = 5


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """What timm publishes for the backbone: its state dict, the classification head included."""
    torch.manual_seed(7)
    state: dict[str, Tensor] = timm.create_model("test_resnet", pretrained=False).state_dict()
    return {
        key: tensor + torch.rand(tensor.shape) if tensor.is_floating_point() else tensor
        for key, tensor in state.items()
    }


def refusal(path: Path | None) -> InputError:
    with pytest.raises(InputError) as refused:
        require_weights(PRETRAINED, path)
    assert refused.value.file == path
    assert refused.value.remedy
    return refused.value


def test_both_kinds_of_file_load_the_backbone(tmp_path: Path, published: dict[str, Tensor]) -> None:
    torch.save(published, tmp_path / "w.pth")
    safetensors.torch.save_file(published, tmp_path / "w.safetensors")
    for file in ("w.pth", "w.safetensors"):
        loaded = build_network(PRETRAINED, CLASSES, tmp_path / file).backbone.state_dict()
        assert loaded.keys() == published.keys() - {"fc.weight", "fc.bias"}
        assert all(torch.equal(tensor, published[key]) for key, tensor in loaded.items()), file


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_a_training_programs_wrapper_is_taken_off(
    tmp_path: Path, wrapper: str, published: dict[str, Tensor]
) -> None:
    torch.save({wrapper: published, "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "w.pth")
    loaded = build_network(PRETRAINED, CLASSES, tmp_path / "w.pth").backbone.state_dict()
    assert torch.equal(loaded["conv1.0.weight"], published["conv1.0.weight"])


def test_the_report_says_what_every_tensor_is(tmp_path: Path, published: dict[str, Tensor]) -> None:
    odd = {**published, "conv1.0.weight": torch.ones(2, 3, 3, 3), "head.bias": torch.ones(3)}
    del odd["bn1.weight"]
    torch.save(odd, tmp_path / "w.pth")
    report = check_weights(PRETRAINED, tmp_path / "w.pth")
    assert set(report.unused) == {"fc.weight", "fc.bias"}
    assert (report.missing, report.misshaped) == (("bn1.weight",), ("conv1.0.weight",))
    assert report.unknown == ("head.bias",)
    assert set(report.used) == published.keys() - {
        *report.unused, *report.missing, *report.misshaped
    }  # fmt: skip
    assert [n in report.faults for n in ("bn1.weight", "conv1.0.weight", "head.bias")] == [True] * 3


OLD_NAMES = (  # what nvidia's files call transformers' tensors
    (r"^stages\.(\d)\.patch_embeddings\.", r"encoder.patch_embeddings.\1."),
    (r"^stages\.(\d)\.blocks\.", r"encoder.block.\1."),
    (r"^stages\.(\d)\.layer_norm\.", r"encoder.layer_norm.\1."),
    (r"attention\.q_proj", "attention.self.query"),
    (r"attention\.k_proj", "attention.self.key"),
    (r"attention\.v_proj", "attention.self.value"),
    (r"attention\.sequence_reduction\.sequence_reduction", "attention.self.sr"),
    (r"attention\.sequence_reduction\.layer_norm", "attention.self.layer_norm"),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"mlp\.fc(\d)", r"mlp.dense\1"),
    (r"layernorm_before", "layer_norm_1"),
    (r"layernorm_after", "layer_norm_2"),
)


def old_name(name: str) -> str:
    for pattern, replacement in OLD_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.mark.parametrize("prefix", ["", "segformer."])
@pytest.mark.parametrize("rename", [str, old_name])
def test_segformers_files_load_under_old_and_new_names(
    tmp_path: Path, prefix: str, rename: Callable[[str], str]
) -> None:
    config = SegFormerConfig(backbone="mit_b0", pretrained=False)
    wanted = build_network(config, CLASSES, None).backbone.state_dict()
    file = {prefix + rename(key): torch.rand(tensor.shape) for key, tensor in wanted.items()}
    assert (set(file) == set(wanted)) == (not prefix and rename is str)
    file |= {"classifier.weight": torch.ones(1), "decode_head.classifier.bias": torch.ones(1)}
    safetensors.torch.save_file(file, tmp_path / "w.safetensors")
    asked = config.model_copy(update={"pretrained": True})
    loaded = build_network(asked, CLASSES, tmp_path / "w.safetensors").backbone.state_dict()
    assert all(torch.equal(loaded[key], file[prefix + rename(key)]) for key in wanted)
    report = check_weights(asked, tmp_path / "w.safetensors")
    assert set(report.unused) == {"classifier.weight", "decode_head.classifier.bias"}
    assert not report.faults


def test_anothers_size_of_segformer_is_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        b0 = build_network(SegFormerConfig(backbone="mit_b0", pretrained=False), CLASSES, None)
    file = {key: torch.ones(tensor.shape) for key, tensor in b0.backbone.state_dict().items()}
    torch.save(file, tmp_path / "w.pth")
    with pytest.raises(InputError) as refused:
        require_weights(SegFormerConfig(backbone="mit_b1"), tmp_path / "w.pth")
    assert (refused.value.key, refused.value.value) == ("network.backbone", "mit_b1")
    assert "of another shape" in refused.value.problem


def test_dinov2s_own_file_loads(tmp_path: Path) -> None:
    # Its names are timm's, and besides them there is the token of its pretraining.
    network = build_network(DptConfig(pretrained=False), CLASSES, None)
    file = {**network.backbone.state_dict(), "mask_token": torch.ones(1, 384)}
    assert file["pos_embed"].shape == (1, 37 * 37 + 1, 384)
    torch.save(file, tmp_path / "w.pth")
    report = check_weights(DptConfig(), tmp_path / "w.pth")
    assert not report.faults
    assert report.unused == ("mask_token",)
    file["head.weight"] = torch.ones(1)
    torch.save(file, tmp_path / "w.pth")
    assert check_weights(DptConfig(), tmp_path / "w.pth").unknown == ("head.weight",)


# Published weights.


def test_every_backbone_has_a_source_that_its_library_knows() -> None:
    for config in (DeepLabConfig, DptConfig, SegFormerConfig):
        for name in get_args(config.model_fields["backbone"].annotation):
            owner, model = SOURCES[name].split("/")
            if owner == "timm":
                assert timm.get_pretrained_cfg(model).hf_hub_id in (f"timm/{model}", "timm/")
                assert model.split(".")[0] == name
            else:
                assert model == name.replace("_", "-")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library's cache of downloads, empty, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_without_a_network_it_says_what_to_fetch_from_where(tmp_path: Path, offline: Path) -> None:
    for config in (PRETRAINED, SegFormerConfig(backbone="mit_b0")):
        with pytest.raises(InputError) as refused:
            download_weights(config, tmp_path / "w.safetensors")
        assert f"https://huggingface.co/{SOURCES[config.backbone]}" in refused.value.remedy
    assert not list(tmp_path.glob("*w.safetensors*"))


def test_fetched_weights_load(tmp_path: Path, offline: Path, published: dict[str, Tensor]) -> None:
    # As if fetched before: timm's own loader takes it from its cache.
    folder = offline / "models--timm--test_resnet.r160_in1k"
    (folder / "snapshots/abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("abc")
    safetensors.torch.save_file(published, folder / "snapshots/abc/model.safetensors")
    path = tmp_path / "w.safetensors"
    download_weights(PRETRAINED, path)
    loaded = build_network(PRETRAINED, CLASSES, path).backbone.state_dict()
    assert all(torch.equal(tensor, published[key]) for key, tensor in loaded.items())
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["w.safetensors"]


@pytest.mark.parametrize("name", ["w.pth", "nowhere/w.safetensors"])
def test_a_place_that_weights_cannot_be_written_to_is_named(
    tmp_path: Path, offline: Path, published: dict[str, Tensor], name: str
) -> None:
    test_fetched_weights_load(tmp_path, offline, published)
    with pytest.raises(InputError) as refused:
        download_weights(PRETRAINED, tmp_path / name)
    assert (refused.value.file, refused.value.key) == (tmp_path / name, "--download")


# What is no weights file of the backbone's.


def test_from_scratch_no_file_is_read(tmp_path: Path) -> None:
    require_weights(SCRATCH, tmp_path / "missing.pth")
    build_network(SCRATCH, CLASSES, tmp_path / "missing.pth")


def test_missing_tensors_name_the_backbone(tmp_path: Path, published: dict[str, Tensor]) -> None:
    gone = "layer1.0.conv1.weight"
    some = {key: tensor for key, tensor in published.items() if key != gone}
    assert len(some) == len(published) - 1
    torch.save(some, tmp_path / "w.pth")
    error = refusal(tmp_path / "w.pth")
    assert (error.key, error.value) == ("network.backbone", "test_resnet")
    assert gone in error.problem
    assert "1 missing" in error.problem


def test_another_programs_prefix_is_missing_tensors(
    tmp_path: Path, published: dict[str, Tensor]
) -> None:
    torch.save({f"module.{key}": tensor for key, tensor in published.items()}, tmp_path / "w.pth")
    assert refusal(tmp_path / "w.pth").key == "network.backbone"


def test_tensors_of_another_shape_name_the_backbone(
    tmp_path: Path, published: dict[str, Tensor]
) -> None:
    torch.save(published | {"conv1.0.weight": torch.ones(2, 3, 3, 3)}, tmp_path / "w.pth")
    assert refusal(tmp_path / "w.pth").key == "network.backbone"


def test_keys_that_are_no_names_are_refused(tmp_path: Path, published: dict[str, Tensor]) -> None:
    torch.save({7: torch.ones(1), **published}, tmp_path / "w.pth")
    refusal(tmp_path / "w.pth")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", bytes(1000)])
def test_garbage_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(content)
    assert refusal(path).key == "--weights"


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_broken_off_download_is_refused(
    tmp_path: Path, suffix: str, published: dict[str, Tensor]
) -> None:
    path = tmp_path / f"w.{suffix}"
    if suffix == "pth":
        torch.save(published, path)
    else:
        safetensors.torch.save_file(published, path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert refusal(path).key == "--weights"


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / f"folder.{suffix}"
    folder.mkdir()
    assert refusal(folder).key == refusal(tmp_path / f"none.{suffix}").key == "--weights"


@pytest.mark.parametrize(
    "wrap",
    [lambda s: {"weights": s}, lambda s: {**s, "epoch": 3}, lambda s: list(s.values()), len],
    ids=["nested", "mixed", "list", "number"],
)
def test_what_is_no_state_dict_is_refused(
    tmp_path: Path, wrap: Callable[[dict[str, Tensor]], Any], published: dict[str, Tensor]
) -> None:
    torch.save(wrap(published), tmp_path / "w.pth")
    error = refusal(tmp_path / "w.pth")
    assert error.key == "--weights"
    assert "state dict" in error.problem


class Bomb:
    """Creates a file when it is unpickled by anything that runs code."""

    def __init__(self, fuse: Path) -> None:
        self.fuse = fuse

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.fuse,)


def _as_zip(value: object, path: Path) -> None:
    torch.save(value, path)


def _as_old_torch(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def _as_pickle(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, 2))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("write", [_as_zip, _as_old_torch, _as_pickle])
def test_code_in_a_weights_file_never_runs(
    tmp_path: Path,
    suffix: str,
    write: Callable[[object, Path], None],
    published: dict[str, Tensor],
) -> None:
    path, fuse = tmp_path / f"w.{suffix}", tmp_path / "fuse"
    write({**published, "extra": Bomb(fuse)}, path)
    assert refusal(path).key == "--weights"
    assert not fuse.exists()
    pickle.loads(pickle.dumps(Bomb(fuse)))
    assert fuse.exists(), "the bomb was a dud"
