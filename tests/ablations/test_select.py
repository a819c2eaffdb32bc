"""``csl select``: a stored training or logits, through selectors, to numbers and pictures."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ablations.qualitative import draw_pseudo_labels
from ablations.select import saved_subject
from csl.config import SelectionConfig
from csl.data.source import _ShapesSource
from csl.errors import InputError
from csl.lab import FEATURES, judge, pseudo_labels, saved_predictions
from csl.selection import SELECTORS, select
from results.selection import auroc
from tests.ablations.conftest import Trained


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """Three images, 4 classes; truth mostly follows the logits, and has pixels not scored."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 4, (3, 4, 9, 11)).astype(np.float32)
    truth = logits.argmax(1)
    wrong = generator.random(truth.shape) < (0.1, 0.5, 0.1)[0]
    wrong[1] |= generator.random((9, 11)) < 0.5
    truth = np.where(wrong, (truth + 1) % 4, truth).astype(np.uint8)
    truth[:, 0] = 255
    return {"logits": logits, "truth": truth}


@pytest.fixture
def saved(tmp_path: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = tmp_path / "logits.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def json_of(csl: Callable[..., Any], *arguments: object) -> dict[str, Any]:
    ended = csl("select", *arguments, "--json")
    assert ended.code == 0, ended.err
    content: dict[str, Any] = json.loads(ended.out)
    return content


def test_a_training_is_judged_on_its_validation_images(
    csl: Callable[..., Any], trained: Trained, tmp_path: Path
) -> None:
    out = tmp_path / "lab"
    names = ",".join(SELECTORS)
    seen = json_of(
        csl, trained.run[:6], "--store", trained.store, "--selectors", names, "--out", out
    )
    assert (seen["subject"], seen["images"]) == (trained.run, 4)
    assert 0 < seen["pixels"] <= 4 * 32 * 32
    assert list(seen["selectors"]) == list(SELECTORS)
    assert seen["selectors"]["pseudoseg"]["overall"]["sampling"] == 100
    assert seen["selectors"]["pseudoseg"]["overall"]["accuracy"] == pytest.approx(seen["correct"])
    assert set(seen["features"]) == set(FEATURES)
    assert sum(each["pixels"] for each in seen["calibration"]["bins"]) == seen["pixels"]
    assert {path.name for path in out.iterdir()} == {
        "table9.csv",
        "figure1.png",
        "figure1.pdf",
        "figure7.png",
        "figure7.pdf",
        "reliability.png",
    }
    with (out / "table9.csv").open() as file:
        rows = list(csv.DictReader(file))
    overall = {row["selector"]: row for row in rows if row["axis"] == "overall"}
    for name, each in seen["selectors"].items():
        assert float(overall[name]["sampling"]) == each["overall"]["sampling"]


def test_the_networks_share_of_correct_pixels_is_the_stored_one(
    csl: Callable[..., Any], trained: Trained
) -> None:
    from results.store import Store

    best = Store(trained.store).find(trained.run).best
    assert best is not None
    confusion = np.array(best.confusion).reshape(8, 8)
    seen = json_of(csl, trained.run, "--store", trained.store)
    assert seen["correct"] == pytest.approx(100 * confusion.trace() / confusion.sum())


def test_unlabeled_images_have_a_truth_in_shapes(csl: Callable[..., Any], trained: Trained) -> None:
    seen = json_of(
        csl, trained.run, "--store", trained.store, "--images", "unlabeled", "--limit", 3
    )
    assert seen["images"] == 3
    assert seen["figure_image"]["name"].startswith("train/")


def half_a_truth(monkeypatch: pytest.MonkeyPatch, known: int) -> None:
    """Of shapes' unlabeled images only the first few have ground truth."""
    whole = _ShapesSource.unlabeled_truth
    seen: dict[str, int] = {}

    def truth(source: _ShapesSource, entry: Any) -> Any:
        place = seen.setdefault(entry.image, len(seen))
        return whole(source, entry) if place < known else None

    monkeypatch.setattr(_ShapesSource, "unlabeled_truth", truth)


def test_images_without_truth_are_predicted_and_not_scored(
    csl: Callable[..., Any], trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (trained.run, "--store", trained.store, "--images", "unlabeled")
    first = json_of(csl, *arguments, "--limit", 1)
    half_a_truth(monkeypatch, 1)
    seen = json_of(csl, *arguments, "--limit", 3)
    assert (seen["images"], seen["images_without_truth"]) == (3, 2)
    for key in ("pixels", "correct", "selectors", "figure_image"):
        assert seen[key] == first[key]
    assert "2 without ground truth" in csl("select", *arguments, "--limit", 3).out


def test_without_any_truth_nothing_is_judged(
    csl: Callable[..., Any], trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_a_truth(monkeypatch, 0)
    arguments = (trained.run, "--store", trained.store, "--images", "unlabeled")
    assert "--images val" in refusal(csl, *arguments)


def test_the_trainings_own_selector_keeps_what_it_learned(
    saved: Path, arrays: dict[str, np.ndarray]
) -> None:
    own, state = SelectionConfig(selector="corrmatch"), {"threshold": torch.tensor(0.6).double()}
    predictions = replace(saved_predictions(saved, None), trained=state)
    confidence = torch.from_numpy(arrays["logits"]).double().softmax(1).amax(1).numpy()
    scored = arrays["truth"] != 255
    judged = judge(predictions, own, ("corrmatch",)).selected["corrmatch"].sum()
    assert judged == ((confidence >= 0.6) & scored).sum()
    # Another training's: its averages are those of the images.
    other = judge(predictions, SelectionConfig(), ("corrmatch",)).selected["corrmatch"].sum()
    assert (
        other
        == judge(saved_predictions(saved, None), own, ("corrmatch",)).selected["corrmatch"].sum()
    )
    assert other != judged


def test_a_trainings_averages_come_with_its_network(
    csl: Callable[..., Any], trained: Trained
) -> None:
    best = trained.store / "checkpoints" / trained.run / "best.pt"
    assert torch.load(best, weights_only=True).keys() == {"network", "selector"}


def test_saved_logits_give_what_each_selector_says_of_each_image(
    csl: Callable[..., Any], saved: Path, arrays: dict[str, np.ndarray]
) -> None:
    seen = json_of(csl, "--logits", saved, "--selectors", "csl,threshold")
    truth = arrays["truth"]
    for name in ("csl", "threshold"):
        config = SelectionConfig(selector=name)  # type: ignore[arg-type]
        said = [
            select(torch.from_numpy(one[None]), torch.ones(1, 9, 11, dtype=torch.bool), config)
            for one in arrays["logits"]
        ]
        reliable = torch.cat([each.reliable for each in said]).numpy() & (truth != 255)
        correct = (arrays["logits"].argmax(1) == truth) & (truth != 255)
        overall = seen["selectors"][name]["overall"]
        assert overall["sampling"] == pytest.approx(100 * reliable.sum() / (truth != 255).sum())
        assert overall["accuracy"] == pytest.approx(100 * correct[reliable].mean())
        assert overall["recall"] == pytest.approx(100 * reliable[correct].mean())
    assert seen["figure_image"]["index"] == 1, "the most often wrong"
    assert json_of(csl, "--logits", saved, "--image", 2)["figure_image"]["index"] == 2


def test_pseudo_labels_are_what_the_own_selector_keeps(
    saved: Path, arrays: dict[str, np.ndarray]
) -> None:
    config = SelectionConfig(selector="threshold", tau=0.9)
    kept, truth = pseudo_labels(saved_predictions(saved, None), config, [1])[0]
    confidence = torch.from_numpy(arrays["logits"][1]).softmax(0).amax(0).numpy()
    sure = confidence >= 0.9
    assert 0 < sure.sum() < sure.size
    assert (kept[sure] == arrays["logits"][1].argmax(0)[sure]).all()
    assert (kept[~sure] == 255).all()
    assert (truth == arrays["truth"][1]).all()


def test_figure_7_has_a_column_for_each_training(
    csl: Callable[..., Any], trained: Trained, tmp_path: Path
) -> None:
    def size(*arguments: object) -> tuple[int, int]:
        ended = csl("select", trained.run, "--store", trained.store, "--out", tmp_path, *arguments)
        assert ended.code == 0, ended.err
        assert str(tmp_path / "figure7.pdf") in ended.out
        with Image.open(tmp_path / "figure7.png") as picture:
            return picture.size

    alone = size("--rows", 1)
    # Of more rows than images each image has one.
    beside = size("--rows", 9, "--limit", 2, "--beside", trained.run[:8])
    assert beside[0] == pytest.approx(alone[0] * 4 / 3, abs=2)
    assert alone[1] < beside[1] < 2 * alone[1]


def test_figure_7_is_of_stored_trainings_on_the_same_images(
    csl: Callable[..., Any], trained: Trained, saved: Path, tmp_path: Path
) -> None:
    out = ("--out", tmp_path / "lab")
    assert "--beside" in refusal(csl, trained.run, "--store", trained.store, "--beside", "f00")
    assert "--beside" in refusal(csl, "--logits", saved, "--beside", trained.run, *out)
    one = saved_subject(saved, None)
    fewer = replace(one, predictions=saved_predictions(saved, 2))
    with pytest.raises(InputError, match="not those of the other"):
        draw_pseudo_labels([one, fewer], 2, tmp_path)


def test_features_are_scored_on_the_pixels_with_a_truth(
    csl: Callable[..., Any], saved: Path, arrays: dict[str, np.ndarray]
) -> None:
    seen = json_of(csl, "--logits", saved)
    probability = torch.from_numpy(arrays["logits"]).double().softmax(1).amax(1).numpy()
    scored = arrays["truth"] != 255
    correct = arrays["logits"].argmax(1) == arrays["truth"]
    expected = auroc(probability[scored], correct[scored])
    assert seen["features"]["p_max"]["auroc"] == pytest.approx(expected, abs=1e-4)


def test_running_averages_are_those_of_all_images(
    saved: Path, arrays: dict[str, np.ndarray]
) -> None:
    predictions = saved_predictions(saved, None)
    judged = judge(predictions, SelectionConfig(), ("softmatch",))
    confidence = torch.from_numpy(arrays["logits"]).softmax(1).amax(1)
    mean = confidence.double().mean().item()  # images of one size
    chosen = (confidence.double() >= mean).numpy() & (arrays["truth"] != 255)
    assert judged.selected["softmatch"].sum() == chosen.sum()


def test_the_grid_has_the_flags_of_the_image(saved: Path, arrays: dict[str, np.ndarray]) -> None:
    plane = judge(saved_predictions(saved, None), SelectionConfig(), ("csl",)).plane
    logits = torch.from_numpy(arrays["logits"][plane.index][None])
    flags = select(logits, torch.ones(1, 9, 11, dtype=torch.bool), SelectionConfig()).reliable
    flags = flags[0].numpy()[arrays["truth"][plane.index] != 255]
    column = np.abs(np.log(plane.grid_residual)[:, None] - np.log(plane.residual)).argmin(0)
    row = np.abs(np.log(plane.grid_dispersion)[:, None] - np.log(plane.dispersion)).argmin(0)
    assert 0.1 < flags.mean() < 0.95, "both kinds are there"
    assert (plane.grid_reliable[row, column] == flags).mean() > 0.95


def test_the_second_plane_divides_by_what_the_confidence_allows(
    saved: Path, arrays: dict[str, np.ndarray]
) -> None:
    plane = judge(saved_predictions(saved, None), SelectionConfig(), ("csl",)).plane
    # All of the residual in one of 3 classes: δ = 2/3, -1/3, -1/3 and the slot's -1/3 of it.
    expected = plane.dispersion / (7 / 27 * plane.residual**2)
    assert plane.concentration == pytest.approx(expected)
    assert 0 < plane.concentration.min() < 0.3 < 0.9 < plane.concentration.max() <= 1 + 1e-6
    logits = torch.from_numpy(arrays["logits"][plane.index][None])
    flags = select(logits, torch.ones(1, 9, 11, dtype=torch.bool), SelectionConfig()).reliable
    flags = flags[0].numpy()[arrays["truth"][plane.index] != 255]
    column = np.abs(np.log(plane.grid_residual)[:, None] - np.log(plane.residual)).argmin(0)
    row = np.abs(plane.grid_concentration[:, None] - plane.concentration).argmin(0)
    assert (plane.grid_concentration_reliable[row, column] == flags).mean() > 0.95


def test_pixels_beyond_the_limit_are_a_fixed_sample(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = judge(saved_predictions(saved, None), SelectionConfig(), ("csl",))
    monkeypatch.setattr("csl.lab.MOST_PIXELS", 100)
    one, other = (
        judge(saved_predictions(saved, None), SelectionConfig(), ("csl",)) for _ in range(2)
    )
    assert len(whole.correct) == 3 * 8 * 11
    assert 30 < len(one.correct) <= 100
    assert np.array_equal(one.features, other.features)
    assert np.array_equal(one.confusion, whole.confusion)


def test_the_terminal_has_a_line_per_rate_and_selector(
    csl: Callable[..., Any], saved: Path
) -> None:
    ended = csl("select", "--logits", saved, "--selectors", "csl,threshold,ael")
    assert ended.code == 0, ended.err
    for name in ("csl", "threshold", "ael"):
        for rate in ("sampling", "accuracy", "recall"):
            assert any(line.split()[:2] == [rate, name] for line in ended.out.splitlines())
    assert "AUROC" in ended.out


def test_many_classes_are_not_cut(csl: Callable[..., Any], tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(0, 4, (1, 60, 20, 20))
    np.savez(tmp_path / "many.npz", logits=logits, truth=logits.argmax(1).astype(np.uint8))
    ended = csl("select", "--logits", tmp_path / "many.npz")
    assert ended.code == 0, ended.err
    assert "…" not in ended.out
    accuracy = next(line for line in ended.out.splitlines() if line.startswith("accuracy"))
    assert accuracy.split()[-2:] == ["100.0", "100.0"], "all are correct"


def refusal(csl: Callable[..., Any], *arguments: object) -> str:
    ended = csl("select", *arguments)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert "Traceback" not in ended.err
    assert ended.out == ""
    text: str = ended.err
    return text


def test_an_unknown_selector_is_told_the_choices(csl: Callable[..., Any], saved: Path) -> None:
    said = refusal(csl, "--logits", saved, "--selectors", "csl,fixmatch")
    assert "fixmatch" in said
    assert all(name in said for name in SELECTORS)
    assert "twice" in refusal(csl, "--logits", saved, "--selectors", "csl,csl")


def test_either_a_training_or_logits(csl: Callable[..., Any], saved: Path) -> None:
    assert "--logits" in refusal(csl)
    assert "--logits" in refusal(csl, "abc", "--logits", saved)


def test_a_training_without_its_network_is_refused(
    csl: Callable[..., Any], trained: Trained
) -> None:
    best = trained.store / "checkpoints" / trained.run / "best.pt"
    content = best.read_bytes()
    try:
        best.unlink()
        assert str(best) in refusal(csl, trained.run, "--store", trained.store)
        best.write_bytes(content[:1000])
        assert "cannot be used" in refusal(csl, trained.run, "--store", trained.store)
    finally:
        best.write_bytes(content)
    assert "starts with" in refusal(csl, "xyz", "--store", trained.store)
    assert "folder" in refusal(csl, trained.run, "--store", "s3://bucket/store")


def test_daw_needs_labels(csl: Callable[..., Any], saved: Path) -> None:
    assert "labeled" in refusal(csl, "--logits", saved, "--selectors", "daw")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"logits": np.zeros((3, 9, 11))}, "no logits"),
        ({"logits": np.zeros((3, 1, 9, 11))}, "no logits"),
        ({"logits": np.zeros((3, 4, 9, 11), dtype=np.int64)}, "no logits"),
        ({"logits": np.full((3, 4, 9, 11), np.nan)}, "cannot be judged"),
        ({"truth": np.zeros((3, 9, 10), dtype=np.uint8)}, "does not fit"),
        ({"truth": np.zeros((3, 9, 11), dtype=np.int64)}, "does not fit"),
        ({"truth": np.full((3, 9, 11), 4, dtype=np.uint8)}, "outside"),
        ({"truth": np.full((3, 9, 11), 255, dtype=np.uint8)}, "no pixel"),
    ],
)
def test_arrays_that_are_no_predictions(
    csl: Callable[..., Any],
    tmp_path: Path,
    arrays: dict[str, np.ndarray],
    change: dict[str, np.ndarray],
    word: str,
) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **(arrays | change))  # type: ignore[arg-type]
    assert word in refusal(csl, "--logits", path)


def test_files_that_are_no_arrays(
    csl: Callable[..., Any], tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    path = tmp_path / "bad.npz"
    assert str(path) in refusal(csl, "--logits", path)
    path.write_bytes(b"PK\x03\x04 torn")
    assert str(path) in refusal(csl, "--logits", path)
    np.save(tmp_path / "one.npy", arrays["logits"])
    assert "savez" in refusal(csl, "--logits", tmp_path / "one.npy")
    np.savez(path, logits=arrays["logits"])
    assert "missing" in refusal(csl, "--logits", path)
    np.savez(path, logits=np.array([{}], dtype=object), truth=arrays["truth"])
    assert "savez" in refusal(csl, "--logits", path)


def test_an_image_that_is_not_there_and_a_file_for_a_folder(
    csl: Callable[..., Any], saved: Path
) -> None:
    assert "0 to 2" in refusal(csl, "--logits", saved, "--image", 3)
    assert "--out" in refusal(csl, "--logits", saved, "--out", saved)
