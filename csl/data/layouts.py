"""Takes a dataset's name; gives how it lies on disk: where, what it is called, whence it comes.

Importable without torch, numpy and PIL: planning finds the data by it.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from csl.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""What the name of an image ends in, in lower case."""

CLASSES_FILE = "classes.txt"
"""Names the classes of a ``folder`` dataset, one per line in order of their index."""


@dataclass(frozen=True)
class Layout:
    """How one dataset lies on disk.

    Args:
        name: ``data.dataset`` of the configuration.
        title: what people call it.
        markers: the sub-folders by which its folder is known; all of them are there.
        prefixes: where that folder may lie below ``--data-root``, in order of preference.
        image_folders: where the training images are, relative; if a split has no unlabeled.txt,
            the images there that are neither labeled nor val are its unlabeled ones. Empty:
            unlabeled.txt must be there.
        lists_folder: its folder in the published lists, None if there are no such lists.
        stand_in: ends of names (listed mask, raw mask): where the listed one is missing, the raw
            one is read and converted. None where there is no such pair.
        download: what to get, from whom, and where to put it.
        names: of its classes, in order; empty where they are the user's own (``CLASSES_FILE``).
    """

    name: str
    title: str
    markers: tuple[str, ...]
    prefixes: tuple[str, ...]
    image_folders: tuple[str, ...]
    lists_folder: str | None
    stand_in: tuple[str, str] | None
    download: str
    names: tuple[str, ...]

    def locate(self, root: Path | None) -> Path:
        """The dataset's folder (the one that has the markers), resolved.

        Raises:
            InputError: no data root was given, or there is no such folder in it.
        """
        if root is None:
            raise InputError(
                f"no folder was given for {self.title}",
                key="--data-root",
                remedy=self.download,
            )
        for prefix in self.prefixes:
            if all((root / prefix / marker).is_dir() for marker in self.markers):
                return (root / prefix).resolve()
        links = [root / prefix / marker for prefix in self.prefixes for marker in self.markers]
        for link in [root, *links]:
            if link.is_symlink() and not os.path.exists(link):  # noqa: PTH110 (False for a loop)
                raise InputError(
                    "a link that leads nowhere: a loop, or its target is missing",
                    file=link,
                    key="--data-root",
                    remedy="let it point to the folder that holds the images",
                )
        places = ", ".join(dict.fromkeys(str(root / prefix) for prefix in self.prefixes))
        raise InputError(
            f"no {self.title} here: {' and '.join(self.markers)} in none of {places}",
            file=root,
            key="--data-root",
            remedy=self.download,
        )

    def raw_mask(self, mask: str) -> str | None:
        """The raw mask that can stand in for a listed one, None where nothing can."""
        if self.stand_in is None or not mask.endswith(self.stand_in[0]):
            return None
        return mask.removesuffix(self.stand_in[0]) + self.stand_in[1]


# fmt: off
_VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)
_CITYSCAPES_NAMES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
    "motorcycle", "bicycle",
)
_COCO_NAMES = (
    "background", "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train",
    "truck", "boat", "traffic light", "fire hydrant", "stop sign", "parking meter", "bench",
    "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe",
    "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana",
    "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake",
    "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse",
    "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)
# fmt: on

CITYSCAPES_CLASSES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The label id of every Cityscapes class in order: class k is ``CITYSCAPES_CLASSES[k]`` in
``*_labelIds.png``; every other id is ignored (cityscapesscripts' table)."""

CITYSCAPES_LABELS = 34
"""Label ids are below it."""

_LAYOUTS = (
    Layout(
        name="voc",
        title="PASCAL VOC 2012",
        markers=("JPEGImages",),
        prefixes=("VOCdevkit/VOC2012", "VOC2012", "."),
        image_folders=(),
        lists_folder="pascal",
        stand_in=None,
        download="download VOCtrainval_11-May-2012.tar from "
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ and the augmented masks "
        "SegmentationClassAug (SBD, Hariharan et al. 2011, as index PNGs; `csl data prepare voc` "
        "makes them), copy those masks into VOCdevkit/VOC2012/SegmentationClass, and give the "
        "folder that holds VOCdevkit as --data-root",
        names=_VOC_NAMES,
    ),
    Layout(
        name="cityscapes",
        title="Cityscapes",
        markers=("leftImg8bit", "gtFine"),
        prefixes=(".", "cityscapes"),
        image_folders=("leftImg8bit/train",),
        lists_folder="cityscapes",
        stand_in=("_labelTrainIds.png", "_labelIds.png"),
        download="register at https://www.cityscapes-dataset.com/, download "
        "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, unpack both into one folder "
        "and give it as --data-root",
        names=_CITYSCAPES_NAMES,
    ),
    Layout(
        name="coco",
        title="COCO 2017",
        markers=("train2017",),
        prefixes=(".", "coco"),
        image_folders=("train2017",),
        lists_folder="coco",
        stand_in=None,
        download="download train2017.zip, val2017.zip and annotations_trainval2017.zip from "
        "https://cocodataset.org/#download, unpack all three into one folder, draw the masks "
        "with `csl data prepare coco --data-root` and that folder, and give it as --data-root",
        names=_COCO_NAMES,
    ),
    Layout(
        name="folder",
        title="images and masks of one's own",
        markers=("images",),
        prefixes=(".",),
        image_folders=("images",),
        lists_folder=None,
        stand_in=None,
        download="put your images into DIR/images and, for some of them, PNG masks of class "
        "indices into DIR/masks, draw the lists with `csl data split`, and give DIR as --data-root",
        names=(),
    ),
)

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in _LAYOUTS}
"""Every dataset of files, by ``data.dataset``."""
