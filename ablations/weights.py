"""Takes a setting's network and a weights file; gives a report of it, or fetches the file."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from csl.config import NetworkConfig

_MEANING = {
    "used": "fill the backbone",
    "unused": "of a head that the backbone does not have",
    "missing": "of the backbone, not in the file",
    "misshaped": "of another shape than the backbone's",
    "unknown": "of another model",
}
_SHOWN = 5


def examine(network: NetworkConfig, file: Path) -> dict[str, Any]:
    """What ``--json`` prints: every tensor's name by what it is to the backbone.

    Raises:
        InputError: the file cannot be read.
    """
    from csl.models import check_weights

    report = check_weights(network, file)
    return {
        "file": str(file),
        "architecture": network.architecture,
        "backbone": network.backbone,
        "fits": not report.faults,
        "tensors": asdict(report),
    }


def print_report(console: Console, report: dict[str, Any]) -> None:
    """The counts, and the first names of what does not simply fill the backbone."""
    fits = "fits" if report["fits"] else "does not fit"
    console.print(f"{report['file']} {fits} {report['backbone']} ({report['architecture']}):")
    for kind, names in report["tensors"].items():
        if not names:
            continue
        console.print(f"  {len(names):>4} {kind}: {_MEANING[kind]}")
        if kind != "used":
            more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
            console.print(f"       {', '.join([*names[:_SHOWN], *more])}")


def download(network: NetworkConfig, out: Path) -> None:
    """Fetch the backbone's published weights.

    Raises:
        InputError: they cannot be fetched, or not be written.
    """
    from csl.models.download import download_weights
    from csl.models.weights import SOURCES

    print(f"Fetching {SOURCES[network.backbone]} from huggingface.co", file=sys.stderr, flush=True)
    download_weights(network, out)
