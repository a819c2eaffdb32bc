"""Trainings: the same numbers again, whatever interrupted them, and on any number of ranks."""

import math
import multiprocessing
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from torch import Tensor, distributed, nn

import csl.trainer
from csl import checkpoint
from csl.config import DeepLabConfig, TrainingConfig
from csl.data.lists import open_lists
from csl.data.source import open_source
from csl.errors import NotANumberError, StoppedError
from csl.evaluate import evaluate
from csl.identity import Training
from csl.locations import Locations
from csl.models import SegmentationNetwork, build_network
from csl.outcome import EpochReport, Outcome
from csl.selection import build_selector
from csl.trainer import BEST, RESUME, train

PLAIN: dict[str, dict[str, Any]] = {
    "data": {"crop": 32, "image_size": 32, "train_images": 12, "val_images": 5},
    "network": {"atrous_rates": (1, 2, 4), "width": 8, "low_level_width": 8},
    "schedule": {"epochs": 3, "steps_per_epoch": 2, "labeled_batch": 2, "unlabeled_batch": 2},
    "masking": {"patch": 8, "probability": 1.0},
    "evaluation": {"batch": 2},
}
FIXED: dict[str, dict[str, Any]] = {
    "data": {"dataset": "shapes"},
    "network": {
        "architecture": "deeplabv3plus",
        "backbone": "test_resnet",
        "pretrained": False,
    },
    "schedule": {"lr": 0.2, "head_lr_multiplier": 2.0, "precision": "fp32"},
}
CPU = torch.device("cpu")


def training(seed: int = 0, **sections: dict[str, Any]) -> Training:
    names = PLAIN.keys() | sections.keys()
    plain = {n: FIXED.get(n, {}) | PLAIN.get(n, {}) | sections.get(n, {}) for n in names}
    return Training(TrainingConfig.model_validate(plain), split="4", seed=seed)


def nothing(report: EpochReport) -> None:
    pass


def run(
    asked: Training,
    folder: Path,
    on_epoch: Callable[[EpochReport], None] = nothing,
    workers: int = 0,
) -> Outcome:
    return train(asked, Locations(), folder, on_epoch, CPU, workers)


def run_quietly(asked: Training, folder: Path) -> Outcome:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return run(asked, folder)


class CutOffError(Exception):
    pass


def interrupt(asked: Training, folder: Path, after: int) -> None:
    """Train up to the end of an epoch, its checkpoint included."""

    def stop(report: EpochReport) -> None:
        if report.epoch == after:
            raise CutOffError

    with pytest.raises(CutOffError):
        run(asked, folder, stop)


