"""Takes work on some of a batch's images; does it for all of them, a CPU with a thread for each."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch
from torch import Tensor

_here = threading.local()


def over_images(work: Callable[[slice], None], batch: Tensor) -> None:
    """Call ``work`` with slices that cover the batch: on a GPU all of it, on a CPU each image.

    One image's maps fit a core's cache, the batch's do not. Each thread computes alone: threads
    that share every small operation wait for each other where other processes keep the cores busy,
    and split it where whole vectors do not end. ``work`` may itself call this; on a CPU it runs in
    inference mode, in which small operations take a fifth less time.

    Args:
        work: writes its slice's results; what it raises is raised here.
        batch: what is gone over along its first axis, on the device of the work.
    """
    count, threads = batch.shape[0], torch.get_num_threads()
    if batch.device.type != "cpu":
        work(slice(None))
        return
    here = threads == 1 or getattr(_here, "working", False)
    parts = [slice(image, image + 1) for image in range(count)]
    for _ in (map if here else _pool(threads).map)(torch.inference_mode()(work), parts):
        pass


def by_images(
    judge: Callable[[Tensor, Tensor], tuple[Tensor, ...]], logits: Tensor, valid: Tensor
) -> tuple[Tensor, ...]:
    """What ``judge`` says of a batch, image by image where ``over_images`` goes so.

    Args:
        judge: takes some images' logits and flags, gives tensors with as many images.
        logits: [B, K, H, W].
        valid: [B, H, W].
    """
    results: list[Tensor] = []
    allocating = threading.Lock()

    def work(images: slice) -> None:
        part = judge(logits[images], valid[images])
        with allocating, torch.inference_mode(False):
            if not results:
                shape = logits.shape[:1]
                results.extend(one.new_empty(shape + one.shape[1:]) for one in part)
        for whole, one in zip(results, part, strict=True):
            whole[images] = one

    if not logits.shape[0]:
        return judge(logits, valid)
    over_images(work, logits)
    return tuple(results)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    started = threading.Barrier(threads + 1)

    def start() -> None:
        _here.working = True
        torch.get_num_threads()  # a new thread's first use takes over the number set last
        torch.set_num_threads(1)  # of this thread; but new threads would take it over ...
        started.wait()

    pool = ThreadPoolExecutor(threads, "selection", initializer=start)
    for _ in range(threads):
        pool.submit(int)
    started.wait()
    torch.set_num_threads(threads)  # ... were it not set again
    return pool
