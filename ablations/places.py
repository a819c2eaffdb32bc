"""Takes what a user says of where data and weights lie; gives each training's locations.

One dataset and one backbone need only ``--data-root`` and ``--weights``. A campaign over several
takes a file (``--places``):

    data:
      voc: {root: /data/VOCdevkit/VOC2012, splits: /data/splits/pascal}
      cityscapes: {root: /data/cityscapes}
    weights:
      resnet101s: /weights/resnet101s.safetensors
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from ablations.documents import read
from csl.config import BACKBONES, Frozen, TrainingConfig, fault
from csl.data.layouts import LAYOUTS
from csl.errors import InputError
from csl.locations import Locations

_PATH = Annotated[str, Field(min_length=1)]


class DataPlace(Frozen):
    """A dataset's folder, and that of its split lists if they lie elsewhere."""

    root: _PATH
    splits: _PATH | None = None


class PlacesFile(Frozen):
    """Datasets by ``data.dataset``, weights files by ``network.backbone``."""

    data: dict[str, DataPlace] = Field(default_factory=dict)
    weights: dict[str, _PATH] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> Self:
        for what, named, known in (
            ("data", self.data, tuple(LAYOUTS)),
            ("weights", self.weights, BACKBONES),
        ):
            for name in named:
                if name not in known:
                    raise fault(
                        f"no such {'dataset' if what == 'data' else 'backbone'}",
                        key=f"{what}.{name}",
                        value=name,
                        remedy=f"use one of {', '.join(known)}",
                    )
        return self


@dataclass(frozen=True)
class Places:
    """Where everything lies on this machine.

    Args:
        common: what the options say, for every training.
        file: what the places file says, for the datasets and backbones that it names.
        source: its path, for messages.
    """

    common: Locations
    file: PlacesFile | None = None
    source: Path = Path()

    @classmethod
    def read(cls, common: Locations, source: Path | None) -> "Places":
        """The options' locations and those of a file; its paths are relative to its folder.

        Raises:
            InputError: the file is not what it should be, or an option says the same.
        """
        if source is None:
            return cls(common)
        for option, value in (("--data-root", common.data_root), ("--weights", common.weights)):
            if value is not None:
                raise InputError(
                    "given twice: here and in the places file",
                    file=source,
                    key=option,
                    value=value,
                    remedy="give one of the two",
                )
        return cls(common, read(source, PlacesFile), source)

    def of(self, config: TrainingConfig) -> Locations:
        """Where one training's data and weights lie."""
        if self.file is None:
            return self.common
        folder = self.source.parent
        data = self.file.data.get(config.data.dataset)
        weights = self.file.weights.get(config.network.backbone)
        return replace(
            self.common,
            data_root=folder / data.root if data else None,
            splits_root=folder / data.splits if data and data.splits else self.common.splits_root,
            weights=folder / weights if weights else None,
        )

    def have(self, config: TrainingConfig) -> bool:
        """Whether it is said where the training's dataset lies: embedded scenes need no place."""
        return config.data.dataset == "shapes" or self.of(config).data_root is not None
