"""One step: the loss is the sum of its terms, and every draw belongs to its seed and step."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from csl.batches import Batches, StepBatch
from csl.config import TrainingConfig
from csl.data.lists import open_lists
from csl.data.source import open_source
from csl.errors import NotANumberError
from csl.locations import Locations
from csl.models import SegmentationNetwork, build_network
from csl.recording import PseudoLabelRecorder
from csl.selection import SELECTORS, build_selector, select
from csl.step import CslStep, StepTerms

PLAIN: dict[str, dict[str, Any]] = {
    "data": {"dataset": "shapes", "crop": 32, "image_size": 32, "train_images": 16},
    "network": {
        "architecture": "deeplabv3plus",
        "backbone": "test_resnet",
        "pretrained": False,
        "atrous_rates": (1, 2, 4),
        "width": 8,
        "low_level_width": 8,
    },
    "schedule": {"labeled_batch": 2, "unlabeled_batch": 4, "precision": "fp32"},
    "augmentation": {"cutmix": 1.0},
    "masking": {"patch": 8, "probability": 1.0},
}


def config(**sections: dict[str, Any]) -> TrainingConfig:
    names = PLAIN.keys() | sections.keys()
    return TrainingConfig.model_validate(
        {name: PLAIN.get(name, {}) | sections.get(name, {}) for name in names}
    )


def batch_of(asked: TrainingConfig, step: int = 0, seed: int = 0) -> StepBatch:
    lists = open_lists(asked.data, "4", Locations())
    loaded = Batches(asked, lists, open_source(asked.data, Locations()), seed)[step]
    return loaded.prepare(asked.data, torch.device("cpu"))


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.fixture(scope="module")
def built() -> SegmentationNetwork:
    torch.manual_seed(0)
    network = build_network(config().network, config().data.classes, None)
    for norm in norms(network):  # timm starts some at 0, which lets no gradient through
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    return network


@pytest.fixture
def network(built: SegmentationNetwork) -> SegmentationNetwork:
    return copy.deepcopy(built).train()


class Calls(list[tuple[tuple[Any, ...], Tensor]]):
    """Arguments and results of the network's calls."""

    @property
    def keep(self) -> tuple[Tensor, Tensor]:
        keep: tuple[Tensor, Tensor] = self[0][0][1]
        return keep

    @property
    def views(self) -> Tensor:
        """The strong images, then the masked ones."""
        views: Tensor = self[1][0][0]
        return views


@contextmanager
def watched(network: SegmentationNetwork) -> Iterator[Calls]:
    calls = Calls()
    hook = network.register_forward_hook(lambda _, given, result: calls.append((given, result)))
    yield calls
    hook.remove()


def take(
    network: SegmentationNetwork,
    asked: TrainingConfig,
    batch: StepBatch | None = None,
    step: int = 0,
    seed: int = 0,
) -> tuple[StepTerms, Calls]:
    batch = batch_of(asked, step, seed) if batch is None else batch
    with watched(network) as calls:
        terms = CslStep(network, asked, seed, rank=0, world=1, total_steps=2000)(batch, step)
    return terms, calls


def swapped(tensor: Tensor) -> Tensor:
    """Each image's CutMix partner: 0 and 1, 2 and 3, … swap, the odd one out takes the first."""
    order = []
    for at in range(len(tensor)):
        partner = at + 1 if at % 2 == 0 else at - 1
        order.append(partner if partner < len(tensor) else 0)
    return tensor[order]


def mixed(tensor: Tensor, box: Tensor) -> Tensor:
    box = box.reshape(len(box), *[1] * (tensor.ndim - 3), *box.shape[1:])
    return swapped(tensor) * box + tensor * ~box


def mean_loss(logits: Tensor, target: Tensor, weight: Tensor, valid: Tensor) -> Tensor:
    """Σ w·(-log p of the target) over the number of valid pixels, the long way."""
    logged = (logits - logits.logsumexp(1, keepdim=True)).permute(0, 2, 3, 1)[valid]
    picked = logged.gather(1, target[valid][:, None])[:, 0]
    return -(picked * weight[valid]).sum() / max(int(valid.sum()), 1)


