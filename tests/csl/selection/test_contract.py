"""Takes every selector of the registry; holds it to what all of them promise."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, distributed

from csl.config import SelectionConfig
from csl.errors import NotANumberError
from csl.selection import SELECTORS, Selection, Selector, build_selector, fused

CLASSES = 5
STEADY = settings(max_examples=10, derandomize=True, database=None)
seeds = st.integers(0, 2**31 - 1)

OTHERS: dict[str, dict[str, Any]] = {
    name: {"selector": name, "tau": 0.5, "momentum": 0.1} for name in SELECTORS if name != "csl"
}
CASES: dict[str, dict[str, Any]] = OTHERS | {
    "csl": {},
    "csl, all, variance": {"rule": "all", "sigma": "variance", "count_argmax_slot": False},
    "csl, margin": {"features": ("margin",)},
    "csl, entropy": {"features": ("entropy",)},
    "csl, residual entropy": {"features": ("residual_entropy",)},
    "csl, dispersion and entropy": {"features": ("dispersion", "entropy")},
    "csl, four features": {"features": ("dispersion", "entropy", "residual_entropy", "margin")},
    "csl, scale paper": {"scale": "paper"},
    "csl, scale fork": {"scale": "fork"},
    "csl, mean threshold": {"strategy": "mean_threshold"},
    "csl, class separation": {"strategy": "class_separation"},
    "csl, binary": {"weighting": "binary"},
    "csl, all smoothed": {"keep_reliable": False},
    "csl, Euclidean": {"weighting": "euclidean"},
    "csl, Euclidean, all smoothed": {"weighting": "euclidean", "keep_reliable": False},
    "csl, cosine": {"weighting": "cosine"},
    "csl, cosine, all smoothed": {"weighting": "cosine", "keep_reliable": False},
}
STATEFUL = ("flexmatch", "freematch", "softmatch", "corrmatch", "daw")
every_case = pytest.mark.parametrize("case", CASES)
stateful = pytest.mark.parametrize("case", STATEFUL)


def new(case: str) -> Selector:
    return build_selector(SelectionConfig(**CASES[case]), CLASSES)


def draw(seed: int, batch: int = 3, height: int = 7, width: int = 6) -> tuple[Tensor, Tensor]:
    """Logits whose confidence varies over the image, and valid pixels, some of them not."""
    generator = torch.Generator().manual_seed(seed)
    sharpness = 0.5 + 2 * torch.rand(batch, 1, height, width, generator=generator)
    logits = 2 * torch.randn(batch, CLASSES, height, width, generator=generator) * sharpness
    valid = torch.rand(batch, height, width, generator=generator) < 0.8
    return logits, valid


def learn(selector: Selector, seed: int) -> None:
    """One labeled batch, then one unlabeled batch."""
    logits, valid = draw(seed)
    generator = torch.Generator().manual_seed(seed)
    other = torch.randint(CLASSES, valid.shape, generator=generator)
    right = torch.rand(valid.shape, generator=generator) < logits.softmax(1).amax(1) ** 2
    selector.observe_labeled(logits, torch.where(right, logits.argmax(1), other), valid)
    selector(*draw(seed + 1), 0.3)


def experienced(case: str) -> Selector:
    """A selector that has seen two batches of each kind."""
    selector = new(case)
    learn(selector, 100)
    learn(selector, 200)
    return selector


def copy_of(selector: Selector, case: str) -> Selector:
    """Another one in the same state, by way of a file."""
    file = io.BytesIO()
    torch.save(selector.state_dict(), file)
    file.seek(0)
    other = new(case)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


def state(selector: Selector) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in selector.state_dict().items()}


def mapped(found: Selection, change: Callable[[Tensor], Tensor]) -> Selection:
    """Every map of a selection changed; the soft targets have their classes last for that."""
    soft = found.soft_target
    return replace(
        found,
        label=change(found.label),
        weight=change(found.weight),
        reliable=change(found.reliable),
        soft_target=None
        if soft is None
        else torch.stack([change(each) for each in soft.unbind(1)], dim=1),
    )


def assert_same(one: Selection, other: Selection, rtol: float = 0.0, atol: float = 0.0) -> None:
    assert torch.equal(one.label, other.label)
    assert torch.equal(one.reliable, other.reliable)
    for a, b in (
        (one.weight, other.weight),
        (one.soft_target, other.soft_target),
        (one.loss_scale, other.loss_scale),
    ):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def assert_close_state(one: Selector, other: Selector) -> None:
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=1e-6, atol=1e-9)


def assert_lawful(found: Selection, logits: Tensor, valid: Tensor) -> None:
    assert (found.label.dtype, found.weight.dtype, found.reliable.dtype) == (
        torch.int64,
        torch.float32,
        torch.bool,
    )
    assert found.label.shape == found.weight.shape == found.reliable.shape == valid.shape
    assert torch.equal(found.label, logits.argmax(1))
    assert ((found.weight >= 0) & (found.weight <= 1)).all()  # NaN is neither
    assert not found.weight[~valid].any()
    assert not (found.reliable & ~valid).any()
    if found.soft_target is not None:
        assert found.soft_target.shape == logits.shape
        assert found.soft_target.dtype == torch.float32
        torch.testing.assert_close(found.soft_target.sum(1), torch.ones(valid.shape))
        assert torch.equal(found.soft_target.argmax(1), found.label)
    if found.loss_scale is not None:
        assert found.loss_scale.shape == ()
        assert torch.isfinite(found.loss_scale)
        assert found.loss_scale > 0


def test_the_registry_is_what_the_configuration_allows() -> None:
    allowed = SelectionConfig.model_fields["selector"].annotation
    assert set(SELECTORS) == set(allowed.__args__)  # type: ignore[union-attr]
    assert all(selector.__doc__ for selector in SELECTORS.values())
    with_state = [name for name in SELECTORS if new(name if name in CASES else "csl").state_dict()]
    assert set(with_state) == set(STATEFUL)


@every_case
@given(seed=seeds)
@STEADY
def test_shapes_types_and_ranges(case: str, seed: int) -> None:
    selector = experienced(case)
    logits, valid = draw(seed)
    before = logits.clone()
    for progress in (0.0, 0.5, 1.0):
        found = selector(logits.requires_grad_(), valid, progress)
        assert_lawful(found, logits, valid)
        assert not found.weight.requires_grad
        assert found.soft_target is None or not found.soft_target.requires_grad
    assert torch.equal(logits, before)


@every_case
def test_it_does_select(case: str) -> None:
    """Neither everything alike nor nothing: else the other tests would prove little."""
    found = experienced(case)(*draw(1, batch=4), 0.2)
    if case == "pseudoseg":
        assert found.soft_target is not None
        assert found.soft_target.unique().numel() > 100
    else:
        assert found.weight[draw(1, batch=4)[1]].unique().numel() > 1
        assert 0 < found.reliable.sum() < draw(1, batch=4)[1].sum()


@every_case
@given(seed=seeds)
@STEADY
def test_invalid_pixels_change_nothing(case: str, seed: int) -> None:
    selector = experienced(case)
    other = copy_of(selector, case)
    logits, valid = draw(seed)
    noise = torch.where(valid[:, None], logits, 30 * draw(seed + 1)[0])
    found, again = selector(logits, valid), other(noise, valid)
    assert torch.equal(found.weight, again.weight)
    assert torch.equal(found.reliable, again.reliable)
    if found.loss_scale is not None and again.loss_scale is not None:
        assert torch.equal(found.loss_scale, again.loss_scale)
    assert all(torch.equal(a, b) for a, b in zip(selector.buffers(), other.buffers(), strict=True))


@every_case
@given(seed=seeds)
@STEADY
def test_the_order_of_images_and_pixels_does_not_matter(case: str, seed: int) -> None:
    selector = experienced(case)
    logits, valid = draw(seed)
    generator = torch.Generator().manual_seed(seed)
    images, pixels = torch.randperm(3, generator=generator), torch.randperm(42, generator=generator)

    def shuffled(values: Tensor) -> Tensor:
        return values[images].flatten(-2)[..., pixels].unflatten(-1, (7, 6))

    other = copy_of(selector, case)
    found = mapped(selector(logits, valid, 0.5), shuffled)
    assert_same(found, other(shuffled(logits), shuffled(valid), 0.5), rtol=1e-4, atol=1e-5)
    assert_close_state(selector, other)


@every_case
def test_the_same_twice(case: str) -> None:
    selector = experienced(case)
    other = experienced(case)
    assert all(torch.equal(a, b) for a, b in zip(selector.buffers(), other.buffers(), strict=True))
    assert_same(selector(*draw(1), 0.4), other(*draw(1), 0.4))


@every_case
def test_state_is_saved_and_restored(case: str) -> None:
    whole = experienced(case)
    parts = new(case)
    learn(parts, 100)
    parts = copy_of(parts, case)
    learn(parts, 200)
    assert whole.state_dict().keys() == parts.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(whole.buffers(), parts.buffers(), strict=True))
    assert_same(whole(*draw(1)), parts(*draw(1)))


@stateful
def test_state_moves_in_training_and_stays_in_evaluation(case: str) -> None:
    selector = experienced(case)
    before = state(selector)
    selector.eval()
    learn(selector, 300)
    after = state(selector)
    assert all(torch.equal(before[name], after[name]) for name in before)
    selector.train()
    learn(selector, 300)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in state(selector).items())


@stateful
def test_state_decides(case: str) -> None:
    fresh, old = new(case).eval()(*draw(1)), experienced(case).eval()(*draw(1))
    assert not torch.equal(fresh.weight, old.weight)


@every_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(case: str, dtype: torch.dtype) -> None:
    logits, valid = draw(5)
    logits = logits.to(dtype)
    found, same = experienced(case)(logits, valid), experienced(case)(logits.float(), valid)
    assert_lawful(found, logits, valid)
    assert_same(found, same, rtol=1e-6, atol=1e-7)


@every_case
def test_autocast_changes_nothing(case: str) -> None:
    plain = experienced(case)
    with torch.autocast("cpu", torch.bfloat16):
        inside = experienced(case)
        found = inside(*draw(6))
    assert_same(found, plain(*draw(6)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@every_case
def test_a_gpu_agrees(case: str) -> None:
    on_cpu, on_gpu = experienced(case), experienced(case).cuda()
    logits, valid = draw(7, height=40, width=40)
    found, again = on_cpu(logits, valid, 0.5), on_gpu(logits.cuda(), valid.cuda(), 0.5)
    assert torch.equal(found.label, again.label.cpu())
    assert (found.reliable != again.reliable.cpu()).float().mean() < 2e-3
    near = (found.weight - again.weight.cpu()).abs() < 1e-3
    assert near.float().mean() > 0.998


@every_case
def test_no_valid_pixel(case: str) -> None:
    selector = experienced(case)
    before = state(selector)
    logits, valid = draw(8)
    found = selector(logits, torch.zeros_like(valid))
    assert_lawful(found, logits, torch.zeros_like(valid))
    selector.observe_labeled(logits, logits.argmax(1), torch.zeros_like(valid))
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(selector).items())


@every_case
def test_one_image_without_valid_pixels_among_others(case: str) -> None:
    logits, valid = draw(9)
    valid[1] = False
    found = experienced(case)(logits, valid)
    assert_lawful(found, logits, valid)
    assert found.weight[0].any()
    assert found.weight[2].any()


@every_case
def test_single_pixels(case: str) -> None:
    logits, valid = draw(10, batch=2, height=1, width=1)
    assert_lawful(experienced(case)(logits, torch.ones_like(valid)), logits, torch.ones_like(valid))
    logits, _ = draw(11)
    one = torch.zeros(3, 7, 6, dtype=torch.bool)
    one[:, 2, 3] = True
    assert_lawful(new(case)(logits, one), logits, one)


@every_case
@pytest.mark.parametrize("scale", [0.0, 80.0, 1e4])
def test_extreme_logits(case: str, scale: float) -> None:
    logits, valid = draw(12)
    selector = experienced(case)
    found = selector(scale * logits.sign() * logits.abs().clamp(0.1, 1), valid)
    assert torch.isfinite(found.weight).all()
    assert ((found.weight >= 0) & (found.weight <= 1)).all()
    assert all(torch.isfinite(buffer).all() for buffer in selector.buffers())


@every_case
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_not_a_number_is_refused(case: str, bad: float) -> None:
    selector = experienced(case)
    before = state(selector)
    logits, valid = draw(13)
    logits[1, 2, 3, 4] = bad
    with pytest.raises(NotANumberError):
        selector(logits, valid)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(selector).items())


@every_case
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_not_a_number_is_carried_where_nothing_is_raised(
    case: str, bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where to raise would be to wait."""
    prepare = fused._Block.__init__

    def unchecked(block: fused._Block, *given: Any, **named: Any) -> None:
        prepare(block, *given, **named)
        block.on_cpu = False

    monkeypatch.setattr(fused._Block, "__init__", unchecked)
    selector = experienced(case)
    logits, _ = draw(13)
    valid = torch.ones_like(logits[:, 0], dtype=torch.bool)
    assert selector(logits, valid).weight.isfinite().all()
    logits[1, 2, 3, 4] = bad
    assert selector(logits, valid).weight[1, 3, 4].isnan()


