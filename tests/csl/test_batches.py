"""Batches: a pure function of the step, whatever the ranks, workers and starting point."""

from collections import Counter
from dataclasses import fields
from typing import NoReturn

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from csl.batches import Batches, LoadedBatch, StepBatch
from csl.config import MaskingConfig, ScheduleConfig, ShapesData, TrainingConfig
from csl.data.lists import Entry, SplitLists, open_lists
from csl.data.source import Source, open_source
from csl.errors import InputError
from csl.locations import Locations

DATA = ShapesData(crop=32, image_size=32, train_images=22, val_images=2)


class _Recording:
    """Scenes whose entries are remembered; without truth, as VOC."""

    def __init__(self, truth: bool = True) -> None:
        self.scenes = open_source(DATA, Locations())
        self.truth = truth
        self.seen: list[Entry] = []

    def image(self, entry: Entry):  # type: ignore[no-untyped-def]
        self.seen.append(entry)
        return self.scenes.image(entry)

    def mask(self, entry: Entry):  # type: ignore[no-untyped-def]
        return self.scenes.mask(entry)

    def unlabeled_truth(self, entry: Entry):  # type: ignore[no-untyped-def]
        return self.scenes.unlabeled_truth(entry) if self.truth else None


def config(masking: MaskingConfig | None = None, **schedule: int) -> TrainingConfig:
    settings = {"epochs": 3, "labeled_batch": 3, "unlabeled_batch": 4} | schedule
    return TrainingConfig(
        data=DATA,
        schedule=ScheduleConfig(**settings),  # type: ignore[arg-type]
        masking=masking or MaskingConfig(),
    )


def build(
    training: TrainingConfig | None = None,
    split: str = "5",
    seed: int = 1,
    rank: int = 0,
    world_size: int = 1,
    source: Source | None = None,
) -> Batches:
    lists = open_lists(DATA, split, Locations())
    source = source or open_source(DATA, Locations())
    return Batches(training or config(), lists, source, seed, rank, world_size)


def prepared(batch: LoadedBatch) -> StepBatch:
    return batch.prepare(DATA, torch.device("cpu"))


def tensors(loaded: LoadedBatch) -> dict[str, Tensor]:
    """As the step has them."""
    batch = prepared(loaded)
    return {field.name: getattr(batch, field.name) for field in fields(batch)}


