"""Backbones against independent ones: a ResNet written out, and what transformers runs."""

import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import DPTConfig, SegformerForSemanticSegmentation
from transformers.models.dpt.modeling_dpt import DPTNeck

from csl.config import DeepLabConfig
from csl.models import build_network
from csl.models.dpt import DptHead
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


def in_transformers_names(name: str) -> str:
    """What transformers' DPT neck calls a tensor of our head."""
    at = {f"fuse.{level}.": f"fusion_stage.layers.{3 - level}." for level in range(4)}
    for ours, theirs in (
        *at.items(),
        (".skip.", ".residual_layer1."),
        (".merge.", ".residual_layer2."),
        (".first.", ".convolution1."),
        (".second.", ".convolution2."),
        (".project.", ".projection."),
    ):
        name = name.replace(ours, theirs)
    name = re.sub(r"^project\.(\d)", r"reassemble_stage.layers.\1.projection", name)
    name = re.sub(r"^rescale\.(\d)", r"reassemble_stage.layers.\1.resize", name)
    return re.sub(r"^narrow\.(\d)", r"convs.\1", name)


@torch.inference_mode()
def test_the_dpt_head_fuses_as_transformers_does() -> None:
    torch.manual_seed(0)
    head = DptHead(384, CLASSES).eval()
    config = DPTConfig(
        hidden_size=384,
        neck_hidden_sizes=[48, 96, 192, 384],
        reassemble_factors=[4, 2, 1, 0.5],
        fusion_hidden_size=64,
        readout_type="ignore",
    )
    neck = DPTNeck(config).eval()
    state = {in_transformers_names(key): tensor for key, tensor in head.state_dict().items()}
    classifier = {key for key in state if key.startswith("classify.")}
    missing, unexpected = neck.load_state_dict(state, strict=False)
    assert set(unexpected) == classifier
    # The coarsest level is fused with nothing: transformers keeps layers for it that never run.
    assert all(key.startswith("fusion_stage.layers.0.residual_layer1.") for key in missing)
    tokens = torch.randn(4, 2, 1 + 4 * 6, 384)  # a grid of even sides, where both resize alike
    theirs = head.classify(neck(list(tokens), 4, 6)[-1])
    maps = [each[:, 1:].unflatten(1, (4, 6)).permute(0, 3, 1, 2) for each in tokens]
    ours = head(maps)
    assert ours.shape == (2, CLASSES, 32, 48)
    assert torch.allclose(ours, theirs, atol=1e-5 * theirs.abs().max().item())
