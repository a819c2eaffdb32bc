"""Each benchmark still runs, at a size whose numbers say nothing, and gives what it documents."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALLEST = {
    "campaign": ("--trials", "20"),
    "input": ("--steps", "2"),
    "memory": (),
    "overhead": ("--trials", "4", "--seconds", "0.5", "--noops", "20"),
    "scale": ("--concurrent", "4", "--trials", "20", "--seconds", "0.2", "--epochs", "2"),
    "search": ("--trials", "6", "--seeds", "1"),
    "selection": ("--repeats", "1"),
    "step": ("--steps", "1"),
    "store": ("--few", "50", "--many", "100"),
}
TAKES_MINUTES_ANYWAY = {"verdicts"}


def test_none_is_forgotten() -> None:
    found = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert found == SMALLEST.keys() | TAKES_MINUTES_ANYWAY
    about = (ROOT / "benchmarks" / "README.md").read_text()
    assert [name for name in found if f"benchmarks/{name}.py" not in about] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_it_runs(name: str) -> None:
    done = subprocess.run(
        [sys.executable, f"benchmarks/{name}.py", "--json", *SMALLEST[name]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout), "one object, and nothing else"
