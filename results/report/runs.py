"""Takes a store; gives every attempt as a row, and what is behind it as packed JSON."""

import base64
import gzip
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pyarrow import fs

from results.columns import header_object
from results.parquet import WHOLE, RecordFile
from results.schema import Header
from results.store import Store, latest, ordered

_CURVE = ("epoch", "loss", "mean_iou", "sampling_rate", "pseudo_label_accuracy")
_BEHIND = (
    *("failure_detail", "log_tail", "class_names", "best.class_iou"),
    *(f"curve.list.element.{name}" for name in _CURVE),
)
BLOCK = 100
"""Attempts whose insides are packed together: the page unpacks so many to show one."""


@dataclass(frozen=True)
class Runs:
    """Every attempt of a store, by identity, then by when it finished.

    Args:
        headers: what each is known by.
        behind: JSON of what the page shows of it alone: curve, IoU per class, failure, log.
    """

    headers: tuple[Header, ...]
    behind: tuple[bytes, ...]

    @cached_property
    def latest(self) -> dict[str, Header]:
        """The attempt that counts of each identity."""
        return latest(self.headers)

    def rows(self) -> str:
        """The packed list of attempts: a list per column, all equally long."""
        counting = {header.attempt for header in self.latest.values()}
        unusual = _unusual(self.headers)
        columns = {
            "id": [header.attempt[:12] for header in self.headers],
            "name": [header.identity[:8] for header in self.headers],
            "as": [header.launched_as for header in self.headers],
            "setting": [header.setting for header in self.headers],
            "split": [header.split for header in self.headers],
            "seed": [header.seed for header in self.headers],
            "status": [header.failure or header.status for header in self.headers],
            "counts": [header.attempt in counting for header in self.headers],
            "best": [header.best and round(header.best.mean_iou, 2) for header in self.headers],
            "last": [header.last and round(header.last.mean_iou, 2) for header in self.headers],
            "minutes": [round(header.training_seconds / 60, 2) for header in self.headers],
            "finished": [
                f"{header.provenance.finished_at:%Y-%m-%d %H:%M}" for header in self.headers
            ],
            "unusual": [unusual[header.setting, header.configuration] for header in self.headers],
        }
        return pack(json.dumps(columns, separators=(",", ":")).encode())

    def blocks(self) -> list[str]:
        """What lies behind the attempts, ``BLOCK`` of them packed together."""
        return [
            pack(b"[" + b",".join(self._whole(index) for index in part) + b"]")
            for start in range(0, len(self.headers), BLOCK)
            for part in [range(start, min(start + BLOCK, len(self.headers)))]
        ]

    def _whole(self, index: int) -> bytes:
        header = _json(_known(self.headers[index]))
        return b'{"header":' + header + b',"behind":' + self.behind[index] + b"}"


def read_runs(store: Store) -> Runs:
    """Read every attempt, but of its bulk only what the page shows.

    Raises:
        StoreError: the store is out of reach.
    """

    def read(info: fs.FileInfo) -> list[tuple[Header, bytes]]:
        with store.files.open(info) as ranges:
            file = RecordFile(ranges, info.size, WHOLE)
            return [(header, _json(_shown(row))) for header, row in file.columns(_BEHIND)]

    behind = {header.attempt: (header, text) for header, text in store.load(store.listing, read)}
    headers = ordered(header for header, _ in behind.values())
    return Runs(headers, tuple(behind[header.attempt][1] for header in headers))


def pack(content: bytes) -> str:
    """Compressed, and spelled so that it can stand in a page."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _known(header: Header) -> dict[str, Any]:
    return header_object(header) | {"configuration": json.loads(header.configuration)}


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    best = row["best"]
    iou = [] if best is None else [round(value, 2) for value in best["class_iou"]]
    return {
        "failure": row["failure_detail"],
        "log": row["log_tail"],
        "classes": row["class_names"],
        "iou": iou,
        "curve": {name: [_short(epoch[name]) for epoch in row["curve"]] for name in _CURVE},
    }


def _flat(group: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in group.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def _short(value: float | None) -> float | None:
    """As precise as a curve can show; JSON has no NaN."""
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def _unusual(headers: Sequence[Header]) -> dict[tuple[str, str], str]:
    """What a setting's configurations have of their own: "key=value" where most have another."""
    by_setting: dict[str, Counter[str]] = defaultdict(Counter)
    for header in headers:
        by_setting[header.setting][header.configuration] += 1
    found: dict[tuple[str, str], str] = {}
    for setting, counts in by_setting.items():
        flat = [_flat(json.loads(text)) for text in counts]
        own: list[list[str]] = [[] for _ in counts]
        for key in dict.fromkeys(key for each in flat for key in each):
            values = [json.dumps(each[key]) if key in each else "" for each in flat]
            often: Counter[str] = Counter()
            for value, count in zip(values, counts.values(), strict=True):
                often[value] += count
            (usual, _), *others = often.most_common()
            for index, value in enumerate(values if others else ()):
                if value not in (usual, ""):
                    own[index].append(f"{key}=" + value.strip('"'))
        found |= {(setting, text): " ".join(o) for text, o in zip(counts, own, strict=True)}
    return found
