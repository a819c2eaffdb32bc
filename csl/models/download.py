"""Takes a network's configuration; gives a file of its backbone's published weights."""

import os
from pathlib import Path

import safetensors.torch
import timm
from huggingface_hub.utils import logging
from torch import Tensor

from csl.config import NetworkConfig, SegFormerConfig
from csl.errors import InputError
from csl.models.weights import SOURCES


def download_weights(config: NetworkConfig, path: Path) -> None:
    """Fetch by timm's or transformers' own loader and save whole or not at all.

    Args:
        config: the network.
        path: a .safetensors file to write, usable as ``--weights``.

    Raises:
        InputError: it cannot be fetched, or not be written there.
    """
    if path.suffix != ".safetensors":
        raise InputError(
            "downloaded weights are saved as safetensors",
            file=path,
            key="--download",
            remedy="give a name that ends in .safetensors",
        )
    source = SOURCES[config.backbone]
    logging.set_verbosity_error()  # it warns of each of a dozen attempts without a network
    try:
        state = _fetch(config, source)
    except Exception as error:  # the loaders raise a dozen kinds for a network that is not there
        raise InputError(
            f"the weights cannot be fetched: {type(error).__name__}",
            key="--download",
            value=source,
            remedy=f"on a machine that is online, save the weights file of "
            f"https://huggingface.co/{source} (model.safetensors or pytorch_model.bin), "
            "copy it here and give it as --weights",
        ) from error
    try:
        _save(state, path)
    except OSError as error:
        raise InputError(
            f"the weights cannot be written: {error.strerror}",
            file=path,
            key="--download",
            remedy="give a path in an existing folder with enough space",
        ) from error


def _fetch(config: NetworkConfig, source: str) -> dict[str, Tensor]:
    if isinstance(config, SegFormerConfig):
        from transformers import SegformerModel

        state: dict[str, Tensor] = SegformerModel.from_pretrained(source).state_dict()
        return state
    model = timm.create_model(source.removeprefix("timm/"), pretrained=True)
    return model.state_dict()


def _save(state: dict[str, Tensor], path: Path) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    content = safetensors.torch.save({key: tensor.contiguous() for key, tensor in state.items()})
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
