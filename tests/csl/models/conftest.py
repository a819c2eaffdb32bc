"""Every architecture at its smallest, built once."""

from typing import Any

import pytest
import torch
from torch import nn

from csl.config import DeepLabConfig, DptConfig, NetworkConfig, SegFormerConfig
from csl.models import SegmentationNetwork, build_network

CLASSES = 5
SMALL: dict[str, Any] = {"atrous_rates": (1, 2, 4), "width": 8, "low_level_width": 8}
CONFIGS: dict[str, NetworkConfig] = {
    **{
        name: DeepLabConfig(backbone=name, pretrained=False, **SMALL)  # type: ignore[arg-type]
        for name in ("test_resnet", "resnet50s", "xception65", "tf_efficientnet_lite0")
    },
    "mit_b0": SegFormerConfig(backbone="mit_b0", pretrained=False),
    "vit_small_patch14_dinov2": DptConfig(pretrained=False),
}
SIDE = {"vit_small_patch14_dinov2": 28, "mit_b0": 29}
"""Of the smallest image; others take any."""


def build(config: NetworkConfig, seed: int = 0) -> SegmentationNetwork:
    torch.manual_seed(seed)
    network = build_network(config, CLASSES, None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # timm starts some at 0: no gradient gets through
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network


@pytest.fixture(scope="package", params=CONFIGS)
def built(request: pytest.FixtureRequest) -> tuple[str, SegmentationNetwork]:
    """A backbone's name and its network, with running statistics of random images: at their
    initial ones a deep random network lets nothing through."""
    name, network = request.param, build(CONFIGS[request.param])
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(3, 3, 56, 56))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return name, network
