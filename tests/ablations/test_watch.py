"""``csl watch``: what runs on a store, told by their drivers."""

import json
from pathlib import Path

from cluster.drivers import told
from cluster.jobs import Run
from cluster.tally import Listed, Tally
from tests.ablations.conftest import Csl


def test_a_run_is_seen_from_another_terminal_while_it_lasts(csl: Csl, tmp_path: Path) -> None:
    tally = Tally([Listed("table5/[b]all/1/2/seed 0", 8), Listed("other", 8)], slots=1)
    tally.started(0)
    tally.reported(0, {"epoch": 3, "epochs": 8, "seconds": 2.0, "mean_iou": 31.4})
    with told(tmp_path, Run.new(), tally):
        while not list((tmp_path / "drivers").glob("*.json")):
            pass  # it is written at once, by another thread
        text = csl("watch", "--store", tmp_path).out
        (seen,) = json.loads(csl("watch", "--store", tmp_path, "--json").out)["runs"]
    assert "table5/[b]all/1/2/seed 0" in text
    assert "3/8" in text
    assert "31.4" in text
    assert (seen["alive"], seen["trainings"], seen["waiting"]) == (True, 2, 1)
    assert "no run is under way" in csl("watch", "--store", tmp_path).out


def test_a_name_without_an_address_is_refused(csl: Csl, tmp_path: Path) -> None:
    ended = csl("watch", "csl-1", "--store", tmp_path)
    assert ended.code == 2
    assert "--address" in ended.err
