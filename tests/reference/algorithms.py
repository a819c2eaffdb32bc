"""Takes small numpy arrays; gives what the paper's equations and Algorithms 1 and 2 say of them.

Written from the paper alone, one image and one pixel at a time, in float64 or higher. Nothing here
is fast, and nothing here imports the code under test.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext

import mpmath
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

VARIANCE_FLOOR = 1e-8


@dataclass(frozen=True)
class PixelFeatures:
    """Of one image: arg-max class, p_max, v of Eq. 7 and the mean square of the residual.

    ``residual_square`` is the size of the terms that cancel in v; v is 0 where they all do.
    """

    label: Integers
    p_max: Floats
    dispersion: Floats
    residual_square: Floats


def pixel_features(logits: Floats, *, count_argmax_slot: bool) -> PixelFeatures:
    """Softmax, maximum and residual dispersion of logits [K, H, W], pixel by pixel.

    Each probability is exp(l_k - m) / Σ exp(l_j - m) in extended precision, so that a tiny residual
    probability keeps its relative accuracy beside a p_max that rounds to 1.
    """
    classes, height, width = logits.shape
    label = np.zeros((height, width), dtype=np.int64)
    p_max, dispersion, residual_square = (np.zeros((height, width)) for _ in range(3))
    for y in range(height):
        for x in range(width):
            pixel = logits[:, y, x].astype(np.longdouble)
            best = 0
            for k in range(1, classes):
                if pixel[k] > pixel[best]:  # strictly: the first of equals stays
                    best = k
            power = np.exp(pixel - pixel[best])
            probability = power / power.sum()
            residual = np.delete(probability, best)
            mu = residual.sum() / (classes - 1)  # = (1 - p_max) / (K - 1)
            squares = ((residual - mu) ** 2).sum()
            if count_argmax_slot:
                squares = squares + mu**2  # the slot set to 0 deviates by -μ
            label[y, x] = best
            p_max[y, x] = probability[best]
            dispersion[y, x] = -squares / (classes - 1)
            residual_square[y, x] = (residual**2).sum() / (classes - 1)
    return PixelFeatures(label, p_max, dispersion, residual_square)


def exact_features(pixel: Sequence[float], *, count_argmax_slot: bool) -> tuple[Decimal, Decimal]:
    """(p_max, v) of one pixel's logits to 60 decimal digits."""
    with localcontext() as context:
        context.prec = 80
        exact = [Decimal(float(logit)) for logit in pixel]
        best = exact.index(max(exact))
        power = [(logit - exact[best]).exp() for logit in exact]
        probability = [each / sum(power) for each in power]
        residual = [p for k, p in enumerate(probability) if k != best]
        mu = sum(residual, Decimal(0)) / len(residual)
        squares = sum(((r - mu) ** 2 for r in residual), Decimal(0))
        if count_argmax_slot:
            squares += mu**2
        return probability[best], -squares / len(residual)


@dataclass(frozen=True)
class Separation:
    """Of one image, per pixel: whether it is reliable, and how clear that is.

    ``margin`` is ||V1| - |V2|| / max(|V1|, |V2|): where it is as small as a rounding error, either
    cluster is right. ``cluster_gap`` is the relative distance of the clusters' mean confidences,
    infinite when one is empty: where that is tiny, either cluster may be called reliable.
    """

    reliable: Flags
    margin: Floats
    cluster_gap: float


