"""Takes images; gives samples per second and core of our input pipeline over the peers' plain one.

    python benchmarks/input.py            # table
    python benchmarks/input.py --json     # one object

The plain pipeline is written here from the description of the peers' recipe: per sample, PIL opens
and decodes image and mask, scales, pads, crops, flips; torchvision jitters PIL images; every view
becomes a normalized float tensor. Both make the same views of the same images with the same
probabilities, on one thread, in turns: one step of 8 labeled and 8 unlabeled images each. Our
normalization, which runs on the training's device, is counted. The published code decodes and
augments a second unlabeled image for CutMix; that is reported apart (``with_mix_loader``) and not
part of the main ratio. Our decoded images are cached before timing, as from the second epoch on;
``first_epoch_speedup`` is without the cache.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision import transforms

from csl.batches import Batches
from csl.config import TrainingConfig, VocData
from csl.data.cache import open_cached_source
from csl.data.entries import Entry, SplitLists
from csl.locations import Locations

CROP, BATCH, IMAGES = 321, 8, 48
SIZE = (500, 375)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JITTER = transforms.ColorJitter(0.5, 0.5, 0.5, 0.25)
TO_TENSOR = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def make_images(root: Path) -> None:
    """JPEGs with a photograph's spectrum (1/f) and index masks, as VOC has them on disk."""
    generator = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(SIZE[1])[:, None], np.fft.fftfreq(SIZE[0])[None])
    frequency[0, 0] = frequency[0, 1]
    for kind in ("JPEGImages", "SegmentationClass"):
        (root / kind).mkdir(parents=True)
    for index in range(IMAGES):
        noise = np.fft.fft2(generator.normal(size=(3, *SIZE[::-1])))
        waves = np.fft.ifft2(noise / frequency).real
        shared = waves.mean(0, keepdims=True)  # colors of a photograph are correlated
        pixels = (shared + 0.3 * (waves - shared)).transpose(1, 2, 0)
        pixels = 128 + 50 * (pixels - pixels.mean()) / pixels.std()
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(root / "JPEGImages" / f"{index}.jpg", quality=90)
        mask = Image.fromarray((1 + shared[0].argsort(0) * 4 // SIZE[1]).astype(np.uint8))
        mask.resize((50, 38)).resize(SIZE).save(root / "SegmentationClass" / f"{index}.png")


def weak(image: Image.Image, mask: Image.Image, fill: int) -> tuple[Image.Image, Image.Image]:
    """Scale the long side, pad right and bottom, crop, flip."""
    width, height = image.size
    long_side = random.randint(int(max(width, height) * 0.5), int(max(width, height) * 2.0))
    factor = long_side / max(width, height)
    width, height = int(width * factor + 0.5), int(height * factor + 0.5)
    image, mask = (
        image.resize((width, height), Image.Resampling.BILINEAR),
        mask.resize((width, height), 0),
    )
    if width < CROP or height < CROP:
        padded = max(width, CROP), max(height, CROP)
        larger, larger_mask = Image.new("RGB", padded), Image.new("L", padded, fill)
        larger.paste(image)
        larger_mask.paste(mask)
        image, mask = larger, larger_mask
    left, top = random.randint(0, image.width - CROP), random.randint(0, image.height - CROP)
    box = (left, top, left + CROP, top + CROP)
    image, mask = image.crop(box), mask.crop(box)
    if random.random() < 0.5:
        flip = Image.Transpose.FLIP_LEFT_RIGHT
        image, mask = image.transpose(flip), mask.transpose(flip)
    return image, mask


def color(image: Image.Image, jitter: float, grayscale: float, blur: float) -> Image.Image:
    """ColorJitter, grayscale, blur, each by chance."""
    if random.random() < jitter:
        image = JITTER(image)
    if random.random() < grayscale:
        image = transforms.functional.rgb_to_grayscale(image, 3)
    if random.random() < blur:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))
    return image


def cutmix_box() -> Tensor:
    """A box of U(.02, .4) of the crop by chance."""
    box = torch.zeros(CROP, CROP)
    if random.random() > 0.5:
        return box
    area = random.uniform(0.02, 0.4) * CROP * CROP
    while True:
        ratio = random.uniform(0.3, 1 / 0.3)
        width, height = int((area / ratio) ** 0.5), int((area * ratio) ** 0.5)
        left, top = random.randint(0, CROP), random.randint(0, CROP)
        if left + width <= CROP and top + height <= CROP:
            box[top : top + height, left : left + width] = 1
            return box


