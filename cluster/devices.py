"""Takes this process's share of a GPU, or none; gives its device's name, driver and energy."""

import platform
from pathlib import Path

import pynvml
import torch

_JOULES = 1e-3  # the counter is in millijoules


class Device:
    """What this process computes on.

    Args:
        gpus: how many GPUs it may use, a fraction if it shares one; 0 for the CPU.
    """

    def __init__(self, gpus: float) -> None:
        self.name = torch.cuda.get_device_name() if gpus else _cpu_name()
        self.driver: str | None = None
        self._share = min(gpus, 1.0)
        self._handle = None
        if gpus:
            self._open()
        self._before = self._counted()

    def joules(self) -> float | None:
        """What it has used since this was made, by this process's share; None if it does not say.

        The counter is the whole GPU's, so that a shared one is parted by shares."""
        now = self._counted()
        if now is None or self._before is None:
            return None
        return (now - self._before) * self._share

    def _open(self) -> None:
        """Ask the driver for this GPU by its name of birth: its number may be another's there."""
        try:
            pynvml.nvmlInit()
            self.driver = pynvml.nvmlSystemGetDriverVersion()
            unique = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{unique}")
        except pynvml.NVMLError:  # no such library, or not NVIDIA's GPU
            self._handle = None

    def _counted(self) -> float | None:
        if self._handle is None:
            return None
        try:
            return _JOULES * float(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except pynvml.NVMLError:  # older than Volta, or a part of a GPU
            return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
