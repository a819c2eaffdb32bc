"""Takes each image's feature vectors; gives the cluster of reliable predictions (Sec. 3.3)."""

import torch
from torch import Tensor


def separate(features: Tensor, valid: Tensor) -> Tensor:
    """Two clusters by spectral relaxation (Eq. 8, 9), of which the more confident is kept.

    Pixel n joins the singular vector in which it is larger: argmax over i of |V_i(n)|, where V are
    the top two right singular vectors of the uncentred Φ [2, N]. Since V = Φᵀu/σ and (u, σ²) is
    the eigen-decomposition of the 2×2 matrix ΦΦᵀ, no SVD and no loop over images is needed.

    Args:
        features: Φ, [B, 2, N]; the first feature is the maximum confidence.
        valid: which pixels count, bool [B, N].

    Returns:
        bool [B, N], True in the reliable cluster; invalid pixels are False. An image whose Φ has
        rank one is a single cluster.
    """
    assert features.shape[1] == 2, "the closed form is that of a 2×2 Gram matrix"
    features = features.double() * valid.unsqueeze(1)
    first, second = features.unbind(1)

    # Gram matrix [[a, b], [b, c]]. Its determinant a·c - b² cancels when the features are nearly
    # collinear, which they are; a·Σ(second - (b/a)·first)² is the same number without it.
    a = first.square().sum(1)
    b = (first * second).sum(1)
    c = second.square().sum(1)
    slope = torch.where(a > 0, b / a, 0)
    off_line = (second - slope[:, None] * first).square().sum(1)
    determinant = a * off_line
    rank_one = off_line <= (8 * torch.finfo(torch.float64).eps) ** 2 * c  # rounding, not spread

    half_difference = (a - c) / 2
    larger = (a + c) / 2 + torch.hypot(half_difference, b)
    smaller = torch.where(larger > 0, determinant / larger, 0)
    # Angle of the leading eigenvector: tan 2φ = 2b / (a - c).
    angle = torch.atan2(b, half_difference) / 2
    cosine, sine = angle.cos()[:, None], angle.sin()[:, None]

    # |V_1| >= |V_2| without dividing by σ_2, which may be 0.
    along = (cosine * first + sine * second).abs() * smaller.sqrt()[:, None]
    across = (cosine * second - sine * first).abs() * larger.sqrt()[:, None]
    leading = valid & ((along >= across) | rank_one[:, None])
    trailing = valid & ~leading

    keep_leading = _mean_where(first, leading) >= _mean_where(first, trailing)
    return torch.where(keep_leading[:, None], leading, trailing)


def _mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean per row over the chosen entries; minus infinity where none is chosen."""
    count = chosen.sum(1)
    total = (values * chosen).sum(1)
    return torch.where(count > 0, total / count.clamp(min=1), -torch.inf)
