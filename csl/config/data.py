"""Takes plain mappings; gives what is trained on: a dataset and what is read of it."""

from typing import Annotated, Literal

from pydantic import Field

from csl.config.base import Frozen, Positive, Scale


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