def separate(
    features: Floats,
    valid: Flags,
    *,
    digits: int | None = None,
    offset: Sequence[float] = (0.0, 0.0),
) -> Separation:
    """Eq. 9 for one image: features [2, N], valid [N]; the SVD of Φ taken literally.

    Args:
        features: rows p_max and v, less the offset.
        valid: which columns belong to Φ.
        digits: decimal digits of the SVD; None for numpy's float64 one.
        offset: to be added to each row, with as many digits.
    """
    count = features.shape[1]
    reliable = np.zeros(count, dtype=bool)
    margin = np.full(count, np.inf)
    members = np.flatnonzero(valid)
    if members.size == 0:
        return Separation(reliable, margin, np.inf)
    phi = features[:, members].astype(np.float64)
    first, second = _right_singular_vectors(phi, digits, offset)

    chosen = np.zeros(members.size, dtype=np.int64)
    for n in range(members.size):
        if second[n] > first[n]:
            chosen[n] = 1
        margin[members[n]] = abs(first[n] - second[n]) / max(first[n], second[n], 1e-300)

    winner, gap = 0, float("inf")
    if (chosen == 0).any() and (chosen == 1).any():
        means = [float(phi[0, chosen == cluster].mean()) for cluster in (0, 1)]
        winner = 0 if means[0] >= means[1] else 1
        gap = abs(means[0] - means[1]) / max(abs(means[0]), abs(means[1]))
    elif (chosen == 1).all():
        winner = 1
    reliable[members] = chosen == winner
    return Separation(reliable, margin, gap)


def _right_singular_vectors(
    phi: Floats, digits: int | None, offset: Sequence[float]
) -> tuple[Floats, Floats]:
    """|V1| and |V2| of Φ [2, N]; |V2| is 0 where Φ has rank one."""
    if phi.shape[1] == 1:
        return np.ones(1), np.zeros(1)
    if digits is None:
        _, sigma, vt = np.linalg.svd(phi + np.array(offset)[:, None], full_matrices=False)
        rank_one = sigma[1] <= 4 * np.finfo(np.float64).eps * sigma[0]
        return np.abs(vt[0]), np.zeros(phi.shape[1]) if rank_one else np.abs(vt[1])
    with mpmath.workdps(digits):
        rows = [
            [mpmath.mpf(value) + shift for value in row]
            for row, shift in zip(phi.tolist(), offset, strict=True)
        ]
        _, sigma, vt = mpmath.svd_r(mpmath.matrix(rows))
        rank_one = sigma[1] <= mpmath.mpf(10) ** (10 - digits) * sigma[0]
        first = np.array([float(abs(vt[0, n])) for n in range(phi.shape[1])])
        second = np.array([float(abs(vt[1, n])) for n in range(phi.shape[1])])
        return first, np.zeros(phi.shape[1]) if rank_one else second


def statistics(features: Floats, cluster: Flags) -> tuple[Floats, Floats]:
    """Mean and unbiased variance [C] of features [C, N] over a cluster [N]."""
    channels = features.shape[0]
    mean, variance = np.zeros(channels), np.zeros(channels)
    for c in range(channels):
        values = [float(v) for v, inside in zip(features[c], cluster, strict=True) if inside]
        if values:
            mean[c] = sum(values) / len(values)
        if len(values) > 1:
            variance[c] = sum((v - mean[c]) ** 2 for v in values) / (len(values) - 1)
    return mean, variance


@dataclass(frozen=True)
class Switches:
    """Where the paper's text, its pseudocode and its authors' code differ (facts #1 to #6)."""

    rule: str = "any"
    alpha: float = 8.0
    sigma: str = "std"
    weighting: str = "gaussian"
    count_argmax_slot: bool = True


def widths(variance: Floats, switches: Switches) -> Floats:
    """σ_c² of Eq. 10."""
    floored = variance + VARIANCE_FLOOR
    return floored if switches.sigma == "std" else floored**2


def weigh(
    features: Floats, mean: Floats, variance: Floats, valid: Flags, switches: Switches
) -> tuple[Floats, Flags]:
    """Eq. 10 and 11 for one image: (weight [N], reliable [N])."""
    channels, count = features.shape
    weight, reliable = np.zeros(count), np.zeros(count, dtype=bool)
    sigma_squared = widths(variance, switches)
    for n in range(count):
        if not valid[n]:
            continue
        above = [features[c, n] > mean[c] for c in range(channels)]
        reliable[n] = any(above) if switches.rule == "any" else all(above)
        if reliable[n]:
            weight[n] = 1.0
        elif switches.weighting == "gaussian":
            weight[n] = 1.0
            for c in range(channels):
                square = (features[c, n] - mean[c]) ** 2
                weight[n] *= np.exp(-square / (switches.alpha * sigma_squared[c]))
    return weight, reliable


