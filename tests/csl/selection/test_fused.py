"""Takes logits of any shape; holds blocks, threads and GPU kernels to one and the same result."""

import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import Tensor

from csl.config import SelectionConfig
from csl.selection import fused, select
from csl.selection.features import confidence_features
from csl.selection.images import by_images, over_images

EVERY = ("dispersion", "margin", "entropy", "residual_entropy")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def random_logits(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 4


class TestBlocks:
    @pytest.mark.parametrize("size", [1, 63, 64, 65, 1000, 4099])
    @pytest.mark.parametrize("block_bytes", [1, 1 << 14, 1 << 16])
    def test_any_block_gives_the_same_bits(
        self, size: int, block_bytes: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logits = random_logits(2, 7, 1, size)
        whole = confidence_features(logits, features=EVERY, count_argmax_slot=True)
        monkeypatch.setattr(fused, "_BLOCK_BYTES", block_bytes)
        parts = confidence_features(logits, features=EVERY, count_argmax_slot=True)
        assert torch.equal(parts.label, whole.label)
        assert torch.equal(parts.shifted, whole.shifted)

    def test_blocks_are_whole_vectors_that_cover_the_image(self) -> None:
        for classes, pixels in ((2, 1), (21, 321 * 321), (19, 801 * 801), (5000, 700)):
            width = fused._block_width(classes, pixels, on_cpu=True)
            assert width % fused._LANES == 0
            blocks = -(-pixels // width)
            assert blocks * width - pixels < fused._LANES * blocks

    def test_logits_stay(self) -> None:
        logits = random_logits(2, 5, 9, 9)
        before = logits.clone()
        confidence_features(logits, features=EVERY, count_argmax_slot=True)
        assert torch.equal(logits, before)

    def test_no_image(self) -> None:
        seen = confidence_features(torch.empty(0, 4, 3, 3), count_argmax_slot=True)
        assert seen.label.shape == (0, 3, 3)
        assert seen.values.shape == (0, 2, 3, 3)


class TestImages:
    def test_each_once_in_threads_of_one_core(self) -> None:
        before = torch.get_num_threads()
        seen: list[tuple[int, int, bool]] = []
        lock = threading.Lock()

        def work(images: slice) -> None:
            with lock:
                seen.append((images.start, torch.get_num_threads(), torch.is_grad_enabled()))
            over_images(lambda _: None, torch.zeros(2))  # from within, too

        with torch.no_grad():
            over_images(work, torch.zeros(7, 1))
        assert sorted(seen) == [(image, 1, False) for image in range(7)]
        assert torch.get_num_threads() == before

    def test_what_is_raised_is_raised(self) -> None:
        def work(images: slice) -> None:
            if images.start == 3:
                raise ArithmeticError("image 3")

        with pytest.raises(ArithmeticError, match="image 3"):
            over_images(work, torch.zeros(5, 1))

    @pytest.mark.parametrize("batch", [0, 1, 5])
    def test_results_are_in_order(self, batch: int) -> None:
        logits, valid = random_logits(batch, 2, 3, 3), torch.ones(batch, 3, 3, dtype=torch.bool)
        first, flag = by_images(lambda x, v: (x[:, 0] + 1, ~v), logits, valid)
        assert torch.equal(first, logits[:, 0] + 1)
        assert torch.equal(flag, ~valid)


_INTERPRETED = """
import torch
from csl.selection.fused import ClassSums, class_sums
from csl.selection.fused_triton import sums_of_classes

for classes, pixels, slot, surprise, dtype in (
    (21, 300, True, True, torch.float32), (2, 77, False, False, torch.float32),
    (81, 130, False, True, torch.bfloat16), (150, 33, True, True, torch.float16),
):
    logits = (torch.randn(2, classes, pixels, generator=torch.Generator().manual_seed(0)) * 8)
    logits[0, 0, :5] += 90
    logits[1, 1] = logits.amax(1)[1]  # ties
    logits = logits.to(dtype).mT.contiguous().mT  # any strides
    found = ClassSums(*sums_of_classes(logits, count_argmax_slot=slot, surprise=surprise))
    for image, part, sums in class_sums(logits, count_argmax_slot=slot, surprise=surprise):
        for name, expected in vars(sums).items():
            if expected is not None:
                torch.testing.assert_close(
                    getattr(found, name)[image, part], expected, rtol=5e-6, atol=1e-12
                )
bad = torch.zeros(1, 4, 9)
bad[0, 1, 2], bad[0, 2, 3], bad[0, 0, 5] = torch.nan, -torch.inf, torch.inf
rest = sums_of_classes(bad, count_argmax_slot=True, surprise=False)[3]
assert rest.isnan()[0].nonzero().flatten().tolist() == [2, 3, 5]
empty = sums_of_classes(torch.zeros(0, 4, 9), count_argmax_slot=True, surprise=False)
assert empty[0].shape == (0, 9)
"""


def test_triton_kernel_in_its_interpreter() -> None:
    """The kernel's arithmetic; that it compiles and is fast, only a GPU shows."""
    pytest.importorskip("triton")
    run = subprocess.run(
        [sys.executable, "-c", _INTERPRETED],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@needs_gpu
class TestGpu:
    @pytest.mark.parametrize("triton", [True, False])
    @pytest.mark.parametrize("shape", [(2, 21, 65, 33), (1, 2, 1, 1), (3, 81, 17, 40)])
    def test_agrees_with_the_cpu(
        self, shape: tuple[int, ...], triton: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if triton:
            pytest.importorskip("triton")
        else:
            monkeypatch.setattr(fused, "_has_triton", lambda: False)
        logits = random_logits(*shape)
        expected = confidence_features(logits, features=EVERY, count_argmax_slot=False)
        found = confidence_features(logits.cuda(), features=EVERY, count_argmax_slot=False)
        assert torch.equal(found.label.cpu(), expected.label)
        torch.testing.assert_close(found.shifted.cpu(), expected.shifted, rtol=1e-5, atol=1e-30)

    def test_nothing_waits_and_nan_is_carried(self) -> None:
        logits = random_logits(2, 21, 32, 32).cuda()
        logits[1, 4, 3, 3] = torch.nan
        valid = torch.ones(2, 32, 32, dtype=torch.bool, device="cuda")
        select(logits, valid, SelectionConfig())  # compiles
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = select(logits, valid, SelectionConfig())
        finally:
            torch.cuda.set_sync_debug_mode(before)
        assert found.weight[1].isnan().any()
        assert not found.weight[0].isnan().any()
