"""Takes one finished attempt at a training; gives its row in the store, and back again.

A record is everything a table, a figure or a report may ever ask about a training: it is written
once and never changed. Its header is the small part that plans and tables ask for. The file's
schema is described column by column in ``COLUMNS`` and carries those descriptions itself, so a
Parquet file explains itself without this package.
"""

from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

import pyarrow as pa

SCHEMA_VERSION = 3
"""Raised whenever a column appears, disappears or changes meaning."""

Status = Literal["complete", "failed"]


class Failure(StrEnum):
    """Why an attempt ended without a result (design: failures have names)."""

    PREEMPTED = "preempted"
    NODE_LOST = "node lost"
    OUT_OF_MEMORY = "out of memory"
    WORKER_CRASHED = "worker crashed"
    NOT_A_NUMBER = "not a number"
    BAD_CONFIGURATION = "bad configuration"
    BAD_DATA = "bad data"
    TIMED_OUT = "timed out"


FINAL_FAILURES = frozenset({Failure.NOT_A_NUMBER, Failure.BAD_CONFIGURATION, Failure.BAD_DATA})
"""Failures that the same training would meet again: never retried unasked."""


@dataclass(frozen=True)
class Score:
    """What an evaluation on the whole validation list comes to.

    Args:
        epoch: the epoch it followed, counted from 1.
        mean_iou: mIoU over the scored classes, percent (0 to 100).

    Raises:
        ValueError: mIoU is not a percentage.
    """

    epoch: int
    mean_iou: float

    def __post_init__(self) -> None:
        # A NaN here would silently poison every mean that a table takes.
        if not 0 <= self.mean_iou <= 100:
            raise ValueError(f"mean_iou is {self.mean_iou}, not a percentage")


@dataclass(frozen=True)
class Evaluation(Score):
    """A score with all that it is made of.

    Args:
        class_iou: IoU of every class, percent; 0 for one that is neither present nor predicted.
        confusion: pixel counts, K·K, row-major, rows are the truth.
    """

    class_iou: tuple[float, ...]
    confusion: tuple[int, ...]


@dataclass(frozen=True)
class PseudoLabelScores:
    """What an epoch's pseudo-labels come to, in percent of unlabeled pixels (Table 9).

    Args:
        sampling_rate: selected of valid; None without unlabeled images.
        accuracy: right of selected; None where no truth is known.
        recall: selected of right; None likewise.
    """

    sampling_rate: float | None
    accuracy: float | None
    recall: float | None


@dataclass(frozen=True)
class PseudoLabels:
    """Counts of an epoch's valid unlabeled pixels of known truth (Fig. 6).

    Rates, AUROC, AUPR and calibration follow from them: ``results.selection.epoch_scores``.

    Args:
        predicted, correct, selected, selected_correct: by predicted class, [K]: all, the right
            ones, those called reliable, and those that are both.
        confidence_correct, confidence_wrong: right and wrong ones by (1 - p_max) / p_max, in bins
            of half an octave, from the most confident down: bin i of 64 begins at 2^((i-55)/2).
        dispersion_correct, dispersion_wrong: likewise by minus the residual dispersion (Eq. 7), in
            bins of an octave: bin i of 64 begins at 2^(i-64).
        calibration_pixels, calibration_correct: all and the right ones by p_max, in 15 equal bins.
        calibration_confidence: the bins' sums of p_max in millionths.
    """

    predicted: tuple[int, ...]
    correct: tuple[int, ...]
    selected: tuple[int, ...]
    selected_correct: tuple[int, ...]
    confidence_correct: tuple[int, ...]
    confidence_wrong: tuple[int, ...]
    dispersion_correct: tuple[int, ...]
    dispersion_wrong: tuple[int, ...]
    calibration_pixels: tuple[int, ...]
    calibration_correct: tuple[int, ...]
    calibration_confidence: tuple[int, ...]


@dataclass(frozen=True)
class EpochMetrics:
    """One epoch's line of the training curve; None where the variant has no such term.

    Args:
        epoch: counted from 1.
        step: iterations done when the epoch ended.
        seconds: wall-clock time of the epoch.
        learning_rate: of the backbone's group, at the epoch's end.
        loss: mean total loss; the next four are its terms (L_x, L_s, L_m, L_fp).
        sampling_rate: share of unlabeled pixels that are selected, percent (Fig. 6).
        pseudo_label_accuracy: accuracy of the selected pseudo-labels, percent (Fig. 6).
        mean_iou: validation mIoU in percent; None if this epoch was not evaluated.
        data_wait_seconds: part of ``seconds`` spent waiting for batches, mean over the workers.
        pseudo_labels: counts of the unlabeled pixels of known truth; None without any.
    """

    epoch: int
    step: int
    seconds: float
    learning_rate: float
    loss: float
    loss_labeled: float | None
    loss_strong: float | None
    loss_masked: float | None
    loss_feature: float | None
    sampling_rate: float | None
    pseudo_label_accuracy: float | None
    mean_iou: float | None
    data_wait_seconds: float
    pseudo_labels: PseudoLabels | None