@dataclass(frozen=True)
class Selected:
    """Algorithm 1 on one image, with what is needed to tell where it is ill-conditioned."""

    seen: PixelFeatures
    features: Floats
    separation: Separation
    mean: Floats
    variance: Floats
    weight: Floats
    reliable: Flags


def select(logits: Floats, valid: Flags, switches: Switches) -> Selected:
    """Algorithm 1 on one image: logits [K, H, W], valid [H, W]; all results flat over pixels."""
    seen = pixel_features(logits, count_argmax_slot=switches.count_argmax_slot)
    features = np.stack([seen.p_max.ravel(), seen.dispersion.ravel()])
    separation = separate(features, valid.ravel())
    mean, variance = statistics(features, separation.reliable)
    weight, reliable = weigh(features, mean, variance, valid.ravel(), switches)
    return Selected(seen, features, separation, mean, variance, weight, reliable)


def spread_cells(cells: Flags, size: int) -> Flags:
    """Nearest-neighbour enlargement of a square grid of cells to size × size."""
    side = cells.shape[0]
    patches = np.zeros((size, size), dtype=bool)
    for y in range(size):
        for x in range(size):
            patches[y, x] = cells[(y * side) // size, (x * side) // size]
    return patches


def perturb(image: Floats, reliable: Flags, patches: Flags, apply: Flags) -> Floats:
    """Algorithm 2: images [B, 3, H, W] lose the reliable pixels under a drawn patch."""
    perturbed = image.copy()
    batch, _, height, width = image.shape
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                if apply[b] and reliable[b, y, x] and patches[b, y, x]:
                    perturbed[b, :, y, x] = 0
    return perturbed


def cutmix(own: Floats, partner: Floats, box: Flags) -> Floats:
    """[B, ..., H, W]: the partner's content inside the box [B, H, W], one's own outside."""
    mixed = own.copy()
    batch, height, width = box.shape
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                if box[b, y, x]:
                    mixed[b, ..., y, x] = partner[b, ..., y, x]
    return mixed


def weighted_cross_entropy(
    logits: Floats, target: Integers, weight: Floats | None, valid: Flags
) -> tuple[float, Floats]:
    """Σ w·CE over valid pixels / their number, and its gradient with respect to the logits."""
    total, pixels = 0.0, 0
    gradient = np.zeros_like(logits)
    batch, _, height, width = logits.shape
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                if not valid[b, y, x]:
                    continue
                pixel = logits[b, :, y, x]
                w = 1.0 if weight is None else float(weight[b, y, x])
                peak = pixel.max()
                normaliser = peak + np.log(np.exp(pixel - peak).sum())
                total += w * (normaliser - pixel[target[b, y, x]])
                gradient[b, :, y, x] = w * np.exp(pixel - normaliser)
                gradient[b, target[b, y, x], y, x] -= w
                pixels += 1
    if pixels == 0:
        return 0.0, gradient
    return total / pixels, gradient / pixels


def confusion(prediction: Integers, truth: Integers, classes: int, ignore: int = 255) -> Integers:
    """Counts [truth, prediction], one pixel at a time."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    for seen, right in zip(prediction.ravel(), truth.ravel(), strict=True):
        if right != ignore:
            counts[right, seen] += 1
    return counts


def intersection_over_union(prediction: Integers, truth: Integers, classes: int) -> list[float]:
    """Per class, in percent, from the sets of pixels themselves; an absent class is 0."""
    flat_truth = truth.ravel().tolist()
    flat_prediction = prediction.ravel().tolist()
    counted = [n for n, right in enumerate(flat_truth) if right != 255]
    result = []
    for k in range(classes):
        right = {n for n in counted if flat_truth[n] == k}
        seen = {n for n in counted if flat_prediction[n] == k}
        union = len(right | seen)
        result.append(100.0 * len(right & seen) / union if union else 0.0)
    return result
