"""Masks made from what people download: right to the pixel, never torn, never overwritten."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as rle

from csl.data.layouts import CITYSCAPES_CLASSES, LAYOUTS
from csl.data.prepare import masks
from csl.data.prepare.cityscapes import cityscapes_jobs
from csl.data.prepare.coco import coco_jobs
from csl.data.prepare.masks import make_masks, palette, refuse_faults
from csl.data.prepare.voc import voc_jobs
from csl.errors import InputError

INDICES = np.array([[0, 1, 2], [20, 15, 255]], np.uint8)


def stored(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.array(image)


def in_voc_colors(indices: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.array(palette(), np.uint8).reshape(256, 3)[indices])


def save_matlab(path: Path, indices: NDArray[Any]) -> None:
    scipy.io.savemat(path, {"GTcls": {"Segmentation": indices, "Boundaries": np.zeros(2)}})


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    for folder in ("JPEGImages", "SegmentationClass", "sbd/dataset/cls"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def test_the_palette_is_vocs() -> None:
    colors = np.array(palette()).reshape(256, 3).tolist()
    assert colors[:4] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert colors[20] == [0, 64, 128]
    assert colors[255] == [224, 224, 192]


@pytest.mark.parametrize("way", ["color", "color with alpha", "palette in another order"])
def test_voc_colors_become_indices_and_the_original_is_kept(voc: Path, way: str) -> None:
    colored = in_voc_colors(INDICES)
    if way == "color with alpha":
        colored = colored.convert("RGBA")
    elif way == "palette in another order":
        colored = colored.quantize(16)
        assert not np.array_equal(np.array(colored), INDICES)
    target = voc / "SegmentationClass/a.png"
    colored.save(target)
    original = target.read_bytes()
    jobs = voc_jobs(voc, None)
    assert make_masks(jobs).written == 1
    assert np.array_equal(stored(target), INDICES)
    assert (voc / "SegmentationClassColor/a.png").read_bytes() == original
    assert (make_masks(jobs).written, make_masks(jobs).kept) == (0, 1)


@pytest.mark.parametrize("mode", ["P", "L"])
def test_voc_indices_stay_as_they_are(voc: Path, mode: str) -> None:
    image = Image.fromarray(INDICES)
    if mode == "P":
        image.putpalette(palette())
    image.save(voc / "SegmentationClass/a.png")
    before = (voc / "SegmentationClass/a.png").read_bytes()
    assert make_masks(voc_jobs(voc, None)).kept == 1
    assert (voc / "SegmentationClass/a.png").read_bytes() == before
    assert not (voc / "SegmentationClassColor").exists()


def test_vocs_own_mask_wins_over_sbds(voc: Path) -> None:
    in_voc_colors(INDICES).save(voc / "SegmentationClass/both.png")
    for name in ("both", "only"):
        save_matlab(voc / f"sbd/dataset/cls/{name}.mat", np.full((2, 3), 7, np.uint8))
    assert make_masks(voc_jobs(voc, voc / "sbd")).written == 2
    assert np.array_equal(stored(voc / "SegmentationClass/both.png"), INDICES)
    assert (stored(voc / "SegmentationClass/only.png") == 7).all()


def test_one_bad_file_stops_no_other_and_is_named(voc: Path) -> None:
    folder = voc / "sbd/dataset/cls"
    save_matlab(folder / "good.mat", INDICES)
    whole = (folder / "good.mat").read_bytes()
    (folder / "cut.mat").write_bytes(whole[:200])
    (folder / "empty.mat").write_bytes(b"")
    save_matlab(folder / "outside.mat", np.full((2, 3), 21, np.uint8))
    save_matlab(folder / "floats.mat", np.full((2, 3), 0.5))
    Image.new("RGB", (3, 2), (1, 2, 3)).save(voc / "SegmentationClass/smooth.png")
    summary = make_masks(voc_jobs(voc, voc / "sbd"))
    assert summary.written == 1
    assert {Path(str(fault.file)).name for fault in summary.faults} == {
        "cut.mat",
        "empty.mat",
        "outside.mat",
        "floats.mat",
        "smooth.png",
    }
    with pytest.raises(InputError, match="5 masks could not be made"):
        refuse_faults(summary)


def test_an_original_is_never_lost_to_another(voc: Path) -> None:
    in_voc_colors(INDICES).save(voc / "SegmentationClass/a.png")
    (voc / "SegmentationClassColor").mkdir()
    (voc / "SegmentationClassColor/a.png").write_bytes(b"another")
    before = (voc / "SegmentationClass/a.png").read_bytes()
    assert len(make_masks(voc_jobs(voc, None)).faults) == 1
    assert (voc / "SegmentationClass/a.png").read_bytes() == before


def test_voc_without_any_mask_says_what_to_download(voc: Path) -> None:
    with pytest.raises(InputError, match=r"host\.robots"):
        voc_jobs(voc, None)
    with pytest.raises(InputError, match=r"no cls/\*\.mat") as refused:
        voc_jobs(voc, voc / "JPEGImages")
    assert refused.value.key == "--sbd"


def test_a_kill_while_writing_leaves_no_half_file(
    voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_voc_colors(INDICES).save(voc / "SegmentationClass/a.png")
    before = (voc / "SegmentationClass/a.png").read_bytes()

    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            make_masks(voc_jobs(voc, None))
    assert (voc / "SegmentationClass/a.png").read_bytes() == before
    assert make_masks(voc_jobs(voc, None)).written == 1
    assert np.array_equal(stored(voc / "SegmentationClass/a.png"), INDICES)
    assert len(list((voc / "SegmentationClass").iterdir())) == 1


def test_many_masks_are_made_by_several_processes(
    voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "_FEW", 2)
    for name in "abc":
        save_matlab(voc / f"sbd/dataset/cls/{name}.mat", INDICES)
    (voc / "sbd/dataset/cls/d.mat").write_bytes(b"broken")
    seen: list[None] = []
    summary = make_masks(voc_jobs(voc, voc / "sbd"), lambda: seen.append(None))
    assert (summary.written, len(summary.faults), len(seen)) == (3, 1, 4)
    assert np.array_equal(stored(voc / "SegmentationClass/c.png"), INDICES)


def test_cityscapes_label_ids_become_train_ids(tmp_path: Path) -> None:
    folder = tmp_path / "gtFine/train/ulm"
    folder.mkdir(parents=True)
    every = np.arange(34, dtype=np.uint8).reshape(2, 17)
    for name in ("a", "b", "c"):
        Image.fromarray(every).save(folder / f"{name}_gtFine_labelIds.png")
    Image.fromarray(every).save(folder / "b_gtFine_labelTrainIds.png")
    Image.fromarray(every + 1).save(folder / "c_gtFine_labelIds.png")  # 34 is no label
    summary = make_masks(cityscapes_jobs(tmp_path))
    assert (summary.written, summary.kept, len(summary.faults)) == (1, 1, 1)
    made = stored(folder / "a_gtFine_labelTrainIds.png").ravel()
    # By hand, from the official table: road 7, person 24, train 31, license plate none, pole 17.
    assert made[[7, 24, 31, 17, 33]].tolist() == [0, 11, 16, 5, 18]
    assert sorted(made[made != 255]) == list(range(19))
    assert [int(label) for label in np.flatnonzero(made != 255)] == list(CITYSCAPES_CLASSES)


THINGS = [  # with gaps, in no order, as COCO's ids have them
    {"id": 2 * index + 1, "name": name}
    for index, name in reversed(list(enumerate(LAYOUTS["coco"].names[1:])))
]
BIG = {"id": 1, "image_id": 9, "category_id": 1, "area": 16, "iscrowd": 0}
BIG["segmentation"] = [[0, 0, 4, 0, 4, 4, 0, 4]]  # type: ignore[assignment]


def square(name: int, category: int, left: int, top: int, side: int) -> dict[str, Any]:
    right, bottom = left + side, top + side
    outline = [[left, top, right, top, right, bottom, left, bottom]]
    return {**BIG, "id": name, "category_id": category, "area": side**2, "segmentation": outline}


def instances(path: Path, *annotations: dict[str, Any], **changes: Any) -> Path:
    images = [{"id": 9, "height": 5, "width": 6}, {"id": 10, "height": 2, "width": 2}]
    content = {"images": images, "annotations": annotations, "categories": THINGS, **changes}
    path.write_text(json.dumps(content))
    return path


def test_coco_paints_small_things_over_large_ones(tmp_path: Path) -> None:
    file = instances(tmp_path / "i.json", square(2, 3, 1, 1, 2), BIG, square(3, 159, 4, 3, 2))
    assert make_masks(coco_jobs(tmp_path, [file])).written == 2
    expected = np.zeros((5, 6), np.uint8)
    expected[:4, :4] = 1
    expected[1:3, 1:3] = 2
    expected[3:5, 4:6] = 80
    assert np.array_equal(stored(tmp_path / "masks/000000000009.png"), expected)
    assert not stored(tmp_path / "masks/000000000010.png").any()


@pytest.mark.parametrize("way", ["counts", "compressed"])
def test_coco_crowds_are_ignored(tmp_path: Path, way: str) -> None:
    counts = [5, 10, 15]  # columns first: the second and third column of five rows
    outline: dict[str, Any] = {"size": [5, 6], "counts": counts}
    if way == "compressed":
        outline = rle.frPyObjects(outline, 5, 6)
        outline = {**outline, "counts": outline["counts"].decode()}
    crowd = {**BIG, "id": 5, "area": 10, "iscrowd": 1, "segmentation": outline}
    make_masks(coco_jobs(tmp_path, [instances(tmp_path / "i.json", BIG, crowd)]))
    expected = np.zeros((5, 6), np.uint8)
    expected[:4, :4] = 1
    expected[:, 1:3] = 255
    assert np.array_equal(stored(tmp_path / "masks/000000000009.png"), expected)


def test_coco_keeps_masks_and_names_bad_annotations(tmp_path: Path) -> None:
    wrong = {**BIG, "id": 77, "segmentation": {"size": [2, 2], "counts": [4]}}
    file = instances(tmp_path / "i.json", wrong)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/000000000010.png").write_bytes(b"mine")
    summary = make_masks(coco_jobs(tmp_path, [file]))
    assert (summary.written, summary.kept) == (0, 1)
    assert "annotation 77" in summary.faults[0].problem
    assert (tmp_path / "masks/000000000010.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"categories": THINGS[:5]}, "80 things"),
        ({"annotations": [{**BIG, "category_id": 2}]}, "no instances file"),
        ({"annotations": 3}, "no instances file"),
        ({"images": [{"id": "../9", "height": 1, "width": 1}]}, "no instances file"),
    ],
)
def test_another_json_is_refused(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    file = instances(tmp_path / "i.json", **changes)
    with pytest.raises(InputError, match=problem) as refused:
        coco_jobs(tmp_path, [file])
    assert refused.value.file == file


def test_missing_or_cut_annotations_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="annotations_trainval2017"):
        coco_jobs(tmp_path, [])
    file = instances(tmp_path / "i.json")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match="no instances file"):
        coco_jobs(tmp_path, [file])
