"""Backbones against independent ones: the ResNet written out, SegFormer as transformers runs it."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import SegformerForSemanticSegmentation

from csl.config import DeepLabConfig
from csl.models import build_network
from csl.models.segformer import SegFormer
from tests.csl.models.conftest import CLASSES, CONFIGS, SMALL, build
from tests.reference import resnet


@pytest.mark.parametrize(
    ("backbone", "stride"),
    [("resnet50s", 8), ("resnet50s", 16), ("resnet50s", 32), ("resnet101s", 8)],
)
@torch.inference_mode()
def test_feature_maps_are_those_of_the_dilated_resnet(backbone: str, stride: int) -> None:
    torch.manual_seed(0)
    config = DeepLabConfig(
        backbone=backbone,  # type: ignore[arg-type]
        pretrained=False,
        output_stride=stride,  # type: ignore[arg-type]
        **SMALL,
    )
    network = build_network(config, CLASSES, None).eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):  # random, and such that depth neither fades nor grows
            nn.init.uniform_(norm.weight, 0.5, 1.0)
            nn.init.normal_(norm.bias, 0.0, 0.2)
            nn.init.normal_(norm.running_mean, 0.0, 0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    images = torch.randn(2, 3, 49, 65)
    low, high = network.encode(images)
    stages = resnet.features(network.backbone.state_dict(), images, stride)
    for ours, theirs in ((low, stages[0]), (high, stages[3])):
        assert ours.shape == theirs.shape
        scale = theirs.abs().max()
        assert scale > 0.1, "something gets through"
        assert (ours - theirs).abs().max() < 1e-5 * scale
    assert high.shape[2:] == tuple(-(-side // stride) for side in (49, 65))


@torch.inference_mode()
def test_segformer_gives_what_transformers_gives() -> None:
    network = build(CONFIGS["mit_b0"]).eval()
    assert isinstance(network, SegFormer)
    config = network.backbone.config
    whole = SegformerForSemanticSegmentation(config).eval()
    whole.segformer.load_state_dict(network.backbone.state_dict())
    whole.decode_head.load_state_dict(network.head.state_dict())
    images = torch.randn(2, 3, 64, 80)
    quarter: Tensor = whole(images).logits
    assert quarter.shape == (2, CLASSES, 16, 20)
    theirs = interpolate(quarter, size=(64, 80), mode="bilinear", align_corners=False)
    assert torch.allclose(network(images), theirs, atol=1e-5)