@dataclass(frozen=True)
class Provenance:
    """Which code ran where and when; never part of an identity.

    Args:
        git_commit: of the checkout; None outside one.
        git_diff: hash of what was not committed; None if nothing, or outside a checkout.
        code_fingerprint: hash of the sources that decide the numbers.
        snapshot: names the copy of the sources it ran from, in the store's folder ``code``; None
            if it ran from the installed ones.
        python: its version.
        packages: ``name==version`` of each package that decides numbers.
        platform: operating system and machine.
        host: where the first worker ran, or its driver, where that alone could record.
        devices: the name of each worker's accelerator or CPU; empty as recorded by a driver.
        gpu_driver: version of the GPU's driver; None without a GPU.
        workers: processes that trained together.
        started_at, finished_at: of this attempt, in UTC to the microsecond.
        gpu_seconds: ``training_seconds`` times the GPUs of all workers.
        energy_joules: what the devices used up to the last epoch, over all resumptions, by their
            share if shared; None where they do not say.
        ray_job, ray_trial: Ray's names for the run and the trial; None without Ray.
        command: the command line that launched it.
    """

    git_commit: str | None
    git_diff: str | None
    code_fingerprint: str
    snapshot: str | None
    python: str
    packages: tuple[str, ...]
    platform: str
    host: str
    devices: tuple[str, ...]
    gpu_driver: str | None
    workers: int
    started_at: datetime
    finished_at: datetime
    gpu_seconds: float
    energy_joules: float | None
    ray_job: str | None
    ray_trial: str | None
    command: str

    def __post_init__(self) -> None:
        for time in (self.started_at, self.finished_at):
            # Arrow would take a naive time for UTC without a word.
            assert time.tzinfo is not None, "times of a record are in UTC"


@dataclass(frozen=True)
class Header:
    """What plans and tables ask of one attempt, complete or failed; see ``COLUMNS`` for each field.

    Raises:
        ValueError: the status contradicts the rest (a complete attempt has both scores and no
            failure; a failed one has a failure's name).
    """

    identity: str
    recipe: str
    attempt: str
    status: Status
    failure: Failure | None
    launched_as: str
    setting: str
    split: str
    seed: int
    configuration: str
    split_hash: str
    data_fingerprint: str
    weights_hash: str
    supersedes: bool
    steps: int
    training_seconds: float
    resumed: int
    last: Score | None
    best: Score | None
    pseudo_label_scores: PseudoLabelScores
    provenance: Provenance

    def __post_init__(self) -> None:
        if self.status == "complete":
            consistent = self.failure is None and None not in (self.last, self.best)
        else:
            consistent = self.status == "failed" and self.failure is not None
        if not consistent:
            raise ValueError(
                f"status {self.status!r} contradicts failure {self.failure!r} or its evaluations"
            )


@dataclass(frozen=True)
class Record(Header):
    """All of one attempt: its header and the bulk behind it."""

    failure_detail: str | None
    log_tail: str | None
    scored_classes: tuple[int, ...]
    class_names: tuple[str, ...]
    last: Evaluation | None
    best: Evaluation | None
    curve: tuple[EpochMetrics, ...]

    def header(self) -> Header:
        """The part of it that plans and tables ask for."""
        shared = {field.name: getattr(self, field.name) for field in fields(Header)}
        return Header(**shared | {"last": _score(self.last), "best": _score(self.best)})


def _score(evaluation: Evaluation | None) -> Score | None:
    return None if evaluation is None else Score(evaluation.epoch, evaluation.mean_iou)


def _field(name: str, kind: pa.DataType, what: str = "", *, optional: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=optional, metadata={"description": what} if what else None)


def _list(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", kind, nullable=False))


_STRING, _INT, _FLOAT, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_TIME = pa.timestamp("us", tz="UTC")

_EVALUATION = pa.struct(
    [
        _field("epoch", _INT, "epoch it followed, from 1"),
        _field("mean_iou", _FLOAT, "mIoU over the scored classes, percent"),
        _field("class_iou", _list(_FLOAT), "IoU of every class, percent"),
        _field("confusion", _list(_INT), "K*K pixel counts, row-major, rows are the truth"),
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
        _field("code_fingerprint", _STRING, "hash of the sources that decide the numbers"),
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


_TIMES = tuple(field.name for field in _PROVENANCE if pa.types.is_timestamp(field.type))
_SEVERAL = tuple(field.name for field in _PROVENANCE if pa.types.is_list(field.type))


def to_table(record: Record) -> pa.Table:
    """The record as one row of ``COLUMNS``; exact, including NaN and infinite losses."""
    row = asdict(record) | {"schema_version": SCHEMA_VERSION}
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
    rows = _rows(table.select([field.name for field in fields(Header)]))
    scores = ("last", "best")
    return tuple(
        Header(**row | {name: _score(_evaluation(row[name])) for name in scores}) for row in rows
    )


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
    for score in ("last", "best"):
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
    for score in ("last", "best"):
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
    return Evaluation(
        epoch=row["epoch"],
        mean_iou=row["mean_iou"],
        class_iou=tuple(row["class_iou"]),
        confusion=tuple(row["confusion"]),
    )
