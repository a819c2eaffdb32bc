"""Takes a setting and a variant; gives a sheet of the pictures that its trainings see."""

from pathlib import Path
from typing import Annotated

import typer

from ablations.expand import Options, expand
from ablations.request import DEFAULT_CACHE, CacheOption, cache_folder
from ablations.spec import load_setting, load_spec
from csl.errors import InputError
from csl.locations import Locations


def show(
    out: Annotated[Path, typer.Option(help="The picture to write: .png or .pdf.")],
    setting: Annotated[str, typer.Option(help="A packaged setting or a .yaml file.")] = "shapes",
    data_root: Annotated[
        Path | None, typer.Option(envvar="CSL_DATA_ROOT", help="The dataset's folder.")
    ] = None,
    splits_root: Annotated[
        Path | None, typer.Option(help="The split lists' folder, if elsewhere.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Such as 1/2; default: the first.")] = None,
    spec: Annotated[str, typer.Option(help="The spec that has the variant.")] = "table5",
    variant: Annotated[str, typer.Option(help="Whose augmentation is shown.")] = "all",
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Override key=value; may be repeated.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, max=16, help="Rows of the sheet.")] = 4,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the training.")] = 0,
    cache: CacheOption = DEFAULT_CACHE,
) -> None:
    """Draw labeled, weak, strong, CutMix and masked views of real batches.

    Look at it before anything is trained: masks that do not fit their images show at once."""
    if out.suffix not in (".png", ".pdf"):
        raise InputError(
            "no kind of picture", key="--out", value=out, remedy="end its name in .png or .pdf"
        )
    options = Options(
        assignments=tuple(assignments or ()),
        splits=None if split is None else (split,),
        seeds=(seed,),
    )
    grid = expand(load_spec(spec), load_setting(setting), options)
    cells = {cell.row: cell for cell in reversed(grid.cells)}  # of each row's first split
    if variant not in cells:
        raise InputError(
            "no such variant",
            key="--variant",
            value=variant,
            remedy=f"choose one of {', '.join(row for row in reversed(cells))}",
        )
    cell = cells[variant]

    from csl.data.source import class_names
    from csl.sheet import collect_views
    from results.sheet import Tile, draw_sheet

    locations = Locations(data_root, splits_root, cache=cache_folder(cache))
    rows = []
    masking = cell.training.config.masking
    for views in collect_views(cell.training, locations, images):
        row = [
            Tile(views.labeled, labels=views.mask),
            Tile(views.weak),
            Tile(views.strong),
            Tile(views.mixed, outline=views.box, note="" if views.box.any() else "no box drawn"),
        ]
        if views.unmasked is not None and views.masked is not None:
            note = "" if views.masks else "not masked"
            row += [Tile(views.unmasked), Tile(views.masked, note=note)]
        rows.append(row)
    titles = ["labeled + mask", "weak", "strong", "strong + CutMix", "before masking", "masked"]
    caption = (
        f"{grid.spec.name} {variant} on {grid.setting.name}, split {cell.column}, seed {seed}, "
        f"step 0, crop {cell.training.config.data.crop}. Rows pair a labeled with an unlabeled "
        "image; black is padding and what is dropped (the mean color, to a network). "
        "Yellow: the CutMix box, from the neighboring row's image. "
    )
    if len(rows[0]) == len(titles):
        caption += (
            f"Masking: patches of {masking.patch}, {masking.theta:.0%} of them, on "
            f"{masking.probability:.0%} of the images. There is no network here: every valid "
            "pixel counts as reliable; in training only reliable ones are dropped."
        )
    names = class_names(cell.training.config.data, locations)
    try:
        draw_sheet(rows, titles[: len(rows[0])], names, caption, out)
    except OSError as error:
        raise InputError(
            f"the picture cannot be written: {error.strerror}",
            file=out,
            key="--out",
            remedy="give a folder that exists and may be written to",
        ) from error
