"""Views: what people called things is printed as they wrote it, and nothing is left out."""

import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ablations import plan_views, views
from ablations.doctor import Check
from ablations.places import Places
from ablations.plan import make_plan
from csl.locations import Locations
from results.schema import Failure, Record
from results.store import Store
from tests.ablations.conftest import SPEC, MakeGrid, small_job, threads_kept
from tests.results.conftest import PSEUDO_LABELS, make_record

Stored = Callable[..., Record]
MARKUP = "[red]loud[/]"


def printed(draw: views.Draw, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    draw(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def record(**changes: object) -> Record:
    """A record whose configuration and class names are whole."""
    return replace(make_record(), **changes)  # type: ignore[arg-type]


def page(shown: Record) -> str:
    """What ``csl show`` prints of it."""
    return printed(lambda console: views.print_show(console, shown, views.show_object(shown)))


def test_a_plan_prints_labels_as_they_are_and_counts_the_others(
    grid: MakeGrid, store: Store
) -> None:
    twins = "".join(f"  - name: {name}\n    set: {{}}\n" for name in ('"[b]twin"', "third"))
    plan = make_plan(
        [grid(SPEC.replace("second", f'"{MARKUP}"') + twins)], Places(Locations()), store
    )
    text = printed(lambda console: plan_views.print_plan(console, plan, False))
    assert f"small/{MARKUP}/1/16/seed 0 (+2)" in text
    assert "2 trainings" in text
    assert "2 to run" in text
    trainings = plan_views.plan_object(plan)["trainings"]
    labels = sorted((each["cells"] for each in trainings), key=len)
    assert [len(cells) for cells in labels] == [1, 3]
    assert labels[1][1] == "small/[b]twin/1/16/seed 0"


def test_the_summary_tells_apart_what_does_not_run(
    grid: MakeGrid, store: Store, stored: Stored
) -> None:
    def summary() -> str:
        plan = make_plan([grid()], Places(Locations()), store)
        return printed(lambda console: plan_views.print_summary(console, plan))

    assert "0 stored, 2 to run" in summary()
    stored(grid().cells[0].training)
    assert "1 stored, 1 to run" in summary()
    stored(grid().cells[1].training, failure=Failure.NOT_A_NUMBER)
    assert "1 stored, 1 failed" in summary()
    assert "nothing to run" in summary()


def note(store: Store, identity: str, **seen: object) -> Path:
    folder = Path(store.location) / "checkpoints" / identity
    folder.mkdir(parents=True)
    path = folder / "progress.json"
    whole = {"launched_as": "small/first/1/16/seed 0", "epoch": 2, "epochs": 8, **seen}
    path.write_text(json.dumps(whole))
    return path


def test_status_shows_what_is_under_way(store: Store) -> None:
    note(store, "a" * 16, mean_iou=43.21, launched_as=MARKUP)
    note(store, "b" * 16)
    seen = views.status_object(store)
    assert [each["identity"] for each in seen["unfinished"]] == ["a" * 16, "b" * 16]
    text = printed(lambda console: views.print_status(console, seen))
    assert "0 complete, 0 failed, 2 unfinished" in text
    assert "43.2" in text
    assert "2/8" in text
    assert MARKUP in text
    assert "stopped?" not in text


def test_status_reads_what_a_worker_notes(store: Store) -> None:
    from cluster.worker import run_job

    job = small_job(Path(store.location), "schedule.epochs=2")
    seen: list[int] = []
    with threads_kept():
        run_job(job, lambda _: seen.append(len(views.status_object(store)["unfinished"])))
    assert seen[-1] == 1
    assert views.status_object(store)["unfinished"] == []


def test_status_doubts_what_was_not_heard_of_for_long(store: Store) -> None:
    path = note(store, "a" * 16)
    os.utime(path, (0, path.stat().st_mtime - 3600))
    seen = views.status_object(store)
    assert seen["unfinished"][0]["idle_seconds"] >= 3600
    assert "stopped?" in printed(lambda console: views.print_status(console, seen))


@pytest.mark.parametrize("content", ["", '{"epoch": 1', "{}", "[]"])
def test_status_survives_a_bad_progress_file(store: Store, content: str) -> None:
    note(store, "a" * 16).write_text(content)
    note(store, "b" * 16)
    with pytest.warns(UserWarning, match="damaged"):
        seen = views.status_object(store)
    assert "bbbb" in printed(lambda console: views.print_status(console, seen))


def test_status_survives_a_training_that_ends_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, stays = note(store, "a" * 16), note(store, "b" * 16)
    listed = [gone, stays]
    gone.unlink()
    monkeypatch.setattr(Path, "glob", lambda *_: iter(listed))
    assert [each["identity"] for each in views.status_object(store)["unfinished"]] == ["b" * 16]


def test_status_counts_a_training_once(store: Store) -> None:
    store.write(make_record(failure=Failure.NODE_LOST))
    store.write(make_record(minute=1))
    store.write(make_record("b" * 16, failure=Failure.NODE_LOST))
    seen = views.status_object(store)
    assert (seen["complete"], seen["failed"]) == (1, {"node lost": 1})


def test_runs_print_a_line_per_attempt() -> None:
    rows = [
        views.run_object(record(launched_as=MARKUP)),
        views.run_object(make_record(failure=Failure.OUT_OF_MEMORY)),
    ]
    text = printed(lambda console: views.print_runs(console, rows))
    assert MARKUP in text
    assert "out of memory" in text
    assert len(text.splitlines()) == 3
    assert "no attempts" in printed(lambda console: views.print_runs(console, []))


def test_show_prints_names_and_details_as_they_are() -> None:
    shown = record(class_names=("background", MARKUP), launched_as=MARKUP, setting="voc-[b]")
    text = page(shown)
    assert text.count(MARKUP) == 2
    assert "voc-[b]" in text
    failed = replace(make_record(failure=Failure.BAD_DATA), failure_detail="File [/x], line 1")
    assert "File [/x], line 1" in page(failed)


def test_show_as_json_has_the_whole_record() -> None:
    shown = record()
    seen = json.loads(json.dumps(views.show_object(shown), default=str))
    assert seen["class_iou"] == dict(zip(shown.class_names, shown.best.class_iou, strict=True))  # type: ignore[union-attr]
    assert len(seen["curve"]) == len(shown.curve)
    assert (seen["over_images"]["images"], seen["beside"]) == (3, [])
    assert "intersection" not in json.dumps(seen), "the counts of thousands of images"
    for key in ("host", "git_commit", "command", "energy_joules"):
        assert seen["provenance"][key] == getattr(shown.provenance, key)


def test_show_says_nothing_over_images_without_an_evaluation() -> None:
    failed = make_record(failure=Failure.BAD_DATA)
    assert views.show_object(failed)["over_images"] is None
    assert "over images" not in page(failed)


def test_show_tells_the_pseudo_labels_of_each_epoch() -> None:
    shown = record()
    seen = json.loads(json.dumps(views.show_object(shown), default=str))["curve"][0]
    assert seen["pseudo_label_recall"] == pytest.approx(100 * 66 / 84)
    scores = seen["pseudo_label_scores"]
    assert scores["overall"]["sampling"] == 70
    assert scores["classes"]["disc"]["accuracy"] == 90
    assert scores["calibration"]["error"] == pytest.approx((6 + 4) / 100)
    assert sum(seen["pseudo_labels"]["predicted"]) == 100
    lines = page(shown).splitlines()
    row = lines[next(i for i, line in enumerate(lines) if "recall" in line) + 1].split()
    assert row[:4] == ["1", "88.0", "91.5", "78.6"]
    assert any(line.split()[-3:] == ["1.5", "16.7", "%"] for line in lines), "waiting"


def test_show_without_truth_or_pseudo_labels() -> None:
    line = replace(make_record().curve[0], pseudo_labels=None, pseudo_label_accuracy=None)
    without_truth = record(curve=(line,))
    assert views.show_object(without_truth)["curve"][0]["pseudo_label_recall"] is None
    assert "recall" in page(without_truth)
    supervised = record(curve=(replace(line, sampling_rate=None),))
    assert "recall" not in page(supervised)


def test_json_has_no_nan() -> None:
    nothing = (0,) * 15
    absent = replace(
        PSEUDO_LABELS,
        selected=(50, 0),
        selected_correct=(48, 0),
        calibration_pixels=nothing,
        calibration_correct=nothing,
        calibration_confidence=nothing,
    )
    shown = record(curve=(replace(make_record().curve[0], pseudo_labels=absent),))
    json.dumps(views.show_object(shown), default=str, allow_nan=False)


def test_a_wrong_finding_shows_its_remedy() -> None:
    checks = (Check("cores", True, "2", "unneeded"), Check("disk", False, "[b]full", "buy another"))
    text = printed(lambda console: views.print_checks(console, checks))
    assert "FAIL" in text
    assert "[b]full" in text
    assert "buy another" in text
    assert "unneeded" not in text


def test_a_store_from_elsewhere_gives_a_terminal_no_orders() -> None:
    order = "\x1b]0;mine\x07\x1b[2J\x1b[31m"
    told = record(
        status="failed",
        failure=Failure.WORKER_CRASHED,
        failure_detail=f"why {order}",
        log_tail=f"last words {order}",
        launched_as=f"as {order}",
        class_names=(f"cat {order}", "dog"),
        best=record().best,
    )
    for text in (page(told), printed(lambda on: views.print_runs(on, [views.run_object(told)]))):
        assert "as " in text
        assert "\x1b" not in text