@pytest.mark.parametrize(
    ("unlabeled", "sections"),
    [
        (1, {}),
        (2, {}),
        (3, {}),
        (4, {}),
        (4, {"selection": {"selector": "threshold", "tau": 0.2}}),
        (4, {"selection": {"weighting": "binary"}, "loss": {"masked_weighted": False}}),
        (3, {"loss": {"strong": 0.7, "masked": 0.3, "feature": 0.2, "divisor": 3.0}}),
        (2, {"masking": {"enabled": False}}),
    ],
)
def test_the_loss_is_the_weighted_sum_of_its_terms(
    network: SegmentationNetwork, sections: dict[str, Any], unlabeled: int
) -> None:
    asked = config(**{"schedule": {**PLAIN["schedule"], "unlabeled_batch": unlabeled}} | sections)
    batch = batch_of(asked)
    terms, calls = take(network, asked, batch)

    (first, _), logits = calls[0]
    assert torch.equal(first, torch.cat([batch.labeled_image, batch.weak]))
    on_labeled, on_weak, on_perturbed = logits.split([2, unlabeled, unlabeled])
    chosen = select(on_weak, batch.valid, asked.selection)
    # The selection must not be trivial, or swapped weights would go unnoticed.
    assert chosen.weight.unique().numel() > 1

    views = calls.views.split(unlabeled)
    on_views = calls[1][1].split(unlabeled)
    assert torch.equal(views[0], mixed(batch.strong, batch.cutmix))
    mixed_valid = mixed(batch.valid.int(), batch.cutmix).bool()
    whole = torch.ones_like(chosen.weight)
    expected = [
        mean_loss(on_labeled, batch.labeled_mask, torch.ones(2, 32, 32), batch.labeled_mask < 255),
        mean_loss(
            on_views[0],
            mixed(chosen.label, batch.cutmix),
            mixed(chosen.weight, batch.cutmix),
            mixed_valid,
        ),
        mean_loss(
            on_views[1],
            chosen.label,
            chosen.weight if asked.loss.masked_weighted else whole,
            batch.valid,
        )
        if asked.masking.enabled
        else torch.zeros(()),
        mean_loss(on_perturbed, chosen.label, chosen.weight, batch.valid),
    ]
    loss = asked.loss
    total = (
        expected[0]
        + loss.strong * expected[1]
        + loss.masked * expected[2]
        + loss.feature * expected[3]
    ) / loss.divisor
    assert torch.allclose(terms.losses.float(), torch.stack([total, *expected]), rtol=1e-4)
    assert torch.allclose(terms.loss, total, rtol=1e-4)

    parameters = list(network.parameters())
    ours = torch.autograd.grad(total, parameters, retain_graph=True)
    theirs = torch.autograd.grad(terms.loss, parameters)
    scale = max(gradient.abs().max().item() for gradient in ours)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5 * scale)


def test_without_weights_only_the_supervised_part_is_left(network: SegmentationNetwork) -> None:
    nothing = {"strong": 0.0, "masked": 0.0, "feature": 0.0, "divisor": 2.0}
    terms, _ = take(network, config(loss=nothing))
    total, labeled, *others = terms.losses.tolist()
    assert total == pytest.approx(labeled / 2)
    assert all(other > 0 for other in others)  # still recorded


def test_the_supervised_baseline_is_the_labeled_loss(network: SegmentationNetwork) -> None:
    asked = config(schedule={"unlabeled_batch": 0})
    batch = batch_of(asked)
    terms, calls = take(network, asked, batch)
    assert len(calls) == 1
    valid = batch.labeled_mask < 255
    expected = mean_loss(calls[0][1], batch.labeled_mask, torch.ones(2, 32, 32), valid)
    assert terms.losses.tolist() == pytest.approx([expected.item() / 2, expected.item(), 0, 0, 0])
    assert not terms.pseudo_labels.any()
    terms.loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize("selector", ["csl", "threshold"])
