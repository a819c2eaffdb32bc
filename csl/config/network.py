"""Takes plain mappings; gives a segmentation network: its architecture and backbone."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from csl.config.base import Frozen, Positive


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

BACKBONES: tuple[str, ...] = tuple(
    name
    for network in (DeepLabConfig, SegFormerConfig, DptConfig)
    for name in get_args(network.model_fields["backbone"].annotation)
)
"""Every backbone that weights can be given for."""

DPT_PATCH = 14
"""Side of DINOv2's patches in pixels."""

SEGFORMER_SMALLEST = 29
"""Of a smaller side, the first stage's keys (a quarter, again reduced by 8) have no pixel left."""
