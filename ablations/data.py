"""Takes ``csl data`` command lines; gives datasets checked, prepared and split."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ablations.show import show
from csl.data.layouts import LAYOUTS
from csl.errors import InputError
from csl.locations import Locations

if TYPE_CHECKING:
    from csl.data.prepare.masks import Job

data_app = typer.Typer(
    help="Check a dataset, prepare its masks, draw its splits.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
prepare_app = typer.Typer(
    help="Make the masks that the split lists name, once.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
data_app.add_typer(prepare_app, name="prepare")
data_app.command(epilog="Example: csl data show --setting voc-animals --data-root DIR --out s.png")(
    show
)

DataRootOption = Annotated[
    Path | None, typer.Option(envvar="CSL_DATA_ROOT", help="The dataset's folder.")
]
SplitsRootOption = Annotated[
    Path | None, typer.Option(help="The split lists' folder, if elsewhere.")
]
Begin = Callable[[int], Callable[[], object]]


@data_app.command(epilog="Example: csl data check --setting voc-animals --data-root DIR")
def check(
    setting: Annotated[
        str | None, typer.Option(help="A packaged setting or a .yaml file: dataset and splits.")
    ] = None,
    data_root: DataRootOption = None,
    splits_root: SplitsRootOption = None,
    splits: Annotated[
        str | None, typer.Option(help="Only these of the setting's splits: 1/16,1/2.")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Override key=value; may be repeated.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Keeps what was seen of unchanged files.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look at every file that a setting's splits name; exit 2 if one is at fault.

    Shows what the splits hold: classes, sizes, fingerprints. Without --setting, it says what to
    download for each dataset and where to put it."""
    from ablations.data_views import print_report, report_object
    from ablations.layers import resolve_setting
    from ablations.spec import load_setting
    from csl.config import ShapesData
    from csl.data.check import check as look

    if setting is None:
        raise InputError(
            "no setting was given",
            key="--setting",
            remedy="name the one you want to run (such as voc-animals). What each dataset needs:\n"
            + "\n".join(f"  {layout.title}: {layout.download}" for layout in LAYOUTS.values()),
        )
    where, file = load_setting(setting)
    data = resolve_setting((where, file), tuple(assignments or ())).data
    if isinstance(data, ShapesData):
        raise InputError(
            "this setting's data is generated: there is nothing to check",
            key="--setting",
            value=setting,
            remedy="name a setting of a dataset of files",
        )
    folders = _chosen(splits, where.splits, file)
    with _progress("checking") as begin:
        report = look(data, folders, Locations(data_root, splits_root), cache, begin)
    if as_json:
        print(json.dumps(report_object(report), indent=2, ensure_ascii=False, default=str))
    else:
        print_report(Console(width=None if sys.stdout.isatty() else 200), report)
    if report.faults:
        raise typer.Exit(2)


def _chosen(splits: str | None, known: dict[str, str], file: str) -> list[str]:
    """The folders of the splits that are asked for, by the setting's names."""
    names = list(known) if splits is None else [name.strip() for name in splits.split(",")]
    for name in names:
        if name not in known:
            raise InputError(
                "the setting has no such split",
                file=file,
                key="--splits",
                value=name,
                remedy=f"use one of {', '.join(known)}",
            )
    return list(dict.fromkeys(known[name] for name in names))


@prepare_app.command(epilog="Example: csl data prepare voc --data-root DIR --sbd benchmark_RELEASE")
def voc(
    data_root: DataRootOption = None,
    sbd: Annotated[
        Path | None, typer.Option(help="SBD's benchmark_RELEASE, for the augmented set.")
    ] = None,
) -> None:
    """Put index masks into SegmentationClass: from its colors, SegmentationClassAug and SBD.

    VOC's own mask wins over SBD's. Colored originals move to SegmentationClassColor."""
    from csl.data.prepare.voc import voc_jobs

    _prepare(voc_jobs(LAYOUTS["voc"].locate(data_root), sbd))


@prepare_app.command(epilog="Example: csl data prepare cityscapes --data-root DIR")
def cityscapes(data_root: DataRootOption = None) -> None:
    """Write *_labelTrainIds.png beside every *_labelIds.png that lacks one."""
    from csl.data.prepare.cityscapes import cityscapes_jobs

    _prepare(cityscapes_jobs(LAYOUTS["cityscapes"].locate(data_root)))


@prepare_app.command(epilog="Example: csl data prepare coco --data-root DIR")
def coco(
    data_root: DataRootOption = None,
    annotations: Annotated[
        list[Path] | None,
        typer.Option(help="Instances files; default: those of train2017 and val2017."),
    ] = None,
) -> None:
    """Draw masks/<id>.png from the instances files: background and 80 things."""
    from csl.data.prepare.coco import coco_jobs

    _prepare(coco_jobs(LAYOUTS["coco"].locate(data_root), annotations or ()))


def _prepare(jobs: "Sequence[Job]") -> None:
    from csl.data.prepare.masks import make_masks, refuse_faults

    with _progress("masks") as begin:
        summary = make_masks(jobs, begin(len(jobs)))
    print(f"{summary.written} masks written, {summary.kept} were there already.")
    refuse_faults(summary)


@data_app.command(
    epilog="Example: csl data split --data-root DIR --labeled 1/16,1/8,1/4 --nested --val 1/5"
)
def split(
    labeled: Annotated[
        str, typer.Option(help="How many images are labeled: 92 or 1/16; several: 1/16,1/8.")
    ],
    data_root: DataRootOption = None,
    splits_root: SplitsRootOption = None,
    dataset: Annotated[str, typer.Option(help="folder, voc, cityscapes or coco.")] = "folder",
    name: Annotated[
        str | None, typer.Option(help="The split's folder; default: its size, 1_16.")
    ] = None,
    val: Annotated[
        str | None, typer.Option(help="Hold out so many: 100 or 1/5; default: val as it is.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds, equal lists.")] = 0,
    nested: Annotated[
        bool, typer.Option("--nested", help="Smaller splits lie inside larger ones.")
    ] = False,
    balanced: Annotated[
        bool, typer.Option("--balanced", help="Choose images so that classes are equally often.")
    ] = False,
) -> None:
    """Draw labeled and unlabeled lists; sizes and shares are of the images that have masks."""
    from csl.data.split import Wish, draw_splits, layout_of, write_lists

    sizes = tuple(size.strip() for size in labeled.split(","))
    wish = Wish(sizes, name, val, seed, nested, balanced)
    layout = layout_of(dataset)
    with _progress("masks") as begin:
        lists = draw_splits(layout, Locations(data_root, splits_root), wish, begin)
    written, _ = write_lists(lists)
    for file, entries in lists.items():
        state = "written" if file in written else "there already, the same"
        print(f"{file}: {len(entries)} images, {state}")


@contextmanager
def _progress(what: str) -> Iterator[Begin]:
    """A bar on standard error, if that is a terminal, begun with how many things there are."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:

        def begin(total: int) -> Callable[[], object]:
            task = bar.add_task(what, total=total)
            return lambda: bar.advance(task)

        yield begin