def test_every_parameter_gets_a_gradient(network: SegmentationNetwork, selector: str) -> None:
    terms, _ = take(network, config(selection={"selector": selector}))
    terms.loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_only_labeled_and_weak_images_move_the_running_statistics(
    network: SegmentationNetwork, built: SegmentationNetwork
) -> None:
    asked = config()
    batch = batch_of(asked)
    _, calls = take(network, asked, batch)
    reference = copy.deepcopy(built).train()
    reference(torch.cat([batch.labeled_image, batch.weak]), calls.keep)
    for after, alone, before in zip(norms(network), norms(reference), norms(built), strict=True):
        assert torch.equal(after.running_mean, alone.running_mean)
        assert torch.equal(after.running_var, alone.running_var)
        assert not torch.equal(after.running_mean, before.running_mean)
        assert after.momentum == before.momentum
        assert after.training


def test_strong_views_are_normalised_by_their_own_statistics(network: SegmentationNetwork) -> None:
    asked = config()
    _, calls = take(network, asked)
    assert torch.allclose(calls[1][1], network(calls.views), atol=1e-5)
    assert not torch.allclose(calls[1][1], network.eval()(calls.views), atol=1e-2)


def test_pseudo_labels_are_counted(network: SegmentationNetwork) -> None:
    asked = config()
    batch = batch_of(asked)
    truth = batch.unlabeled_truth.clone()
    truth[:, :5] = 255  # valid pixels of unknown class
    batch = replace(batch, unlabeled_truth=truth)
    terms, calls = take(network, asked, batch)
    chosen = select(calls[0][1][2:6], batch.valid, asked.selection)
    known = correct = 0
    for label, flag, true in zip(
        *(each.flatten().tolist() for each in (chosen.label, chosen.reliable, truth)), strict=True
    ):
        known += flag and true != 255
        correct += flag and true == label
    valid, reliable, *recorded = terms.pseudo_labels.tolist()
    assert (valid, reliable) == (batch.valid.sum(), chosen.reliable.sum())
    seen = PseudoLabelRecorder(8, count_argmax_slot=True).unpack(recorded)
    assert seen is not None
    assert (sum(seen.selected), sum(seen.selected_correct)) == (known, correct)
    assert valid > reliable > known > correct > 0


# What is drawn.


def test_channels_are_dropped_by_chance_and_the_mean_is_kept(network: SegmentationNetwork) -> None:
    asked = config(loss={"feature_dropout": 0.75}, masking={"enabled": False})
    batch = batch_of(asked)
    for level in (0, 1):
        drawn = torch.stack([take(network, asked, batch, step)[1].keep[level] for step in range(8)])
        assert drawn.shape[1:] == (4, network.channels[level], 1, 1)
        assert set(drawn.unique().tolist()) == {0.0, 4.0}
        # 8·4·32 draws of standard deviation 1.73: 0.3 is more than five of the mean's.
        assert drawn.mean().item() == pytest.approx(1, abs=0.3)
        rows = drawn.flatten(0, 1).flatten(1)
        assert len(rows.unique(dim=0)) == len(rows)


def test_without_dropout_every_channel_is_kept(network: SegmentationNetwork) -> None:
    _, calls = take(network, config(loss={"feature_dropout": 0.0}))
    assert all((keep == 1).all() for keep in calls.keep)
    _, weak, perturbed = calls[0][1].split([2, 4, 4])
    assert torch.allclose(weak, perturbed, atol=1e-5)


def draws(built: SegmentationNetwork, seed: int, step: int, noise: int = 0) -> list[Tensor]:
    """Channel masks and masked views of a step whose batch is always the same.

    Everything is reliable and every image masked, so that the views show the drawn patches.
    """
    asked = config(selection={"selector": "threshold", "tau": 0.0})
    torch.manual_seed(noise)
    _, calls = take(copy.deepcopy(built).train(), asked, batch_of(asked), step, seed)
    return [*calls.keep, calls.views]


def test_draws_depend_on_seed_and_step_alone(built: SegmentationNetwork) -> None:
    one, other = draws(built, 3, 5, noise=0), draws(built, 3, 5, noise=1)
    assert all(map(torch.equal, one, other))


