"""Options that name a grid become its locations."""

from pathlib import Path

import pytest

from ablations.request import Request
from tests.ablations.conftest import Csl


def test_the_cache_is_the_users_own_folder_unless_told_otherwise() -> None:
    default = Request("table5").places.common.cache
    assert default is not None
    assert default.is_absolute()
    assert Request("table5", cache="none").places.common.cache is None
    named = Request("table5", cache="here", cache_gb=0.5).places.common
    assert (named.cache, named.cache_bytes) == (Path("here"), 500_000_000)


@pytest.mark.parametrize("field", ["data_root", "splits_root", "weights"])
def test_the_other_places_are_passed_on(field: str) -> None:
    locations = Request("table5", **{field: Path("there")}).places.common  # type: ignore[arg-type]
    assert getattr(locations, field) == Path("there")


@pytest.mark.parametrize(
    "store", ["s3://key:secret@bucket/x", "s3://bucket/x?access_key=a&secret_key=b&region=c"]
)
@pytest.mark.parametrize("command", ["run", "report"])
def test_a_secret_in_the_stores_address_is_refused_where_it_would_be_kept(
    csl: Csl, store: str, command: str
) -> None:
    ended = csl(command, "table5", "--store", store)
    assert ended.code == 2
    assert "has credentials" in ended.err
    assert "secret@" not in ended.err
