"""Takes blocks of a network; gives them gradient checkpointing that changes no number."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

_METHODS = ("forward", "forward_with_tap")  # the latter is what timm calls of some Xception blocks


def recompute(blocks: Iterable[nn.Module]) -> None:
    """Have each block keep its input alone, and compute what is inside again when it is needed.

    Losses, gradients and BatchNorm's buffers stay what they are without it: random draws are
    repeated, and the second pass leaves running statistics and their count alone.
    """
    for block in blocks:
        for name in _METHODS:
            if hasattr(type(block), name):
                # On the instance: the names in the state dict stay what they are.
                setattr(block, name, MethodType(partial(_recomputed, name), block))


def _recomputed(name: str, block: nn.Module, *given: Any) -> Any:
    plain = MethodType(getattr(type(block), name), block)
    if not torch.is_grad_enabled():
        return plain(*given)
    contexts = partial(_contexts, block)
    return checkpoint(plain, *given, use_reentrant=False, context_fn=contexts)


def _contexts(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _untracked(block)


@contextmanager
def _untracked(block: nn.Module) -> Iterator[None]:
    """Batch statistics normalise; running ones and their count are updated on copies."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    buffers = [(norm, dict(norm.named_buffers())) for norm in norms]
    for norm, own in buffers:
        for name, buffer in own.items():
            setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, own in buffers:
            for name, buffer in own.items():
                setattr(norm, name, buffer)
