"""Takes plain mappings; gives the method: augmentation, selection, masking and losses."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from csl.config.base import Frozen, Positive, Probability, fault


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
