"""Takes logits; gives per pixel the pseudo-label and the features that judge it (Sec. 3.2)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from csl.selection.fused import ClassSums, class_sums
from csl.selection.images import over_images

_LESS_ONE = ("p_max", "margin")


@dataclass(frozen=True)
class ConfidenceFeatures:
    """Every feature is oriented "larger = more reliable".

    Args:
        label: arg-max class, int64 [B, H, W]; the first of equals.
        names: of the C features; ``p_max`` is the first.
        shifted: float64 [B, C, H, W]. p_max and margin are given less 1, that is as minus what
            they lack: beside 1, float64 loses a residual mass below 1e-16.
    """

    label: Tensor
    names: tuple[str, ...]
    shifted: Tensor

    @property
    def offset(self) -> tuple[float, ...]:
        """What ``shifted`` lacks of each feature, [C]."""
        return tuple(float(name in _LESS_ONE) for name in self.names)

    @property
    def columns(self) -> Tensor:
        """``shifted`` as ``separate``, ``reliable_statistics`` and ``weigh`` take it, [B, C, N]."""
        return self.shifted.flatten(2)

    @property
    def values(self) -> Tensor:
        """The features, float32 [B, C, H, W]."""
        return torch.stack([self._value(c) for c in range(len(self.names))], dim=1)

    @property
    def residual(self) -> Tensor:
        """The mass 1 - p_max of the other classes, float64 [B, H, W]."""
        return -self.shifted[:, 0]

    @property
    def p_max(self) -> Tensor:
        """Maximum confidence, float32 [B, H, W]."""
        return self._value(0)

    @property
    def dispersion(self) -> Tensor:
        """Residual dispersion v of Eq. 7, float32 [B, H, W], at most 0."""
        return self._value(self.names.index("dispersion"))

    def _value(self, channel: int) -> Tensor:
        return (self.shifted[:, channel] + self.offset[channel]).float()


@torch.no_grad()
def confidence_features(
    logits: Tensor,
    *,
    features: tuple[str, ...] = ("dispersion",),
    count_argmax_slot: bool,
    scale: str = "none",
) -> ConfidenceFeatures:
    """Maximum confidence p and further features, from logits.

    - ``dispersion``: v of Eq. 7, times Eq. 6's coefficient if there is a ``scale``;
    - ``margin``: p less the second largest probability;
    - ``entropy``: Σ p_k log p_k;
    - ``residual_entropy``: the same over the other classes (D.2).

    The residual probabilities are summed, never taken as 1 - p: in the overconfident regime that
    the method is about, softmax in float32 rounds p to 1 and the residual to 0.

    Args:
        logits: [B, K, H, W], K >= 2, any floating type.
        features: names of the features after p_max.
        count_argmax_slot: let the zeroed arg-max slot add μ² to Σδ² (the published code);
            without it, Eq. 7.
        scale: ``none``; ``paper``: (K-1)³ / 2(1-p)²; ``fork``: (K-1)² / 2(1-p).

    Raises:
        NotANumberError: a logit is NaN or infinite (on a GPU nothing is raised: there the pixel's
            features are NaN).
    """
    assert logits.ndim == 4, "logits are [B, K, H, W]"
    batch, classes, height, width = logits.shape
    assert classes >= 2, "K >= 2"
    assert scale in ("none", "paper", "fork"), "a known scale"
    names = ("p_max", *features)
    surprise = "entropy" in names or "residual_entropy" in names
    shape = (batch, len(names), height * width)
    label = torch.empty(batch, height * width, dtype=torch.int64, device=logits.device)
    shifted = torch.empty(shape, dtype=torch.float64, device=logits.device)
    flat = logits.detach().flatten(2)

    def work(images: slice) -> None:
        parts = class_sums(flat[images], count_argmax_slot=count_argmax_slot, surprise=surprise)
        for part, pixels, sums in parts:
            label[images][part, pixels] = sums.label
            _write_features(sums, names, shifted[images][part, :, pixels], classes - 1, scale)

    over_images(work, flat)
    return ConfidenceFeatures(
        label.view(batch, height, width), names, shifted.view(*shape[:2], height, width)
    )


def _write_features(
    sums: ClassSums, names: tuple[str, ...], shifted: Tensor, others: int, scale: str
) -> None:
    """Into shifted [B, C, N], in float64, from the sums over the ``others`` = K - 1 classes."""
    lacking, rest = shifted[:, 0], sums.rest.double()
    gap = sums.second.double().sub_(sums.top)  # of logits, at most 0
    runner_up = gap.exp() if sums.surprise is not None else gap.exp_()
    torch.mul(runner_up, rest, out=lacking).add_(1)  # for now 1 / p
    runner_up.div_(lacking)  # now the second largest probability
    torch.mul(runner_up, rest, out=lacking).neg_()
    residual_entropy = None
    if sums.surprise is not None:  # every term is positive: nothing cancels
        log_partition = lacking.log1p().neg_()  # log 1 / p
        residual_entropy = runner_up * ((log_partition - gap) * rest + sums.surprise)
    for name, out in zip(names[1:], shifted.unbind(1)[1:], strict=True):
        if name == "dispersion":
            _write_dispersion(sums, runner_up, out, others, scale)
        elif name == "margin":
            torch.sub(lacking, runner_up, out=out)
        else:
            assert residual_entropy is not None, f"{name} is no feature"
            torch.neg(residual_entropy, out=out)
            if name == "entropy":
                out.sub_((lacking + 1).mul_(log_partition))


def _write_dispersion(
    sums: ClassSums, runner_up: Tensor, out: Tensor, others: int, scale: str
) -> None:
    """-Σδ² / (K-1) and its scaled forms; δ² is a term of the deviation times runner_up²."""
    if scale == "none":
        torch.mul(runner_up, runner_up, out=out).mul_(sums.deviation).div_(-others)
    elif scale == "fork":
        torch.mul(runner_up, sums.deviation, out=out).div_(sums.rest).mul_(-others / 2)
    else:
        torch.div(sums.deviation.double(), sums.rest, out=out)
        out.div_(sums.rest).mul_(-(others**2) / 2)