def same(one: LoadedBatch, other: LoadedBatch) -> bool:
    pairs = zip(tensors(one).values(), tensors(other).values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def images_of(batches: Batches, source: _Recording, step: int) -> tuple[list[Entry], list[Entry]]:
    """The labeled and the unlabeled entries of a step."""
    source.seen.clear()
    labeled = len(batches[step].labeled_image)
    return source.seen[:labeled], source.seen[labeled:]


def test_shapes_and_types() -> None:
    batch = tensors(build()[0])
    found = {name: (tuple(t.shape), t.dtype) for name, t in batch.items()}
    image, plane = (4, 3, 32, 32), (4, 32, 32)
    assert found == {
        "labeled_image": ((3, 3, 32, 32), torch.float32),
        "labeled_mask": ((3, 32, 32), torch.int64),
        "labeled_masked": ((0, 3, 32, 32), torch.float32),
        "labeled_apply_mask": ((3,), torch.bool),
        "weak": (image, torch.float32),
        "strong": (image, torch.float32),
        "masked": (image, torch.float32),
        "apply_mask": ((4,), torch.bool),
        "masked_cutmix": (plane, torch.bool),
        "cutmix": (plane, torch.bool),
        "valid": (plane, torch.bool),
        "unlabeled_truth": (plane, torch.int64),
    }


@settings(max_examples=15)
@given(st.integers(0, 2**40), st.integers(0, 11))
def test_a_step_is_a_pure_function(seed: int, step: int) -> None:
    torch.manual_seed(0)
    fresh = build(seed=seed)
    used = build(seed=seed)
    used[5]
    torch.manual_seed(1)
    assert same(fresh[step], used[step])


def test_the_loader_carries_bytes() -> None:
    batch = build(config(MaskingConfig(images="both")))[0]
    for name, tensor in vars(batch).items():
        assert tensor.element_size() == 1, name


def test_seeds_and_steps_differ() -> None:
    assert not torch.equal(build(seed=1)[0].weak, build(seed=2)[0].weak)
    # One labeled image in every slot of every step: only the augmentation can differ.
    batches = build(split="1")
    views = torch.cat([batches[0].labeled_image, batches[1].labeled_image])
    assert len({view.numpy().tobytes() for view in views}) == len(views)


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_ranks_share_out_the_same_batch(world_size: int) -> None:
    whole = tensors(build()[3])
    for rank in range(world_size):
        part = tensors(build(rank=rank, world_size=world_size)[3])
        for name, tensor in whole.items():
            own = len(tensor) // world_size
            assert torch.equal(part[name], tensor[rank * own : (rank + 1) * own]), name


@pytest.mark.parametrize("world_size", [1, 3])
def test_ranks_share_out_each_part_of_a_batch(world_size: int) -> None:
    """So that a part is made of the same images for any number of ranks."""
    batches = {"labeled_batch": 6, "unlabeled_batch": 12}
    whole = build(config(**batches))[1].prepare(DATA, torch.device("cpu"))
    for rank in range(world_size):
        in_parts = build(config(**batches, accumulate=2), rank=rank, world_size=world_size)
        own = in_parts[1].prepare(DATA, torch.device("cpu"))
        for mine, part in zip(own.split(2), whole.split(2), strict=True):
            for name, tensor in vars(part).items():
                block = tensor.tensor_split(world_size)[rank]
                assert torch.equal(vars(mine)[name], block), name


def test_loaders_agree_whatever_their_workers_and_start() -> None:
    batches = build(config(epochs=2))
    state = torch.get_rng_state()
    here = list(batches.loader(0))
    assert len(here) == batches.total_steps == 8
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(same, here, batches.loader(0, workers=2)))
    resumed = list(batches.loader(5))
    assert len(resumed) == 3
    assert all(map(same, here[5:], resumed))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_stays_an_input_error_across_processes(workers: int) -> None:
    class Broken(_Recording):
        def image(self, entry: Entry) -> NoReturn:
            raise InputError("unreadable", file=entry.image, remedy="replace it")

    with pytest.raises(InputError, match="unreadable") as refused:
        next(build(source=Broken()).loader(0, workers))
    assert str(refused.value.file).startswith("train/")


def test_an_epoch_is_one_pass_over_the_unlabeled_list() -> None:
    source = _Recording()
    batches = build(source=source)  # 17 unlabeled by 4: one is left out each epoch
    assert batches.steps_per_epoch == 4
    epochs = []
    for epoch in range(3):
        seen = [
            entry
            for step in range(epoch * 4, epoch * 4 + 4)
            for entry in images_of(batches, source, step)[1]
        ]
        assert len(set(seen)) == 16
        epochs.append(seen)
    assert epochs[0] != epochs[1] != epochs[2]


def test_labeled_images_come_equally_often_and_the_same_for_any_unlabeled_batch() -> None:
    streams = []
    for unlabeled in (0, 2, 4):
        source = _Recording()
        batches = build(config(unlabeled_batch=unlabeled, steps_per_epoch=5), source=source)
        streams.append([images_of(batches, source, step)[0] for step in range(15)])
    assert streams[0] == streams[1] == streams[2]
    counts = Counter(entry for step in streams[0] for entry in step)
    assert set(counts.values()) == {9}  # 15 steps of 3 are 9 passes over 5


