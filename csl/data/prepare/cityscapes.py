"""Takes Cityscapes' label ids; gives the train ids that the published lists name."""

from pathlib import Path

from PIL import Image

from csl.data.layouts import CITYSCAPES_LABELS, LAYOUTS
from csl.data.prepare.masks import Job
from csl.data.source import TRAIN_IDS, load_mask
from csl.errors import InputError


def cityscapes_jobs(folder: Path) -> list[Job]:
    """A ``*_labelTrainIds.png`` beside every ``*_labelIds.png`` of gtFine.

    Raises:
        InputError: there are no label ids.
    """
    layout = LAYOUTS["cityscapes"]
    assert layout.stand_in is not None, "Cityscapes lists name what is made of label ids"
    train, raw = layout.stand_in
    paths = sorted((folder / "gtFine").rglob(f"*{raw}"))
    if not paths:
        raise InputError(
            f"no *{raw} below gtFine",
            file=folder,
            key="--data-root",
            remedy=layout.download,
        )
    return [
        Job(path.with_name(path.name.removesuffix(raw) + train), draw_train_ids, (path,))
        for path in paths
    ]


def draw_train_ids(path: Path) -> Image.Image:
    """The 19 classes of a mask of label ids; the others are 255.

    Raises:
        InputError: it cannot be read, or has a value that is no label id.
    """
    return load_mask(path, CITYSCAPES_LABELS, ignore=None).point(TRAIN_IDS)