@pytest.mark.parametrize(
    "places",
    [
        pytest.param([(0, 0), (0, 1), (0, 7), (0, 1000)], id="steps"),
        pytest.param([(0, 0), (1, 0), (2, 0), (2**31 - 1, 0)], id="seeds"),
    ],
)
def test_other_seeds_and_steps_draw_otherwise(
    built: SegmentationNetwork, places: list[tuple[int, int]]
) -> None:
    drawn = [draws(built, seed, step) for seed, step in places]
    for several in zip(*drawn, strict=True):
        assert len({each.numpy().tobytes() for each in several}) == len(places)


def test_a_step_leaves_torchs_global_draws_alone(network: SegmentationNetwork) -> None:
    asked = config()
    batch = batch_of(asked)
    state = torch.get_rng_state()
    take(network, asked, batch)
    assert torch.equal(torch.get_rng_state(), state)


def test_variants_see_the_same_augmentations(built: SegmentationNetwork) -> None:
    variants = {
        "all": {"selection": {"selector": "threshold", "tau": 0.0}},
        "some": {"selection": {"selector": "csl"}},
        "none": {"selection": {"selector": "threshold", "tau": 1.0}},
        "unmasked": {"masking": {"enabled": False}},
    }
    calls: dict[str, Calls] = {}
    for name, sections in variants.items():
        calls[name] = take(copy.deepcopy(built).train(), config(**sections), step=3, seed=5)[1]
    whole = calls["all"]
    for other in calls.values():
        assert torch.equal(other[0][0][0], whole[0][0][0])  # labeled and weak
        assert all(map(torch.equal, other.keep, whole.keep))
        assert torch.equal(other.views[:4], whole.views[:4])  # strong

    asked = config()
    batch = batch_of(asked, 3, 5)
    reliable = select(calls["some"][0][1][2:6], batch.valid, asked.selection).reliable
    assert reliable.any()
    patches = (calls["all"].views[4:] != batch.masked).any(1)
    assert patches.any()
    assert torch.equal(calls["none"].views[4:], batch.masked)
    # Where csl differs, it drops what it trusts of the same patches.
    dropped = (patches & reliable)[:, None]
    assert torch.equal(calls["some"].views[4:], batch.masked.masked_fill(dropped, 0))


def test_images_not_to_be_masked_are_whole(network: SegmentationNetwork) -> None:
    asked = config(masking={"theta": 1.0}, selection={"selector": "threshold", "tau": 0.0})
    apply = torch.tensor([True, False, False, True])
    batch = replace(batch_of(asked), apply_mask=apply)
    _, calls = take(network, asked, batch)
    views = calls.views[4:]
    assert torch.equal(views[~apply], batch.masked[~apply])
    assert (views[apply].transpose(0, 1)[:, batch.valid[apply]] == 0).all()
    assert (batch.masked[apply] != 0).any()


# What goes wrong.


def test_no_valid_pixel_is_no_loss(network: SegmentationNetwork) -> None:
    asked = config()
    batch = batch_of(asked)
    nothing = replace(
        batch,
        labeled_mask=torch.full_like(batch.labeled_mask, 255),
        valid=torch.zeros_like(batch.valid),
    )
    terms, _ = take(network, asked, nothing)
    assert terms.losses.tolist() == [0, 0, 0, 0, 0]
    terms.loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("selector", ["csl", "threshold"])
def test_logits_that_are_no_numbers_stop_the_training(
    network: SegmentationNetwork, selector: str
) -> None:
    with torch.no_grad():
        network.classifier.bias[2] = float("nan")
    with pytest.raises(NotANumberError):
        take(network, config(selection={"selector": selector}))


# Other selectors, masks and losses.


