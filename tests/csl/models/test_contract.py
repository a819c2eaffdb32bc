"""What every segmentation network does, whatever it is made of."""

import pytest
import torch
from torch import Tensor

from csl.config import DeepLabConfig, DptConfig, NetworkConfig, SegFormerConfig
from csl.models import SegmentationNetwork, build_network
from tests.csl.models.conftest import CLASSES, CONFIGS, SIDE, build

Built = tuple[str, SegmentationNetwork]


def images(count: int, side: int, width: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, side, width or side, generator=generator)


def ones(network: SegmentationNetwork, count: int) -> list[Tensor]:
    return [torch.ones(count, channels, 1, 1) for channels in network.channels]


@torch.inference_mode()
def test_logits_have_the_images_size(built: Built) -> None:
    name, network = built
    network.eval()
    least = SIDE.get(name, 1)
    for size in [(least, least), (28, 42) if "patch14" in name else (29, 45)]:
        logits = network(images(2, *size))
        assert logits.shape == (2, CLASSES, *size)
        assert torch.isfinite(logits).all()


@torch.inference_mode()
def test_the_feature_maps_have_the_stated_channels(built: Built) -> None:
    name, network = built
    features = network.eval().encode(images(1, SIDE.get(name, 33)))
    assert tuple(each.shape[1] for each in features) == network.channels


@torch.inference_mode()
def test_dropped_channels_change_their_own_image_only(built: Built) -> None:
    name, network = built
    network.eval()
    batch = images(3, SIDE.get(name, 33))
    plain = network(batch)
    for level in range(len(network.channels)):
        keep = ones(network, 2)  # of the last two images
        keep[level][1, ::2] = 0
        logits = network(batch, keep)
        assert logits.shape[0] == 5
        assert torch.allclose(logits[:3], plain, atol=1e-5)
        assert torch.allclose(logits[3], plain[1], atol=1e-5)
        assert not torch.allclose(logits[4], plain[2], atol=1e-4), level


def test_the_gradient_reaches_every_parameter(built: Built) -> None:
    name, network = built
    network.train()
    network.zero_grad()
    torch.manual_seed(0)
    network(images(3, SIDE.get(name, 33)), ones(network, 2)).square().mean().backward()
    unreached = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unreached


def test_backbone_and_head_share_out_all_parameters(built: Built) -> None:
    network = built[1]
    groups = [list(network.backbone.parameters()), network.head_parameters()]
    assert all(groups)
    seen = [id(parameter) for group in groups for parameter in group]
    assert len(seen) == len(set(seen))
    assert set(seen) == {id(parameter) for parameter in network.parameters()}


@pytest.mark.parametrize("name", ["test_resnet", "mit_b0", "vit_small_patch14_dinov2"])
@torch.inference_mode()
def test_the_same_seed_builds_the_same_network(name: str) -> None:
    batch = images(1, SIDE.get(name, 33))
    one, same, other = (build(CONFIGS[name], seed).eval()(batch) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("name", ["test_resnet", "xception65"])
@torch.inference_mode()
def test_the_output_stride_is_that_of_the_high_level_features(name: str, stride: int) -> None:
    config = CONFIGS[name].model_copy(update={"output_stride": stride})
    with torch.device("meta"):
        network = build_network(config, CLASSES, None)
        low, high = network.encode(torch.empty(1, 3, 64, 96))
    assert low.shape[2:] == (16, 24)
    assert high.shape[2:] == (64 // stride, 96 // stride)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("config", "classes", "millions"),
    [
        (DeepLabConfig(backbone="resnet101s", pretrained=False), 21, 59.5),  # UniMatch, CorrMatch
        (SegFormerConfig(backbone="mit_b0", pretrained=False), 150, 3.8),  # Xie et al., Table 1
        (SegFormerConfig(backbone="mit_b1", pretrained=False), 150, 13.7),
        (SegFormerConfig(backbone="mit_b2", pretrained=False), 150, 27.5),
        (SegFormerConfig(backbone="mit_b3", pretrained=False), 150, 47.3),
        (SegFormerConfig(backbone="mit_b4", pretrained=False), 150, 64.1),
        (SegFormerConfig(backbone="mit_b5", pretrained=False), 150, 84.7),
        (DptConfig(pretrained=False), 21, 24.8),  # UniMatch V2, Table 1
    ],
    ids=lambda each: getattr(each, "backbone", None),
)
def test_sizes_are_the_published_ones(config: NetworkConfig, classes: int, millions: float) -> None:
    with torch.device("meta"):
        network = build_network(config, classes, None)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.08)
