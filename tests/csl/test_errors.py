"""Errors: what the user reads, and that nothing is lost between processes."""

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from csl.config import ShapesData
from csl.data.lists import open_lists
from csl.errors import InputError, NotANumberError
from csl.locations import Locations


def full() -> InputError:
    return InputError(
        "not a number", remedy="write 8", file=Path("a/b.yaml"), key="data.crop", value="eight"
    )


def test_the_message_says_what_where_and_what_to_do() -> None:
    lines = [line.strip() for line in str(full()).splitlines()]
    assert lines == [
        "not a number",
        f"file: {Path('a/b.yaml')}",
        "key: data.crop",
        "value: eight",
        "remedy: write 8",
    ]


def test_what_is_not_given_is_not_mentioned() -> None:
    error = InputError("nothing to do", remedy="name a table")
    assert [line.strip() for line in str(error).splitlines()] == [
        "nothing to do",
        "remedy: name a table",
    ]
    assert (error.file, error.key, error.value) == (None, None, None)


@pytest.mark.parametrize("value", [0, False, ""])
def test_empty_values_are_still_values(value: object) -> None:
    error = InputError("too small", remedy="more", key="seed", value=value)
    assert f"value: {value}" in str(error)


def test_it_is_a_value_error_and_a_key_becomes_text() -> None:
    error = InputError("no", remedy="yes", key=Path("data"))
    assert isinstance(error, ValueError)
    assert error.key == "data"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_survives_pickling(protocol: int) -> None:
    error = full()
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is InputError
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_it_survives_a_process_boundary() -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        refused = pool.submit(open_lists, ShapesData(), "none", Locations()).exception()
    with pytest.raises(InputError) as here:
        open_lists(ShapesData(), "none", Locations())
    assert isinstance(refused, InputError)
    assert str(refused) == str(here.value)
    assert (refused.key, refused.value) == ("split", "none")


def test_not_a_number_is_not_the_users_fault() -> None:
    assert not issubclass(NotANumberError, ValueError)
    assert str(pickle.loads(pickle.dumps(NotANumberError("loss is nan")))) == "loss is nan"
