"""Takes VOC's colored masks and SBD's .mat files; gives the masks that the published lists name."""

from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from csl.data.layouts import LAYOUTS
from csl.data.prepare.masks import Job, palette
from csl.data.source import IGNORE, opened
from csl.errors import InputError

_MASKS = "SegmentationClass"
_AUGMENTED = "SegmentationClassAug"
_ORIGINALS = "SegmentationClassColor"
_CLASSES = len(LAYOUTS["voc"].names)
_COLORS = np.array(palette(), np.uint8).reshape(256, 3)


def voc_jobs(folder: Path, sbd: Path | None) -> list[Job]:
    """Every image's mask in ``SegmentationClass``, as class indices.

    VOC's own masks come first, then those of ``SegmentationClassAug``, then SBD's: that is what
    the published augmented set has. Masks that hold colors are replaced, and the colored ones
    kept in ``SegmentationClassColor``.

    Args:
        folder: VOC2012.
        sbd: benchmark_RELEASE or a folder in it; None leaves SBD out.

    Raises:
        InputError: no masks are there, or the SBD folder has none.
    """
    masks = folder / _MASKS
    own = sorted(masks.glob("*.png"))
    augmented = sorted((folder / _AUGMENTED).glob("*.png"))
    matlab = [] if sbd is None else _matlab_files(sbd)
    if not own + augmented + matlab:
        raise InputError(
            f"neither {_MASKS} nor {_AUGMENTED} has a mask",
            file=folder,
            key="--data-root",
            remedy=LAYOUTS["voc"].download,
        )
    jobs = {
        path.stem: Job(path, draw_own, (path,), original=folder / _ORIGINALS / path.name)
        for path in own
    }
    for draw, paths in ((draw_indices, augmented), (draw_matlab, matlab)):
        for path in paths:
            jobs.setdefault(path.stem, Job(masks / f"{path.stem}.png", draw, (path,)))
    return list(jobs.values())


def draw_own(path: Path) -> Image.Image | None:
    """The indices of a mask that holds colors; None if it holds indices."""
    with opened(path) as mask:
        return _by_color(mask, path)


def draw_indices(path: Path) -> Image.Image:
    """The indices of a mask, whichever it holds."""
    with opened(path) as mask:
        found = _by_color(mask, path)
        return Image.frombytes("L", mask.size, mask.tobytes()) if found is None else found


def _by_color(mask: Image.Image, path: Path) -> Image.Image | None:
    """Indices told by VOC's colors; None where the mask's own indices are right.

    A palette may be in any order (an editor's, after saving a colored mask): then its colors
    count, if all that are used are VOC's.
    """
    if mask.mode == "L":
        return None
    pixels = np.asarray(mask.convert("RGB")).astype(np.int32)
    codes, where = np.unique(pixels @ _WEIGHTS, return_inverse=True)
    indices = np.array([_INDICES.get(int(code), -1) for code in codes])
    if mask.mode == "P":
        stored = np.asarray(mask)
        told = indices[where].reshape(stored.shape)
        if (indices < 0).any() or np.array_equal(told, stored):
            return None
    if (indices < 0).any():
        code = int(codes[indices < 0][0])
        raise InputError(
            "a color that is no VOC class",
            file=path,
            value=f"#{code:06x}",
            remedy="use masks whose colors were never smoothed: PNG, not JPEG, and not resized",
        )
    return Image.fromarray(indices[where].reshape(pixels.shape[:2]).astype(np.uint8))


_WEIGHTS = np.array([1 << 16, 1 << 8, 1], np.int32)
_INDICES = {
    int(_COLORS[index].astype(np.int32) @ _WEIGHTS): index for index in (*range(_CLASSES), IGNORE)
}


def draw_matlab(path: Path) -> Image.Image:
    """SBD's GTcls.Segmentation.

    Raises:
        InputError: the file cannot be read or holds no VOC classes.
    """
    problem = "not a class mask of SBD"
    try:
        content = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=True)
        indices = np.asarray(content["GTcls"]["Segmentation"].item())
        if indices.ndim == 2 and indices.size and indices.dtype.kind in "ui":
            outside = indices[((indices < 0) | (indices >= _CLASSES)) & (indices != IGNORE)]
            if not outside.size:
                return Image.fromarray(indices.astype(np.uint8))
            problem = f"value {outside[0]} is no VOC class"
    except Exception as error:  # a damaged .mat raises anything from zlib.error to IndexError
        problem = f"cannot be read: {type(error).__name__}"
    raise InputError(problem, file=path, remedy="replace it with an intact copy of SBD's cls/*.mat")


def _matlab_files(sbd: Path) -> list[Path]:
    for folder in ("benchmark_RELEASE/dataset/cls", "dataset/cls", "cls", "."):
        found = sorted((sbd / folder).glob("*.mat"))
        if found:
            return found
    raise InputError(
        "no cls/*.mat here",
        file=sbd,
        key="--sbd",
        remedy="give the unpacked benchmark_RELEASE folder of SBD (Hariharan et al. 2011)",
    )
