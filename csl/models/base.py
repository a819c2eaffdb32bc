"""Takes an image batch; gives logits: what every segmentation network is to a training."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SegmentationNetwork(nn.Module, ABC):
    """A pretrained backbone and a head trained from scratch.

    Args:
        backbone: what pretrained weights fill; the group with the plain learning rate.
        channels: channel counts of the feature maps that ``encode`` gives.
    """

    def __init__(self, backbone: nn.Module, channels: Sequence[int]) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels = tuple(channels)

    @abstractmethod
    def encode(self, images: Tensor) -> list[Tensor]:
        """The backbone's feature maps, [B, C, h, w] each, of normalised images [B, 3, H, W]."""

    @abstractmethod
    def decode(self, features: list[Tensor], size: torch.Size) -> Tensor:
        """Logits [B, K, H, W] from feature maps, at the size (H, W)."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The backbone's repeated parts: what gradient checkpointing computes again."""

    def forward(self, images: Tensor, keep: Sequence[Tensor] | None = None) -> Tensor:
        """Logits [B, K, H, W] of normalised images [B, 3, H, W].

        Args:
            images: the batch.
            keep: scaled channel masks for the feature maps of the *last* images, [P, C, 1, 1]
                each. Given, those P images are decoded a second time with channels dropped
                (feature perturbation, D.1) and their logits follow: [B + P, K, H, W].
        """
        features = self.encode(images)
        if keep is not None:
            features = [
                torch.cat([whole, whole[-mask.shape[0] :] * mask])
                for whole, mask in zip(features, keep, strict=True)
            ]
        return self.decode(features, images.shape[2:])

    def head_parameters(self) -> list[nn.Parameter]:
        """Everything but the backbone: the group with the multiplied learning rate."""
        backbone = {id(parameter) for parameter in self.backbone.parameters()}
        return [p for p in self.parameters() if id(p) not in backbone]
