"""Takes a class count; gives DINOv2-S with a DPT head, as UniMatch V2 builds it."""

from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from csl.config import DPT_PATCH
from csl.models.base import SegmentationNetwork

_TAPS = (2, 5, 8, 11)  # the transformer layers whose tokens are decoded
_REASSEMBLED = (48, 96, 192, 384)  # their channels at 4, 2, 1 and 1/2 times the patch grid
_WIDTH = 64


def _resize(features: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    return interpolate(features, size=size, mode="bilinear", align_corners=True)


class _Residual(nn.Module):
    """Two 3×3 convolutions, each after its ReLU, added to what comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.second = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        inner: Tensor = self.second(self.first(features.relu()).relu())
        return features + inner


class _Fusion(nn.Module):
    """Joins the coarser path with one level's features and brings it to the next level's size."""

    def __init__(self, *, coarsest: bool) -> None:
        super().__init__()
        self.skip = None if coarsest else _Residual()
        self.merge = _Residual()
        self.project = nn.Conv2d(_WIDTH, _WIDTH, 1)

    def forward(self, level: Tensor, path: Tensor | None, size: torch.Size) -> Tensor:
        if self.skip is not None:
            assert path is not None, "only the coarsest level has none before it"
            level = path + self.skip(level)
        fused: Tensor = self.project(_resize(self.merge(level), size))
        return fused


class DptHead(nn.Module):
    """DPT (Ranftl et al. 2021): tokens as a pyramid of feature maps, fused from coarse to fine.

    Args:
        inputs: channels of each of the four token maps.
        classes: K.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        one, two, _, four = _REASSEMBLED
        self.project = nn.ModuleList(nn.Conv2d(inputs, width, 1) for width in _REASSEMBLED)
        self.rescale = nn.ModuleList(
            [
                nn.ConvTranspose2d(one, one, 4, stride=4),
                nn.ConvTranspose2d(two, two, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(four, four, 3, stride=2, padding=1),
            ]
        )
        self.narrow = nn.ModuleList(
            nn.Conv2d(width, _WIDTH, 3, padding=1, bias=False) for width in _REASSEMBLED
        )
        self.fuse = nn.ModuleList(_Fusion(coarsest=width == four) for width in _REASSEMBLED)
        self.classify = nn.Sequential(
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(_WIDTH, classes, 1),
        )

    def forward(self, tokens: list[Tensor]) -> Tensor:
        """Logits [B, K, 8h, 8w] of four token maps [B, C, h, w]."""
        parts = zip(self.project, self.rescale, self.narrow, tokens, strict=True)
        levels = [narrow(rescale(project(t))) for project, rescale, narrow, t in parts]
        finest = levels[0].shape[2:]
        sizes = [torch.Size(2 * side for side in finest), *(level.shape[2:] for level in levels)]
        path = None
        for level, size, fuse in reversed(list(zip(levels, sizes, self.fuse, strict=False))):
            path = fuse(level, path, size)
        logits: Tensor = self.classify(path)
        return logits


class Dpt(SegmentationNetwork):
    """DINOv2 and the DPT head. It takes images of whole patches, ``DPT_PATCH`` pixels each way.

    Args:
        backbone: timm's name of a Vision Transformer of twelve layers.
        classes: K.
    """

    def __init__(self, backbone: str, classes: int) -> None:
        transformer = timm.create_model(backbone, num_classes=0, dynamic_img_size=True)
        width: Any = transformer.num_features
        super().__init__(transformer, [width] * len(_TAPS))
        self.head = DptHead(width, classes)

    def encode(self, images: Tensor) -> list[Tensor]:
        # With DINOv2's last norm on every layer's tokens, as its own intermediate layers have it.
        features: list[Tensor] = self.backbone.forward_intermediates(  # type: ignore[operator]
            images, indices=_TAPS, norm=True, intermediates_only=True
        )
        return features

    def decode(self, features: list[Tensor], size: torch.Size) -> Tensor:
        rows, columns = features[0].shape[2:]
        assert size == (rows * DPT_PATCH, columns * DPT_PATCH), "images of whole patches"
        return _resize(self.head(features), size)

    def blocks(self) -> list[nn.Module]:
        return list(self.backbone.get_submodule("blocks").children())
