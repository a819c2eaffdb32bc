"""Takes a setting; gives the bytes that a training step of it holds at once, without a GPU.

    python benchmarks/memory.py                          # table, of cityscapes801
    python benchmarks/memory.py --setting voc513 --json  # one object

Two whole steps (of the trainer's own network, step, losses and optimizer, in the setting's batches
and precision) run on fake tensors: torch computes shapes and types of everything, and nothing else.
Each storage is counted from the operation that makes it until it is freed, so that the peak has
parameters, gradients, momentum, images, what forwards save for the backward pass, what is computed
again, and every operation's result.

Not counted: the driver's context and libraries (about 0.5 GB), the workspace inside a convolution,
what the caching allocator cannot use again, the selection's and the record's maps of pixels (some
ten per image). Hence a card counts as large enough only if ``MARGIN`` of it is left.
"""

import argparse
import json
import sys
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from ablations.layers import resolve_setting
from ablations.spec import load_setting
from csl.batches import StepBatch
from csl.config import TrainingConfig
from csl.models import build_network
from csl.selection import Selection
from csl.step import CslStep
from csl.trainer import build_optimizer

CARD_GB, MARGIN = 24, 0.25
RANDOM, AGAIN = "network.pretrained=false", "network.gradient_checkpointing=true"
WAYS = {
    "default": (),
    "checkpointing": (AGAIN,),
    "accumulate=2": ("schedule.accumulate=2",),
    "accumulate=4": ("schedule.accumulate=4",),
    "checkpointing, accumulate=2": (AGAIN, "schedule.accumulate=2"),
    "checkpointing, accumulate=4": (AGAIN, "schedule.accumulate=4"),
}


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the storages that operations made and that still live, and the most there were."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._enter, made)
        return made

    def _enter(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self.known:
            return
        self.known.add(storage._cdata)
        size = storage.nbytes()
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._leave, storage._cdata, size)

    def _leave(self, place: int, size: int) -> None:
        self.known.discard(place)
        self.held -= size


class EverythingSelected(nn.Module):
    """In place of a selector, which on a CPU looks at values, and here there are none."""

    def observe_labeled(self, *_: Tensor) -> None:
        pass

    def forward(self, logits: Tensor, valid: Tensor, progress: float) -> Selection:
        return Selection(valid.long(), valid.float(), valid.clone())


class Step(CslStep):
    """A step that records nothing: recording looks at values too."""

    def _recorded(self, logits: Tensor, chosen: Selection, batch: StepBatch) -> Tensor:
        return torch.zeros(2 + self.recorder.length, dtype=torch.int64)


def empty_batch(config: TrainingConfig) -> StepBatch:
    crop, schedule, masking = config.data.crop, config.schedule, config.masking
    labeled, unlabeled = schedule.labeled_batch, schedule.unlabeled_batch

    def images(count: int) -> Tensor:
        return torch.empty(count, 3, crop, crop)

    def pixels(count: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(count, crop, crop, dtype=dtype)

    both = masking.enabled and masking.images == "both"
    only_labeled = masking.enabled and masking.images == "labeled"
    return StepBatch(
        labeled_image=images(labeled),
        labeled_mask=pixels(labeled, torch.int64),
        weak=images(unlabeled),
        strong=images(unlabeled),
        masked=images(0 if only_labeled or not masking.enabled else unlabeled),
        apply_mask=torch.empty(unlabeled, dtype=torch.bool),
        cutmix=pixels(unlabeled, torch.bool),
        masked_cutmix=pixels(unlabeled, torch.bool),
        labeled_masked=images(labeled if only_labeled or both else 0),
        labeled_apply_mask=torch.empty(labeled, dtype=torch.bool),
        valid=pixels(unlabeled, torch.bool),
        unlabeled_truth=pixels(unlabeled, torch.int64),
    )


def account(config: TrainingConfig) -> dict[str, float]:
    """GB of parameters with gradients and momentum, held for the backward pass, and at the peak."""
    bf16 = config.schedule.precision == "bf16"
    held_for_backward = 0
    with FakeTensorMode(), Ledger() as ledger:
        network = build_network(config.network, config.data.classes, None)
        optimizer = build_optimizer(network, config)
        step = Step(network, config, seed=0, rank=0, world=1, total_steps=2)
        step.selector = EverythingSelected()  # type: ignore[assignment]
        for at in range(2):  # in the first there is no momentum yet
            parts = empty_batch(config).split(config.schedule.accumulate)
            counts = step.counts(parts)
            optimizer.zero_grad(set_to_none=True)
            for number, part in enumerate(parts):
                before = ledger.held
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    terms = step(part, at, number, counts)
                held_for_backward = max(held_for_backward, ledger.held - before)
                terms.loss.backward()
                del terms
            optimizer.step()
        del part, parts, counts
        between = ledger.held
    return {
        "state_gb": between / 1e9,
        "for_backward_gb": held_for_backward / 1e9,
        "peak_gb": ledger.peak / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--setting", default="cityscapes801", help="name or file (cityscapes801)")
    options = parser.parse_args()
    setting = load_setting(options.setting)
    rows = {}
    for name, assignments in WAYS.items():
        row: dict[str, Any] = account(resolve_setting(setting, (RANDOM, *assignments)))
        rows[name] = row | {"fits": row["peak_gb"] <= CARD_GB * (1 - MARGIN)}
    if options.json:
        json.dump(
            {"setting": options.setting, "card_gb": CARD_GB, "margin": MARGIN, **rows}, sys.stdout
        )
        print()
        return
    print(f"{options.setting}, GB{'state':>34}{'for backward':>14}{'peak':>8}   fits {CARD_GB} GB")
    for name, row in rows.items():
        state, backward, peak, fits = row.values()
        print(f"{name:>32}{state:>13.2f}{backward:>14.2f}{peak:>8.2f}   {'yes' if fits else 'no'}")


if __name__ == "__main__":
    main()
