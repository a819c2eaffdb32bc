"""Takes plans; gives what the terminal and ``--json`` show of them."""

from collections import Counter
from typing import Any

from rich.console import Console
from rich.text import Text

from ablations.cost import Price
from ablations.plan import Plan, Share
from ablations.views import NAME, grid

_LISTED = 40
"""So many trainings are listed unasked."""


def plan_object(plan: Plan) -> dict[str, Any]:
    """A plan as one JSON object."""
    return {
        "specs": [_share_object(share) for share in plan.shares()],
        "settings": list(dict.fromkeys(s.name for each in plan.grids for s in each.settings)),
        "store": plan.store.location,
        "cells": plan.cells,
        "unique": len(plan.trainings),
        "to_run": len(plan.to_run),
        "states": dict(Counter(each.state for each in plan.trainings)),
        "reasons": plan.reasons,
        "cost": _price_object(plan.cost),
        "trainings": [
            {
                "identity": each.named.key,
                "cells": list(each.labels),
                "state": each.state,
                "reason": each.verdict.reason,
                "runs": each.runs,
                "split": each.training.split,
                "seed": each.training.seed,
                "hours": None if each.estimate is None else each.estimate.hours,
            }
            for each in plan.trainings
        ],
    }


def _share_object(share: Share) -> dict[str, Any]:
    return {**vars(share), "cost": _price_object(share.cost)}


def _price_object(price: Price) -> dict[str, Any]:
    return {**vars(price)}


def print_plan(console: Console, plan: Plan, every_training: bool) -> None:
    """Every spec with what it needs, why trainings run, and the price.

    Trainings are listed where they are few, or if ``every_training``."""
    if every_training or len(plan.trainings) <= _LISTED:
        _print_trainings(console, plan)
    if len(plan.grids) > 1:
        _print_shares(console, plan)
    print_summary(console, plan)


def print_summary(console: Console, plan: Plan) -> None:
    """A few lines: how much there is to do, why, and what it will probably cost."""
    states = Counter(each.state for each in plan.trainings)
    cut = sum(each.cut for each in plan.trainings)
    parts = [f"{states['stored']} stored"]
    parts += [f"{states['failed']} failed for good"] if states["failed"] else []
    parts.append(f"{len(plan.to_run)} to run" if plan.to_run else "nothing to run")
    parts += [f"{cut} left out by the limits"] if cut else []
    settings = dict.fromkeys(s.name for each in plan.grids for s in each.settings)
    names = ", ".join(each.spec.name for each in plan.grids)
    what = names if len(plan.grids) == 1 else f"{len(plan.grids)} specs"
    trainings = f"{len(plan.trainings)} trainings"
    if len(plan.grids) > 1:
        trainings = f"{plan.cells} cells, {trainings}"
    _say(console, f"{what} on {', '.join(settings)}: {trainings}, {', '.join(parts)}.")
    if not plan.to_run:
        return
    _say(console, "Why: " + ", ".join(f"{n} {kind}" for kind, n in plan.reasons.items()) + ".")
    other_code = sum(each.verdict.other_code for each in plan.trainings)
    if other_code:
        _say(
            console,
            f"{other_code} stored ones were trained by other sources than the ones at hand: "
            "--code strict trains them again, --code ignore says nothing.",
        )
    _say(console, f"Cost: {_said(plan.cost, plan.slots)}")


def _print_trainings(console: Console, plan: Plan) -> None:
    table = grid("training", "state", "why", "first asked for by")
    for each in plan.trainings:
        more = f" (+{len(each.labels) - 1})" if len(each.labels) > 1 else ""
        reason = each.verdict.reason + ("; left out by the limits" if each.cut else "")
        table.add_row(
            Text(each.named.key[:NAME]),
            Text(each.state),
            Text(reason),
            Text(each.labels[0] + more),
        )
    console.print(table)


def _print_shares(console: Console, plan: Plan) -> None:
    table = grid("spec", "cells", "adds", "shared with", "stored", "to run", "cost")
    for share in plan.shares():
        shared = ", ".join(f"{count} {name}" for name, count in share.shared.items())
        to_run = share.states.get("new", 0) + share.states.get("unfinished", 0)
        table.add_row(
            Text(share.name),
            str(share.cells),
            str(share.adds),
            Text(shared or "–"),
            str(share.states.get("stored", 0)),
            str(to_run),
            _band(share.cost),
        )
    console.print(table)


def _said(price: Price, slots: int) -> str:
    if not price.known:
        return "unknown: the store has no training of this network yet. --max-runs 1 trains one."
    text = f"{_band(price)}, about {_range(*price.wall, '')} at {slots} at a time (--slots)."
    text += f" {price.scaled} scaled from other schedules or crops." if price.scaled else ""
    text += f" {price.unknown} of unknown cost are not in it." if price.unknown else ""
    return text


def _band(price: Price) -> str:
    """The p50 to p90 of what is known."""
    if not price.known:
        return "unknown" if price.unknown else "–"
    gpu = "GPU-" if price.gpus else ""
    return _range(price.p50, price.p90, gpu) + (" + unknown" if price.unknown else "")


def _range(low: float, high: float, unit: str) -> str:
    """Two numbers of hours, in minutes where they are few."""
    factor, name = (60, "minutes") if high < 1 else (1, "hours")
    texts = [
        f"{hours:.2g}" if hours < 10 else f"{hours:.0f}" for hours in (low * factor, high * factor)
    ]
    return ("–".join(dict.fromkeys(texts))) + f" {unit}{name}"


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
