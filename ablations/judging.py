"""Takes a command line; has selectors judged on identical predictions. ``csl select``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ablations import views
from ablations.request import DEFAULT_STORE, StoreOption, WorkOption
from csl.errors import InputError
from csl.locations import Locations
from results.store import Store


class Images(StrEnum):
    """Which list of a training's images is predicted."""

    val = "val"
    unlabeled = "unlabeled"


def select(
    run: Annotated[
        str | None, typer.Argument(help="A training's name or the start of it (csl runs).")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    work: WorkOption = None,
    data_root: Annotated[
        Path | None, typer.Option(envvar="CSL_DATA_ROOT", help="The dataset's folder.")
    ] = None,
    splits_root: Annotated[
        Path | None, typer.Option(help="The split lists' folder, if elsewhere.")
    ] = None,
    logits: Annotated[
        Path | None, typer.Option(help="Instead of RUN: a .npz of logits and truth.")
    ] = None,
    selectors: Annotated[
        str, typer.Option(help="Names of selection.selector, separated by commas.")
    ] = "csl,threshold",
    images: Annotated[Images, typer.Option(help="Which of the training's images.")] = Images.val,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    image: Annotated[
        int | None, typer.Option(min=0, help="Shown in Figure 1; default: the most often wrong.")
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(help="Another training whose pseudo-labels Figure 7 has; may be repeated."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, max=16, help="Images of Figure 7.")] = 4,
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for Table 9, Figures 1 and 7, reliability diagram."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Put identical predictions through several selectors: who picks what is correct?

    Sampling rate, accuracy and recall per class (Table 9), how well each feature tells right from
    wrong, and calibration."""
    from ablations.qualitative import draw_pseudo_labels
    from ablations.select import (
        chosen_selectors,
        examine,
        print_report,
        report_object,
        saved_subject,
        stored_subject,
        write_report,
    )

    names = chosen_selectors(selectors)
    if (run is None) == (logits is None):
        raise InputError(
            "give either a training or logits", key="RUN", remedy="csl select RUN, or --logits FILE"
        )
    if beside and (logits is not None or out is None):
        raise InputError(
            "Figure 7 is drawn of stored trainings, into a folder",
            key="--beside",
            value=beside[0],
            remedy="csl select RUN --beside OTHER --out FOLDER",
        )
    others = []
    if logits is not None:
        subject = saved_subject(logits, limit)
    else:
        assert run is not None, "one of the two is given"
        locations = Locations(data_root, splits_root)
        subject, *others = (
            stored_subject(name, Store(store, work), locations, images.value, limit)
            for name in (run, *(beside or ()))
        )
    report = examine(subject, names, image)
    written: tuple[Path, ...] = ()
    if out is not None:
        written = write_report(out, report)
        if run is not None:
            written += draw_pseudo_labels([*others, subject], rows, out)
    seen = report_object(report)
    views.show_either(seen, as_json, lambda console: print_report(console, seen))
    if not as_json:
        for path in written:
            print(path)
