"""Takes logits on a GPU; gives the sums of csl/selection/fused.py, reading the logits once."""

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

_TILE = 4096  # logits per program, in registers
_WARPS = 4


@triton.jit  # type: ignore[untyped-decorator]
def _sums_of_tile(  # type: ignore[no-untyped-def]
    logits, label, top, second, rest, deviation, surprise,
    pixels, image_stride, class_stride, pixel_stride,
    classes: tl.constexpr, class_tile: tl.constexpr, pixel_tile: tl.constexpr,
    count_argmax_slot: tl.constexpr, with_surprise: tl.constexpr,
):  # fmt: skip
    """One image's next ``pixel_tile`` pixels with all their classes."""
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * pixel_tile + tl.arange(0, pixel_tile)
    k = tl.arange(0, class_tile)[:, None]
    inside = pixel < pixels
    here = (k < classes) & inside[None, :]
    where = image * image_stride + k.to(tl.int64) * class_stride + pixel[None, :] * pixel_stride
    x = tl.load(logits + where, mask=here, other=0.0).to(tl.float32)
    poison = tl.sum(x * 0.0, axis=0)  # NaN where a logit is NaN or infinite

    x = tl.where(k < classes, x, float("-inf"))
    largest = tl.max(x, axis=0)
    first = tl.min(tl.where(x == largest[None, :], k, classes - 1), axis=0)
    other = (k < classes) & (k != first[None, :])
    x = tl.where(other, x, float("-inf"))
    runner_up = tl.max(x, axis=0)
    exponent = tl.where(other, tl.maximum(x - runner_up[None, :], -80.0), 0.0)
    power = tl.where(other, tl.exp2(exponent * 1.4426950408889634), 0.0)
    total = tl.sum(power, axis=0)
    mean = total / (classes - 1)
    difference = tl.where(other, power - mean[None, :], 0.0)
    squares = tl.sum(difference * difference, axis=0)
    if count_argmax_slot:
        squares += mean * mean

    to = image * pixels + pixel
    tl.store(label + to, first, mask=inside)
    tl.store(top + to, largest, mask=inside)
    tl.store(second + to, runner_up, mask=inside)
    tl.store(rest + to, total + poison, mask=inside)
    tl.store(deviation + to, squares, mask=inside)
    if with_surprise:
        tl.store(surprise + to, -tl.sum(power * exponent, axis=0), mask=inside)


def sums_of_classes(logits: Tensor, *, count_argmax_slot: bool, surprise: bool) -> list[Tensor]:
    """Of logits [B, K, N]: the maps of ``ClassSums``, in its order.

    Nothing waits for the GPU: where a logit is NaN or infinite, ``rest`` is NaN.
    """
    batch, classes, pixels = logits.shape
    label = torch.empty(batch, pixels, dtype=torch.int32, device=logits.device)
    maps = [
        torch.empty(batch, pixels, dtype=torch.float32, device=logits.device)
        for _ in range(4 + surprise)
    ]
    if not batch * pixels:
        return [label, *maps]
    class_tile = triton.next_power_of_2(classes)
    pixel_tile = max(16, _TILE // class_tile)
    _sums_of_tile[(triton.cdiv(pixels, pixel_tile), batch)](
        logits, label, *maps[:4], maps[-1], pixels, *_strides(logits),
        classes=classes, class_tile=class_tile, pixel_tile=pixel_tile,
        count_argmax_slot=count_argmax_slot, with_surprise=surprise, num_warps=_WARPS,
    )  # fmt: skip
    return [label, *maps]


def _strides(logits: Tensor) -> tuple[int, int, int]:
    image, of_class, pixel = logits.stride()
    return image, of_class, pixel
