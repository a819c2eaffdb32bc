"""Networks: sizes, feature perturbation, parameter groups, and weights files of strangers."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor

from csl.config import DeepLabConfig
from csl.errors import InputError
from csl.models import DeepLabV3Plus, build_network, check_weights

SMALL = {"backbone": "test_resnet", "atrous_rates": (1, 2, 4), "width": 8, "low_level_width": 8}
SCRATCH = DeepLabConfig(pretrained=False, **SMALL)
PRETRAINED = DeepLabConfig(pretrained=True, **SMALL)
CLASSES = 5


def build(config: DeepLabConfig = SCRATCH, seed: int = 0) -> DeepLabV3Plus:
    torch.manual_seed(seed)
    return build_network(config, CLASSES, None).eval()


@pytest.fixture(scope="module")
def network() -> DeepLabV3Plus:
    return build()


def images(count: int, height: int = 32, width: int = 32) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def ones(network: DeepLabV3Plus, count: int) -> tuple[Tensor, Tensor]:
    low, high = (torch.ones(count, channels, 1, 1) for channels in network.channels)
    return low, high


@pytest.mark.parametrize("size", [(33, 47), (31, 32), (5, 97), (64, 32), (1, 1)])
@torch.inference_mode()
def test_logits_have_the_images_size(network: DeepLabV3Plus, size: tuple[int, int]) -> None:
    logits = network(images(2, *size))
    assert logits.shape == (2, CLASSES, *size)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("stride", [8, 16, 32])
@torch.inference_mode()
def test_the_output_stride_is_that_of_the_high_level_features(stride: int) -> None:
    network = build(SCRATCH.model_copy(update={"output_stride": stride}))
    low, high = network.backbone(images(1, 64, 96))
    assert low.shape[2:] == (16, 24)
    assert high.shape[2:] == (64 // stride, 96 // stride)
    assert (low.shape[1], high.shape[1]) == network.channels


@torch.inference_mode()
def test_each_image_is_judged_by_itself(network: DeepLabV3Plus) -> None:
    batch = images(3)
    alone = torch.cat([network(image[None]) for image in batch])
    assert torch.allclose(network(batch), alone, atol=1e-5)


@torch.inference_mode()
def test_the_same_seed_builds_the_same_network() -> None:
    batch = images(1)
    assert torch.equal(build(seed=3)(batch), build(seed=3)(batch))
    assert not torch.equal(build(seed=3)(batch), build(seed=4)(batch))


@torch.inference_mode()
def test_keeping_every_channel_repeats_the_logits(network: DeepLabV3Plus) -> None:
    batch = images(3)
    plain = network(batch)
    kept = network(batch, ones(network, 3))
    assert kept.shape[0] == 6
    assert torch.allclose(kept[:3], plain, atol=1e-6)
    assert torch.allclose(kept[3:], plain, atol=1e-6)


@torch.inference_mode()
def test_only_the_last_images_are_decoded_again(network: DeepLabV3Plus) -> None:
    batch = images(3)
    kept = network(batch, ones(network, 2))
    assert kept.shape[0] == 5
    assert torch.allclose(kept[3:], network(batch[1:]), atol=1e-6)


@pytest.mark.parametrize("level", [0, 1])
@torch.inference_mode()
def test_a_dropped_channel_changes_its_own_image_only(network: DeepLabV3Plus, level: int) -> None:
    batch = images(3)
    keep = ones(network, 3)
    keep[level][1, ::2] = 0
    logits = network(batch, keep)
    moved = [not torch.allclose(logits[i], logits[3 + i], atol=1e-5) for i in range(3)]
    assert moved == [False, True, False]
    assert torch.allclose(logits[:3], network(batch), atol=1e-6)


@pytest.mark.parametrize("backbone", ["test_resnet", "tf_efficientnet_lite0"])
def test_backbone_and_head_share_out_all_parameters(backbone: str) -> None:
    network = build(SCRATCH.model_copy(update={"backbone": backbone}))
    groups = [list(network.backbone.parameters()), network.head_parameters()]
    assert all(groups)
    seen = [id(parameter) for group in groups for parameter in group]
    assert len(seen) == len(set(seen))
    assert set(seen) == {id(parameter) for parameter in network.parameters()}


# Weights files.


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
        check_weights(PRETRAINED, path)
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


def test_from_scratch_no_file_is_read(tmp_path: Path) -> None:
    check_weights(SCRATCH, tmp_path / "missing.pth")
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
    [lambda s: {"state_dict": s}, lambda s: {**s, "epoch": 3}, lambda s: list(s.values()), len],
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
