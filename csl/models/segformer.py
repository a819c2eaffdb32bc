"""Takes a backbone's name and a class count; gives SegFormer, both parts transformers' own."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from csl.models.base import SegmentationNetwork

_NARROW, _WIDE = [32, 64, 160, 256], [64, 128, 320, 512]
_SIZES: dict[str, tuple[list[int], list[int], int]] = {  # channels, depths, the head's width
    "mit_b0": (_NARROW, [2, 2, 2, 2], 256),
    "mit_b1": (_WIDE, [2, 2, 2, 2], 256),
    "mit_b2": (_WIDE, [3, 4, 6, 3], 768),
    "mit_b3": (_WIDE, [3, 4, 18, 3], 768),
    "mit_b4": (_WIDE, [3, 8, 27, 3], 768),
    "mit_b5": (_WIDE, [3, 6, 40, 3], 768),
}
"""SegFormer (Xie et al. 2021), Tables 6 and 7 and Sec. 4.1."""


class SegFormer(SegmentationNetwork):
    """A Mix Transformer, its four stages' features at strides 4 to 32, and the all-MLP head.

    Stochastic depth 0.1 and the head's dropout 0.1 are as published: while training, a forward
    draws from torch's generator.

    Args:
        backbone: one of ``mit_b0`` to ``mit_b5``.
        classes: K.
    """

    def __init__(self, backbone: str, classes: int) -> None:
        channels, depths, width = _SIZES[backbone]
        config = SegformerConfig(hidden_sizes=channels, depths=depths, decoder_hidden_size=width)
        config.num_labels = classes
        whole = SegformerForSemanticSegmentation(config)
        super().__init__(whole.segformer, channels)
        self.head = whole.decode_head

    def encode(self, images: Tensor) -> list[Tensor]:
        features = []
        for stage in self._stages():
            images = stage(images)
            features.append(images)
        return features

    def decode(self, features: list[Tensor], size: torch.Size) -> Tensor:
        return interpolate(self.head(features), size=size, mode="bilinear", align_corners=False)

    def blocks(self) -> list[nn.Module]:
        return [
            block for stage in self._stages() for block in stage.get_submodule("blocks").children()
        ]

    def _stages(self) -> list[nn.Module]:
        return list(self.backbone.get_submodule("stages").children())