def to_labels(mask: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(mask)).long()


def plain_labeled(root: Path, entry: Entry) -> tuple[Tensor, ...]:
    image = Image.open(root / entry.image).convert("RGB")
    image, mask = weak(image, Image.open(root / str(entry.mask)), 255)
    return TO_TENSOR(image), to_labels(mask)


def plain_unlabeled(root: Path, entry: Entry) -> tuple[Tensor, ...]:
    """Weak, strong and to-be-masked view, box and ignore mask; half of the images are masked."""
    image = Image.open(root / entry.image).convert("RGB")
    image, mask = weak(image, Image.open(root / str(entry.mask)), 254)
    strong = color(image, 0.8, 0.2, 0.5)
    masked = color(image, *((0.2, 0.0, 0.5) if random.random() < 0.5 else (0.8, 0.2, 0.5)))
    padding = to_labels(mask) == 254
    views = [TO_TENSOR(view) for view in (image, strong, masked)]
    for view in views[1:]:
        view[:, padding] = 0
    return (*views, cutmix_box(), padding)


def plain_step(root: Path, lists: SplitLists, mix: bool) -> None:
    """The peers' step of 8 + 8 samples, collated."""
    some = [plain_labeled(root, entry) for entry in random.sample(lists.labeled, BATCH)]
    more = [plain_unlabeled(root, entry) for entry in random.sample(lists.unlabeled, BATCH)]
    lots = [plain_unlabeled(root, entry) for entry in random.sample(lists.unlabeled, BATCH * mix)]
    for samples in (some, more, lots):
        for views in zip(*samples, strict=True):
            torch.stack(views)


def in_turns(calls: dict[str, Callable[[int], object]], steps: int) -> dict[str, float]:
    """Median CPU seconds of a step of each; one step of each is not timed."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for step in range(steps + 1):
        for name, call in calls.items():
            started = time.process_time()
            call(step)
            if step:
                seconds[name].append(time.process_time() - started)
    return {name: statistics.median(each) for name, each in seconds.items()}


def measure(root: Path, cache: Path, steps: int) -> dict[str, float]:
    masks = sorted((root / "SegmentationClass").glob("*.png"))[:IMAGES]
    entries = tuple(
        Entry(f"JPEGImages/{path.stem}.jpg", f"SegmentationClass/{path.name}") for path in masks
    )
    lists = SplitLists(entries, entries, (), "", "")
    config = TrainingConfig(data=VocData(crop=CROP, classes=255))

    def ours(locations: Locations) -> Callable[[int], object]:
        source = open_cached_source(config.data, locations)
        for entry in entries:
            source.image(entry), source.mask(entry), source.unlabeled_truth(entry)
        batches, device = Batches(config, lists, source, seed=0), torch.device("cpu")
        return lambda step: batches[step % batches.total_steps].prepare(config.data, device)

    seconds = in_turns(
        {
            "plain": lambda _: plain_step(root, lists, mix=False),
            "mix": lambda _: plain_step(root, lists, mix=True),
            "ours": ours(Locations(data_root=root, cache=cache)),
            "no cache": ours(Locations(data_root=root)),
        },
        steps,
    )
    return {
        "per_core_speedup": seconds["plain"] / seconds["ours"],
        "first_epoch_speedup": seconds["plain"] / seconds["no cache"],
        "with_mix_loader": seconds["mix"] / seconds["ours"],
        "samples_per_core_second": 2 * BATCH / seconds["ours"],
        "plain_samples_per_core_second": 2 * BATCH / seconds["plain"],
        "images": len(entries),
        "steps": steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--steps", type=int, default=40, help="timed steps of each (40)")
    parser.add_argument(
        "--images", type=Path, help="a VOC2012 folder, whose first 48 images are used instead"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        root = options.images or Path(scratch) / "VOC2012"
        if options.images is None:
            make_images(root)
        result = measure(root.resolve(), Path(scratch) / "cache", options.steps)
    if options.json:
        json.dump(result, sys.stdout)
        print()
        return
    for name, value in result.items():
        print(f"{name:>32}  {value:.3g}")


if __name__ == "__main__":
    main()