def test_labeled_pixels_that_are_no_numbers_are_refused() -> None:
    logits, valid = draw(13)
    logits[0, 0, 0, 0] = float("nan")
    with pytest.raises(NotANumberError):
        new("daw").observe_labeled(logits, logits.argmax(1), valid)


@pytest.mark.parametrize("case", [case for case in CASES if new(case).per_image])
@given(seed=seeds)
@STEADY
def test_images_are_judged_by_themselves(case: str, seed: int) -> None:
    logits, valid = draw(seed)
    together = new(case)(logits, valid)
    for b in range(3):
        chosen = slice(b, b + 1)
        alone = new(case)(logits[chosen], valid[chosen])
        part = mapped(together, lambda tensor, chosen=chosen: tensor[chosen])  # type: ignore[misc]
        assert_same(alone, part, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", [name for name in SELECTORS if not new(name).per_image])
def test_the_others_are_not(case: str) -> None:
    """A confident second image changes what is said of the first one."""
    logits, valid = draw(14, batch=2)
    selector = experienced(case)
    learn(selector, 5)
    quiet, loud = logits.clone(), logits.clone()
    quiet[1], loud[1] = 0.01 * logits[1], 30 * logits[1]
    for one in (quiet, loud):
        one.requires_grad_(False)
    first, second = copy_of(selector, case), copy_of(selector, case)
    for one, images in ((first, quiet), (second, loud)):
        one.observe_labeled(images, logits.argmax(1).flip(0), valid)
    one, other = first(quiet, valid), second(loud, valid)
    different = not torch.equal(one.weight[0], other.weight[0])
    if one.loss_scale is not None and other.loss_scale is not None:
        different |= not torch.equal(one.loss_scale, other.loss_scale)
    assert different


def _rank(rank: int, folder: Path) -> None:
    """One of two ranks: each selector learns and judges its half of every batch."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/join", rank=rank, world_size=2
    )
    results = {case: _half(new(case), slice(2 * rank, 2 * rank + 2)) for case in CASES}
    torch.save(results, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def _half(selector: Selector, images: slice) -> tuple[Selection, dict[str, Tensor]]:
    for seed in (20, 30):
        logits, valid = draw(seed, batch=4)
        truth = draw(seed + 1, batch=4)[0].argmax(1)
        selector.observe_labeled(logits[images], truth[images], valid[images])
        found = selector(logits[images], valid[images], 0.25)
    return found, state(selector)


def test_two_ranks_judge_as_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    torch.multiprocessing.spawn(_rank, (tmp_path,), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1)]
    for case in CASES:
        whole, whole_state = _half(new(case), slice(4))
        for rank, (found, its_state) in enumerate(results[case] for results in ranks):
            images = slice(2 * rank, 2 * rank + 2)
            part = mapped(whole, lambda tensor, images=images: tensor[images])  # type: ignore[misc]
            assert_same(found, part, rtol=1e-6, atol=1e-7)
            for name, tensor in its_state.items():
                torch.testing.assert_close(tensor, whole_state[name], rtol=1e-12, atol=1e-12)
        for name, tensor in ranks[0][case][1].items():
            assert torch.equal(tensor, ranks[1][case][1][name])


@every_case
def test_autocast_lowers_no_precision(case: str) -> None:
    """A training's step selects inside the network's autocast."""
    logits, valid = draw(3)
    plain, inside = new(case), new(case)
    for selector in (plain, inside):
        selector.observe_labeled(logits, logits.argmax(1), valid)
    expected = plain(logits, valid)
    with torch.autocast("cpu", torch.bfloat16):
        seen = inside(logits, valid)
    assert expected.weight.any()
    for name, tensor in vars(expected).items():
        assert tensor is None or torch.equal(tensor, vars(seen)[name]), name
    assert all(map(torch.equal, plain.buffers(), inside.buffers()))
