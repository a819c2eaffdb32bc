"""Takes a configuration, a split, a seed and where the data lies; gives the training's name.

Importable without torch: planning names every training before anything runs.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from csl.config import DataConfig, TrainingConfig
from csl.data.entries import SplitLists, canonical, digest_text
from csl.data.files import split_files
from csl.data.layouts import LAYOUTS
from csl.data.lists import open_lists
from csl.errors import InputError
from csl.locations import Locations

SCHEMA = 2
"""Raised whenever the same configuration starts to mean other numbers."""


def decisive(config: TrainingConfig) -> dict[str, Any]:
    """The configuration without what changes no number, as JSON has it."""
    return config.model_dump(mode="json", exclude={"network": {"gradient_checkpointing"}})


@dataclass(frozen=True)
class Training:
    """One training to run: what, on which labeled list, with which seed.

    Args:
        config: the resolved configuration.
        split: the labeled list's reference in the dataset (a folder such as ``92``, or a number
            of labeled images for ``shapes``).
        seed: decides initial weights, order, augmentation and every other draw.
    """

    config: TrainingConfig
    split: str
    seed: int

    @property
    def recipe(self) -> str:
        """16 hex digits naming what was asked, without the data's content.

        Finds records on a machine that does not have the dataset."""
        return self.recipe_of(canonical(decisive(self.config)))

    def recipe_of(self, configuration: str) -> str:
        """``recipe``, for who has the canonical JSON of the decisive configuration already."""
        return _digest_of(configuration, self.split, self.seed, SCHEMA)


@dataclass(frozen=True)
class Identity:
    """What one training is: equal ``id``, equal numbers (to the machine's arithmetic).

    ``id`` and ``recipe`` have 16 hex digits; the others are content hashes of the lists, the
    dataset and the backbone's weights (empty when training from scratch). ``steps`` of the
    optimizer is how long it is: it follows from the rest.
    """

    id: str
    recipe: str
    split_hash: str
    data_fingerprint: str
    weights_hash: str
    steps: int


def identify(training: Training, locations: Locations) -> Identity:
    """Name a training by configuration, split lists' content, data and weights.

    Raises:
        InputError: the lists, the dataset or the weights file are missing or malformed, or no
            image is unlabeled and the schedule asks for some.
    """
    return identify_all([(training, locations)])[0]


def identify_all(trainings: Iterable[tuple[Training, Locations]]) -> list[Identity]:
    """``identify`` of each of them; the lists of a split are read once for all."""

    @cache
    def lists_of(data: DataConfig, split: str, locations: Locations) -> SplitLists:
        return open_lists(data, split, locations)

    # Of hundreds of seeds all have the same configuration, the same object even.
    texts: dict[int, tuple[TrainingConfig, str]] = {}

    def text_of(config: TrainingConfig) -> str:
        if id(config) not in texts:
            texts[id(config)] = config, canonical(decisive(config))
        return texts[id(config)][1]

    return [
        _identify(each, text_of(each.config), lists_of(each.config.data, each.split, where), where)
        for each, where in trainings
    ]


def _digest_of(configuration: str, *rest: object) -> str:
    """``digest`` of [configuration, *rest], of which the first is canonical JSON already."""
    return digest_text(f"[{configuration},{canonical(rest)[1:]}")


def _identify(
    training: Training, configuration: str, lists: SplitLists, locations: Locations
) -> Identity:
    schedule, data = training.config.schedule, training.config.data
    if schedule.unlabeled_batch and not lists.unlabeled:
        raise InputError(
            "the list is empty: no image is unlabeled",
            file=split_files(LAYOUTS[data.dataset], training.split, locations)["unlabeled"],
            key="schedule.unlabeled_batch",
            value=schedule.unlabeled_batch,
            remedy="name unlabeled images there (the labeled ones again, for the ceiling with "
            "all labels), or set schedule.unlabeled_batch to 0",
        )
    weights = hash_weights(locations.weights) if training.config.network.pretrained else ""
    # The split's name is not identity: two names for the same lists are one training.
    content = (training.seed, lists.content_hash, lists.fingerprint, weights, SCHEMA)
    return Identity(
        id=_digest_of(configuration, *content),
        recipe=training.recipe_of(configuration),
        split_hash=lists.content_hash,
        data_fingerprint=lists.fingerprint,
        weights_hash=weights,
        steps=schedule.epochs * schedule.epoch_steps(len(lists.labeled), len(lists.unlabeled)),
    )


def hash_weights(path: Path | None) -> str:
    """SHA-256 of a weights file, 16 hex digits.

    Raises:
        InputError: no path was given, or the file cannot be read.
    """
    if path is None:
        raise InputError(
            "this setting starts from pretrained weights and no file was given",
            key="--weights",
            remedy="give the backbone's weights file (csl weights fetches it), or ask for a random "
            "start with --set network.pretrained=false",
        )
    try:
        stat = path.stat()
        return _hash_file(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise InputError(
            f"the weights file cannot be read: {error.strerror}",
            file=path,
            key="--weights",
            remedy="give an existing .pth or .safetensors file",
        ) from error


@lru_cache
def _hash_file(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