@pytest.mark.parametrize("selector", sorted(SELECTORS))
def test_every_selector_trains(network: SegmentationNetwork, selector: str) -> None:
    """Its labels, weights, soft targets and scale are what the losses have."""
    asked = config(selection={"selector": selector, "tau": 0.2}, masking=PLAIN["masking"])
    batch = batch_of(asked)
    terms, calls = take(network, asked, batch, step=500)
    _, logits = calls[0]
    on_labeled, on_weak, on_perturbed = logits.split([2, 4, 4])
    judge = build_selector(asked.selection, 8)
    judge.observe_labeled(on_labeled, batch.labeled_mask, batch.labeled_mask < 255)
    chosen = judge(on_weak, batch.valid, 500 / 2000)

    target = torch.nn.functional.one_hot(chosen.label, 8).movedim(-1, 1).float()
    if chosen.soft_target is not None:
        target = chosen.soft_target
    scale = 1.0 if chosen.loss_scale is None else float(chosen.loss_scale)
    weight = chosen.weight * batch.valid * scale

    def loss(logits: Tensor, target: Tensor, weight: Tensor, valid: Tensor) -> Tensor:
        return (-(target * logits.log_softmax(1)).sum(1) * weight).sum() / valid.sum()

    on_strong, on_masked = calls[1][1].split(4)
    expected = [
        loss(
            on_strong,
            mixed(target, batch.cutmix),
            mixed(weight, batch.cutmix),
            mixed(batch.valid.int(), batch.cutmix),
        ),
        loss(on_masked, target, weight, batch.valid),
        loss(on_perturbed, target, weight, batch.valid),
    ]
    assert torch.allclose(terms.losses[2:].float(), torch.stack(expected), rtol=1e-4)
    if chosen.weight.any():
        terms.loss.backward()
        assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_a_selectors_state_is_the_steps(network: SegmentationNetwork) -> None:
    asked = config(selection={"selector": "daw", "momentum": 0.5})
    step = CslStep(network, asked, 0, rank=0, world=1, total_steps=10)
    assert {name for name in step.state_dict() if name.startswith("selector.")} == {
        "selector.mean",
        "selector.variance",
        "selector.seen",
    }
    assert step.selector.state_dict().keys().isdisjoint(network.state_dict())
    step(batch_of(asked), 0)
    assert step.selector.state_dict()["seen"].any()  # labeled pixels were observed


def test_progress_is_the_share_of_steps(network: SegmentationNetwork) -> None:
    asked = config(selection={"selector": "u2pl"})
    batch = batch_of(asked)
    step = CslStep(network, asked, 0, rank=0, world=1, total_steps=10)
    kept = [step(batch, at).pseudo_labels[1].item() for at in (0, 5, 9)]
    pixels = int(batch.valid.sum())
    assert kept == [pytest.approx(share * pixels, abs=2) for share in (0.8, 0.9, 0.98)]


@pytest.mark.parametrize("target", ["reliable", "unreliable", "both"])
def test_masking_drops_its_target(network: SegmentationNetwork, target: str) -> None:
    asked = config(masking=PLAIN["masking"] | {"target": target, "theta": 1.0})
    batch = batch_of(asked)
    _, calls = take(network, asked, batch)
    reliable = select(calls[0][1][2:6], batch.valid, asked.selection).reliable
    chosen = {"reliable": reliable, "unreliable": ~reliable}.get(target, torch.ones_like(reliable))
    expected = batch.masked.masked_fill(chosen[:, None], 0)
    assert torch.equal(calls.views[4:], expected)
    assert 0 < reliable.sum() < reliable.numel()


def test_blocks_are_masked_as_patches_are(network: SegmentationNetwork) -> None:
    options = {"target": "both", "theta": 0.5, "patch": 2, "shape": "block"}
    asked = config(masking=PLAIN["masking"] | options)
    batch = batch_of(asked)
    _, calls = take(network, asked, batch)
    assert (calls.views[4:] == 0).all(1).float().mean((1, 2)).min() >= 0.5


def test_masked_views_with_cutmix(network: SegmentationNetwork) -> None:
    """Pixels, reliable flags, labels, weights and validity all come from the partner."""
    asked = config(
        selection={"selector": "threshold", "tau": 0.3},
        masking=PLAIN["masking"] | {"cutmix": True, "theta": 1.0},
    )
    batch = batch_of(asked)
    assert batch.masked_cutmix.flatten(1).any(1).all()
    terms, calls = take(network, asked, batch)
    chosen = select(calls[0][1][2:6], batch.valid, asked.selection)
    box = batch.masked_cutmix
    reliable = mixed(chosen.reliable.int(), box).bool()
    assert torch.equal(calls.views[4:], mixed(batch.masked, box).masked_fill(reliable[:, None], 0))
    expected = mean_loss(
        calls[1][1][4:],
        mixed(chosen.label, box),
        mixed(chosen.weight, box),
        mixed(batch.valid.int(), box).bool(),
    )
    assert terms.losses[3].item() == pytest.approx(expected.item(), rel=1e-4)
    assert not torch.equal(mixed(chosen.weight, box), chosen.weight)


