"""Takes a network's configuration; gives the segmentation network."""

from csl.models.build import build_network, check_weights
from csl.models.deeplab import DeepLabV3Plus

__all__ = ["DeepLabV3Plus", "build_network", "check_weights"]