@pytest.mark.parametrize(
    ("split", "schedule", "steps"),
    [
        ("5", {"unlabeled_batch": 0}, 1),  # 5 labeled by 3
        ("2", {"unlabeled_batch": 0}, 1),  # fewer than a batch
        ("9", {"unlabeled_batch": 0}, 3),
        ("5", {"steps_per_epoch": 2}, 2),
        ("5", {"steps_per_epoch": 9}, 9),
        ("20", {}, 1),  # 2 unlabeled, fewer than a batch
    ],
)
def test_steps_per_epoch(split: str, schedule: dict[str, int], steps: int) -> None:
    batches = build(config(None, **schedule), split=split)
    assert batches.steps_per_epoch == steps
    assert batches.total_steps == len(batches) == 3 * steps
    assert len(batches[batches.total_steps - 1].labeled_image) == 3
    with pytest.raises(IndexError):
        batches[batches.total_steps]


def test_a_long_epoch_continues_with_another_pass() -> None:
    source = _Recording()
    batches = build(config(steps_per_epoch=8, epochs=1), source=source)
    seen = [images_of(batches, source, step)[1] for step in range(8)]
    for half in (seen[:4], seen[4:]):
        assert len({entry for step in half for entry in step}) == 16
    assert seen[:4] != seen[4:]


def test_a_short_unlabeled_list_fills_its_batch() -> None:
    source = _Recording()
    seen = images_of(build(split="20", source=source), source, 0)[1]
    assert sorted(Counter(seen).values()) == [2, 2]


def test_supervised_batches_have_no_unlabeled_images() -> None:
    batch = tensors(build(config(unlabeled_batch=0))[0])
    assert len(batch.pop("labeled_image")) == len(batch.pop("labeled_mask")) == 3
    assert not batch.pop("labeled_apply_mask").any()
    assert all(len(tensor) == 0 for tensor in batch.values())


def test_masking_changes_nothing_but_its_own_view() -> None:
    on = tensors(build(config(MaskingConfig(probability=1.0)))[2])
    off = tensors(build(config(MaskingConfig(enabled=False)))[2])
    assert on.pop("apply_mask").all()
    assert not off.pop("apply_mask").any()
    assert len(on.pop("masked")) == 4
    assert off.pop("masked").shape == (0, 3, 32, 32)
    assert all(torch.equal(on[name], off[name]) for name in on)


def test_images_that_are_not_masked_have_the_strong_colors() -> None:
    plain = {"jitter": 0.0, "grayscale": 0.0, "blur": 0.0}
    masking = {"color": plain, "probability": 0.5}
    batches = build(config(MaskingConfig.model_validate(masking)))
    drawn = []
    for step in range(12):
        batch = prepared(batches[step])
        weak = batch.weak * batch.valid.unsqueeze(1)
        unchanged = (batch.masked == weak).flatten(1).all(1)
        assert unchanged[batch.apply_mask].all()
        drawn += list(zip(batch.apply_mask.tolist(), unchanged.tolist(), strict=True))
    # Strong colors leave an image alone with probability .2 * .8 * .5.
    assert sum(not masked and not same for masked, same in drawn) > 10


def test_padding_is_zero_in_strong_views_and_255_in_truth() -> None:
    for step in range(4):
        batch = prepared(build()[step])
        padding = ~batch.valid
        for view in (batch.strong, batch.masked):
            assert (view[padding.unsqueeze(1).expand_as(view)] == 0).all()
        assert torch.equal(batch.unlabeled_truth == 255, padding)


def test_a_dataset_without_truth_gives_255() -> None:
    with_truth, without = build()[0], build(source=_Recording(truth=False))[0]
    assert (without.unlabeled_truth == 255).all()
    assert torch.equal(with_truth.strong, without.strong)


def test_masks_of_unlabeled_images_are_never_asked_for() -> None:
    lists = open_lists(DATA, "5", Locations())
    bare = tuple(Entry(entry.image, None) for entry in lists.unlabeled)
    without = SplitLists(lists.labeled, bare, lists.val, lists.content_hash, lists.fingerprint)
    source = open_source(DATA, Locations())
    assert same(Batches(config(), lists, source, 0)[0], Batches(config(), without, source, 0)[0])


# Masking of labeled images, and CutMix before masking (Tables 10 and 11).