@pytest.mark.parametrize("images", ["labeled", "both"])
def test_masked_labeled_images(network: SegmentationNetwork, images: str) -> None:
    """All their pixels are reliable, the ground truth is the target; both losses are averaged."""
    asked = config(masking=PLAIN["masking"] | {"images": images})
    batch = batch_of(asked)
    terms, calls = take(network, asked, batch)
    unlabeled = 4 if images == "both" else 0
    sizes = [4, unlabeled, 2]
    views, on_views = calls.views.split(sizes), calls[1][1].split(sizes)

    dropped = (views[2] == 0).all(1)
    assert dropped.any()
    assert not dropped.all()
    assert torch.equal(views[2], batch.labeled_masked.masked_fill(dropped[:, None], 0))
    cells = dropped.unflatten(1, (4, 8)).unflatten(3, (4, 8)).float().mean((2, 4))
    content = (batch.labeled_masked != 0).any(1)
    whole = content.unflatten(1, (4, 8)).unflatten(3, (4, 8)).all(4).all(2)
    assert set(cells[whole].unique().tolist()) <= {0.0, 1.0}  # whole patches, nothing between

    valid = batch.labeled_mask < 255
    on_labeled = mean_loss(on_views[2], batch.labeled_mask, torch.ones(2, 32, 32), valid)
    expected = on_labeled
    if images == "both":
        chosen = select(calls[0][1][2:6], batch.valid, asked.selection)
        on_unlabeled = mean_loss(on_views[1], chosen.label, chosen.weight, batch.valid)
        expected = (on_labeled + on_unlabeled) / 2
    assert terms.losses[3].item() == pytest.approx(expected.item(), rel=1e-4)
    _, labeled, strong, masked, feature = terms.losses.tolist()
    total = (labeled + 0.25 * strong + 0.25 * masked + 0.5 * feature) / 2
    assert terms.loss.item() == pytest.approx(total, rel=1e-4)


def test_masking_labeled_images_too_leaves_the_unlabeled_ones_as_they_were(
    built: SegmentationNetwork,
) -> None:
    views = []
    for images in ("unlabeled", "both"):
        asked = config(masking=PLAIN["masking"] | {"images": images})
        views.append(take(copy.deepcopy(built).train(), asked)[1].views[:8])
    assert torch.equal(*views)


def test_sums_over_pixels(network: SegmentationNetwork) -> None:
    """Eq. 2 and 14 as written: each image's sum, averaged over images."""
    means, _ = take(copy.deepcopy(network), config())
    asked = config(loss={"reduction": "sum"})
    batch = batch_of(asked)
    sums, _ = take(network, asked, batch)
    pixels = [1.0] + [batch.valid.sum().item() / 4] * 3
    mixed_pixels = mixed(batch.valid.int(), batch.cutmix).sum().item() / 4
    pixels[1] = mixed_pixels
    assert sums.losses[1].item() == pytest.approx(means.losses[1].item())
    for at, (one, count) in enumerate(zip(sums.losses[2:], pixels[1:], strict=True), start=2):
        assert one.item() == pytest.approx(means.losses[at].item() * count, rel=1e-4)


OHEM = {"supervised": "ohem", "ohem_threshold": 0.1, "ohem_min_kept": 50, "ohem_group": 1}


@pytest.mark.parametrize("unlabeled", [0, 4])
def test_the_supervised_loss_is_of_the_hardest_pixels(
    network: SegmentationNetwork, unlabeled: int
) -> None:
    """The mean over images of each one's hardest pixels, at least 50."""
    asked = config(loss=OHEM, schedule=PLAIN["schedule"] | {"unlabeled_batch": unlabeled})
    batch = batch_of(asked)
    terms, calls = take(network, asked, batch)
    expected = []
    for logits, mask in zip(calls[0][1][:2], batch.labeled_mask, strict=True):
        known = mask < 255
        each = nn.functional.cross_entropy(logits[:, known].T, mask[known], reduction="none")
        hardest = each.sort(descending=True).values
        expected.append(hardest[: max(50, int((hardest >= -math.log(0.1)).sum()))].mean())
    assert terms.losses[1].item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-4)