def load(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def without_seconds(outcome: Outcome) -> list[EpochReport]:
    return [replace(report, seconds=0.0, data_wait_seconds=0.0) for report in outcome.curve]


def same_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def assert_same(one: Outcome, one_folder: Path, other: Outcome, other_folder: Path) -> None:
    """Bit for bit, apart from seconds and the number of attempts."""
    assert without_seconds(one) == without_seconds(other)
    assert one.last == other.last
    assert one.best == other.best
    for file in (BEST, RESUME):
        networks = [load(folder / file)["network"] for folder in (one_folder, other_folder)]
        assert same_tensors(*networks), file


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return run(training(), folder), folder


# The same numbers.


def test_the_same_seed_gives_the_same_training(
    undisturbed: tuple[Outcome, Path], tmp_path: Path
) -> None:
    outcome, folder = undisturbed
    torch.manual_seed(12345)
    torch.rand(1000)  # whatever torch's own generator has been used for
    assert_same(run(training(), tmp_path), tmp_path, outcome, folder)
    losses = {report.loss for report in outcome.curve}
    assert len(losses) == 3
    assert len({report.mean_iou for report in outcome.curve}) > 1, "a dull training proves little"


def test_loader_workers_change_nothing(undisturbed: tuple[Outcome, Path], tmp_path: Path) -> None:
    assert_same(run(training(), tmp_path, workers=1), tmp_path, *undisturbed)


def test_another_seed_gives_another_training(
    undisturbed: tuple[Outcome, Path], tmp_path: Path
) -> None:
    outcome, folder = undisturbed
    other = run(training(seed=1), tmp_path)
    assert all(a.loss != b.loss for a, b in zip(other.curve, outcome.curve, strict=True))
    weights = [load(each / RESUME)["network"]["classifier.weight"] for each in (tmp_path, folder)]
    assert not torch.equal(*weights)


def test_bf16_trains_and_is_deterministic_too(
    undisturbed: tuple[Outcome, Path], tmp_path: Path
) -> None:
    asked = training(schedule=PLAIN["schedule"] | {"precision": "bf16", "epochs": 2})
    one = run(asked, tmp_path / "one")
    assert_same(one, tmp_path / "one", run(asked, tmp_path / "other"), tmp_path / "other")
    first = undisturbed[0].curve[0]
    assert one.curve[0].loss != first.loss
    assert one.curve[0].loss == pytest.approx(first.loss, rel=0.2)


# Interruptions.


@pytest.mark.parametrize("after", [[1], [2], [3], [1, 2]])
def test_an_interrupted_training_ends_as_an_undisturbed_one(
    undisturbed: tuple[Outcome, Path], tmp_path: Path, after: list[int]
) -> None:
    for epoch in after:
        interrupt(training(), tmp_path, epoch)
        assert load(tmp_path / RESUME)["done"] == 2 * epoch
    torch.manual_seed(99)
    outcome = run_quietly(training(), tmp_path)
    assert_same(outcome, tmp_path, *undisturbed)
    assert outcome.resumed == len(after)
    states = [load(each / RESUME)["optimizer"] for each in (tmp_path, undisturbed[1])]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    for key, state in states[0]["state"].items():
        assert torch.equal(state["momentum_buffer"], states[1]["state"][key]["momentum_buffer"])


@pytest.mark.parametrize("every", [None, 1, 2])
@pytest.mark.parametrize("killed_at", [1, 2, 3, 4, 5])
def test_a_training_killed_at_any_step_ends_as_an_undisturbed_one(
    undisturbed: tuple[Outcome, Path], tmp_path: Path, killed_at: int, every: int | None
) -> None:
    steps = 0

    def kill() -> None:
        nonlocal steps
        steps += 1
        if steps == killed_at:
            raise CutOffError

    def attempt(on_progress: Callable[[], None]) -> Outcome:
        return train(
            training(),
            Locations(),
            tmp_path,
            nothing,
            CPU,
            checkpoint_steps=every,
            on_progress=on_progress,
        )

    with pytest.raises(CutOffError):
        attempt(kill)
    torch.manual_seed(99)
    assert_same(attempt(lambda: None), tmp_path, *undisturbed)


@pytest.mark.parametrize(("at", "done"), [(1, 1), (2, 2), (3, 2), (5, 2), (8, 4)])
def test_a_training_that_is_stopped_loses_not_a_step(
    undisturbed: tuple[Outcome, Path], tmp_path: Path, at: int, done: int
) -> None:
    """Two steps and three validation batches are an epoch: it may be asked at each of them."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == at

    def attempt(stop: Callable[[], bool] | None) -> Outcome:
        return train(training(), Locations(), tmp_path, nothing, CPU, stop=stop)

    with pytest.raises(StoppedError):
        attempt(stop)
    assert load(tmp_path / RESUME)["done"] == done
    torch.manual_seed(99)
    outcome = attempt(lambda: False)
    assert_same(outcome, tmp_path, *undisturbed)
    assert outcome.resumed == 1


def test_who_may_not_save_leaves_what_was_saved_before(tmp_path: Path) -> None:
    saves = 0

    def before_save() -> None:
        nonlocal saves
        saves += 1
        if saves > 2:  # the best and the last of the first epoch
            raise CutOffError

    with pytest.raises(CutOffError):
        train(training(), Locations(), tmp_path, nothing, CPU, before_save=before_save)
    assert load(tmp_path / RESUME)["done"] == 2
    assert not list(tmp_path.glob(".*")), "what was written aside is removed"


@pytest.mark.parametrize("selector", ["flexmatch", "freematch", "softmatch", "corrmatch", "daw"])
def test_a_selectors_state_is_resumed(tmp_path: Path, selector: str) -> None:
    """Bit for bit; started anew after the first epoch, the training would end otherwise."""
    asked = training(selection={"selector": selector, "momentum": 0.5, "tau": 0.16})
    whole = run(asked, tmp_path / "whole")
    for case in ("parts", "forgotten"):
        interrupt(asked, tmp_path / case, after=1)
    state = load(tmp_path / "forgotten" / RESUME)
    fresh = build_selector(asked.config.selection, 8).state_dict()
    assert not same_tensors(state["selector"], fresh)
    assert_same(run(asked, tmp_path / "parts"), tmp_path / "parts", whole, tmp_path / "whole")
    ends = [load(tmp_path / case / RESUME)["selector"] for case in ("whole", "parts")]
    assert same_tensors(*ends)

    checkpoint.save(state | {"selector": fresh}, tmp_path / "forgotten" / RESUME)
    run(asked, tmp_path / "forgotten")
    forgotten = load(tmp_path / "forgotten" / RESUME)["selector"]
    assert not same_tensors(forgotten, ends[0])


@pytest.mark.parametrize("images", ["labeled", "both"])
def test_trainings_with_masked_labeled_images_report_their_loss(
    tmp_path: Path, images: str
) -> None:
    outcome = run(training(masking=PLAIN["masking"] | {"images": images}), tmp_path)
    assert all(report.loss_masked for report in outcome.curve)


@pytest.mark.parametrize("mode", ["supervised", "every 2", "bf16"])
def test_other_trainings_resume_too(tmp_path: Path, mode: str) -> None:
    asked = {
        "supervised": training(schedule=PLAIN["schedule"] | {"unlabeled_batch": 0}),
        "every 2": training(evaluation={"every": 2}),
        "bf16": training(schedule=PLAIN["schedule"] | {"precision": "bf16"}),
    }[mode]
    whole = run(asked, tmp_path / "whole")
    assert whole.resumed == 0
    interrupt(asked, tmp_path / "parts", after=1)
    assert_same(run(asked, tmp_path / "parts"), tmp_path / "parts", whole, tmp_path / "whole")


def test_seconds_count_every_attempt(tmp_path: Path) -> None:
    interrupt(training(), tmp_path, after=2)
    outcome = run(training(), tmp_path)
    assert all(report.seconds > 0 for report in outcome.curve)
    assert outcome.seconds == pytest.approx(sum(report.seconds for report in outcome.curve))


def test_a_finished_training_is_not_trained_again(
    undisturbed: tuple[Outcome, Path], tmp_path: Path
) -> None:
    outcome, folder = undisturbed
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    reports: list[EpochReport] = []
    again = run(training(), tmp_path, reports.append)
    assert reports == []
    assert again.curve == outcome.curve
    assert_same(again, tmp_path, outcome, folder)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    """One bit of the stored weights."""
    content = bytearray(path.read_bytes())
    weights = load(path)["network"]["fuse.0.0.weight"].permute(0, 2, 3, 1).contiguous()
    content[content.index(weights.numpy().tobytes()) + 42] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("damage", [_truncate, _empty, _flip])
def test_a_damaged_checkpoint_costs_an_epoch_and_changes_nothing(
    undisturbed: tuple[Outcome, Path],
    tmp_path: Path,
    damage: Callable[[Path], None],
    epoch: int,
) -> None:
    interrupt(training(), tmp_path, after=epoch)
    damage(tmp_path / RESUME)
    with pytest.warns(UserWarning, match="damaged"):
        outcome = run(training(), tmp_path)
    assert_same(outcome, tmp_path, *undisturbed)
    assert outcome.resumed == epoch - 1, "the one before is gone on from, if there is one"


def test_what_a_killed_save_left_behind_is_harmless(
    undisturbed: tuple[Outcome, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(training(), tmp_path, after=1)
    saved = checkpoint.save

    def killed(state: dict[str, Any], path: Path, **given: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda _: raise_interrupted())
            patch.setattr(Path, "unlink", lambda *_, **__: None)  # the killed clean up nothing
            saved(state, path, **given)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", killed)
        with pytest.raises(CutOffError):
            run(training(), tmp_path)
    left = [file for file in tmp_path.iterdir() if file.suffix == ".tmp"]
    assert left, "nothing was left behind"
    _truncate(left[0])
    outcome = run_quietly(training(), tmp_path)
    assert_same(outcome, tmp_path, *undisturbed)
    assert outcome.resumed == 1  # the killed attempt finished no epoch


def raise_interrupted() -> None:
    raise CutOffError


def test_a_kill_between_the_two_files_is_harmless(
    undisturbed: tuple[Outcome, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = checkpoint.save

    def killed(state: dict[str, Any], path: Path, **given: Any) -> None:
        if path.name == RESUME and state["done"] == 4:
            raise CutOffError
        saved(state, path, **given)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", killed)
        with pytest.raises(CutOffError):
            run(training(), tmp_path)
    assert_same(run_quietly(training(), tmp_path), tmp_path, *undisturbed)


def test_reports_come_once_their_checkpoint_is_on_disk(tmp_path: Path) -> None:
    reports: list[EpochReport] = []

    def check(report: EpochReport) -> None:
        state = load(tmp_path / RESUME)
        assert state["done"] == report.step
        assert state["curve"][-1] == asdict(report)
        assert (tmp_path / BEST).exists()
        reports.append(report)

    assert run(training(), tmp_path, check).curve == tuple(reports)
    assert [report.epoch for report in reports] == [1, 2, 3]


# Evaluations.


@pytest.mark.parametrize(
    ("every", "epochs", "evaluated"),
    [(1, 3, [1, 2, 3]), (2, 4, [2, 4]), (2, 3, [2, 3]), (5, 3, [3])],
)
def test_every_so_many_epochs_and_the_last_are_evaluated(
    tmp_path: Path, every: int, epochs: int, evaluated: list[int]
) -> None:
    schedule = PLAIN["schedule"] | {"epochs": epochs, "unlabeled_batch": 0, "steps_per_epoch": 1}
    outcome = run(training(schedule=schedule, evaluation={"every": every}), tmp_path)
    assert [report.epoch for report in outcome.curve] == list(range(1, epochs + 1))
    assert [r.epoch for r in outcome.curve if r.mean_iou is not None] == evaluated
    assert outcome.last.epoch == epochs
    assert outcome.best.epoch in evaluated


def test_dropout_and_gradient_checkpointing_are_resumed_too(tmp_path: Path) -> None:
    plain = training(schedule=PLAIN["schedule"] | {"epochs": 2}).config.model_dump()
    network = {"architecture": "segformer", "backbone": "mit_b0", "pretrained": False}

    def segformer(**changed: bool) -> Training:
        config = TrainingConfig.model_validate({**plain, "network": {**network, **changed}})
        return Training(config, split="4", seed=0)

    outcome = run(segformer(), tmp_path / "whole")
    interrupt(segformer(), tmp_path / "parts", after=1)
    again = run(segformer(gradient_checkpointing=True), tmp_path / "parts")  # no identity
    assert_same(again, tmp_path / "parts", outcome, tmp_path / "whole")


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([1.0, 3.0, 2.0, 3.0], 2),
        ([5.0, 5.0, 5.0, 5.0], 1),
        ([0.0, 0.0, 0.0, 1.0], 4),
        ([0.0, 0.0, 0.0, 0.0], 1),
    ],
)
@pytest.mark.parametrize("interrupted", [None, 2])
def test_the_best_is_the_first_of_the_best(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scores: list[float],
    best: int,
    interrupted: int | None,
) -> None:
    left = list(scores)
    monkeypatch.setattr(csl.trainer, "mean_iou", lambda *_: left.pop(0))
    schedule = PLAIN["schedule"] | {"epochs": 4, "unlabeled_batch": 0, "steps_per_epoch": 1}
    networks = {}

    def keep(report: EpochReport) -> None:
        networks[report.epoch] = load(tmp_path / RESUME)["network"]
        if report.epoch == interrupted and len(networks) == interrupted:
            raise CutOffError

    asked = training(schedule=schedule)
    if interrupted:
        with pytest.raises(CutOffError):
            run(asked, tmp_path, keep)
    outcome = run(asked, tmp_path, keep)
    assert (outcome.best.epoch, outcome.best.mean_iou) == (best, max(scores))
    assert (outcome.last.epoch, outcome.last.mean_iou) == (4, scores[-1])
    stored = load(tmp_path / BEST)["network"]
    assert [epoch for epoch, each in networks.items() if same_tensors(each, stored)] == [best]


def test_scores_are_those_of_the_confusion(tmp_path: Path) -> None:
    classes = (0, 1, 5)
    asked = training(evaluation={"classes": classes})
    outcome = run(asked, tmp_path)
    for evaluated in (outcome.last, outcome.best):
        counts = np.array(evaluated.confusion).reshape(8, 8)
        assert counts.sum() == 5 * 32 * 32
        assert evaluated.images.total == 5
        assert sum(evaluated.images.intersection) == counts.trace()
        iou = []
        for k in range(8):
            union = counts[k].sum() + counts[:, k].sum() - counts[k, k]
            iou.append(100 * counts[k, k] / union if union else 0.0)
        assert evaluated.class_iou == pytest.approx(iou)
        assert evaluated.mean_iou == pytest.approx(np.mean([iou[k] for k in classes]))
        assert outcome.curve[evaluated.epoch - 1].mean_iou == evaluated.mean_iou


def test_the_stored_networks_are_those_that_were_evaluated(
    undisturbed: tuple[Outcome, Path],
) -> None:
    outcome, folder = undisturbed
    asked = training()
    val = open_lists(asked.config.data, asked.split, Locations()).val
    source = open_source(asked.config.data, Locations())
    network = build_network(asked.config.network, 8, None)
    for file, evaluated in ((BEST, outcome.best), (RESUME, outcome.last)):
        network.load_state_dict(load(folder / file)["network"])
        counts = evaluate(network, source, val, asked.config, CPU).confusion
        # Other memory layout, other rounding: an arg-max may turn.
        difference = np.abs(counts.flatten().numpy() - np.array(evaluated.confusion)).sum()
        assert difference <= 4, file


# The schedule, and what a variant does not have.


def test_the_learning_rate_decays_over_all_steps(undisturbed: tuple[Outcome, Path]) -> None:
    outcome, folder = undisturbed
    schedule = training().config.schedule
    rates = [schedule.lr * (1 - step / 6) ** schedule.poly_power for step in (1, 3, 5)]
    assert [report.learning_rate for report in outcome.curve] == pytest.approx(rates)
    groups = load(folder / RESUME)["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([rates[-1], 2 * rates[-1]])


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [({"steps_per_epoch": 3}, 3), ({"steps_per_epoch": None}, 4)],  # 8 unlabeled by 2
)
def test_steps_are_counted_over_the_training(
    tmp_path: Path, schedule: dict[str, Any], steps: int
) -> None:
    schedule = PLAIN["schedule"] | {"epochs": 2} | schedule
    outcome = run(training(schedule=schedule), tmp_path)
    assert [report.step for report in outcome.curve] == [steps, 2 * steps]


def test_a_supervised_training_has_no_unlabeled_terms(tmp_path: Path) -> None:
    outcome = run(training(schedule=PLAIN["schedule"] | {"unlabeled_batch": 0}), tmp_path)
    for report in outcome.curve:
        assert (report.loss_strong, report.loss_masked, report.loss_feature) == (None,) * 3
        assert (report.sampling_rate, report.pseudo_label_accuracy) == (None, None)
        assert report.pseudo_labels is None
        assert report.loss == pytest.approx(report.loss_labeled / 2)


def test_without_masking_there_is_no_masked_term(tmp_path: Path) -> None:
    outcome = run(training(masking={"enabled": False}), tmp_path)
    for report in outcome.curve:
        assert report.loss_masked is None
        assert report.loss_strong is not None
        assert report.loss_feature is not None


def test_losses_are_means_that_add_up(undisturbed: tuple[Outcome, Path]) -> None:
    for report in undisturbed[0].curve:
        terms = (report.loss_labeled, report.loss_strong, report.loss_masked, report.loss_feature)
        weights = (0.5, 0.125, 0.125, 0.25)
        total = sum(w * (t or math.nan) for w, t in zip(weights, terms, strict=True))
        assert report.loss == pytest.approx(total)
        assert report.sampling_rate is not None
        assert report.pseudo_label_accuracy is not None
        assert 0 < report.sampling_rate < 100
        assert 0 <= report.pseudo_label_accuracy < 100


def test_pseudo_labels_are_counted_over_the_epoch(undisturbed: tuple[Outcome, Path]) -> None:
    for report in undisturbed[0].curve:
        seen = report.pseudo_labels
        assert seen is not None
        known = sum(seen.predicted)
        assert 2 * 32 * 32 < known <= 2 * 2 * 32 * 32, "of more than one of the two steps"
        assert report.pseudo_label_accuracy == pytest.approx(
            100 * sum(seen.selected_correct) / sum(seen.selected)
        )
        # Every valid pixel of shapes has a truth.
        assert report.sampling_rate == pytest.approx(100 * sum(seen.selected) / known)


def test_only_waiting_for_a_batch_is_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that moves in ``loader`` and in the step alone."""
    clock = [0.0]
    loader, forward = csl.trainer.Batches.loader, csl.trainer.CslStep.forward

    def slow_loader(*given: Any, **named: Any) -> Iterator[Any]:
        for batch in loader(*given, **named):
            clock[0] += 2
            yield batch

    def slow_forward(*given: Any) -> Any:
        clock[0] += 5
        return forward(*given)

    monkeypatch.setattr(csl.trainer.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(csl.trainer.Batches, "loader", slow_loader)
    monkeypatch.setattr(csl.trainer.CslStep, "forward", slow_forward)
    for report in run(training(), tmp_path).curve:  # two steps each
        assert (report.data_wait_seconds, report.seconds) == (4, 14)


def test_the_best_networks_selector_is_stored_with_it(tmp_path: Path) -> None:
    asked = training(selection={"selector": "softmatch", "momentum": 0.5})
    outcome = run(asked, tmp_path)
    stored = load(tmp_path / BEST)["selector"]
    whole = load(tmp_path / RESUME)["selector"]
    start = build_selector(asked.config.selection, 8).state_dict()
    assert not same_tensors(stored, start)
    assert same_tensors(stored, whole) == (outcome.best.epoch == outcome.last.epoch)


# What is no number.


@pytest.mark.parametrize("unlabeled", [0, 2])
def test_weights_that_are_no_numbers_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unlabeled: int
) -> None:
    def broken(*given: Any) -> SegmentationNetwork:
        network = build_network(*given)
        nn.init.constant_(network.classifier.weight, math.nan)
        return network

    monkeypatch.setattr(csl.trainer, "build_network", broken)
    with pytest.raises(NotANumberError):
        run(training(schedule=PLAIN["schedule"] | {"unlabeled_batch": unlabeled}), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("unlabeled", [0, 2])
def test_a_learning_rate_that_explodes_ends_the_training(tmp_path: Path, unlabeled: int) -> None:
    schedule = PLAIN["schedule"] | {"lr": 1e30, "unlabeled_batch": unlabeled}
    with pytest.raises(NotANumberError):
        run(training(schedule=schedule), tmp_path)


@pytest.mark.parametrize("unlabeled", [0, 2])
def test_a_last_update_that_explodes_is_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unlabeled: int
) -> None:
    updated = torch.optim.SGD.step

    def explode(optimizer: torch.optim.SGD) -> None:
        updated(optimizer)
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.fill_(math.nan)

    monkeypatch.setattr(torch.optim.SGD, "step", explode)
    schedule = {"unlabeled_batch": unlabeled, "epochs": 1, "steps_per_epoch": 1}
    with pytest.raises(NotANumberError):
        run(training(schedule=PLAIN["schedule"] | schedule), tmp_path)


def test_adamw_trains_with_two_rates_and_resumes(tmp_path: Path) -> None:
    """Its first update is about lr × sign of the gradient, so that rates show in the weights."""
    schedule = PLAIN["schedule"] | {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.0}
    schedule |= {"head_lr_multiplier": 10.0, "steps_per_epoch": 1, "poly_power": 0.0}
    once = training(schedule=schedule | {"epochs": 1})
    start = _start_with_norms(once)
    run(once, tmp_path / "once")
    moved = {
        key: (tensor - start[key]).abs().max().item()
        for key, tensor in load(tmp_path / "once" / RESUME)["network"].items()
        if tensor.is_floating_point() and "running" not in key
    }
    backbone = max(step for key, step in moved.items() if key.startswith("backbone."))
    head = max(step for key, step in moved.items() if not key.startswith("backbone."))
    assert backbone == pytest.approx(1e-3, rel=1e-2)
    assert head == pytest.approx(1e-2, rel=1e-2)

    asked = training(schedule=schedule | {"epochs": 2})
    whole = run(asked, tmp_path / "whole")
    interrupt(asked, tmp_path / "parts", after=1)
    assert_same(run(asked, tmp_path / "parts"), tmp_path / "parts", whole, tmp_path / "whole")


def _start_with_norms(asked: Training) -> dict[str, Tensor]:
    torch.manual_seed(asked.seed)
    return build_network(asked.config.network, 8, None).state_dict()


# Several ranks, and batches in several parts. Batch statistics are each rank's and part's own on
# CPUs, so that only a network without them can be held to the numbers of one rank.


def _without_batch_statistics(
    config: DeepLabConfig, classes: int, weights: Path | None
) -> SegmentationNetwork:
    network = build_network(config, classes, weights)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(1, child.num_features))
    return network