def masking(**options: object) -> TrainingConfig:
    return config(MaskingConfig.model_validate(options))


def test_labeled_images_to_be_masked() -> None:
    """Both: nothing else changes; labeled: the unlabeled view is left out."""
    usual = tensors(build(masking(probability=1.0))[2])
    both = tensors(build(masking(probability=1.0, images="both"))[2])
    labeled = tensors(build(masking(probability=1.0, images="labeled"))[2])
    for view in (both, labeled):
        assert view["labeled_masked"].shape == (3, 3, 32, 32)
        assert view["labeled_apply_mask"].all()
    assert torch.equal(both.pop("labeled_masked"), labeled.pop("labeled_masked"))
    assert torch.equal(both.pop("labeled_apply_mask"), labeled.pop("labeled_apply_mask"))
    assert labeled.pop("masked").shape == (0, 3, 32, 32)
    assert not labeled.pop("apply_mask").any()
    assert all(torch.equal(both[name], usual[name]) for name in both)
    assert all(torch.equal(labeled[name], usual[name]) for name in labeled)


def test_labeled_views_have_the_masking_color_and_zero_padding() -> None:
    plain = {"jitter": 0.0, "grayscale": 0.0, "blur": 0.0}
    batches = build(masking(color=plain, images="labeled"))
    drawn = []
    for step in range(12):
        batch = prepared(batches[step])
        content = (batch.labeled_mask != 255).unsqueeze(1)  # shapes' only 255 is padding
        padding = batch.labeled_masked.masked_select(~content.expand_as(batch.labeled_masked))
        assert not padding.any()
        same_image = (batch.labeled_masked == batch.labeled_image * content).flatten(1).all(1)
        assert same_image[batch.labeled_apply_mask].all()
        drawn += list(zip(batch.labeled_apply_mask.tolist(), same_image.tolist(), strict=True))
    assert any(applied for applied, _ in drawn)
    # The others have strong colors, which leave an image alone with probability .2 * .8 * .5.
    assert sum(not applied and not unchanged for applied, unchanged in drawn) > 8


@pytest.mark.parametrize("row", ["weak", "weak & strong", "w/o CutMix", "w/o grayscale", "default"])
def test_the_augmentations_of_table_11(row: str) -> None:
    nothing, strong = (0.0, 0.0, 0.0), (0.8, 0.2, 0.5)
    jitter, grayscale, blur = nothing if row == "weak" else strong
    if row in ("w/o grayscale", "default"):
        grayscale = 0.0
    cutmix = row in ("weak & strong", "w/o grayscale")
    batches = build(
        masking(
            color={"jitter": jitter, "grayscale": grayscale, "blur": blur},
            cutmix=cutmix,
            probability=1.0,
        )
    )
    boxes = gray = unchanged = images = 0
    for step in range(12):
        batch = prepared(batches[step])
        usual = prepared(build(masking(probability=1.0))[step])
        assert torch.equal(batch.strong, usual.strong)
        assert torch.equal(batch.cutmix, usual.cutmix)
        boxes += int(batch.masked_cutmix.any(2).any(1).sum())
        weak = batch.weak * batch.valid.unsqueeze(1)
        unchanged += int((batch.masked == weak).flatten(1).all(1).sum())
        gray += int((batch.masked[:, 0] == batch.masked[:, 1]).flatten(1).all(1).sum())
        images += len(batch.weak)
        if cutmix:
            assert not torch.equal(batch.masked_cutmix, batch.cutmix)
    assert (boxes > 0) == cutmix
    assert (unchanged == images) == (row == "weak")
    assert (gray > 0) == (grayscale > 0)


def test_ranks_share_the_masked_labeled_images() -> None:
    training = config(MaskingConfig(images="both"), labeled_batch=4)
    whole = tensors(build(training)[1])
    parts = [tensors(build(training, rank=rank, world_size=2)[1]) for rank in (0, 1)]
    for name, tensor in whole.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), tensor), name
