"""Takes plain mappings; gives the frozen, fully resolved configuration of one training.

Importable without torch: planning reads it. Everything here is identity (see identity.py);
paths and worker counts are therefore not here. Defaults are the paper's recipe as its authors'
code has it (profile ``official``); ``PROFILES["paper"]`` is the text's equations.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


def fault(problem: str, *, key: str, value: object, remedy: str) -> PydanticCustomError:
    """What a validator raises, so that the user's message has its key, value and remedy."""
    return PydanticCustomError(
        "fault",
        "{problem}",
        {
            "problem": problem,
            "key": key,
            "value": value,
            "remedy": remedy,
        },
    )


Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Scale = Annotated[float, Field(gt=0)]


class Frozen(BaseModel):
    """Immutable, refuses unknown keys and refuses to guess a type (``"8"`` is not 8)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class ShapesData(Frozen):
    """The embedded procedural scenes (csl/data/shapes.py): nothing to download."""

    dataset: Literal["shapes"] = "shapes"
    crop: Positive = 64
    classes: Literal[8] = 8
    image_size: Annotated[int, Field(ge=32)] = 64
    train_images: Positive = 128
    val_images: Positive = 96
    scenes_seed: Annotated[int, Field(ge=0)] = 0
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[Scale, Scale, Scale] = (0.25, 0.25, 0.25)


class FileData(Frozen):
    """Images and masks in files, under split lists (csl/data/files.py); how each dataset lies on
    disk is in csl/data/layouts.py.

    ``mean`` and ``std`` are what the backbone was pretrained with (ImageNet's by default).
    """

    dataset: str
    crop: Positive
    classes: Annotated[int, Field(ge=2, le=255)]  # 255 itself is "ignore"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[Scale, Scale, Scale] = (0.229, 0.224, 0.225)


class VocData(FileData):
    """PASCAL VOC 2012: a VOCdevkit/VOC2012 folder, its masks augmented by SBD's."""

    dataset: Literal["voc"] = "voc"
    crop: Positive = 321
    classes: Annotated[int, Field(ge=2, le=255)] = 21


class CityscapesData(FileData):
    """Cityscapes' fine annotations; label ids are converted where train ids are missing."""

    dataset: Literal["cityscapes"] = "cityscapes"
    crop: Positive = 801
    classes: Literal[19] = 19


class CocoData(FileData):
    """COCO 2017: masks of background and the 80 things in order of their category id."""

    dataset: Literal["coco"] = "coco"
    crop: Positive = 513
    classes: Literal[81] = 81


class FolderData(FileData):
    """One's own images/ and masks/. How many classes there are must be said: a class too many
    would count 0 in every mIoU."""

    dataset: Literal["folder"] = "folder"
    crop: Positive = 321


DataConfig = Annotated[
    ShapesData | VocData | CityscapesData | CocoData | FolderData, Field(discriminator="dataset")
]


class _Network(Frozen):
    """What every network has.

    ``pretrained`` asks for the backbone's weights file at launch; training from scratch must be
    asked for. ``gradient_checkpointing`` computes the backbone's blocks again in the backward pass
    instead of keeping what is inside them: less memory, the same numbers, so no identity.
    """

    pretrained: bool = True
    gradient_checkpointing: bool = False


class DeepLabConfig(_Network):
    """DeepLabV3+ on a timm backbone.

    ``resnet101s`` and ``resnet50s`` have the deep stem that the peers' ResNets have. ``width`` is
    the channel count of ASPP and decoder, ``low_level_width`` of the skip connection.
    """

    architecture: Literal["deeplabv3plus"] = "deeplabv3plus"
    backbone: Literal[
        "resnet101s", "resnet50s", "xception65", "tf_efficientnet_lite0", "test_resnet"
    ] = "resnet101s"
    output_stride: Literal[8, 16, 32] = 8
    atrous_rates: tuple[Positive, Positive, Positive] = (12, 24, 36)
    width: Positive = 256
    low_level_width: Positive = 48


class SegFormerConfig(_Network):
    """SegFormer: a Mix Transformer and its MLP head (256 wide for b0 and b1, else 768)."""

    architecture: Literal["segformer"] = "segformer"
    backbone: Literal["mit_b0", "mit_b1", "mit_b2", "mit_b3", "mit_b4", "mit_b5"] = "mit_b5"


class DptConfig(_Network):
    """DINOv2 with a DPT head, as UniMatch V2 has it: crops are whole 14×14 patches."""

    architecture: Literal["dpt"] = "dpt"
    backbone: Literal["vit_small_patch14_dinov2"] = "vit_small_patch14_dinov2"


NetworkConfig = Annotated[
    DeepLabConfig | SegFormerConfig | DptConfig, Field(discriminator="architecture")
]

DPT_PATCH = 14
"""Side of DINOv2's patches in pixels."""

SEGFORMER_SMALLEST = 29
"""Of a smaller side, the first stage's keys (a quarter, again reduced by 8) have no pixel left."""


class ScheduleConfig(Frozen):
    """SGD with poly decay per iteration, two parameter groups (UniMatch's recipe).

    ``optimizer``: ``sgd`` with ``momentum``, or ``adamw`` (betas .9, .999; UniMatch V2's, for
    DINOv2), which has no use for ``momentum``. An epoch is one pass over the unlabeled list, its
    last partial batch dropped; ``steps_per_epoch`` shortens it. With ``unlabeled_batch`` 0 only the
    labeled list is trained on (the supervised baseline) and an epoch is one pass over it, at least
    one step.
    """

    epochs: Positive = 80
    steps_per_epoch: Positive | None = None
    labeled_batch: Positive = 8
    unlabeled_batch: Annotated[int, Field(ge=0)] = 8
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    head_lr_multiplier: Annotated[float, Field(gt=0)] = 10.0
    momentum: Probability = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    poly_power: Annotated[float, Field(ge=0)] = 0.9
    precision: Literal["fp32", "bf16"] = "bf16"


class ColorConfig(Frozen):
    """One strong color augmentation: each probability is per image.

    ``jitter`` is ColorJitter(.5, .5, .5, .25), ``grayscale`` drops the color, ``blur`` is Gaussian
    with radius U(.1, 2).
    """

    jitter: Probability = 0.8
    grayscale: Probability = 0.2
    blur: Probability = 0.5


class AugmentationConfig(Frozen):
    """Weak: scale, pad, crop, flip. Strong: color, then CutMix with a box of ``cutmix``
    probability, area U(.02, .4) of the crop, aspect U(.3, 1/.3)."""

    scale: tuple[float, float] = (0.5, 2.0)
    flip: Probability = 0.5
    strong: ColorConfig = ColorConfig()
    cutmix: Probability = 0.5

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise fault(
                "a scale needs 0 < lowest <= highest",
                key="scale",
                value=list(self.scale),
                remedy="such as [0.5, 2.0]",
            )
        return self


Feature = Literal["dispersion", "margin", "entropy", "residual_entropy"]


class SelectionConfig(Frozen):
    """Which pseudo-labels are trusted, and by how much.

    ``selector``: one of csl/selection/selectors.py; ``csl`` is the paper's (Sec. 3.2, 3.3).
    ``tau``: fixed threshold of ``threshold``, highest one of ``flexmatch``.
    ``momentum``: of the running averages of ``flexmatch``, ``freematch``, ``softmatch``, ``daw``
    and ``corrmatch``; None is what each of them publishes.

    All others are csl's. ``features``: what Φ has besides p_max (Fig. 4a replaces, Table 13
    appends). ``scale``: Eq. 6's coefficient on the dispersion: ``none`` (code),
    (K-1)³ / 2(1-p)² (``paper``) or (K-1)² / 2(1-p) (``fork``). ``strategy``: the mean and
    deviation are those of the reliable cluster (``separation``), of all valid pixels
    (``mean_threshold``, Fig. 4a) or of each predicted class's own cluster (``class_separation``,
    Eq. 16). ``weighting``: the rest is smoothed by a Gaussian (Eq. 10), by Euclidean distance or
    cosine similarity (Fig. 4b), or ``binary``: 0. ``keep_reliable``: reliable pixels keep weight 1;
    otherwise all are smoothed (Fig. 4b). ``rule``: a pixel is reliable if ``any`` (Algorithm 1,
    code) or ``all`` (Eq. 11) of its features exceed the mean. ``alpha``: Gaussian denominator on
    z² (Algorithm 1 is 64). ``sigma``: the Gaussian's width is the cluster's ``std`` (code) or
    its ``variance`` (the text). ``count_argmax_slot``: Σδ² counts the zeroed arg-max slot's μ²
    (code).
    """

    selector: Literal[
        "csl",
        "threshold",
        "flexmatch",
        "freematch",
        "softmatch",
        "ael",
        "daw",
        "u2pl",
        "corrmatch",
        "pseudoseg",
    ] = "csl"
    tau: Probability = 0.95
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    features: Annotated[tuple[Feature, ...], Field(min_length=1)] = ("dispersion",)
    scale: Literal["none", "paper", "fork"] = "none"
    strategy: Literal["separation", "mean_threshold", "class_separation"] = "separation"
    weighting: Literal["gaussian", "euclidean", "cosine", "binary"] = "gaussian"
    keep_reliable: bool = True
    rule: Literal["any", "all"] = "any"
    alpha: Annotated[float, Field(gt=0)] = 8.0
    sigma: Literal["std", "variance"] = "std"
    count_argmax_slot: bool = True

    @model_validator(mode="after")
    def _meaningful(self) -> Self:
        if len(set(self.features)) < len(self.features):
            raise fault(
                "a feature is named twice",
                key="features",
                value=list(self.features),
                remedy="name each of them once",
            )
        if self.scale != "none" and "dispersion" not in self.features:
            raise fault(
                "there is no dispersion to scale",
                key="scale",
                value=self.scale,
                remedy="add dispersion to features, or set scale to none",
            )
        if self.weighting == "binary" and not self.keep_reliable:
            raise fault(
                "every weight would be 0: binary weighting keeps the reliable pixels only",
                key="keep_reliable",
                value=self.keep_reliable,
                remedy="set it to true, or weighting to gaussian, euclidean or cosine",
            )
        return self


class MaskingColorConfig(ColorConfig):
    """The weaker color augmentation before masking; defaults of its own, for partial overrides."""

    jitter: Probability = 0.2
    grayscale: Probability = 0.0
    blur: Probability = 0.5


class MaskingConfig(Frozen):
    """Trusted mask perturbation (Sec. 3.4, Algorithm 2): pixels are dropped by patches.

    ``images``: which are masked (Table 10); of labeled ones every pixel is reliable and the ground
    truth is the target; ``both`` averages the two losses. ``target``: which pixels are dropped
    (Fig. 4c). ``shape``: independent patches, or BEiT's ``block``-wise masking (Fig. 4c).
    ``theta`` is P(a patch is masked), or the share of the patches that blocks must cover; ``patch``
    is their side s in pixels, ``probability`` that an image is masked at all (the code masks half;
    the other half gets the full strong color augmentation). ``color`` is the augmentation before
    masking and ``cutmix`` whether boxes of augmentation.cutmix are mixed in (Table 11).
    ``sharing``: one mask per ``image`` (code) or one per ``batch`` (Algorithm 2); ``grid``: cells
    are ``round`` (code) or ``floor`` (Algorithm 2) of size / s.
    """

    enabled: bool = True
    images: Literal["unlabeled", "labeled", "both"] = "unlabeled"
    target: Literal["reliable", "unreliable", "both"] = "reliable"
    shape: Literal["patch", "block"] = "patch"
    patch: Positive = 32
    theta: Probability = 0.7
    probability: Probability = 0.5
    color: MaskingColorConfig = MaskingColorConfig()
    cutmix: bool = False
    sharing: Literal["image", "batch"] = "image"
    grid: Literal["round", "floor"] = "round"

    @model_validator(mode="after")
    def _meaningful(self) -> Self:
        if self.images != "unlabeled" and self.target == "unreliable":
            raise fault(
                "labeled images have no unreliable pixel: nothing of them would be masked",
                key="target",
                value=self.target,
                remedy="set it to reliable or both, or images to unlabeled",
            )
        if self.images != "unlabeled" and self.cutmix:
            raise fault(
                "CutMix before masking is defined for unlabeled images",
                key="cutmix",
                value=self.cutmix,
                remedy="set it to false, or images to unlabeled",
            )
        return self


class LossConfig(Frozen):
    """total = (L_x + strong·L_s + masked·L_m + feature·L_fp) / divisor.

    The paper's λ1, λ2 (Eq. 15) are twice ``strong`` and ``masked`` of the code. ``masked`` counts
    only while masking is enabled. ``feature_dropout`` is the channel dropout of L_fp (D.1).
    ``masked_weighted``: Eq. 14 and the code weight L_m, Algorithm 2 does not. ``reduction``: L_s,
    L_m and L_fp are means over ``valid`` pixels (code), or each image's ``sum`` (Eq. 2, 14).

    ``supervised``: L_x is cross-entropy (``ce``), or that of the hardest pixels (``ohem``), those
    whose true class has at most ``ohem_threshold``, but at least ``ohem_min_kept`` per image. They
    are picked and averaged within runs of ``ohem_group`` images, and L_x is the mean over the
    groups: what each GPU does with its 2 images in the published training. Masked labeled images
    (Table 10) always have cross-entropy.
    """

    strong: Annotated[float, Field(ge=0)] = 0.25
    masked: Annotated[float, Field(ge=0)] = 0.25
    feature: Annotated[float, Field(ge=0)] = 0.5
    divisor: Annotated[float, Field(gt=0)] = 2.0
    feature_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    masked_weighted: bool = True
    reduction: Literal["valid", "sum"] = "valid"
    supervised: Literal["ce", "ohem"] = "ce"
    ohem_threshold: Probability = 0.7
    ohem_min_kept: Positive = 100_000
    ohem_group: Positive = 2


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
        loss, batch = self.loss, self.schedule.labeled_batch
        if loss.supervised == "ohem" and batch % loss.ohem_group:
            raise fault(
                f"a labeled batch of {batch} is not made of whole groups",
                key="loss.ohem_group",
                value=loss.ohem_group,
                remedy=f"choose it among the divisors of {batch}",
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
