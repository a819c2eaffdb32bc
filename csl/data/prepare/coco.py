"""Takes COCO's instances files; gives one mask of background and 80 things per image."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from csl.data.layouts import LAYOUTS
from csl.data.prepare.masks import Job
from csl.data.source import IGNORE
from csl.errors import InputError

_PARTS = ("train", "val")


@dataclass(frozen=True)
class Region:
    """One annotation: its id, what it covers (polygons or run lengths), and its mask value."""

    name: int
    outline: Any
    value: int


def coco_jobs(folder: Path, annotations: Sequence[Path]) -> list[Job]:
    """``masks/<id>.png`` for every image in the instances files.

    Args:
        folder: the dataset's.
        annotations: instances files; by default those of train2017 and val2017.

    Raises:
        InputError: a file is missing, cannot be read, or has other categories than COCO's.
    """
    files = annotations or [folder / f"annotations/instances_{part}2017.json" for part in _PARTS]
    jobs = {job.target: job for file in files for job in _jobs_of(file, folder / "masks")}
    return list(jobs.values())


def draw_regions(file: Path, height: int, width: int, regions: Sequence[Region]) -> Image.Image:
    """Paint regions over background, each over the ones before it.

    Args:
        file: where they come from, for messages.
        height, width: of the image.

    Raises:
        InputError: a region is malformed.
    """
    mask = np.zeros((height, width), np.uint8)
    for region in regions:
        try:
            mask[_covered(region.outline, height, width)] = region.value
        except Exception as error:  # pycocotools raises a bare Exception, TypeError, IndexError ...
            raise InputError(
                f"annotation {region.name} covers nothing of this image: {error}",
                file=file,
                remedy="download the annotations again",
            ) from error
    return Image.fromarray(mask)


def _covered(outline: Any, height: int, width: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if isinstance(outline, list):  # polygons
        if not outline:
            return np.zeros((height, width), np.bool_)
        runs = rle.merge(rle.frPyObjects(outline, height, width))
    elif isinstance(outline["counts"], list):
        runs = rle.frPyObjects(outline, height, width)
    else:
        runs = outline
    return np.asarray(rle.decode(runs), np.bool_)


def _jobs_of(file: Path, masks: Path) -> list[Job]:
    """One job per image of an instances file.

    Large regions are painted before small ones (equal ones in order of their id), so that an
    object on another is seen; crowds are 255. Things are 1 to 80 in order of their category id.
    """
    try:
        # Read as it is and not by pycocotools' COCO class, which prints and is sent to no process.
        content = json.loads(file.read_bytes())
        values = _values(content["categories"], file)
        regions = defaultdict(list)
        for each in sorted(content["annotations"], key=lambda one: (-one["area"], one["id"])):
            value = IGNORE if each["iscrowd"] else values[each["category_id"]]
            regions[each["image_id"]].append(Region(each["id"], each["segmentation"], value))
        return [
            Job(
                masks / f"{image['id']:012d}.png",
                draw_regions,
                (file, image["height"], image["width"], tuple(regions[image["id"]])),
            )
            for image in content["images"]
        ]
    except OSError as error:
        raise InputError(
            f"the annotations cannot be read: {error.strerror}",
            file=file,
            key="--annotations",
            remedy=LAYOUTS["coco"].download,
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"no instances file of COCO: {type(error).__name__}: {error}",
            file=file,
            key="--annotations",
            remedy="give instances_train2017.json or instances_val2017.json, whole as downloaded",
        ) from error


def _values(categories: Sequence[dict[str, Any]], file: Path) -> dict[int, int]:
    """The mask value of every category id."""
    ordered = sorted(categories, key=lambda category: category["id"])
    things = LAYOUTS["coco"].names[1:]
    if tuple(category["name"] for category in ordered) != things:
        raise InputError(
            "the categories are not COCO's 80 things",
            file=file,
            key="--annotations",
            value=f"{len(ordered)} categories",
            remedy="give COCO's instances file (not stuff, panoptic or keypoints); draw masks of "
            "your own categories yourself and use dataset folder",
        )
    return {category["id"]: value for value, category in enumerate(ordered, start=1)}
