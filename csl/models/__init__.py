"""Takes a network's configuration; gives the segmentation network."""

from csl.models.base import SegmentationNetwork
from csl.models.build import build_network, check_weights, require_weights
from csl.models.weights import WeightsReport

__all__ = [
    "SegmentationNetwork",
    "WeightsReport",
    "build_network",
    "check_weights",
    "require_weights",
]
