"""Takes a stored training or saved logits; gives how well each selector picks what is correct."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ablations.documents import explain
from ablations.out import out_folder
from ablations.views import without_nan
from csl.config import SelectionConfig, TrainingConfig
from csl.data.lists import SplitLists, open_lists
from csl.errors import InputError, NotANumberError
from csl.lab import FEATURES, Judged, Predictions, judge, network_predictions, saved_predictions
from csl.locations import Locations
from csl.selection import SELECTORS
from results.figures import FeaturePlane, draw_feature_plane, draw_reliability
from results.schema import Record
from results.selection import (
    Axis,
    Calibration,
    Rates,
    aupr,
    auroc,
    calibration,
    class_rates,
    mean_rates,
    overall_rates,
)
from results.store import Store

Images = Literal["val", "unlabeled"]
RATES = ("sampling", "accuracy", "recall")
AXES: tuple[Axis, Axis] = ("predicted", "true")

_SHORT = 5  # letters of a class's name in the terminal, as in Table 9
_WIDEST = 4000


@dataclass(frozen=True)
class Subject:
    """Whose predictions are judged.

    Args:
        name: of the training, or the file of logits.
        title: what a picture calls it: the variant.
        predictions: its images.
        config: parameters of every selector.
        class_names: [K].
        scored: the classes that a mean is over.
    """

    name: str
    title: str
    predictions: Predictions
    config: SelectionConfig
    class_names: tuple[str, ...]
    scored: tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """What the selectors made of a subject's predictions."""

    subject: Subject
    judged: Judged
    calibration: Calibration


@dataclass(frozen=True)
class StoredTraining:
    """A finished training whose network is in the store, and whose lists are at hand."""

    record: Record
    config: TrainingConfig
    lists: SplitLists
    checkpoint: Path


def stored_training(run: str, store: Store, locations: Locations) -> StoredTraining:
    """A training by its name or the start of it.

    Raises:
        StoreError: no training is called so, or several are; or the store has no work folder.
        InputError: its checkpoint or data is missing.
    """
    record = store.find(run)
    checkpoint = store.work / "checkpoints" / record.identity / "best.pt"
    if not checkpoint.is_file():
        raise InputError(
            "the training's network is not in the store",
            file=checkpoint,
            key="RUN",
            value=record.identity,
            remedy="name a finished training whose --work folder is at hand (csl runs)",
        )
    config = _configuration(record)
    lists = open_lists(config.data, record.split, locations)
    if lists.content_hash != record.split_hash:
        raise InputError(
            "these are not the lists that it was trained with",
            key="--data-root",
            value=f"split {record.split}: {lists.content_hash}, not {record.split_hash}",
            remedy="give the dataset and the split lists of the training",
        )
    return StoredTraining(record, config, lists, checkpoint)


def stored_subject(
    run: str, store: Store, locations: Locations, images: Images, limit: int | None
) -> Subject:
    """The best epoch's network of a stored training on its own lists.

    Raises:
        StoreError: no training is called so, or several are.
        InputError: its checkpoint, data or ground truth is missing.
    """
    found = stored_training(run, store, locations)
    config = found.config
    return Subject(
        found.record.identity,
        f"{_variant(found.record.launched_as)} ({found.record.identity[:6]})",
        network_predictions(config, found.lists, locations, found.checkpoint, images, limit),
        config.selection,
        found.record.class_names,
        config.scored_classes,
    )


def _variant(launched_as: str) -> str:
    """The variant of "table5/+M_i/1/16/seed 0"; what was no grid's keeps its whole name."""
    parts = launched_as.split("/")
    return parts[1] if len(parts) > 2 else launched_as


def saved_subject(path: Path, limit: int | None) -> Subject:
    """Logits from a file, with the default parameters of every selector; every class is scored.

    Raises:
        InputError: the file does not hold them.
    """
    predictions = saved_predictions(path, limit)
    classes = tuple(range(predictions.classes))
    names = tuple(f"class {k}" for k in classes)
    return Subject(str(path), path.name, predictions, SelectionConfig(), names, classes)


def chosen_selectors(text: str) -> tuple[str, ...]:
    """Names separated by commas.

    Raises:
        InputError: one is unknown or named twice.
    """
    names = tuple(part.strip() for part in text.split(","))
    for index, name in enumerate(names):
        if name not in SELECTORS or name in names[:index]:
            raise InputError(
                "named twice" if name in SELECTORS else "not a selector",
                key="--selectors",
                value=name,
                remedy=f"choose different ones from {', '.join(SELECTORS)}",
            )
    return names


def examine(subject: Subject, selectors: Sequence[str], image: int | None) -> Report:
    """Judge the predictions.

    Raises:
        InputError: there is no such image, or a prediction is not a number.
    """
    count = len(subject.predictions.names)
    if image is not None and image >= count:
        raise InputError(
            "there is no such image",
            key="--image",
            value=image,
            remedy=f"give a number from 0 to {count - 1}",
        )
    try:
        judged = judge(subject.predictions, subject.config, selectors, image)
    except NotANumberError as error:
        raise InputError(
            f"the predictions of {subject.name} cannot be judged: {error}",
            remedy="name a training, or logits, without NaN and infinities",
        ) from error
    if not judged.confusion.sum():
        raise InputError(
            f"no pixel of {subject.name} has a true class",
            remedy="give images with ground truth",
        )
    confidence = 1 + judged.features[FEATURES.index("p_max")]
    return Report(subject, judged, calibration(confidence, judged.correct))


