"""What is confirmed, and what is said of it."""

from pathlib import Path

import pytest

from ablations.places import Places
from ablations.search.confirm import candidates, confirmation
from ablations.search.report import find, found_object
from ablations.search.run import Search, confirmed_grid
from ablations.search.study import study_name
from ablations.search.views import write_found
from ablations.spec import load_setting, load_spec
from csl.locations import Locations
from results.store import Store
from tests.ablations.conftest import Csl, refused
from tests.ablations.search.conftest import SEARCH, Pose
from tests.ablations.search.driving import Driver, bowl
from tests.ablations.search.test_asker import COLD
from tests.ablations.search.test_spec import ALPHA, END


def search_of(driver: Driver) -> Search:
    problem = driver.problem
    store = Store(driver.store.location)
    return Search(problem, Places(Locations()), store, study_name(problem))


def confirm(driver: Driver, but: int = 0) -> None:
    """Train what confirms, except the last ``but``."""
    grid = confirmed_grid(search_of(driver), driver.study)
    cells = grid.cells[: len(grid.cells) - but]
    for cell in cells:
        job = driver.make_job(cell.training, driver.identify(cell.training), grid.label(cell))
        driver.write(job, bowl(cell.training.config, cell.training.seed))


def test_the_best_and_the_reference_are_compared_on_fresh_seeds(
    problem: Pose, tmp_path: Path
) -> None:
    driver = Driver(problem(changes=[(END, "budget: {trials: 12}\n" + COLD)]), tmp_path).run()
    rows = candidates(driver.problem, driver.study)
    assert rows[0].number is None
    scores = [row.scores[0] for row in rows[1:]]
    assert scores == sorted((trial.value or 0 for trial in driver.trials), reverse=True)[:2]
    grid = confirmation(driver.problem, rows)
    searched = {trial.user_attrs["trainings"][0] for trial in driver.trials}
    assert not searched & {driver.identify(cell.training).id for cell in grid.cells}
    assert grid.seeds == (100, 101)
    assert len(grid.cells) == 6
    for row in rows[1:]:
        (config, *others) = {c.training.config for c in grid.cells if c.variant == row.name}
        assert not others
        assert config == driver.problem.trainings(row.point)[0].config
    assert {c.training.config for c in grid.cells if c.variant == "reference"} == {
        driver.problem.reference
    }


def test_equal_trials_and_the_reference_are_one_row_each(problem: Pose, tmp_path: Path) -> None:
    few = [(ALPHA, "{choice: [4, 8]}"), (END, "budget: {trials: 20}\n")]
    driver = Driver(problem(changes=few), tmp_path).run()
    rows = candidates(driver.problem, driver.study)
    assert rows[0].number == 0, "the reference was the first trial"
    assert rows[0].scores == (driver.trials[0].value,)
    points = [tuple(row.point.items()) for row in rows]
    assert len(set(points)) == len(points) == 3


def test_what_is_found_tells_search_scores_from_confirmed_ones(
    problem: Pose, tmp_path: Path
) -> None:
    driver = Driver(problem(changes=[(END, "budget: {trials: 12}\n")]), tmp_path).run()
    unconfirmed = find(search_of(driver), driver.study)
    assert all(row.fresh is None and row.missing == 2 for row in unconfirmed.confirmed)
    confirm(driver, but=1)
    found = find(search_of(driver), driver.study)
    reference, best, second = found.confirmed
    assert best.searched == driver.study.best_value
    assert best.fresh is not None
    assert second.missing == 1
    expected = [bowl(driver.problem.configuration(best_keys(driver)), seed) for seed in (100, 101)]
    assert best.fresh.mean == pytest.approx(sum(expected) / 2)
    assert best.shrinkage == pytest.approx(best.searched - best.fresh.mean)
    assert reference.comparison is None
    compared = best.comparison
    assert compared is not None
    assert compared.low is not None
    assert compared.high is not None
    assert compared.low <= compared.mean <= compared.high
    content = found_object(found)
    assert content["confirmed"][1]["shrinkage"] == best.shrinkage
    assert sum(content["counts"].values()) == 12


def best_keys(driver: Driver) -> dict[str, object]:
    return driver.problem.keys(candidates(driver.problem, driver.study)[1].point)


def test_what_is_found_is_written_as_report_figures_and_a_spec(
    problem: Pose, tmp_path: Path
) -> None:
    driver = Driver(problem(changes=[(END, "budget: {trials: 12}\n")]), tmp_path / "store").run()
    confirm(driver)
    found = find(search_of(driver), driver.study)
    written = write_found(tmp_path / "out", found)
    names = {path.name for path in written}
    assert {"report.md", "confirmed.yaml", "history.png", "heatmap.pdf", "slices.pdf"} <= names
    assert all(path.stat().st_size for path in written)
    report = (tmp_path / "out/report.md").read_text()
    assert "only the fresh ones count" in report
    for row in found.confirmed:
        assert row.name.replace("_", r"\_") in report or row.name in report
    spec, _ = load_spec(str(tmp_path / "out/confirmed.yaml"))
    assert spec == found.grid.spec
    (tmp_path / "file").write_text("")
    assert refused(lambda: write_found(tmp_path / "file", found)).key == "--out"


def test_several_objectives_confirm_their_front(problem: Pose, tmp_path: Path) -> None:
    both = "budget: {trials: 12}\nobjectives: [miou, worst_class]\nsampler: {name: nsga2}\n"
    driver = Driver(problem(changes=[(END, both + COLD)]), tmp_path).run()
    front = {trial.number for trial in driver.study.best_trials}
    rows = candidates(driver.problem, driver.study)
    assert {row.number for row in rows[1:]} <= front
    found = find(search_of(driver), driver.study)
    assert set(found.front) == front
    assert any(path.name == "front.png" for path in write_found(tmp_path / "out", found))


def test_the_command_shows_a_search_and_trains_nothing(
    problem: Pose, tmp_path: Path, csl: Csl, write: object
) -> None:
    driver = Driver(problem(), tmp_path / "store").run()
    confirm(driver)
    command = ("search", tmp_path / "search.yaml", "--setting", "shapes-tiny")
    shown = csl(*command, "--store", tmp_path / "store", "--show")
    assert shown.code == 0
    assert "best so far" in shown.out
    assert "theta=0.7" in shown.out
    assert "shrinkage" in shown.out
    assert "trained" in shown.out
    as_json = csl(*command, "--store", tmp_path / "store", "--show", "--json")
    assert '"confirmed"' in as_json.out
    again = csl(*command, "--store", tmp_path / "store")
    assert again.code == 0, "all is stored: no Ray is started"
    assert "Ray:" not in again.out
    table = csl("table", tmp_path / "nowhere.yaml")
    assert table.code == 2


def test_the_command_refuses_with_the_reason(tmp_path: Path, csl: Csl) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(SEARCH)
    command = ("search", path, "--setting", "shapes-tiny", "--store", tmp_path / "store")
    missing = csl(*command, "--show")
    assert missing.code == 2
    assert "no study yet" in missing.err
    outside = csl(*command, "--study", "../../etc/x")
    assert outside.code == 2
    assert "not a study's name" in outside.err
    compared = csl("run", path, "--store", tmp_path / "store")
    assert compared.code == 2
    assert "csl search" in compared.err
    assert load_setting("shapes-tiny")
