"""Takes a feature backbone and widths; gives DeepLabV3+ with feature perturbation."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate


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


class DeepLabV3Plus(nn.Module):
    """DeepLabV3+ as UniMatch and CSL build it: plain convolutions, no dropout in ASPP.

    Args:
        backbone: gives [low-level features, high-level features] for an image batch.
        channels: their channel counts.
        classes: K.
        width: channels of ASPP and decoder (256 in the papers).
        low_level_width: channels the low-level features are reduced to (48 in the papers).
        atrous_rates: dilations of ASPP's three 3×3 branches.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: tuple[int, int],
        classes: int,
        width: int,
        low_level_width: int,
        atrous_rates: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.channels = channels
        low, high = channels
        self.backbone = backbone
        self.pyramid = AtrousPyramid(high, width, atrous_rates)
        self.reduce = _conv_norm_relu(low, low_level_width, 1)
        self.fuse = nn.Sequential(
            _conv_norm_relu(low_level_width + width, width, 3), _conv_norm_relu(width, width, 3)
        )
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor, keep: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Logits [B, K, H, W] of normalised images [B, 3, H, W].

        Args:
            images: the batch.
            keep: scaled channel masks for the low- and high-level features of the *last* images,
                [P, C, 1, 1] each. Given, those P images are decoded a second time with channels
                dropped (feature perturbation, D.1) and their logits follow: [B + P, K, H, W].
        """
        low, high = self.backbone(images)
        if keep is not None:
            perturbed = keep[0].shape[0]
            low = torch.cat([low, low[-perturbed:] * keep[0]])
            high = torch.cat([high, high[-perturbed:] * keep[1]])
        high = _resize(self.pyramid(high), low.shape[2:])
        logits: Tensor = self.classifier(self.fuse(torch.cat([self.reduce(low), high], 1)))
        return _resize(logits, images.shape[2:])

    def head_parameters(self) -> list[nn.Parameter]:
        """Everything but the backbone: the group with the multiplied learning rate."""
        backbone = {id(parameter) for parameter in self.backbone.parameters()}
        return [p for p in self.parameters() if id(p) not in backbone]
