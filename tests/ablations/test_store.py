"""``csl store``: what it prints, and how it ends."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from ablations.store import tidy
from results import upkeep
from results.store import Store
from tests.ablations.conftest import Csl
from tests.results.conftest import make_record


def fill(store: Store, count: int = 3) -> list[Path]:
    for index in range(count):
        store.write(make_record(f"{index:016x}"))
    return sorted((Path(store.location) / "records").iterdir())


def seen(csl: Callable[..., object], *arguments: object) -> dict[str, object]:
    content: dict[str, object] = json.loads(csl(*arguments, "--json").out)  # type: ignore[attr-defined]
    return content


def test_check_names_what_is_damaged_and_ends_with_1(csl: Csl, store: Store) -> None:
    first, *_ = fill(store)
    assert csl("store", "check", "--store", store.location).code == 0
    first.write_bytes(b"torn")
    ended = csl("store", "check", "--store", store.location)
    assert ended.code == 1
    assert first.name in ended.err
    assert "remedy:" in ended.err
    found = seen(csl, "store", "check", "--store", store.location)
    assert (found["attempts"], len(found["faults"])) == (2, 1)  # type: ignore[arg-type]


def test_compact_then_merge_then_export(csl: Csl, store: Store, tmp_path: Path) -> None:
    fill(store)
    moved = seen(csl, "store", "compact", "--store", store.location)
    assert (moved["attempts"], moved["files"], moved["deleted"]) == (3, 1, 3)
    copied = seen(csl, "store", "merge", tmp_path / "copy", store.location)
    assert copied["attempts"] == 3
    for name, read in (("x.csv", pd.read_csv), ("x.parquet", pd.read_parquet)):
        out = tmp_path / name
        ended = csl("store", "export", out, "--store", tmp_path / "copy")
        assert (ended.code, "3 attempts" in ended.out) == (0, True)
        assert len(read(out)) == 3
    for wrong in ("x.xlsx", "none/x.csv"):
        ended = csl("store", "export", tmp_path / wrong, "--store", store.location)
        assert ended.code == 2
        assert "remedy:" in ended.err


def test_a_mistyped_store_is_no_empty_one(csl: Csl, store: Store, tmp_path: Path) -> None:
    fill(store)
    typo, out = tmp_path / "typo", tmp_path / "x.csv"
    csl("store", "export", out, "--store", store.location)
    before = out.read_bytes()
    for command in (
        ["check", "--store", typo],
        ["compact", "--store", typo],
        ["export", out, "--store", typo],
        ["merge", store.location, typo],
    ):
        ended = csl("store", *command)
        assert (ended.code, "no store here" in ended.err) == (2, True)
        assert str(typo) in ended.err
    typo.mkdir()
    assert "no attempt to export" in csl("store", "export", out, "--store", typo).err
    assert out.read_bytes() == before


def test_a_run_that_ends_packs_what_would_fill_a_pack(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "PACK_ROWS", 4)
    console = Console(file=io.StringIO())
    assert isinstance(console.file, io.StringIO)
    singles = fill(store)
    before = store.headers()
    tidy(store, console)
    assert all(path.exists() for path in singles)
    assert not console.file.getvalue()
    fill(Store(store.location), 1)  # another attempt at the first
    tidy(store, console)
    assert not list((Path(store.location) / "records").iterdir())
    assert "Packing 4 records" in console.file.getvalue()
    assert set(before) < set(store.headers())
    assert len(store.headers()) == 4


def test_a_store_out_of_reach_is_one_message(csl: Csl) -> None:
    ended = csl("store", "check", "--store", "s3://b/x?endpoint_override=127.0.0.1:1&scheme=http")
    assert ended.code == 2
    assert ended.err.count("remedy:") == 1
