"""Takes a network's configuration, a class count and a weights file; gives the network."""

from pathlib import Path

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from csl.config import DeepLabConfig
from csl.errors import InputError
from csl.models.deeplab import DeepLabV3Plus

_LOW_LEVEL, _HIGH_LEVEL = 1, 4  # timm's out_indices: strides 4 and 32 before dilation


def build_network(config: DeepLabConfig, classes: int, weights: Path | None) -> DeepLabV3Plus:
    """DeepLabV3+ on a timm backbone, its head initialised from torch's global generator.

    Args:
        config: the network.
        classes: K.
        weights: the backbone's file where ``config.pretrained``; unused otherwise.

    Raises:
        InputError: the weights file cannot be read or does not fit the backbone.
    """
    backbone = timm.create_model(
        config.backbone,
        pretrained=False,
        features_only=True,
        out_indices=(_LOW_LEVEL, _HIGH_LEVEL),
        output_stride=config.output_stride,
    )
    if config.pretrained:
        assert weights is not None, "identify() has asked for the weights file"
        _load(backbone, config.backbone, weights)
    low, high = backbone.feature_info.channels()  # type: ignore[operator, union-attr]
    return DeepLabV3Plus(
        backbone,
        (low, high),
        classes,
        config.width,
        config.low_level_width,
        config.atrous_rates,
    )


def check_weights(config: DeepLabConfig, weights: Path | None) -> None:
    """Load the backbone's weights once, before anything is launched.

    Raises:
        InputError: as ``build_network``.
    """
    if config.pretrained:
        build_network(config, 2, weights)


def _load(backbone: nn.Module, name: str, weights: Path) -> None:
    """Fill a feature backbone from its classifier's weights: every tensor, and no others."""
    given, wanted = _read_weights(weights), backbone.state_dict()
    # What the classifier has beyond the features (its head) may be in the file and is not used.
    known = timm.create_model(name, pretrained=False).state_dict().keys() | wanted.keys()
    faults = {
        "missing": [key for key in wanted if key not in given],
        "unknown": [key for key in given if key not in known],
        "of another shape": [
            key for key in wanted if key in given and given[key].shape != wanted[key].shape
        ],
    }
    found = ", ".join(f"{len(keys)} {what} ({keys[0]})" for what, keys in faults.items() if keys)
    if found:
        raise InputError(
            f"the weights are not this backbone's: tensors {found}",
            file=weights,
            key="network.backbone",
            value=name,
            remedy=f"give weights of timm's {name}, or set network.pretrained=false to start "
            "from scratch",
        )
    backbone.load_state_dict(given, strict=False)


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise a dozen kinds for a bad file
        raise InputError(
            f"the weights file cannot be read: {type(error).__name__}",
            file=path,
            key="--weights",
            remedy="give a .pth state dict (tensors only) or a .safetensors file",
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise InputError(
            "the weights file is not a plain state dict",
            file=path,
            key="--weights",
            remedy="save it as torch.save(model.state_dict(), path)",
        )
    return state
