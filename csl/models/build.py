"""Takes a network's configuration, a class count and a weights file; gives the network."""

from pathlib import Path

import torch

from csl.config import DeepLabConfig, NetworkConfig, SegFormerConfig
from csl.models.base import SegmentationNetwork
from csl.models.recompute import recompute
from csl.models.weights import WeightsReport, check_file, load_weights, refuse_misfit


def build_network(config: NetworkConfig, classes: int, weights: Path | None) -> SegmentationNetwork:
    """The network, its head initialised from torch's global generator.

    Args:
        config: the network.
        classes: K.
        weights: the backbone's file where ``config.pretrained``; unused otherwise.

    Raises:
        InputError: the weights file cannot be read or does not fit the backbone.
    """
    network = _untrained(config, classes)
    if config.pretrained:
        assert weights is not None, "identify() has asked for the weights file"
        load_weights(network.backbone, config, weights)
    if config.gradient_checkpointing:
        recompute(network.blocks())
    return network


def check_weights(config: NetworkConfig, weights: Path) -> WeightsReport:
    """What a file's tensors are to the network's backbone; nothing is loaded.

    Raises:
        InputError: the file cannot be read.
    """
    with torch.device("meta"):  # shapes without numbers: at once, and of no memory
        network = _untrained(config, classes=2)
    return check_file(network.backbone, config, weights)


def require_weights(config: NetworkConfig, weights: Path | None) -> None:
    """What ``build_network`` would say of the weights, before anything is launched.

    Raises:
        InputError: as ``build_network``.
    """
    if config.pretrained:
        assert weights is not None, "identify() has asked for the weights file"
        refuse_misfit(check_weights(config, weights), config, weights)


def _untrained(config: NetworkConfig, classes: int) -> SegmentationNetwork:
    # Imported here: transformers takes seconds, and most trainings do not need it.
    if isinstance(config, DeepLabConfig):
        from csl.models.deeplab import DeepLabV3Plus

        return DeepLabV3Plus(config, classes)
    if isinstance(config, SegFormerConfig):
        from csl.models.segformer import SegFormer

        return SegFormer(config.backbone, classes)
    from csl.models.dpt import Dpt

    return Dpt(config.backbone, classes)
