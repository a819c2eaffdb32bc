"""A record survives its file exactly, and a file that is no record is refused by name."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from results.columns import (
    COLUMNS,
    from_header_object,
    from_row,
    header_object,
    headers_of,
    to_table,
)
from results.schema import (
    SCHEMA_VERSION,
    EpochMetrics,
    Evaluation,
    Failure,
    ImageCounts,
    Provenance,
    PseudoLabels,
    PseudoLabelScores,
    Record,
)

counts = st.integers(0, 2**63 - 1)
text = st.text(max_size=20)
number = st.floats()
percent = st.floats(0, 100)
time = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(fold=0))


@st.composite
def images_of(draw: st.DrawFn) -> ImageCounts:
    pixels = st.integers(0, 2**31 - 1)
    rows = draw(st.lists(st.tuples(pixels, pixels, pixels, pixels), max_size=4))
    return ImageCounts(draw(counts), *(tuple(row[at] for row in rows) for at in range(4)))


evaluations = st.builds(
    Evaluation,
    epoch=counts,
    mean_iou=percent,
    class_iou=st.lists(percent | st.just(math.nan), max_size=4).map(tuple),
    confusion=st.lists(counts, max_size=4).map(tuple),
    images=images_of(),
)
pseudo_labels = st.builds(PseudoLabels, *[st.lists(counts, max_size=3).map(tuple)] * 11)
epochs = st.builds(
    EpochMetrics,
    counts,
    counts,
    *[number] * 3,
    *[st.none() | number] * 7,
    number,
    st.none() | pseudo_labels,
)
scores = st.builds(PseudoLabelScores, *[st.none() | number] * 3)
texts = st.lists(text, max_size=3).map(tuple)
provenances = st.builds(
    Provenance,
    git_commit=st.none() | text,
    git_diff=st.none() | text,
    snapshot=st.none() | text,
    packages=texts,
    devices=texts,
    gpu_driver=st.none() | text,
    workers=counts,
    started_at=time,
    finished_at=time,
    gpu_seconds=number,
    energy_joules=st.none() | number,
    ray_job=st.none() | text,
    ray_trial=st.none() | text,
    **dict.fromkeys(("code_fingerprint", "python", "platform", "host", "command"), text),
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    complete = draw(st.booleans())
    evaluation = evaluations if complete else st.none() | evaluations
    return Record(
        identity=draw(text),
        recipe=draw(text),
        status="complete" if complete else "failed",
        failure=None if complete else draw(st.sampled_from(Failure)),
        failure_detail=draw(st.none() | text),
        log_tail=draw(st.none() | text),
        launched_as=draw(text),
        setting=draw(text),
        split=draw(text),
        seed=draw(counts),
        configuration=draw(text),
        split_hash=draw(text),
        data_fingerprint=draw(text),
        weights_hash=draw(text),
        scored_classes=tuple(draw(st.lists(counts, max_size=3))),
        class_names=tuple(draw(st.lists(text, max_size=3))),
        last=draw(evaluation),
        best=draw(evaluation),
        curve=tuple(draw(st.lists(epochs, max_size=3))),
        attempt=draw(text),
        supersedes=draw(st.booleans()),
        steps=draw(counts),
        pseudo_label_scores=draw(scores),
        training_seconds=draw(number),
        resumed=draw(counts),
        provenance=draw(provenances),
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(records())
def test_round_trip_is_exact(record: Record) -> None:
    # repr, because a NaN equals nothing, not even itself.
    assert repr(from_row(to_table(record))) == repr(record)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(records())
def test_a_header_survives_json_exactly(record: Record) -> None:
    header = from_header_object(json.loads(json.dumps(header_object(record))))
    assert repr(header) == repr(record.header())


def test_every_column_says_what_it_is() -> None:
    def described(field: pa.Field) -> bool:
        kind = field.type.value_type if pa.types.is_list(field.type) else field.type
        inner = pa.types.is_struct(kind)
        own = b"description" in (field.metadata or {})
        return own and (not inner or all(described(kind.field(i)) for i in range(kind.num_fields)))

    assert [field.name for field in COLUMNS if not described(field)] == []


def test_another_schema_is_refused_by_its_version(record: Record) -> None:
    newer = to_table(record).replace_schema_metadata({"schema_version": str(SCHEMA_VERSION + 1)})
    with pytest.raises(ValueError, match=f"schema {SCHEMA_VERSION + 1}, newer"):
        from_row(newer)
    before = SCHEMA_VERSION - 1
    older = to_table(record).replace_schema_metadata({"schema_version": str(before)})
    with pytest.raises(ValueError, match=f"schema {before}, older than {SCHEMA_VERSION}"):
        from_row(older)


def test_foreign_tables_are_refused(record: Record) -> None:
    table = to_table(record)
    with pytest.raises(ValueError, match="not a training record"):
        from_row(pa.table({"a": [1]}))
    with pytest.raises(ValueError, match="not a training record"):
        from_row(table.drop_columns(["seed"]))
    with pytest.raises(ValueError, match="2 rows"):
        from_row(pa.concat_tables([table, table]))


@pytest.mark.parametrize(
    ("column", "value", "because"),
    [
        ("status", "maybe", "contradicts"),
        ("status", "failed", "contradicts"),
        ("failure", "not a number", "contradicts"),
        ("failure", "bored", "not a valid Failure"),
        ("last", None, "contradicts"),
        ("schema_version", 7, "says schema 7"),
    ],
)
def test_contradictory_content_is_refused(
    record: Record, column: str, value: object, because: str
) -> None:
    row = to_table(record).to_pylist()[0] | {column: value}
    with pytest.raises(ValueError, match=because):
        from_row(pa.Table.from_pylist([row], schema=COLUMNS))


def test_times_beyond_the_calendar_are_refused(record: Record) -> None:
    table = to_table(record)
    place = table.column("provenance").combine_chunks().flatten()
    fields = list(COLUMNS.field("provenance").type)
    late = [
        pa.array([2**62], pa.timestamp("us", tz="UTC")) if field.name == "finished_at" else values
        for field, values in zip(fields, place, strict=True)
    ]
    index = COLUMNS.get_field_index("provenance")
    beyond = table.set_column(
        index, COLUMNS.field(index), pa.StructArray.from_arrays(late, fields=fields)
    )
    with pytest.raises(ValueError, match="calendar"):
        from_row(beyond)


def test_a_header_does_not_grow_with_the_images(record: Record) -> None:
    assert record.best is not None
    many = ImageCounts(1000, *[tuple(range(1000))] * 4)
    larger = replace(record, best=replace(record.best, images=many))
    assert header_object(larger) == header_object(record)
    assert headers_of(to_table(larger)) == headers_of(to_table(record)) == (record.header(),)


@pytest.mark.parametrize("mean_iou", [math.nan, -0.1, 100.1])
def test_a_mean_that_is_no_percentage_is_refused(mean_iou: float) -> None:
    with pytest.raises(ValueError, match="percentage"):
        Evaluation(0, mean_iou, (), (), ImageCounts(0, (), (), (), ()))


def test_counts_per_image_of_different_lengths_are_refused(record: Record) -> None:
    row = to_table(record).to_pylist()[0]
    row["best"]["images"]["union"].pop()
    with pytest.raises(ValueError, match="different lengths"):
        from_row(pa.Table.from_pylist([row], schema=COLUMNS))


@pytest.mark.parametrize("which", ["started_at", "finished_at"])
def test_a_time_without_a_zone_is_a_bug(record: Record, which: str) -> None:
    with pytest.raises(AssertionError):
        replace(record.provenance, **{which: datetime(2026, 1, 1)})
