"""Takes one image's logits and truth; gives the plane of Fig. 1 and where CSL decides in it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from csl.config import SelectionConfig
from csl.data.source import IGNORE
from csl.selection.features import ConfidenceFeatures, confidence_features
from csl.selection.separation import separate
from csl.selection.smoothing import smooth
from csl.selection.weighting import reliable_statistics

_GRID = 240  # points per axis at which the decision boundary is evaluated


@dataclass(frozen=True)
class Plane:
    """One image in the feature plane of Fig. 1, and where CSL's decision changes in it.

    Args:
        index, name: of the image.
        residual: 1 - p_max per scored pixel, summed and not subtracted, float64 [N].
        dispersion: -v of Eq. 7, at least 0, float64 [N].
        correct: bool [N].
        concentration: the dispersion as a share of the largest that its residual allows, where
            one class has all of that, float64 [N] in [0, 1].
        grid_residual, grid_dispersion: float64 [G] each, evenly spaced in their logarithm.
        grid_reliable: CSL's flag at (dispersion, residual), bool [G, G].
        grid_concentration: float64 [G], evenly spaced.
        grid_concentration_reliable: CSL's flag at (concentration, residual), bool [G, G].
    """

    index: int
    name: str
    residual: NDArray[np.float64]
    dispersion: NDArray[np.float64]
    concentration: NDArray[np.float64]
    correct: NDArray[np.bool_]
    grid_residual: NDArray[np.float64]
    grid_dispersion: NDArray[np.float64]
    grid_reliable: NDArray[np.bool_]
    grid_concentration: NDArray[np.float64]
    grid_concentration_reliable: NDArray[np.bool_]


def feature_plane(
    index: int, name: str, logits: Tensor, truth: Tensor, config: SelectionConfig
) -> Plane:
    """One image's pixels of known truth, and CSL's boundary, which all of its pixels decide.

    The plane has two features: further ones, Eq. 6's scale and a separation per class, which are
    no line in it, are left out of the boundary.

    Args:
        index, name: of the image.
        logits: finite, [1, K, H, W].
        truth: uint8 [1, H, W], 255 is not shown.
        config: csl's parameters.
    """
    planar = {"features": ("dispersion",), "scale": "none"}
    if config.strategy == "class_separation":
        planar["strategy"] = "separation"
    config = config.model_copy(update=planar)
    others = logits.shape[1] - 1
    seen = confidence_features(logits, count_argmax_slot=config.count_argmax_slot)
    everywhere = torch.ones_like(truth, dtype=torch.bool).flatten(1)
    lacking = seen.shifted[0].neg().flatten(1)  # 1 - p_max and -v
    axes = [_decades(each) for each in lacking]
    concentration = torch.linspace(0, 1, _GRID, dtype=torch.float64)
    # Σδ² of one class with the whole residual and K-2 with nothing; times 1 / (K-1).
    largest = (others**2 - others + config.count_argmax_slot) / others**3
    grids = (axes[1].unsqueeze(1), concentration.unsqueeze(1) * axes[0].square() * largest)
    reliable = [
        _grid_reliable(seen, everywhere, grid.expand(_GRID, _GRID), axes[0], config).cpu().numpy()
        for grid in grids
    ]
    scored = (truth != IGNORE).flatten()
    residual, dispersion = (each[scored].cpu().numpy() for each in lacking)
    most = residual**2 * largest
    share = np.divide(dispersion, most, out=np.zeros_like(most), where=most > 0)
    return Plane(
        index,
        name,
        residual,
        dispersion,
        share,
        (seen.label == truth).flatten()[scored].cpu().numpy(),
        axes[0].numpy(),
        axes[1].numpy(),
        reliable[0],
        concentration.numpy(),
        reliable[1],
    )


def _decades(values: Tensor) -> Tensor:
    """Points evenly spaced in their logarithm, from below the values to above: any figure's."""
    logarithms = values.clamp(min=torch.finfo(torch.float64).tiny).log10()
    low, high = (bound.item() for bound in logarithms.aminmax())
    room = 1 + (high - low) / 10
    return torch.logspace(low - room, high + room, _GRID, dtype=torch.float64)


def _grid_reliable(
    seen: ConfidenceFeatures,
    valid: Tensor,
    dispersion: Tensor,
    residual: Tensor,
    config: SelectionConfig,
) -> Tensor:
    """CSL's flag at each dispersion [G, G], whose columns have the residual [G]; bool [G, G]."""
    columns, offset = seen.columns, seen.offset
    cluster = valid
    if config.strategy == "separation":
        cluster = separate(columns, valid, offset=offset)
    mean, variance = reliable_statistics(columns, cluster)
    points = -torch.stack([residual.expand_as(dispersion), dispersion]).flatten(1).unsqueeze(0)
    points = points.to(columns.device)
    inside = torch.ones_like(points[:, 0], dtype=torch.bool)
    _, reliable = smooth(points, offset, mean, variance, inside, config)
    return reliable.view(dispersion.shape)
