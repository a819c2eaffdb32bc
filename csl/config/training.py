"""Takes plain mappings; gives one training's whole configuration, and the profiles.

Everything here is identity (see identity.py), but for what ``decisive`` leaves out; paths and
worker counts are therefore not here.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from csl.config.base import Frozen, Positive, Probability, fault
from csl.config.data import DataConfig
from csl.config.method import AugmentationConfig, LossConfig, MaskingConfig, SelectionConfig
from csl.config.network import (
    DPT_PATCH,
    SEGFORMER_SMALLEST,
    DeepLabConfig,
    NetworkConfig,
)


class ScheduleConfig(Frozen):
    """SGD with poly decay per iteration, two parameter groups (UniMatch's recipe).

    ``optimizer``: ``sgd`` with ``momentum``, or ``adamw`` (betas .9, .999; UniMatch V2's, for
    DINOv2), which has no use for ``momentum``. An epoch is one pass over the unlabeled list, its
    last partial batch dropped; ``steps_per_epoch`` shortens it. With ``unlabeled_batch`` 0 only the
    labeled list is trained on (the supervised baseline) and an epoch is one pass over it, at least
    one step.

    A batch passes in ``accumulate`` parts of consecutive images, whose gradients are added before
    the optimizer steps: less memory. BatchNorm's statistics are then of a part (and running ones
    move with each), as are those of selectors that judge by more than an image; nothing else
    changes.
    """

    epochs: Positive = 80
    steps_per_epoch: Positive | None = None
    labeled_batch: Positive = 8
    unlabeled_batch: Annotated[int, Field(ge=0)] = 8
    accumulate: Positive = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    head_lr_multiplier: Annotated[float, Field(gt=0)] = 10.0
    momentum: Probability = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    poly_power: Annotated[float, Field(ge=0)] = 0.9
    precision: Literal["fp32", "bf16"] = "bf16"

    def one_pass(self, labeled: int, unlabeled: int) -> int:
        """Steps of one pass over lists of so many images: at least one."""
        if self.unlabeled_batch:
            return max(1, unlabeled // self.unlabeled_batch)
        return max(1, labeled // self.labeled_batch)

    def epoch_steps(self, labeled: int, unlabeled: int) -> int:
        """Steps of an epoch on lists of so many images."""
        return self.steps_per_epoch or self.one_pass(labeled, unlabeled)


class EvaluationConfig(Frozen):
    """What is scored, how and when.

    ``mode``: the ``whole`` image at its own size; a ``sliding_window`` of side ``window`` (the crop
    if not given) that moves by ``stride`` (two thirds of it, rounded down), probabilities summed;
    or the ``center_crop`` of image and mask, the training's crop size. ``size_multiple``: what goes
    through the network is resized to the nearest multiple and its logits back; if not given, what
    the network needs. ``classes``: the scored ones (all when none are named); ``every``: epochs
    between evaluations, the last epoch always; ``batch``: images, or windows of an image, at once.
    """

    mode: Literal["whole", "sliding_window", "center_crop"] = "whole"
    window: Positive | None = None
    stride: Positive | None = None
    size_multiple: Positive | None = None
    classes: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    every: Positive = 1
    batch: Positive = 1

    @model_validator(mode="after")
    def _of_windows(self) -> Self:
        for key in ("window", "stride"):
            value = getattr(self, key)
            if value is not None and self.mode != "sliding_window":
                raise fault(
                    f"{self.mode} evaluation has no windows",
                    key=key,
                    value=value,
                    remedy="remove it, or set mode to sliding_window",
                )
        return self


class TrainingConfig(Frozen):
    """Everything that decides a training's numbers, except data content, split and seed."""

    data: DataConfig
    network: NetworkConfig = DeepLabConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    selection: SelectionConfig = SelectionConfig()
    masking: MaskingConfig = MaskingConfig()
    loss: LossConfig = LossConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        crop, architecture = self.data.crop, self.network.architecture
        if architecture == "dpt" and crop % DPT_PATCH:
            nearest = max(1, round(crop / DPT_PATCH)) * DPT_PATCH
            raise fault(
                f"dpt takes crops of whole patches of {DPT_PATCH} pixels",
                key="data.crop",
                value=crop,
                remedy=f"set it to {nearest}, the nearest multiple",
            )
        if architecture == "segformer" and crop < SEGFORMER_SMALLEST:
            raise fault(
                "the crop is too small for segformer",
                key="data.crop",
                value=crop,
                remedy=f"set it to at least {SEGFORMER_SMALLEST}",
            )
        return self

    @model_validator(mode="after")
    def _evaluable(self) -> Self:
        window, stride = self.evaluation_window
        if self.evaluation.mode == "sliding_window" and not 0 < stride <= window:
            raise fault(
                "windows would leave pixels between them",
                key="evaluation.stride",
                value=stride,
                remedy=f"set it to between 1 and the window, {window}",
            )
        if self.network.architecture == "dpt" and self.evaluation_multiple % DPT_PATCH:
            raise fault(
                f"dpt takes images of whole patches of {DPT_PATCH} pixels",
                key="evaluation.size_multiple",
                value=self.evaluation.size_multiple,
                remedy=f"set it to {DPT_PATCH}, or leave it out",
            )
        return self

    @model_validator(mode="after")
    def _grouped(self) -> Self:
        loss, schedule = self.loss, self.schedule
        batch, parts = schedule.labeled_batch, schedule.accumulate
        for size in (batch, schedule.unlabeled_batch):
            if size % parts:
                raise fault(
                    f"a batch of {size} is not made of that many equal parts",
                    key="schedule.accumulate",
                    value=parts,
                    remedy=f"choose it among the divisors of {size}",
                )
        if loss.supervised == "ohem" and batch // parts % loss.ohem_group:
            of = f", in {parts} parts," if parts > 1 else ""
            raise fault(
                f"a labeled batch of {batch}{of} is not made of whole groups",
                key="loss.ohem_group",
                value=loss.ohem_group,
                remedy=f"choose it among the divisors of {batch // parts}",
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = self.evaluation.classes
        if named is not None and (
            not named or len(set(named)) < len(named) or max(named) >= self.data.classes
        ):
            raise fault(
                "not a choice among the classes",
                key="evaluation.classes",
                value=list(named),
                remedy=f"name classes below data.classes, {self.data.classes}, each once",
            )
        if (
            self.masking.enabled
            and self.masking.images != "unlabeled"
            and not self.schedule.unlabeled_batch
        ):
            raise fault(
                "the supervised baseline masks no images",
                key="masking.images",
                value=self.masking.images,
                remedy="set masking.enabled to false, or schedule.unlabeled_batch above 0",
            )
        return self

    @property
    def scored_classes(self) -> tuple[int, ...]:
        """The classes that mIoU averages over, in order."""
        named = self.evaluation.classes
        return tuple(range(self.data.classes)) if named is None else named

    @property
    def evaluation_window(self) -> tuple[int, int]:
        """Side and stride of a sliding window in pixels; the published stride is int(2/3 side)."""
        window = self.evaluation.window or self.data.crop
        return window, self.evaluation.stride or int(window * 2 / 3)

    @property
    def evaluation_multiple(self) -> int:
        """What sides of evaluated images are resized to a multiple of; 1 leaves them alone."""
        needed = DPT_PATCH if self.network.architecture == "dpt" else 1
        return self.evaluation.size_multiple or needed


PROFILES: dict[str, dict[str, Any]] = {
    "official": {},
    "paper": {
        "selection.rule": "all",
        "selection.sigma": "variance",
        "selection.count_argmax_slot": False,
        "masking.probability": 1.0,
        "masking.color": {"jitter": 0.8, "grayscale": 0.0, "blur": 0.0},
        "loss.strong": 0.5,
        "loss.masked": 0.5,
        "loss.divisor": 1.0,
    },
}
"""Dotted overrides per profile; see docs/decisions/0003-profiles.md for each choice."""
