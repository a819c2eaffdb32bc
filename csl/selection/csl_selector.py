"""Takes logits; gives Algorithm 1's selection and its ablations, each image by itself."""

from collections.abc import Sequence

import torch
from torch import Tensor

from csl.selection.base import Selection, Selector
from csl.selection.features import confidence_features
from csl.selection.images import by_images
from csl.selection.separation import separate
from csl.selection.smoothing import smooth
from csl.selection.weighting import reliable_statistics


class CslSelector(Selector):
    """Confidence Separable Learning (Eq. 8 to 11, Algorithm 1).

    Weight 1 where the features exceed their means over the reliable cluster, smoothed below.
    """

    def _judge(self, logits: Tensor, valid: Tensor, progress: float) -> Selection:
        return Selection(*by_images(self._judge_images, logits, valid))

    def _judge_images(self, logits: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        config = self.config
        seen = confidence_features(
            logits,
            features=config.features,
            count_argmax_slot=config.count_argmax_slot,
            scale=config.scale,
        )
        offset, flat = seen.offset, valid.flatten(1)
        if config.strategy == "class_separation":
            weight, reliable = self._per_class(seen.columns, offset, seen.label.flatten(1), flat)
        else:
            mean, variance = self._statistics(seen.columns, offset, flat)
            weight, reliable = smooth(seen.columns, offset, mean, variance, flat, config)
        return seen.label, weight.view_as(valid), reliable.view_as(valid)

    def _statistics(
        self, features: Tensor, offset: Sequence[float], valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance that pixels are held against, [B, C] each."""
        if self.config.strategy == "mean_threshold":
            return reliable_statistics(features, valid)
        return reliable_statistics(features, separate(features, valid, offset=offset))

    def _per_class(
        self, features: Tensor, offset: Sequence[float], label: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Each predicted class of an image has its own Φ_k (Eq. 16).

        One of fewer than 2·C pixels, too few for two clusters of C features, is held against the
        statistics of the whole image.
        """
        whole = self._statistics(features, offset, valid)
        weight = torch.zeros(valid.shape, device=valid.device)
        reliable = torch.zeros_like(valid)
        for k in torch.unique(label):
            members = valid & (label == k)
            few = (members.sum(1) < 2 * features.shape[1]).unsqueeze(1)
            own = self._statistics(features, offset, members)
            mean, variance = (
                torch.where(few, image, one) for image, one in zip(whole, own, strict=True)
            )
            part = smooth(features, offset, mean, variance, members, self.config)
            weight, reliable = weight + part[0], reliable | part[1]
        return weight, reliable
