"""Takes a setting and a variant, or a stored training; gives a sheet of the pictures it sees."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ablations.expand import Options, expand
from ablations.request import (
    DEFAULT_CACHE,
    DEFAULT_STORE,
    CacheOption,
    StoreOption,
    WorkOption,
    cache_folder,
)
from ablations.spec import load_setting, load_spec
from csl.config import MaskingConfig
from csl.errors import InputError, NotANumberError
from csl.identity import Training
from csl.locations import Locations
from results.store import Store

if TYPE_CHECKING:
    from csl.sheet import Views
    from results.sheet import Tile


@dataclass(frozen=True)
class _Subject:
    """Whose pictures are shown: what the caption calls it, and its network if it has one."""

    training: Training
    name: str
    checkpoint: Path | None = None


def show(
    out: Annotated[Path, typer.Option(help="The picture to write: .png or .pdf.")],
    run: Annotated[
        str | None,
        typer.Option(help="A stored training's name or its start: also what its network says."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    work: WorkOption = None,
    setting: Annotated[
        str | None, typer.Option(help="A packaged setting or a .yaml file.  [default: shapes]")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(envvar="CSL_DATA_ROOT", help="The dataset's folder.")
    ] = None,
    splits_root: Annotated[
        Path | None, typer.Option(help="The split lists' folder, if elsewhere.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Such as 1/2; default: the first.")] = None,
    spec: Annotated[
        str | None, typer.Option(help="The spec that has the variant.  [default: table5]")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Whose augmentation is shown.  [default: all]")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Override key=value; may be repeated.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, max=16, help="Rows of the sheet.")] = 4,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31 - 1, help="Of the training.  [default: 0]")
    ] = None,
    cache: CacheOption = DEFAULT_CACHE,
) -> None:
    """Draw labeled, weak, strong, CutMix and masked views of real batches.

    Look at it before anything is trained: masks that do not fit their images show at once. With
    --run, a stored training's pseudo-labels, weights and reliable pixels are shown too."""
    if out.suffix not in (".png", ".pdf"):
        raise InputError(
            "no kind of picture", key="--out", value=out, remedy="end its name in .png or .pdf"
        )
    locations = Locations(data_root, splits_root, cache=cache_folder(cache))
    if run is None:
        options = Options(
            assignments=tuple(assignments or ()),
            splits=None if split is None else (split,),
            seeds=(seed or 0,),
        )
        subject = _planned(spec or "table5", setting or "shapes", variant or "all", options)
    else:
        own = {
            "--setting": setting, "--split": split, "--spec": spec, "--variant": variant,
            "--set": assignments, "--seed": seed,
        }  # fmt: skip
        for key, value in own.items():
            if value is not None:
                raise InputError(
                    "a stored training has its own", key=key, remedy=f"leave out {key} or --run"
                )
        subject = _stored(run, Store(store, work), locations)
    _draw(subject, locations, images, out)


def _planned(spec: str, setting: str, variant: str, options: Options) -> _Subject:
    grid = expand(load_spec(spec), load_setting(setting), options)
    cells = {cell.variant: cell for cell in reversed(grid.cells)}  # at each one's first split
    if variant not in cells:
        raise InputError(
            "no such variant",
            key="--variant",
            value=variant,
            remedy=f"choose one of {', '.join(name for name in reversed(cells))}",
        )
    cell = cells[variant]
    name = (
        f"{grid.spec.name} {variant} on {cell.setting.name}, split {cell.split}, "
        f"seed {cell.training.seed}"
    )
    return _Subject(cell.training, name)


def _stored(run: str, store: Store, locations: Locations) -> _Subject:
    from ablations.select import stored_training

    found = stored_training(run, store, locations)
    record = found.record
    name = f"{record.identity[:8]} ({record.launched_as} on {record.setting})"
    if record.best is not None:
        name += f", network of epoch {record.best.epoch}, mIoU {record.best.mean_iou:.1f}"
    return _Subject(Training(found.config, record.split, record.seed), name, found.checkpoint)


def _draw(subject: _Subject, locations: Locations, images: int, out: Path) -> None:
    from csl.data.source import class_names
    from csl.sheet import collect_views
    from results.sheet import draw_sheet

    config = subject.training.config
    try:
        several = collect_views(subject.training, locations, images, subject.checkpoint)
    except NotANumberError as error:
        raise InputError(
            f"the network cannot judge images: {error}",
            file=subject.checkpoint,
            key="--run",
            remedy="name a training that learned something",
        ) from error
    columns = [_tiles(views) for views in several]
    caption = (
        f"{subject.name}, step 0, crop {config.data.crop}. Rows pair a labeled with an unlabeled "
        "image; black is padding and what is dropped (the mean color, to a network). "
        "Yellow: the CutMix box, from the neighboring row's image. "
    )
    if several[0].judged is not None:
        caption += (
            "Pseudo-labels and weights are of the weak view, by the network in evaluation mode. "
            "Pink: the borders of what is reliable. "
        )
    if several[0].masked is not None:
        caption += _masking(config.masking, subject.checkpoint is not None)
    names = class_names(config.data, locations)
    try:
        draw_sheet([list(row.values()) for row in columns], list(columns[0]), names, caption, out)
    except OSError as error:
        raise InputError(
            f"the picture cannot be written: {error.strerror}",
            file=out,
            key="--out",
            remedy="give a folder that exists and may be written to",
        ) from error


def _tiles(views: "Views") -> "dict[str, Tile]":
    """A row of the sheet, by the titles of its columns."""
    import numpy as np

    from results.sheet import PINK, Tile

    row = {"labeled + mask": Tile(views.labeled, labels=views.mask), "weak": Tile(views.weak)}
    judged = views.judged
    if judged is not None:
        share = judged.reliable.sum() / max(1, views.valid.sum())
        flags: dict[str, Any] = {"outline": judged.reliable, "outline_color": PINK}
        weights = np.where(views.valid, judged.weight, np.nan)
        note = f"{share:.0%} reliable"
        row["pseudo-labels"] = Tile(views.weak, labels=judged.label, **flags)
        row["weight"] = Tile(views.weak, weights=weights, note=note, **flags)
    row["strong"] = Tile(views.strong)
    note = "" if views.box.any() else "no box drawn"
    row["strong + CutMix"] = Tile(views.mixed, outline=views.box, note=note)
    if views.unmasked is not None and views.masked is not None:
        row["before masking"] = Tile(views.unmasked)
        row["masked"] = Tile(views.masked, note="" if views.masks else "not masked")
    return row


def _masking(masking: MaskingConfig, judged: bool) -> str:
    what = "blocks" if masking.shape == "block" else "patches"
    text = (
        f"Masking: {what} of {masking.patch}, {masking.theta:.0%} of them, on "
        f"{masking.probability:.0%} of the images. "
    )
    if not judged:
        return text + (
            "There is no network here: every valid pixel counts as reliable; in training only "
            "reliable ones are dropped."
        )
    target = {"reliable": "reliable", "unreliable": "unreliable", "both": "all"}[masking.target]
    return text + f"Within them, {target} pixels are dropped, by the flags shown."
