"""The dilated deep-stem ResNet of the peers, written out: feature maps from a state dict.

He et al. 2016 with the stride in the 3×3 convolution, three 3×3 convolutions for a stem
(64, 64, 128 channels), and strides given up for dilation as torchvision and the peers do it: the
first block of a stage has the dilation of the stage before.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

State = Mapping[str, Tensor]


def features(state: State, images: Tensor, output_stride: int) -> list[Tensor]:
    """The four stages' outputs, by running statistics."""
    x = images
    for at, stride in ((0, 2), (3, 1)):
        x = F.conv2d(x, state[f"conv1.{at}.weight"], stride=stride, padding=1)
        x = torch.relu(_norm(state, f"conv1.{at + 1}", x))
    x = F.conv2d(x, state["conv1.6.weight"], padding=1)
    x = torch.relu(_norm(state, "bn1", x))
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    reached, dilation, stages = 4, 1, []
    for stage in range(1, 5):
        stride, first_dilation = (1 if stage == 1 else 2), dilation
        if stride == 2 and reached == output_stride:
            stride, dilation = 1, 2 * dilation
        reached *= stride
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in state:
            name = f"layer{stage}.{block}"
            if block == 0:
                x = _bottleneck(state, name, x, stride, first_dilation)
            else:
                x = _bottleneck(state, name, x, 1, dilation)
            block += 1
        stages.append(x)
    return stages


def _bottleneck(state: State, name: str, x: Tensor, stride: int, dilation: int) -> Tensor:
    y = F.conv2d(x, state[f"{name}.conv1.weight"])
    y = torch.relu(_norm(state, f"{name}.bn1", y))
    y = F.conv2d(
        y, state[f"{name}.conv2.weight"], stride=stride, padding=dilation, dilation=dilation
    )
    y = torch.relu(_norm(state, f"{name}.bn2", y))
    y = _norm(state, f"{name}.bn3", F.conv2d(y, state[f"{name}.conv3.weight"]))
    if f"{name}.downsample.0.weight" in state:
        x = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
        x = _norm(state, f"{name}.downsample.1", x)
    return torch.relu(x + y)


def _norm(state: State, name: str, x: Tensor) -> Tensor:
    def of(key: str) -> Tensor:
        return state[f"{name}.{key}"].view(1, -1, 1, 1)

    return (x - of("running_mean")) / (of("running_var") + 1e-5).sqrt() * of("weight") + of("bias")
