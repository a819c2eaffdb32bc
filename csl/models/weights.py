"""Takes a weights file; gives a report of its tensors, and fills a backbone that they all fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from csl.config import DeepLabConfig, NetworkConfig, SegFormerConfig
from csl.errors import InputError

SOURCES = {
    "resnet101s": "timm/resnet101s.gluon_in1k",
    "resnet50s": "timm/resnet50s.gluon_in1k",
    "xception65": "timm/xception65.tf_in1k",
    "tf_efficientnet_lite0": "timm/tf_efficientnet_lite0.in1k",
    "test_resnet": "timm/test_resnet.r160_in1k",
    "vit_small_patch14_dinov2": "timm/vit_small_patch14_dinov2.lvd142m",
    **{f"mit_b{size}": f"nvidia/mit-b{size}" for size in range(6)},
}
"""Where each backbone's weights are published: repositories of huggingface.co."""

_WRAPPERS = ("state_dict", "model")  # what training programs put around a state dict


@dataclass(frozen=True)
class WeightsReport:
    """What a file's tensors are to a backbone, by the names the backbone has for them.

    Args:
        used: those that fill it.
        unused: of a classifier, decoder or pretraining head that the backbone does not have.
        missing, misshaped: the backbone's that the file lacks, or has in another shape.
        unknown: the file's that belong to no part of such a model.
    """

    used: tuple[str, ...]
    unused: tuple[str, ...]
    missing: tuple[str, ...]
    misshaped: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def faults(self) -> str:
        """Counts and first names of what is wrong; empty if nothing is."""
        kinds = {
            "missing": self.missing,
            "unknown": self.unknown,
            "of another shape": self.misshaped,
        }
        return ", ".join(f"{len(keys)} {what} ({keys[0]})" for what, keys in kinds.items() if keys)


def load_weights(backbone: nn.Module, config: NetworkConfig, path: Path) -> None:
    """Fill a backbone from a file: every tensor of it, or none.

    Raises:
        InputError: the file cannot be read, or its tensors are another model's.
    """
    given = _renamed(_read(path), config)
    refuse_misfit(_report(given, backbone, config), config, path)
    backbone.load_state_dict(given, strict=False)


def check_file(backbone: nn.Module, config: NetworkConfig, path: Path) -> WeightsReport:
    """What loading would find, without loading: the backbone may be on the meta device.

    Raises:
        InputError: the file cannot be read.
    """
    return _report(_renamed(_read(path), config), backbone, config)


def refuse_misfit(report: WeightsReport, config: NetworkConfig, path: Path) -> None:
    """Nothing, if every tensor fits.

    Raises:
        InputError: naming what does not.
    """
    if report.faults:
        raise InputError(
            f"the weights are not this backbone's: tensors {report.faults}",
            file=path,
            key="network.backbone",
            value=config.backbone,
            remedy=f"give weights such as {SOURCES[config.backbone]}, or set "
            "network.pretrained=false to start from scratch",
        )


def _report(
    given: Mapping[str, Tensor], backbone: nn.Module, config: NetworkConfig
) -> WeightsReport:
    wanted = backbone.state_dict()
    fits = {key for key in wanted.keys() & given.keys() if given[key].shape == wanted[key].shape}
    return WeightsReport(
        used=tuple(key for key in wanted if key in fits),
        unused=tuple(key for key in given if key not in wanted and _of_a_head(key, config)),
        missing=tuple(key for key in wanted if key not in given),
        misshaped=tuple(key for key in wanted if key in given and key not in fits),
        unknown=tuple(key for key in given if key not in wanted and not _of_a_head(key, config)),
    )


def _of_a_head(key: str, config: NetworkConfig) -> bool:
    """Whether a published file may hold this tensor beyond the backbone's."""
    if isinstance(config, DeepLabConfig):
        return key in _classifier_keys(config.backbone)
    if isinstance(config, SegFormerConfig):
        return key.startswith(("classifier.", "decode_head."))
    return key == "mask_token"  # of DINOv2's pretraining; timm drops it


@lru_cache
def _classifier_keys(backbone: str) -> frozenset[str]:
    with torch.device("meta"):
        return frozenset(timm.create_model(backbone).state_dict())


def _renamed(given: dict[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    """The tensors under the names that the backbone has for them."""
    if not isinstance(config, SegFormerConfig):
        return given
    # Published files have the names of older transformers.
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    renamings = get_checkpoint_conversion_mapping(  # type: ignore[no-untyped-call]
        "SegformerModel"
    )
    assert renamings is not None, "transformers knows its own files"
    renamed = {}
    for key, tensor in given.items():
        name = key.removeprefix("segformer.")
        for renaming in renamings:
            name, _ = renaming.rename_source_key(name)
        renamed[name] = tensor
    return renamed


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(
            f"the weights file cannot be read: {error.strerror or error}",
            file=path,
            key="--weights",
            remedy="check the path",
        ) from error
    except Exception as error:  # torch and safetensors raise a dozen kinds for a bad file
        raise InputError(
            f"the weights file cannot be read: {type(error).__name__}",
            file=path,
            key="--weights",
            remedy="give a .pth state dict (tensors only) or a .safetensors file",
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
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
