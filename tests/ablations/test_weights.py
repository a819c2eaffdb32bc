"""``csl weights``: what a file is to a setting's backbone."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch

from tests.ablations.conftest import Csl


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of the backbone that the setting ``shapes`` has."""
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(timm.create_model("test_resnet").state_dict(), path)
    return path


def test_a_file_that_fits(csl: Csl, file: Path) -> None:
    ended = csl("weights", "--setting", "shapes", "--weights", file)
    assert (ended.code, ended.err) == (0, "")
    assert f"{file} fits test_resnet" in ended.out
    assert "2 unused" in ended.out
    assert "missing" not in ended.out


def test_a_file_that_does_not_fit_is_reported_and_ends_with_2(csl: Csl, file: Path) -> None:
    options = ["--set", "network={architecture: deeplabv3plus, backbone: tf_efficientnet_lite0}"]
    ended = csl("weights", "--setting", "shapes", "--weights", file, *options, "--json")
    assert ended.code == 2
    report: dict[str, Any] = json.loads(ended.out)
    assert (report["fits"], report["backbone"]) == (False, "tf_efficientnet_lite0")
    assert "conv_stem.weight" in report["tensors"]["missing"]
    assert "fc.weight" in report["tensors"]["unknown"]


def test_no_file_and_no_state_dict_are_refused(csl: Csl, tmp_path: Path) -> None:
    ended = csl("weights", "--setting", "shapes")
    assert (ended.code, "--weights" in ended.err) == (2, True)
    torch.save([1], tmp_path / "w.pth")
    ended = csl("weights", "--setting", "shapes", "--weights", tmp_path / "w.pth")
    assert (ended.code, str(tmp_path / "w.pth") in ended.err) == (2, True)
    assert not ended.out


def test_an_override_of_the_setting_is_resolved_as_in_a_run(csl: Csl, file: Path) -> None:
    ended = csl("weights", "--setting", "shapes", "--weights", file, "--set", "network.widht=3")
    assert (ended.code, "network.width" in ended.err) == (2, True)
