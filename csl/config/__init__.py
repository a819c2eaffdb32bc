"""Takes plain mappings; gives the frozen, fully resolved configuration of one training.

Importable without torch: planning reads it. Defaults are the paper's recipe as its authors' code
has it (profile ``official``); ``PROFILES["paper"]`` is the text's equations.
"""

from csl.config.base import Frozen, Positive, Probability, Scale, fault, flatten
from csl.config.data import (
    CityscapesData,
    CocoData,
    DataConfig,
    FileData,
    FolderData,
    ShapesData,
    VocData,
)
from csl.config.method import (
    AugmentationConfig,
    ColorConfig,
    Feature,
    LossConfig,
    MaskingColorConfig,
    MaskingConfig,
    SelectionConfig,
)
from csl.config.network import (
    BACKBONES,
    DPT_PATCH,
    SEGFORMER_SMALLEST,
    DeepLabConfig,
    DptConfig,
    NetworkConfig,
    SegFormerConfig,
)
from csl.config.training import PROFILES, EvaluationConfig, ScheduleConfig, TrainingConfig

__all__ = [
    "BACKBONES",
    "DPT_PATCH",
    "PROFILES",
    "SEGFORMER_SMALLEST",
    "AugmentationConfig",
    "CityscapesData",
    "CocoData",
    "ColorConfig",
    "DataConfig",
    "DeepLabConfig",
    "DptConfig",
    "EvaluationConfig",
    "Feature",
    "FileData",
    "FolderData",
    "Frozen",
    "LossConfig",
    "MaskingColorConfig",
    "MaskingConfig",
    "NetworkConfig",
    "Positive",
    "Probability",
    "Scale",
    "ScheduleConfig",
    "SegFormerConfig",
    "SelectionConfig",
    "ShapesData",
    "TrainingConfig",
    "VocData",
    "fault",
    "flatten",
]
