"""Takes a network's configuration and a class count; gives DeepLabV3+ on a timm backbone."""

from typing import Any

import timm
import torch
from timm.models.xception_aligned import XceptionAligned
from torch import Tensor, nn
from torch.nn.functional import interpolate

from csl.config import DeepLabConfig
from csl.models.base import SegmentationNetwork

_LEVELS = (1, 4)  # timm's indices: strides 4 and 32 before dilation


def _conv_norm_relu(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _resize(features: Tensor, size: torch.Size) -> Tensor:
    return interpolate(features, size=size, mode="bilinear", align_corners=True)


class AtrousPyramid(nn.Module):
    """ASPP: 1×1, three plain 3×3 at the given rates, global pooling; projected by 1×1."""

    def __init__(self, inputs: int, width: int, rates: tuple[int, int, int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                _conv_norm_relu(inputs, width, 1),
                *(_conv_norm_relu(inputs, width, 3, rate) for rate in rates),
            ]
        )
        self.pooled = _conv_norm_relu(inputs, width, 1)
        self.project = _conv_norm_relu(5 * width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        pooled = self.pooled(features.mean(dim=(2, 3), keepdim=True)).expand(
            -1, -1, *features.shape[2:]
        )
        branches = [*(branch(features) for branch in self.branches), pooled]
        projected: Tensor = self.project(torch.cat(branches, 1))
        return projected


class DeepLabV3Plus(SegmentationNetwork):
    """DeepLabV3+ as UniMatch and CSL build it: plain convolutions, no dropout in ASPP.

    Args:
        config: the network; its backbone is timm's.
        classes: K.
    """

    def __init__(self, config: DeepLabConfig, classes: int) -> None:
        backbone, (low, high) = _backbone(config)
        super().__init__(backbone, (low, high))
        width, reduced = config.width, config.low_level_width
        self.pyramid = AtrousPyramid(high, width, config.atrous_rates)
        self.reduce = _conv_norm_relu(low, reduced, 1)
        self.fuse = nn.Sequential(
            _conv_norm_relu(reduced + width, width, 3), _conv_norm_relu(width, width, 3)
        )
        self.classifier = nn.Conv2d(width, classes, 1)

    def encode(self, images: Tensor) -> list[Tensor]:
        """Low-level features at stride 4 and high-level ones at the output stride."""
        backbone: Any = self.backbone
        if isinstance(backbone, XceptionAligned):
            taken: Any = backbone.forward_intermediates(
                images, indices=list(_LEVELS), intermediates_only=True
            )
        else:
            taken = backbone(images)
        low, high = taken
        return [low, high]

    def decode(self, features: list[Tensor], size: torch.Size) -> Tensor:
        low, high = features
        high = _resize(self.pyramid(high), low.shape[2:])
        logits: Tensor = self.classifier(self.fuse(torch.cat([self.reduce(low), high], 1)))
        return _resize(logits, size)

    def blocks(self) -> list[nn.Module]:
        names = ("layer1", "layer2", "layer3", "layer4", "blocks")  # a ResNet's, or all others'
        return [
            block
            for name, stage in self.backbone.named_children()
            if name in names
            for block in _flat(stage)
        ]


def _backbone(config: DeepLabConfig) -> tuple[nn.Module, tuple[int, int]]:
    """A timm backbone of the output stride without its classifier, and its levels' channels."""
    if config.backbone == "xception65":
        # timm's feature form of it renames the tensors and collects features by hooks.
        whole: Any = timm.create_model(config.backbone, output_stride=config.output_stride)
        whole.prune_intermediate_layers(_LEVELS)
        low, high = (whole.feature_info[level]["num_chs"] for level in _LEVELS)
        return whole, (low, high)
    features: Any = timm.create_model(
        config.backbone,
        features_only=True,
        out_indices=_LEVELS,
        output_stride=config.output_stride,
    )
    low, high = features.feature_info.channels()
    return features, (low, high)


def _flat(stage: nn.Module) -> list[nn.Module]:
    if not isinstance(stage, nn.Sequential):
        return [stage]
    return [block for part in stage for block in _flat(part)]
