"""Takes each image's feature vectors; gives the cluster of reliable predictions (Sec. 3.3)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_ROUNDING = 8 * torch.finfo(torch.float64).eps
_TINY = torch.finfo(torch.float64).tiny  # of what may be 0, but then so is what it divides
_SWEEPS = 12  # Jacobi converges quadratically: 5 matrices of a size up to 5 take 6 or 7


def separate(features: Tensor, valid: Tensor, *, offset: Sequence[float] | None = None) -> Tensor:
    """Two clusters by spectral relaxation (Eq. 8, 9), of which the more confident is kept.

    Pixel n joins the singular vector in which it is larger: argmax over i of |V_i(n)|, where V are
    the top two right singular vectors of the uncentred Φ [C, N]. They come from C×C matrices,
    batched: no SVD of Φ and no loop over images.

    Args:
        features: Φ less ``offset``, [B, C, N], C >= 2; the first is the maximum confidence.
        valid: which pixels count, bool [B, N].
        offset: what to add to each feature, [C]; zeros by default. p_max given less 1 keeps what
            float64 would round away beside 1.

    Returns:
        bool [B, N], True in the reliable cluster; invalid pixels are False. An image whose Φ has
        rank one is a single cluster.
    """
    channels = features.shape[1]
    assert channels >= 2, "one feature has one cluster"
    features, inside = features.double(), numbers(valid, torch.float64)
    confidence = features[:, 0]  # its offset changes no comparison
    rows, shift = _with_one_offset(features, [0.0] * channels if offset is None else offset)
    leading = (_closed_form if channels == 2 else _by_rotation)(rows, inside, shift)
    trailing = inside.sub_(leading)
    keep_leading = _mean_where(confidence, leading) >= _mean_where(confidence, trailing)
    # Ones and zeros, of which lerp makes no others; torch.where takes no vectors.
    return trailing.lerp_(leading, keep_leading.double()[:, None]).bool()


def numbers(flags: Tensor, dtype: torch.dtype) -> Tensor:
    """1 where True, 0 where False; from bytes, as vectors convert no bool."""
    return flags.view(torch.uint8).to(dtype)


# Masks are float64 below, 1 or 0: vectors take no other.


def _with_one_offset(features: Tensor, offset: Sequence[float]) -> tuple[Tensor, float]:
    """Rotate rows until only the first has an offset; V is that of the rows before.

    p_max and the margin both end at 1: they differ by less than float64 has beside 1.
    """
    shift = offset[0]
    for channel in range(1, len(offset)):
        if offset[channel]:
            length = math.hypot(shift, offset[channel])
            cosine, sine = shift / length, offset[channel] / length
            one, other = features[:, 0], features[:, channel]
            features = features.clone()
            features[:, 0] = cosine * one + sine * other
            features[:, channel] = cosine * other - sine * one
            shift = length
    return features, shift


def _closed_form(features: Tensor, inside: Tensor, shift: float) -> Tensor:
    """Which of the pixels inside are larger in V_1 than in V_2, for C = 2; [B, N].

    V = Φᵀu/σ, where (u, σ²) is the eigen-decomposition of the 2×2 matrix ΦΦᵀ.
    """
    counted = features * inside.unsqueeze(1)
    counted[:, 0].add_(inside, alpha=shift)
    first, second = counted.unbind(1)

    # Gram matrix [[a, b], [b, c]]. Its determinant a·c - b² cancels when the features are nearly
    # collinear, which they are; a·Σ(second - (b/a)·first)² is the same number without it.
    a, b, _, c = torch.bmm(counted, counted.mT).flatten(1).unbind(1)
    slope = b / a.clamp(min=_TINY)
    line = torch.addcmul(second, first, slope.unsqueeze(1), value=-1)
    off_line = _dot(line, line)
    spread = off_line > _ROUNDING**2 * c  # more than rounding; else the rank is one

    half_difference = (a - c) / 2
    larger = (a + c) / 2 + torch.hypot(half_difference, b)
    smaller = a * off_line / larger.clamp(min=_TINY)
    # Angle of the leading eigenvector: tan 2φ = 2b / (a - c).
    angle = torch.atan2(b, half_difference) / 2
    cosine, sine = angle.cos(), angle.sin()

    # |V_1| >= |V_2| without dividing by σ_2, which may be 0.
    vectors = torch.stack([cosine, sine, -sine, cosine], dim=1).view(-1, 2, 2)
    sigmas = torch.stack([smaller, larger * spread], dim=1).sqrt()
    first, second = torch.bmm(vectors * sigmas.unsqueeze(2), counted).abs_().unbind(1)
    return torch.ge(first, second, out=first).mul_(inside)


def _by_rotation(features: Tensor, inside: Tensor, shift: float) -> Tensor:
    """Which of the pixels inside are larger in V_1 than in V_2, for any C; [B, N].

    Φ = M·Q with orthonormal rows Q, of which the first is constant: an offset enters M and not the
    pixels. V = Qᵀw for the right singular vectors w of M [C, C+1], by one-sided Jacobi rotations of
    its rows. Neither step squares the features' range: a Gram matrix would lose V_2 where its
    σ_2 / σ_1 is below 1e-8, as in overconfident images.
    """
    count = inside.sum(-1, keepdim=True).clamp(min=1)
    basis = [inside / count.sqrt()]
    anchor = torch.where(inside.unsqueeze(1) > 0, features, -torch.inf).amax(-1, keepdim=True)
    anchor = anchor.nan_to_num(neginf=0)
    rows = (features - anchor).mul_(inside.unsqueeze(1))  # equal values: exactly 0
    mixed = features.new_zeros(*features.shape[:2], features.shape[1] + 1)
    mixed[..., 0] = anchor[..., 0]
    mixed[:, 0, 0] += shift
    mixed *= count.sqrt().unsqueeze(-1)
    for channel, row in enumerate(rows.unbind(1)):
        size = _dot(row, row).sqrt()
        for _ in range(2):  # once more: the first pass leaves rounding along the basis
            for column, vector in enumerate(basis):
                along = _dot(row, vector)
                mixed[:, channel, column] += along
                row = torch.addcmul(row, vector, along[:, None], value=-1)
        rest = _dot(row, row).sqrt()
        rest = torch.where(rest <= _ROUNDING * size, 0, rest)
        mixed[:, channel, len(basis)] = rest
        basis.append(row * torch.where(rest > 0, 1 / rest, 0)[:, None])

    leading, trailing = _top_two(mixed)
    orthonormal = torch.stack(basis, dim=1)
    along = torch.bmm(leading.unsqueeze(1), orthonormal)[:, 0].abs_()
    across = torch.bmm(trailing.unsqueeze(1), orthonormal)[:, 0].abs_()
    return torch.ge(along, across, out=along).mul_(inside)


def _top_two(rows: Tensor) -> tuple[Tensor, Tensor]:
    """First two right singular vectors [B, C+1] of rows [B, C, C+1]; rank one has no second: 0.

    One-sided Jacobi: pairs of rows are rotated until they are orthogonal; rows of very different
    size keep their relative accuracy, which is what bidiagonalization loses.
    """
    first = rows[:, :1]
    length = first.square().sum(-1, keepdim=True)
    slope = (rows * first).sum(-1, keepdim=True) / length.clamp(min=_TINY)
    off_line = (rows - slope * first).norm(dim=-1)
    spread = (off_line > _ROUNDING * rows.norm(dim=-1)).any(-1)
    rows = rows.clone()
    channels = rows.shape[1]
    for _ in range(_SWEEPS):
        for i in range(channels - 1):
            for j in range(i + 1, channels):
                one, other = rows[:, i].clone(), rows[:, j].clone()
                a, b, c = _dot(one, one), _dot(one, other), _dot(other, other)
                angle = (torch.atan2(2 * b, a - c) / 2)[:, None]
                cosine, sine = angle.cos(), angle.sin()
                rows[:, i] = cosine * one + sine * other
                rows[:, j] = cosine * other - sine * one
    sizes = rows.norm(dim=-1)
    order = sizes.argsort(dim=-1, descending=True)[:, :2]
    chosen = rows.gather(1, order.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))
    size = sizes.gather(1, order).unsqueeze(-1)
    unit = torch.where(size > 0, chosen / size, 0)
    return unit[:, 0], unit[:, 1] * spread[:, None]


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Σ one · other per row, [B]."""
    return torch.bmm(one.unsqueeze(1), other.unsqueeze(2)).flatten()


def _mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean per row over the chosen entries; minus infinity where none is chosen."""
    return (_dot(values, chosen) / chosen.sum(1)).nan_to_num(nan=-torch.inf)