def _groups_training(name: str = "groups") -> Training:
    """A learning rate at which roundings stay small."""
    schedule = {"labeled_batch": 4, "unlabeled_batch": 4, "lr": 0.01}
    larger = schedule | {"unlabeled_batch": 8, "epochs": 4, "steps_per_epoch": 1}
    masking = PLAIN["masking"] | {"images": "both", "shape": "block"}
    sections: dict[str, dict[str, dict[str, Any]]] = {
        "groups": {},
        "state": {"selection": {"selector": "softmatch", "momentum": 0.5}, "masking": masking},
        "scale": {
            "selection": {"selector": "ael"},
            "loss": {"reduction": "sum", "strong": 1e-4, "masked": 1e-4, "feature": 1e-4},
        },
        "ohem": {"loss": {"supervised": "ohem", "ohem_threshold": 0.1, "ohem_min_kept": 200}},
        "larger": {"schedule": larger, "masking": masking},
        "parts": {"schedule": larger | {"accumulate": 2}, "masking": masking},
    }
    asked: dict[str, dict[str, Any]] = {"schedule": schedule} | sections[name]
    return training(**asked | {"schedule": PLAIN["schedule"] | asked["schedule"]})


def _batches_training(every: int) -> Training:
    schedule = {"labeled_batch": 4, "unlabeled_batch": 4}
    return training(schedule=PLAIN["schedule"] | schedule, evaluation={"every": every})