def report_object(report: Report) -> dict[str, Any]:
    """The report as one JSON object; rates in percent, the other scores in [0, 1].

    Per class, ``predicted`` is over the pixels of that pseudo-label and ``true`` over those of
    that ground truth; ``mean`` is over the scored classes by prediction, ``overall`` over pixels.
    A rate that has no pixel to be of is null.
    """
    subject, judged, seen = report.subject, report.judged, report.calibration
    features = zip(FEATURES, judged.features, strict=True)
    content: dict[str, Any] = without_nan(
        {
            "subject": subject.name,
            "images": len(subject.predictions.names),
            "images_without_truth": judged.unscored,
            "pixels": int(judged.confusion.sum()),
            "correct": 100 * float(judged.confusion.trace() / judged.confusion.sum()),
            "selectors": {name: _rates_object(report, name) for name in judged.selected},
            "features": {
                name: {"auroc": auroc(values, judged.correct), "aupr": aupr(values, judged.correct)}
                for name, values in features
            },
            "feature_pixels": len(judged.correct),
            "calibration": {"expected_error": seen.error, "bins": _bins(seen)},
            "figure_image": {"index": judged.plane.index, "name": judged.plane.name},
        }
    )
    return content


def print_report(console: Console, report: dict[str, Any]) -> None:
    """Table 9 of a report's object: a line per rate and selector, a column per class."""
    rows = {name: each["classes"]["predicted"] for name, each in report["selectors"].items()}
    first = next(iter(rows.values()))
    shown = [i for i, each in enumerate(first) if each["scored"] and each["sampling"] is not None]
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("percent", no_wrap=True)
    table.add_column("selector", no_wrap=True)
    for i in shown:
        table.add_column(Text(_short(first[i]["class"])), justify="right", no_wrap=True)
    for heading in ("mean", "overall"):
        table.add_column(heading, justify="right", no_wrap=True)
    for rate in RATES:
        for name, classes in rows.items():
            numbers = [classes[i] for i in shown]
            numbers += [report["selectors"][name][which] for which in ("mean", "overall")]
            table.add_row(rate, name, *(_number(each[rate], 1) for each in numbers))
        table.add_section()
    unscored = report["images_without_truth"]
    unscored = f" ({unscored} without ground truth)" if unscored else ""
    # Numbers are never cut: in a narrow terminal the lines wrap.
    Console(file=console.file, width=_WIDEST).print(table)
    console.print(
        "Classes are the predicted ones. mean: of the scored classes that have the rate; "
        "overall: over pixels.\n"
        f"{report['images']} images{unscored}, {report['pixels']} pixels, "
        f"{report['correct']:.1f} % correct; "
        f"expected calibration error {100 * report['calibration']['expected_error']:.1f} %.\n",
        highlight=False,
        markup=False,
    )
    scores = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for heading in ("feature", "AUROC", "AUPR"):
        scores.add_column(heading, justify="left" if heading == "feature" else "right")
    for name, each in report["features"].items():
        scores.add_row(name, _number(each["auroc"], 4), _number(each["aupr"], 4))
    console.print(scores)


def write_report(folder: Path, report: Report) -> tuple[Path, ...]:
    """Write table9.csv, figure1.png, figure1.pdf and reliability.png; gives their paths.

    Raises:
        InputError: the folder cannot be written to.
    """
    plane = report.judged.plane
    names = ("table9.csv", "figure1.png", "figure1.pdf", "reliability.png")
    table, png, pdf, diagram = paths = tuple(folder / name for name in names)
    figure = FeaturePlane(
        f"{plane.name} (image {plane.index})",
        plane.residual,
        plane.dispersion,
        plane.concentration,
        plane.correct,
        plane.grid_residual,
        plane.grid_dispersion,
        plane.grid_reliable,
        plane.grid_concentration,
        plane.grid_concentration_reliable,
        report.subject.config.tau,
    )
    with out_folder(folder):
        _write_csv(table, report_object(report))
        draw_feature_plane(figure, (png, pdf))
        draw_reliability(report.calibration, (diagram,))
    return paths


def _configuration(record: Record) -> TrainingConfig:
    """What was stored; settings that came later have their defaults."""
    try:
        return TrainingConfig.model_validate_json(record.configuration)
    except ValidationError as error:
        raise explain(error, f"record {record.identity}") from error


def _rates_object(report: Report, name: str) -> dict[str, Any]:
    subject, everything = report.subject, report.judged.confusion
    selected = report.judged.selected[name]
    by_axis = {axis: class_rates(everything, selected, axis) for axis in AXES}
    return {
        "overall": asdict(overall_rates(everything, selected)),
        "mean": asdict(mean_rates(by_axis["predicted"], subject.scored)),
        "classes": {axis: _classes(subject, rates) for axis, rates in by_axis.items()},
    }


def _classes(subject: Subject, rates: Sequence[Rates]) -> list[dict[str, Any]]:
    return [
        {"class": subject.class_names[k], "scored": k in subject.scored, **asdict(each)}
        for k, each in enumerate(rates)
    ]


def _bins(seen: Calibration) -> list[dict[str, Any]]:
    columns = zip(seen.count, seen.confidence, seen.accuracy, strict=True)
    return [{"pixels": n, "confidence": c, "accuracy": a} for n, c, a in columns]


def _write_csv(path: Path, report: dict[str, Any]) -> None:
    """One line per selector, axis and class; an absent rate is empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("selector", "axis", "class", "scored", *RATES))
        for name, each in report["selectors"].items():
            for axis in ("mean", "overall"):
                writer.writerow((name, axis, "", "", *(each[axis][rate] for rate in RATES)))
            for axis, classes in each["classes"].items():
                for one in classes:
                    numbers = (one[rate] for rate in RATES)
                    writer.writerow((name, axis, one["class"], int(one["scored"]), *numbers))


def _short(name: str) -> str:
    return name.removeprefix("class ")[:_SHORT]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