def test_masked_labeled_images_have_plain_cross_entropy(network: SegmentationNetwork) -> None:
    masking = PLAIN["masking"] | {"images": "labeled"}
    plain, _ = take(copy.deepcopy(network), config(masking=masking))
    hard, _ = take(network, config(masking=masking, loss=OHEM))
    assert hard.losses[3] == plain.losses[3]
    assert hard.losses[1] > plain.losses[1]


def test_dropout_inside_a_network_belongs_to_the_step() -> None:
    network = {"architecture": "segformer", "backbone": "mit_b0", "pretrained": False}
    supervised = {"labeled_batch": 2, "unlabeled_batch": 0, "precision": "fp32"}
    asked = TrainingConfig.model_validate({**PLAIN, "network": network, "schedule": supervised})
    torch.manual_seed(0)
    built = build_network(asked.network, asked.data.classes, None)
    batch = batch_of(asked)

    def loss(step: int = 0, rank: int = 0, noise: int = 0) -> Tensor:
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        terms: StepTerms = CslStep(built, asked, 0, rank, 1, 10)(batch, step)
        assert torch.equal(torch.get_rng_state(), before)
        return terms.losses

    assert torch.equal(loss(), loss(noise=1))
    assert not torch.equal(loss(), loss(step=1))
    assert not torch.equal(loss(), loss(rank=1))


# Parts of a batch, and ranks.


@pytest.mark.parametrize(("parts", "world"), [(2, 1), (1, 2), (2, 2), (4, 1)])
@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"masking": PLAIN["masking"] | {"images": "both", "shape": "block"}},
        {"masking": PLAIN["masking"] | {"cutmix": True}, "loss": {"reduction": "sum"}},
        {"masking": {"enabled": False}, "loss": OHEM | {"ohem_min_kept": 20}},
        {"schedule": {"unlabeled_batch": 0}},
    ],
)
def test_parts_and_ranks_add_up_to_the_batch(
    network: SegmentationNetwork, sections: dict[str, Any], parts: int, world: int
) -> None:
    """Losses, gradients and counts, where normalization does not couple images."""
    network.eval()
    schedule = PLAIN["schedule"] | {"labeled_batch": 4, "unlabeled_batch": 8}
    schedule |= sections.get("schedule", {})

    def added_up(parts: int, world: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        asked = config(**sections | {"schedule": schedule | {"accumulate": parts}})
        lists, source = (
            open_lists(asked.data, "4", Locations()),
            open_source(asked.data, Locations()),
        )
        steps = [CslStep(network, asked, 3, rank, world, total_steps=10) for rank in range(world)]
        blocks = [
            Batches(asked, lists, source, 3, rank, world)[1]
            .prepare(asked.data, torch.device("cpu"))
            .split(parts)
            for rank in range(world)
        ]
        alone = CslStep(network, asked, 3, 0, 1, total_steps=10)
        counts = alone.counts([part for block in blocks for part in block])
        terms = [
            step(part, 1, at, counts)
            for step, block in zip(steps, blocks, strict=True)
            for at, part in enumerate(block)
        ]
        loss = torch.stack([each.loss for each in terms]).sum() / world
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        losses = torch.stack([each.losses for each in terms]).sum(0)
        return losses, torch.stack([t.pseudo_labels for t in terms]).sum(0), list(gradients)

    losses, seen, gradients = added_up(parts, world)
    whole_losses, whole_seen, whole_gradients = added_up(1, 1)
    assert torch.allclose(losses, whole_losses, rtol=1e-5)
    assert torch.equal(seen, whole_seen)
    scale = max(gradient.abs().max().item() for gradient in whole_gradients)
    assert scale > 0
    for one, other in zip(gradients, whole_gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5 * scale)
