"""Takes a batch's logits; gives what every selector says of each pixel, and how it is asked."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from csl.config import SelectionConfig
from csl.selection.features import confidence_features


@dataclass(frozen=True)
class Selection:
    """What a selector says of each pixel.

    The loss of a batch is loss_scale · Σ weight · cross-entropy / number of valid pixels.

    Args:
        label: pseudo-label, int64 [B, H, W].
        weight: its weight in the loss, float32 [B, H, W] in [0, 1]; 0 where not valid.
        reliable: whether it may be masked (Eq. 12), bool [B, H, W]; False where not valid.
        soft_target: class probabilities that replace the label as target, float32 [B, K, H, W];
            None where the label is the target.
        loss_scale: what a selector multiplies the whole loss by, float64 scalar; None is 1. It
            carries the normalization of those whose published weights are not within [0, 1].
    """

    label: Tensor
    weight: Tensor
    reliable: Tensor
    soft_target: Tensor | None = None
    loss_scale: Tensor | None = None


class Selector(nn.Module, ABC):
    """Judges predictions. State, where there is one, is in buffers.

    In training mode a stateful selector first takes the batch into its running averages, then
    judges it; in evaluation mode its state stays. Under torch.distributed all ranks' pixels count,
    so that the number of workers changes neither state nor judgement.

    Args:
        config: its parameters.
        classes: K.
    """

    per_image = True
    """Whether an image is judged by itself: without state, and without the rest of the batch."""

    def __init__(self, config: SelectionConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        self.classes = classes

    @torch.no_grad()
    def forward(self, logits: Tensor, valid: Tensor, progress: float = 0.0) -> Selection:
        """Judge every prediction of a batch.

        Args:
            logits: [B, K, H, W] of the weakly augmented images, any floating type; the logarithm
                of probabilities will do.
            valid: bool [B, H, W]; padding is False and takes part in nothing.
            progress: share of the training that is over, in [0, 1].

        Raises:
            NotANumberError: a logit is NaN or infinite (on a GPU nothing is raised, as that would
                wait for it: weights become NaN, and so does the loss).
        """
        assert logits.ndim == 4, "logits are [B, K, H, W]"
        assert logits.shape[1] == self.classes, "one logit per class"
        assert valid.shape == logits.shape[:1] + logits.shape[2:], "one flag per pixel"
        assert 0 <= progress <= 1, "progress is a share"
        return self._judge(logits.detach(), valid, progress)

    @torch.no_grad()
    def observe_labeled(self, logits: Tensor, target: Tensor, valid: Tensor) -> None:
        """Learn from labeled pixels; only those that need them do (``daw``).

        Args:
            logits: [B, K, H, W] of labeled images.
            target: ground truth, int64 [B, H, W]; anything where not valid.
            valid: bool [B, H, W].

        Raises:
            NotANumberError: a logit is NaN or infinite, as in ``forward``.
        """
        self._learn(logits.detach(), target, valid)

    @abstractmethod
    def _judge(self, logits: Tensor, valid: Tensor, progress: float) -> Selection:
        """What ``forward`` gives, of logits without gradients and outside autocast."""

    def _learn(self, logits: Tensor, target: Tensor, valid: Tensor) -> None:
        pass

    def _momentum(self, published: float) -> float:
        return published if self.config.momentum is None else self.config.momentum


def predict(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Arg-max class, int64, and its probability, float32, each [B, H, W]."""
    seen = confidence_features(logits, features=(), count_argmax_slot=False)
    return seen.label, seen.p_max


def keep(label: Tensor, kept: Tensor, score: Tensor) -> Selection:
    """Weight 1 for the kept pixels, 0 for the rest; the kept ones are the reliable ones.

    A pixel whose finite ``score`` became NaN has weight NaN: a comparison with it would say no.
    """
    return Selection(label, kept.float().add_(0 * score), kept)


def add_over_ranks(sums: Tensor) -> Tensor:
    """The sum of every rank's ``sums``, in place."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(sums)
    return sums


def maximum_over_ranks(values: Tensor) -> Tensor:
    """The largest of every rank's ``values``, in place."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(values, op=distributed.ReduceOp.MAX)
    return values


def gather_over_ranks(values: Tensor) -> Tensor:
    """Every rank's ``values``, which have one shape, along the first axis."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def count_and_moments(values: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number, mean and biased variance of the chosen values over all ranks; 0 where none is.

    Args:
        values: probabilities, [B, H, W]: small enough for sums of squares in double.
        chosen: bool [..., B, H, W], several choices at once.

    Returns:
        float64 [...] each.
    """
    picked = torch.where(chosen, values.double(), 0)
    axes = (-3, -2, -1)
    sums = torch.stack([chosen.sum(axes).double(), picked.sum(axes), picked.square().sum(axes)])
    count, total, squares = add_over_ranks(sums).unbind()
    mean = total / count.clamp(min=1)
    return count, mean, (squares / count.clamp(min=1) - mean.square()).clamp(min=0)


def average(old: Tensor, new: Tensor, momentum: float, seen: Tensor) -> None:
    """Move a running average, in place, where there was something to see."""
    old.copy_(torch.where(seen, momentum * old + (1 - momentum) * new, old))