OF_RANKS = {2: ("groups", "state", "scale", "ohem", "larger", "parts"), 4: ("larger",)}
"""The trainings that must end as on one rank, by the number of ranks."""


def _rank(rank: int, world: int, folder: Path) -> None:
    """One of the ranks: several trainings, one after the other, in one process group."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/join", rank=rank, world_size=world
    )
    final: list[dict[str, Tensor]] = []

    class Recorded(csl.trainer.CslStep):
        """Remembers the network that each rank trains: only rank 0 writes a checkpoint."""

        def __init__(self, network: SegmentationNetwork, *given: Any) -> None:
            super().__init__(network, *given)
            final.append(network.state_dict())

    csl.trainer.CslStep = Recorded  # type: ignore[misc]

    def finish(name: str, asked: Training, stop_after: int | None = None) -> None:
        if stop_after:
            interrupt(asked, folder / name, stop_after)
            distributed.barrier()  # rank 0 may still be writing
        outcome = run(asked, folder / name)
        torch.save((outcome, final[-1]), folder / f"{name}.{rank}.pt")

    def stop(name: str, asked: Training) -> None:
        """Only one rank is asked to stop: both must, after the same step."""
        csl.trainer._STOP_EVERY = 3  # type: ignore[misc]
        with pytest.raises(StoppedError):
            train(asked, Locations(), folder / name, nothing, CPU, stop=lambda: rank == 1)
        distributed.barrier()

    if world == 2:
        finish("plain", _batches_training(every=1))
        finish("resumed", _batches_training(every=1), stop_after=1)
        finish("seldom", _batches_training(every=3))
        finish("seldom-resumed", _batches_training(every=3), stop_after=1)
    csl.trainer.build_network = _without_batch_statistics
    for name in OF_RANKS[world]:
        finish(name, _groups_training(name))
    if world == 2:
        stop("stopped", _groups_training())
        finish("stopped", _groups_training())
    distributed.barrier()
    distributed.destroy_process_group()


def _start_ranks(world: int, folder: Path) -> None:
    """From a server that imports torch once; each rank doing so takes longer than its trainings."""
    multiprocessing.set_forkserver_preload([__name__])
    torch.multiprocessing.start_processes(
        _rank, (world, folder), nprocs=world, start_method="forkserver"
    )


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    _start_ranks(2, folder)
    return folder


@pytest.fixture(scope="module")
def four_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    _start_ranks(4, folder)
    return folder


Finished = tuple[Outcome, dict[str, Tensor]]


def ranks(folder: Path, name: str) -> tuple[Finished, Finished]:
    one, other = (torch.load(folder / f"{name}.{rank}.pt", weights_only=False) for rank in (0, 1))
    return one, other


@pytest.mark.parametrize("name", ["plain", "resumed", "groups", "seldom"])
def test_ranks_end_with_one_network_and_one_score(two_ranks: Path, name: str) -> None:
    (one, weights), (other, other_weights) = ranks(two_ranks, name)
    assert without_seconds(one) == without_seconds(other)
    assert (one.last, one.best) == (other.last, other.best)
    assert same_tensors(weights, other_weights)
    assert same_tensors(weights, load(two_ranks / name / RESUME)["network"])


@pytest.mark.parametrize("name", ["plain", "groups"])
def test_ranks_score_every_image_once(two_ranks: Path, name: str) -> None:
    # 5 images on 2 ranks: a padded sampler would count one twice.
    (outcome, _), _ = ranks(two_ranks, name)
    asked = training().config.data
    lists, source = open_lists(asked, "4", Locations()), open_source(asked, Locations())
    truth = np.concatenate([np.asarray(source.mask(entry)).ravel() for entry in lists.val])
    confusion = np.array(outcome.last.confusion).reshape(8, 8)
    assert confusion.sum(1).tolist() == np.bincount(truth, minlength=8).tolist()
    # In the list's order, though the ranks take turns: of no class are more pixels right than true.
    images = outcome.last.images
    assert (images.total, [*images.image]) == (5, sorted(images.image))
    sums = np.zeros(8, dtype=int)
    columns = (images.image, images.class_index, images.intersection, images.union)
    for image, k, right, union in zip(*columns, strict=True):
        there = int((np.asarray(source.mask(lists.val[image])) == k).sum())
        assert right <= there <= union
        sums[k] += right
    assert sums.tolist() == confusion.diagonal().tolist()


@pytest.mark.parametrize("name", ["groups", "state", "scale", "ohem"])
def test_two_ranks_train_as_one_does(
    two_ranks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(csl.trainer, "build_network", _without_batch_statistics)
    alone = run(_groups_training(name), tmp_path)
    assert_alike(alone, load(tmp_path / RESUME)["network"], *ranks(two_ranks, name)[0])


@pytest.fixture(scope="module")
def whole_batches(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One rank, each batch in one part."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csl.trainer, "build_network", _without_batch_statistics)
        outcome = run(_groups_training("larger"), folder)
    return outcome, load(folder / RESUME)["network"]


@pytest.mark.parametrize(("world", "name"), [(2, "larger"), (4, "larger"), (2, "parts")])
def test_ranks_share_batches_and_their_parts(
    whole_batches: Finished, world: int, name: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue({2: "two_ranks", 4: "four_ranks"}[world])
    assert_alike(*whole_batches, *ranks(folder, name)[0])


def test_parts_of_batches_train_as_whole_ones_do(
    whole_batches: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csl.trainer, "build_network", _without_batch_statistics)
    outcome = run(_groups_training("parts"), tmp_path)
    assert_alike(*whole_batches, outcome, load(tmp_path / RESUME)["network"])


def test_parts_of_batches_are_normalised_by_themselves_and_resumed(tmp_path: Path) -> None:
    schedule = PLAIN["schedule"] | {"labeled_batch": 4, "unlabeled_batch": 4}
    whole = run(training(schedule=schedule), tmp_path / "whole")
    parts = training(schedule=schedule | {"accumulate": 2})
    outcome = run(parts, tmp_path / "parts")
    assert outcome.curve[0].loss != pytest.approx(whole.curve[0].loss, rel=1e-3)
    interrupt(parts, tmp_path / "resumed", after=1)
    again = run(parts, tmp_path / "resumed")
    assert_same(again, tmp_path / "resumed", outcome, tmp_path / "parts")


def assert_alike(
    alone: Outcome, reference: dict[str, Tensor], other: Outcome, weights: dict[str, Tensor]
) -> None:
    """The same curve and weights but for rounding, and weights that moved."""
    for one, two in zip(alone.curve, other.curve, strict=True):
        times = {"seconds": two.seconds, "data_wait_seconds": two.data_wait_seconds}
        ours, theirs = (asdict(each) | times for each in (one, two))
        counts, others = (each.pop("pseudo_labels") for each in (ours, theirs))
        assert theirs == pytest.approx(ours, rel=1e-3)
        for field, column in counts.items():
            # Other sums, other rounding: a pixel may turn.
            assert others[field] == pytest.approx(column, rel=1e-2, abs=4), field
    assert weights.keys() == reference.keys()
    start = _start(_groups_training())
    for key, tensor in weights.items():
        assert torch.allclose(tensor, reference[key], rtol=1e-4, atol=1e-5), key
    moved = [k for k in start if not torch.allclose(start[k], reference[k], rtol=1e-4, atol=1e-4)]
    assert len(moved) > len(start) / 2, "weights that do not move prove nothing"


def _start(asked: Training) -> dict[str, Tensor]:
    torch.manual_seed(asked.seed)
    return _without_batch_statistics(asked.config.network, 8, None).state_dict()


@pytest.mark.parametrize(("whole", "parts"), [("plain", "resumed"), ("groups", "stopped")])
def test_two_ranks_resume_as_one_does(two_ranks: Path, whole: str, parts: str) -> None:
    """Stopped within an epoch they differ by BatchNorm's rounding, which "groups" has not."""
    (undisturbed, _), _ = ranks(two_ranks, whole)
    (resumed, _), _ = ranks(two_ranks, parts)
    assert_same(resumed, two_ranks / parts, undisturbed, two_ranks / whole)
    assert resumed.resumed == 1


def test_two_ranks_resume_before_their_first_evaluation(two_ranks: Path) -> None:
    (whole, _), _ = ranks(two_ranks, "seldom")
    (parts, _), _ = ranks(two_ranks, "seldom-resumed")
    assert_same(parts, two_ranks / "seldom-resumed", whole, two_ranks / "seldom")
