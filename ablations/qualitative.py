"""Takes trainings of the same lists; draws their pseudo-labels beside the truth (Fig. 7)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ablations.out import out_folder
from ablations.select import Subject
from csl.data.source import IGNORE
from csl.errors import InputError, NotANumberError
from csl.lab import pseudo_labels
from results.sheet import Tile, draw_sheet

NAMES = ("figure7.png", "figure7.pdf")


def draw_pseudo_labels(subjects: Sequence[Subject], rows: int, folder: Path) -> tuple[Path, ...]:
    """Write a row per image: the image, each training's pseudo-labels, the ground truth.

    Which images is nobody's choice: they lie evenly over the list.

    Args:
        subjects: trainings, in the order of the columns.
        rows: at most how many images.
        folder: where the files are written.

    Returns:
        Their paths.

    Raises:
        InputError: the trainings' images are not the same, a prediction is not a number, or the
            folder cannot be written to.
    """
    first = subjects[0].predictions
    for subject in subjects[1:]:
        if (subject.predictions.names, subject.class_names) != (
            first.names,
            subjects[0].class_names,
        ):
            raise InputError(
                "its images are not those of the other training",
                key="--beside",
                value=subject.name,
                remedy="name a training on the same lists, or compare on --images val",
            )
    count = len(first.names)
    images = sorted({round(i) for i in np.linspace(0, count - 1, min(rows, count))})
    columns = [_kept(subject, images) for subject in subjects]
    assert first.picture is not None, "trainings have pictures"
    tiles = []
    for row, index in enumerate(images):
        picture = first.picture(index)
        kept = [column[row][0] for column in columns]
        truth = columns[0][row][1]
        tiles.append(
            [
                Tile(picture),
                *(Tile(picture, labels=each, note=_note(each, truth)) for each in kept),
                Tile(picture, labels=truth),
            ]
        )
    titles = ["image", *(subject.title for subject in subjects), "ground truth"]
    caption = (
        "Pseudo-labels that each training's own selector keeps, of its best epoch's network on "
        "whole images. White: not kept; in the ground truth, not scored. In the corners: the "
        f"share of the pixels kept, and of the scored ones of them that are correct. "
        f"Images {', '.join(map(str, images))} of {count}, evenly over the list."
    )
    paths = tuple(folder / name for name in NAMES)
    with out_folder(folder):
        for path in paths:
            draw_sheet(tiles, titles, subjects[0].class_names, caption, path)
    return paths


def _kept(
    subject: Subject, images: Sequence[int]
) -> tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]], ...]:
    try:
        return pseudo_labels(subject.predictions, subject.config, images)
    except NotANumberError as error:
        raise InputError(
            f"the predictions of {subject.name} cannot be drawn: {error}",
            remedy="name trainings that learned something",
        ) from error


def _note(kept: NDArray[np.uint8], truth: NDArray[np.uint8]) -> str:
    selected = kept != IGNORE
    scored = selected & (truth != IGNORE)
    text = f"{selected.mean():.0%} kept"
    return text if not scored.any() else f"{text}, {(kept == truth)[scored].mean():.0%} right"
