"""Takes logits; gives per pixel the arg-max class and its sums over the other classes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

from csl.errors import NotANumberError

_BLOCK_BYTES = 3 << 20  # of logits at a time on a CPU: more leaves the cache, less is mostly calls
_LANES = 64  # blocks are whole vectors: a remainder's scalar code rounds otherwise
_LOG2_E = math.log2(math.e)
_NOTHING = -200.0  # whose exponential is 0: instead of infinity, which times 0 is NaN
_LOWEST = torch.finfo(torch.float32).min  # likewise


@dataclass(frozen=True)
class ClassSums:
    """With x the logits, a the arg-max class, and l = max x and s = max x_k over k ≠ a:

    Args:
        label: a, the first of equals, int32 [B, N].
        top: l, float32 [B, N].
        second: s, float32 [B, N].
        rest: Σ e_k over k ≠ a, where e_k = exp(x_k - s): at least 1, float32 [B, N].
        deviation: Σ (e_k - μ)² over k ≠ a, where μ = rest / (K-1), float32 [B, N]; with μ² added,
            as e_a = 0 does, if the arg-max slot counts.
        surprise: Σ e_k (s - x_k) over k ≠ a, float32 [B, N]; None if not asked for.
    """

    label: Tensor
    top: Tensor
    second: Tensor
    rest: Tensor
    deviation: Tensor
    surprise: Tensor | None = None


def class_sums(
    logits: Tensor, *, count_argmax_slot: bool, surprise: bool
) -> Iterator[tuple[slice, slice, ClassSums]]:
    """Go over logits once without a copy of them: a CPU takes blocks that fit its cache.

    The sums are relative to the best of the *other* classes: they are at least 1, and nothing
    underflows or rounds away however large the margin l - s is. On a CPU this is to be called from
    ``over_images``: there, equal predictions have equal sums, bit by bit, wherever they are.

    Args:
        logits: [B, K, N], K >= 2, any floating type.
        count_argmax_slot: see ``deviation``.
        surprise: whether the entropies are wanted.

    Yields:
        (images, pixels, their sums), each only until the next.

    Raises:
        NotANumberError: a logit is NaN or infinite. On a GPU nothing is raised, as that would wait
            for it: there ``rest`` of that pixel is NaN.
    """
    if logits.is_cuda and _has_triton():
        from csl.selection.fused_triton import sums_of_classes

        sums = sums_of_classes(logits, count_argmax_slot=count_argmax_slot, surprise=surprise)
        yield slice(None), slice(None), ClassSums(*sums)
        return
    batch, classes, pixels = logits.shape
    width = _block_width(classes, pixels, on_cpu=logits.device.type == "cpu")
    block = _Block(
        classes, width, logits.device, count_argmax_slot=count_argmax_slot, surprise=surprise
    )
    for image in range(batch):
        for start in range(0, pixels, width):
            start = max(0, min(start, pixels - width))  # the last overlaps: it is whole as well
            part = slice(start, min(start + width, pixels))
            yield slice(image, image + 1), part, block.sums(logits[image, :, part])


@lru_cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _block_width(classes: int, pixels: int, *, on_cpu: bool) -> int:
    """Pixels at a time: as equal parts of the image as whole vectors allow."""
    most = max(_LANES, _BLOCK_BYTES // (4 * classes)) if on_cpu else pixels
    parts = max(1, math.ceil(pixels / max(1, most)))
    return max(1, math.ceil(pixels / parts / _LANES)) * _LANES


class _Block:
    """The sums of up to ``width`` pixels, in a buffer that every block uses again."""

    def __init__(
        self,
        classes: int,
        width: int,
        device: torch.device,
        *,
        count_argmax_slot: bool,
        surprise: bool,
    ) -> None:
        self.classes = classes
        self.count_argmax_slot = count_argmax_slot
        self.on_cpu = device.type == "cpu"
        self.power = torch.empty(classes, width, device=device)
        self.number = torch.arange(classes, 2 * classes, device=device).float()  # K + k
        self.exponent = torch.empty_like(self.power) if surprise else None

    def sums(self, logits: Tensor) -> ClassSums:
        """Of logits [K, n], n <= width; each [1, n]."""
        power, others, pixels = self.power, self.classes - 1, logits.shape[1]
        logits = self._whole(logits)
        # First, as this reads whole rows from memory; the next ones find them in the cache.
        if self.on_cpu and not math.isfinite(logits.sum()) and not logits.isfinite().all():
            raise NotANumberError("logits hold NaN or infinity")

        top = logits.amax(0)
        poison = None if self.on_cpu else (logits.amin(0) + top) * 0
        torch.eq(logits, top, out=power)
        slot = self._first()
        second = torch.add(logits, power, alpha=_LOWEST, out=power).amax(0)
        power.sub_(second)
        if self.exponent is not None:
            torch.clamp(power, min=_NOTHING, out=self.exponent)
        rest = power.mul_(_LOG2_E).exp2_().sum(0)  # exp2 is twice as fast as exp
        if poison is not None:
            rest.add_(poison)
        surprise = None
        if self.exponent is not None:
            surprise = self.exponent.mul_(power).sum(0).neg_()
        power.sub_(rest / others)
        if not self.count_argmax_slot:
            power.scatter_(0, slot.long().unsqueeze(0), 0.0)
        deviation = power.square_().sum(0)

        maps = [slot, top, second, rest, deviation] + ([] if surprise is None else [surprise])
        return ClassSums(*(values[None, :pixels] for values in maps))

    def _whole(self, logits: Tensor) -> Tensor:
        """As they are if vectors take them so; else a copy, with zeros beyond the image's end."""
        pixels, width = logits.shape[1], self.power.shape[1]
        if logits.dtype == torch.float32 and logits.stride(1) == 1 and pixels == width:
            return logits
        copy = torch.zeros_like(self.power)
        copy[:, :pixels] = logits
        return copy

    def _first(self) -> Tensor:
        """Class of each pixel's first 1 in ``power``, int32 [n]; its further ones become 0."""
        power, classes = self.power, self.classes
        if self.on_cpu:
            found = self.number @ power
            if float(found.max()) < 2 * classes:
                return found.sub_(classes).int()
        best = power.mul_((2 * classes - self.number).unsqueeze(1)).amax(0)
        torch.eq(power, best, out=power)
        return (classes - best).int().clamp_(max=classes - 1)  # where NaN equals nothing
