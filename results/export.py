"""Takes a store; gives one flat row per attempt, for pandas and spreadsheets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from results.columns import EVALUATIONS, header_object, with_parts
from results.schema import Header
from results.store import Store, latest
from results.upkeep import read_whole


def attempts_table(store: Store) -> pa.Table:
    """Every readable attempt by identity and time; what has parts is one column per part.

    ``counts`` says whether it is the attempt that stands for its training in tables; lists are
    joined by ``; ``; ``best_iou:<class>`` and ``last_iou:<class>`` are in percent.

    Raises:
        StoreError: the store is out of reach.
    """
    counting = {header.attempt for header in latest(store.headers()).values()}
    rows: dict[str, dict[str, Any]] = {}
    for table in read_whole(store):
        without_bulk = table.drop_columns(["curve", "failure_detail", "log_tail"])
        scores = with_parts(without_bulk, ["epoch", "mean_iou", "class_iou"])
        for row in scores.to_pylist():
            rows[row["attempt"]] = _flat(row, counts=row["attempt"] in counting)
    ordered = sorted(
        rows.values(),
        key=lambda row: (row["identity"], row["provenance_finished_at"], row["attempt"]),
    )
    names = dict.fromkeys(name for row in ordered for name in row)
    return pa.table({name: [row.get(name) for row in ordered] for name in names})


def runs_frame(headers: Sequence[Header]) -> pd.DataFrame:
    """A row per header, nothing else read; what has parts is one column per part."""
    counting = {header.attempt for header in latest(headers).values()}
    rows = []
    for header in headers:
        row = header_object(header) | {"configuration": json.loads(header.configuration)}
        for score in EVALUATIONS:
            epoch, mean_iou = row.pop(score) or (None, None)
            row |= {f"{score}_epoch": epoch, f"{score}_mean_iou": mean_iou}
        row["pseudo_label_scores"] = vars(header.pseudo_label_scores)
        rows.append(row | {"counts": header.attempt in counting})
    frame = pd.json_normalize(rows)
    for time in ("provenance.started_at", "provenance.finished_at"):
        if time in frame:
            frame[time] = pd.to_datetime(frame[time], utc=True, format="ISO8601")
    return frame


def write_table(table: pa.Table, path: Path) -> None:
    """Write it as .csv or .parquet.

    Raises:
        OSError: the file cannot be written.
    """
    if path.suffix == ".csv":
        pc.write_csv(table, path)
    else:
        pq.write_table(table, path)


def _flat(row: dict[str, Any], *, counts: bool) -> dict[str, Any]:
    flat: dict[str, Any] = {"counts": counts}
    classes = row.pop("class_names")
    scored = row.pop("scored_classes")
    flat["scored_classes"] = "; ".join(classes[k] for k in scored)
    for name, value in row.items():
        if name in EVALUATIONS:
            flat[f"{name}_epoch"] = value and value["epoch"]
            flat[f"{name}_mean_iou"] = value and value["mean_iou"]
        elif isinstance(value, dict):
            flat |= {f"{name}_{key}": _cell(part) for key, part in value.items()}
        else:
            flat[name] = _cell(value)
    for name in EVALUATIONS:
        if row[name] is not None:
            pairs = zip(classes, row[name]["class_iou"], strict=True)
            flat |= {f"{name}_iou:{label}": iou for label, iou in pairs}
    return flat


def _cell(value: Any) -> Any:
    return "; ".join(value) if isinstance(value, list) else value
