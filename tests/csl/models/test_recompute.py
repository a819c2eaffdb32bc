"""Gradient checkpointing: less is kept for the backward pass, and no number changes."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from csl.models import SegmentationNetwork
from csl.models.recompute import recompute
from csl.step import running_statistics_left_alone
from tests.csl.models.conftest import CONFIGS, SIDE, build

NAMES = ["test_resnet", "tf_efficientnet_lite0", "mit_b0", "vit_small_patch14_dinov2"]


def step(network: SegmentationNetwork, side: int) -> tuple[Tensor, dict[str, Tensor], int]:
    """A labeled + weak and a strong forward with their loss; what is left of it, and the bytes of
    distinct tensors besides parameters that were kept for the backward pass."""
    kept: dict[int, int] = {}
    parameters = {parameter.data_ptr() for parameter in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def given_to(_: nn.Module, given: tuple[Any, ...]) -> None:
        for each in given:
            if isinstance(each, Tensor):
                keep(each)

    hooks = [block.register_forward_pre_hook(given_to) for block in network.blocks()]
    generator = torch.Generator().manual_seed(5)
    weak, strong = torch.randn(2, 3, 3, side, side, generator=generator)
    masks = [
        torch.bernoulli(torch.full((2, c, 1, 1), 0.5), generator=generator) * 2
        for c in network.channels
    ]
    torch.manual_seed(11)  # for the draws of dropout
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(weak, masks).square().mean()
        with running_statistics_left_alone(network):
            loss = loss + network(strong).square().mean()
    size = sum(kept.values())
    loss.backward()
    for hook in hooks:
        hook.remove()
    left = {f"gradient of {key}": p.grad for key, p in network.named_parameters()}
    left |= dict(network.named_buffers())
    assert all(tensor is not None for tensor in left.values())
    return loss.detach(), left, size


@pytest.mark.parametrize("name", NAMES)
def test_no_number_changes_and_less_is_kept(name: str) -> None:
    side = SIDE.get(name, 33)
    plain = build(CONFIGS[name]).train()
    again = copy.deepcopy(plain)
    recompute(again.blocks())
    assert plain.state_dict().keys() == again.state_dict().keys()
    for _ in range(2 if name == "test_resnet" else 1):  # again, on the statistics that it left
        loss, left, size = step(plain, side)
        same_loss, same_left, smaller = step(again, side)
        assert torch.equal(loss, same_loss)
        assert left.keys() == same_left.keys()
        unequal = [key for key in left if not torch.equal(left[key], same_left[key])]
        assert not unequal
        assert smaller < 0.7 * size
    assert any("num_batches" in key for key in left) == (name in NAMES[:3]), "BatchNorm was there"


def test_the_configuration_asks_for_it() -> None:
    config = CONFIGS["test_resnet"].model_copy(update={"gradient_checkpointing": True})
    _, plain, size = step(build(CONFIGS["test_resnet"]).train(), 33)
    _, same, smaller = step(build(config).train(), 33)
    assert smaller < size
    assert all(torch.equal(plain[key], same[key]) for key in plain)


def test_blocks_that_timm_calls_by_another_name_are_computed_again_too() -> None:
    # Xception's strided blocks, by forward_with_tap.
    network = build(CONFIGS["xception65"]).eval()
    batch = torch.randn(1, 3, 33, 33)
    kept: list[Tensor] = []

    def encode() -> int:
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            network.encode(batch)
        return len(kept)

    plain = encode()
    stem = sum(1 for _ in network.backbone.get_submodule("stem").parameters())
    recompute(network.blocks())
    assert encode() < 10 * stem < plain
    with torch.no_grad():
        assert encode() == 0
