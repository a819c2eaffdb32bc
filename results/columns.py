"""Takes a record; gives its row in a Parquet file, and its header as JSON, and both back again.

The file's schema is described column by column in ``COLUMNS`` and carries those descriptions
itself, so a Parquet file explains itself without this package.
"""

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from results.schema import (
    SCHEMA_VERSION,
    EpochMetrics,
    Evaluation,
    Failure,
    Header,
    ImageCounts,
    Provenance,
    PseudoLabels,
    PseudoLabelScores,
    Record,
    Score,
)


def _field(name: str, kind: pa.DataType, what: str = "", *, optional: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=optional, metadata={"description": what} if what else None)


def _list(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", kind, nullable=False))


_STRING, _INT, _FLOAT, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_PIXELS = pa.int32()  # of one image
_TIME = pa.timestamp("us", tz="UTC")

_IMAGES = pa.struct(
    [
        _field("total", _INT, "validation images, also those in which nothing counts"),
        _field("image", _list(_PIXELS), "places in the validation list, from 0, ascending"),
        _field("class_index", _list(_PIXELS), "classes with a true or predicted pixel there"),
        _field("intersection", _list(_PIXELS), "right pixels of that class in that image"),
        _field("union", _list(_PIXELS), "true plus predicted minus right pixels likewise"),
    ]
)

_EVALUATION = pa.struct(
    [
        _field("epoch", _INT, "epoch it followed, from 1"),
        _field("mean_iou", _FLOAT, "mIoU over the scored classes, percent"),
        _field("class_iou", _list(_FLOAT), "IoU of every class, percent"),
        _field("confusion", _list(_INT), "K*K pixel counts, row-major, rows are the truth"),
        _field("images", _IMAGES, "pixel counts of each image, for intervals over images"),
    ]
)

_PSEUDO_LABELS = pa.struct(
    [
        _field(name, _list(_INT), what)
        for name, what in {
            "predicted": "pixels by predicted class",
            "correct": "those whose prediction is the truth",
            "selected": "those that are called reliable",
            "selected_correct": "those that are both",
            "confidence_correct": "right ones by (1-p)/p, bin i of 64 begins at 2^((i-55)/2)",
            "confidence_wrong": "wrong ones likewise",
            "dispersion_correct": "right ones by -v of Eq. 7, bin i of 64 begins at 2^(i-64)",
            "dispersion_wrong": "wrong ones likewise",
            "calibration_pixels": "pixels by p_max, 15 equal bins",
            "calibration_correct": "right ones likewise",
            "calibration_confidence": "sums of p_max likewise, in millionths",
        }.items()
    ]
)

_PSEUDO_LABEL_SCORES = pa.struct(
    [
        _field("sampling_rate", _FLOAT, "selected of valid pixels, percent", optional=True),
        _field("accuracy", _FLOAT, "right of selected ones, percent", optional=True),
        _field("recall", _FLOAT, "selected of right ones, percent", optional=True),
    ]
)

_EPOCH = pa.struct(
    [
        _field("epoch", _INT, "from 1"),
        _field("step", _INT, "iterations done at its end"),
        _field("seconds", _FLOAT, "wall-clock time of the epoch"),
        _field("learning_rate", _FLOAT, "of the backbone at its end"),
        _field("loss", _FLOAT, "mean total loss"),
        _field("loss_labeled", _FLOAT, "L_x", optional=True),
        _field("loss_strong", _FLOAT, "L_s", optional=True),
        _field("loss_masked", _FLOAT, "L_m", optional=True),
        _field("loss_feature", _FLOAT, "L_fp", optional=True),
        _field("sampling_rate", _FLOAT, "selected unlabeled pixels, percent", optional=True),
        _field("pseudo_label_accuracy", _FLOAT, "of the selected, percent", optional=True),
        _field("mean_iou", _FLOAT, "validation mIoU, percent, if evaluated", optional=True),
        _field("data_wait_seconds", _FLOAT, "part of seconds spent waiting for batches"),
        _field("pseudo_labels", _PSEUDO_LABELS, "of known truth, if any", optional=True),
    ]
)

_PROVENANCE = pa.struct(
    [
        _field("git_commit", _STRING, "of the checkout, if any", optional=True),
        _field("git_diff", _STRING, "hash of what was not committed, if any", optional=True),
        _field(
            "code_fingerprint",
            _STRING,
            "hash of the deciding sources; joined by + if several trained it",
        ),
        _field("snapshot", _STRING, "copy of the sources it ran from, if any", optional=True),
        _field("python", _STRING, "version"),
        _field("packages", _list(_STRING), "name==version of those that decide numbers"),
        _field("platform", _STRING, "operating system and machine"),
        _field("host", _STRING, "where the first worker ran, or who recorded its loss"),
        _field("devices", _list(_STRING), "each worker's accelerator or CPU model, if known"),
        _field("gpu_driver", _STRING, "version, if there is a GPU", optional=True),
        _field("workers", _INT, "processes that trained together"),
        _field("started_at", _TIME, "when the attempt began"),
        _field("finished_at", _TIME, "when the attempt ended"),
        _field("gpu_seconds", _FLOAT, "training_seconds times the GPUs of all workers"),
        _field("energy_joules", _FLOAT, "of the devices, if they report it", optional=True),
        _field("ray_job", _STRING, "Ray's name for the run, if on Ray", optional=True),
        _field("ray_trial", _STRING, "Ray's name for the trial, if on Ray", optional=True),
        _field("command", _STRING, "the command line that launched it"),
    ]
)

COLUMNS = pa.schema(
    [
        _field("schema_version", _INT, "version of these columns"),
        _field("identity", _STRING, "names the training by content, 16 hex digits"),
        _field("recipe", _STRING, "names what was asked, without the data, 16 hex digits"),
        _field("status", _STRING, "complete or failed"),
        _field("failure", _STRING, "the failure's name, if failed", optional=True),
        _field("failure_detail", _STRING, "what the failing code said", optional=True),
        _field("log_tail", _STRING, "the end of what the workers printed", optional=True),
        _field("launched_as", _STRING, "first table cell that asked for it"),
        _field("setting", _STRING, "name of the setting it was launched with"),
        _field("split", _STRING, "labeled list's reference in the dataset"),
        _field("seed", _INT, "decides every draw"),
        _field("configuration", _STRING, "fully resolved, canonical JSON"),
        _field("split_hash", _STRING, "content hash of the split lists"),
        _field("data_fingerprint", _STRING, "fingerprint of the dataset"),
        _field("weights_hash", _STRING, "hash of the start weights, empty from scratch"),
        _field("scored_classes", _list(_INT), "classes that mIoU averages over"),
        _field("class_names", _list(_STRING), "name of every class"),
        _field("last", _EVALUATION, "evaluation after the last epoch", optional=True),
        _field("best", _EVALUATION, "evaluation of the best epoch", optional=True),
        _field("curve", _list(_EPOCH), "one line per epoch"),
        _field("attempt", _STRING, "names this attempt, 32 hex digits"),
        _field("supersedes", _BOOL, "launched to replace complete attempts, so it counts"),
        _field("steps", _INT, "optimizer steps done"),
        _field("pseudo_label_scores", _PSEUDO_LABEL_SCORES, "of the last epoch"),
        _field("training_seconds", _FLOAT, "wall-clock time over all resumptions"),
        _field("resumed", _INT, "times it continued from a checkpoint"),
        _field("provenance", _PROVENANCE, "which code ran where and when"),
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)


EVALUATIONS = ("last", "best")
_TIMES = tuple(field.name for field in _PROVENANCE if pa.types.is_timestamp(field.type))
_SEVERAL = tuple(field.name for field in _PROVENANCE if pa.types.is_list(field.type))


def to_table(record: Record) -> pa.Table:
    """The record as one row of ``COLUMNS``; exact, including NaN and infinite losses."""
    row = vars(record) | {
        "schema_version": SCHEMA_VERSION,
        "last": _evaluation_row(record.last),
        "best": _evaluation_row(record.best),
        "curve": [asdict(epoch) for epoch in record.curve],
        "pseudo_label_scores": vars(record.pseudo_label_scores),
        "provenance": vars(record.provenance),
    }
    return pa.Table.from_pylist([row], schema=COLUMNS)


def check_schema(schema: pa.Schema) -> None:
    """Refuse a file whose columns this version does not know.

    Raises:
        ValueError: not a record's schema, or another version's.
    """
    version = (schema.metadata or {}).get(b"schema_version", b"")
    if not version.isdigit():
        raise ValueError("it is not a training record: no schema version")
    check_version(int(version))
    if not schema.equals(COLUMNS):
        raise ValueError(f"it is not a training record: its columns are not schema {int(version)}")


def check_version(version: int) -> None:
    """Refuse what another version has written.

    Raises:
        ValueError: it is not this version's.
    """
    if version != SCHEMA_VERSION:
        age = "newer" if version > SCHEMA_VERSION else "older"
        raise ValueError(f"it has schema {version}, {age} than {SCHEMA_VERSION} known here")


def from_row(table: pa.Table) -> Record:
    """The record of a one-row table; the inverse of ``to_table``.

    Raises:
        ValueError: another schema, more or fewer rows than one, or contradictory content.
    """
    check_schema(table.schema)
    if table.num_rows != 1:
        raise ValueError(f"it has {table.num_rows} rows, a record is one")
    (row,) = _rows(table)
    version = row.pop("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(f"its column says schema {version}, its metadata {SCHEMA_VERSION}")
    row |= {
        "scored_classes": tuple(row["scored_classes"]),
        "class_names": tuple(row["class_names"]),
        "last": _evaluation(row["last"]),
        "best": _evaluation(row["best"]),
        "curve": tuple(_epoch(epoch) for epoch in row["curve"]),
    }
    return Record(**row)


def headers_of(table: pa.Table) -> tuple[Header, ...]:
    """The header of each row, exactly as the columns have it.

    Raises:
        ValueError: contradictory content.
    """
    shared = table.select([field.name for field in fields(Header)])
    rows = _rows(with_parts(shared, [field.name for field in fields(Score)]))
    for row in rows:
        for name in EVALUATIONS:
            row[name] = None if row[name] is None else Score(**row[name])
    return tuple(Header(**row) for row in rows)


def with_parts(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Of each evaluation the named parts alone: its counts take longer to decode than the rest."""
    for name in EVALUATIONS:
        whole = table.column(name).combine_chunks()
        parts = [whole.field(part) for part in names]
        column = pa.StructArray.from_arrays(parts, names=names, mask=whole.is_null())
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows whose failure and provenance are what they are in a header."""
    try:
        rows: list[dict[str, Any]] = table.to_pylist()
    except OverflowError as error:
        raise ValueError("it has a time that no calendar has") from error
    for row in rows:
        place = row["provenance"]
        for time in _TIMES:
            place[time] = place[time].astimezone(UTC)
        row["provenance"] = _provenance(place)
        row["pseudo_label_scores"] = PseudoLabelScores(**row["pseudo_label_scores"])
        row["failure"] = None if row["failure"] is None else Failure(row["failure"])
    return rows


def header_object(header: Header) -> dict[str, Any]:
    """A header as a JSON object; times in ISO 8601."""
    content = {field.name: getattr(header, field.name) for field in fields(Header)}
    place = dict(vars(header.provenance))
    for time in _TIMES:
        place[time] = place[time].isoformat()
    for score in EVALUATIONS:
        seen = content[score]
        content[score] = None if seen is None else [seen.epoch, seen.mean_iou]
    return content | {
        "provenance": place,
        "pseudo_label_scores": [*vars(header.pseudo_label_scores).values()],
    }


def from_header_object(content: dict[str, Any]) -> Header:
    """The inverse of ``header_object``.

    Raises:
        ValueError: contradictory content.
    """
    place = content["provenance"]
    for time in _TIMES:
        place[time] = datetime.fromisoformat(place[time])
    for score in EVALUATIONS:
        if content[score] is not None:
            content[score] = Score(*content[score])
    if content["failure"] is not None:
        content["failure"] = Failure(content["failure"])
    content["provenance"] = _provenance(place)
    content["pseudo_label_scores"] = PseudoLabelScores(*content["pseudo_label_scores"])
    return Header(**content)


def _provenance(row: dict[str, Any]) -> Provenance:
    for several in _SEVERAL:
        row[several] = tuple(row[several])
    return Provenance(**row)


def _epoch(row: dict[str, Any]) -> EpochMetrics:
    counts = row["pseudo_labels"]
    if counts is not None:
        counts = PseudoLabels(**{name: tuple(column) for name, column in counts.items()})
    return EpochMetrics(**row | {"pseudo_labels": counts})


def _evaluation(row: dict[str, Any] | None) -> Evaluation | None:
    if row is None:
        return None
    images = row["images"]
    total = images.pop("total")
    columns = {name: tuple(column) for name, column in images.items()}
    return Evaluation(
        epoch=row["epoch"],
        mean_iou=row["mean_iou"],
        class_iou=tuple(row["class_iou"]),
        confusion=tuple(row["confusion"]),
        images=ImageCounts(total, **columns),
    )


def _evaluation_row(evaluation: Evaluation | None) -> dict[str, Any] | None:
    if evaluation is None:
        return None
    return vars(evaluation) | {"images": vars(evaluation.images)}
