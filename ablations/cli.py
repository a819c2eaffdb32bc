"""Takes a command line; gives plans, runs, tables. The ``csl`` command.

Heavy libraries (torch, ray, pandas) are imported inside the commands that need them.
"""

import json
import os
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ablations import views
from ablations.expand import Grid, Options, expand
from ablations.plan import Plan, make_plan
from ablations.spec import load_setting, load_spec
from csl.errors import InputError
from csl.identity import Locations
from results.store import Store, StoreError

app = typer.Typer(
    name="csl",
    help="Run and tabulate the ablations of Confidence Separable Learning on a Ray cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

SpecArgument = Annotated[str, typer.Argument(help="A packaged spec (table5) or a .yaml file.")]
SettingOption = Annotated[
    str, typer.Option("--setting", help="Where to run it: a packaged setting or a .yaml file.")
]
StoreOption = Annotated[
    str, typer.Option("--store", envvar="CSL_STORE", help="The folder that keeps every record.")
]
DataOption = Annotated[
    Path | None, typer.Option("--data-root", envvar="CSL_DATA_ROOT", help="The dataset's folder.")
]
SplitsRootOption = Annotated[
    Path | None, typer.Option("--splits-root", help="The split lists' folder, if elsewhere.")
]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", envvar="CSL_WEIGHTS", help="The backbone's .pth or .safetensors."),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override key=value; may be repeated.")
]
ProfileOption = Annotated[
    str, typer.Option("--profile", help="official: as the code has it; paper: as the text says.")
]
SplitsOption = Annotated[str | None, typer.Option("--splits", help="Only these splits: 1/16,1/2.")]
SeedsOption = Annotated[str | None, typer.Option("--seeds", help="These seeds instead: 0,1,2.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
RetryOption = Annotated[
    bool, typer.Option("--retry-failed", help="Also run again what would fail the same way.")
]
DEFAULT_STORE = "csl-store"


class Rule(StrEnum):
    """Which epoch of a training counts in a table."""

    best = "best"
    last = "last"


class TableFormat(StrEnum):
    """How a table is rendered."""

    terminal = "terminal"
    md = "md"
    latex = "latex"
    csv = "csv"


RuleOption = Annotated[Rule, typer.Option("--rule", help="The epoch of a training that counts.")]


@app.command(epilog="Example: csl run table5 --setting voc-animals --data-root DIR --weights FILE")
def run(
    spec: SpecArgument,
    setting: SettingOption = "shapes",
    store: StoreOption = DEFAULT_STORE,
    data_root: DataOption = None,
    splits_root: SplitsRootOption = None,
    weights: WeightsOption = None,
    assignments: SetOption = None,
    profile: ProfileOption = "official",
    splits: SplitsOption = None,
    seeds: SeedsOption = None,
    rule: RuleOption = Rule.best,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes per training (Ray Train if > 1).")
    ] = 1,
    gpus: Annotated[
        float | None,
        typer.Option("--gpus-per-worker", min=0, help="Default: 1 where the cluster has GPUs."),
    ] = None,
    cpus: Annotated[
        int | None, typer.Option("--cpus", min=1, help="CPUs of the local Ray; default: all.")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", help="Join the Ray at host:port.")
    ] = None,
    retry_failed: RetryOption = False,
) -> None:
    """Train what a spec needs and the store lacks, then print its table.

    Running it again repeats nothing; after any kill, the same command goes on."""
    grid = _grid(spec, setting, assignments, profile, splits, seeds)
    locations = Locations(data_root, splits_root, weights)
    if "://" in store:
        raise InputError(
            "checkpoints need a folder that every node sees",
            key="--store",
            value=store,
            remedy="give a path on shared storage",
        )
    plan = make_plan(grid, locations, Store(store), retry_failed=retry_failed)
    console = Console()
    views.print_plan_summary(console, plan)
    interrupted = False
    if plan.to_run:
        from ablations.launch import check_inputs, run_plan

        check_inputs(plan, locations, workers, address)
        try:
            log = run_plan(plan, locations, workers=workers, gpus=gpus, cpus=cpus, address=address)
            console.print(f"Ray's log: {log}", highlight=False, soft_wrap=True)
        except KeyboardInterrupt:
            interrupted = True
    _print_table(grid, locations, plan.store, rule, TableFormat.terminal)
    after = make_plan(grid, locations, plan.store)
    if after.to_run or interrupted:
        console.print(
            f"{len(after.to_run)} trainings are still to run; the same command goes on with them."
        )
        raise typer.Exit(130 if interrupted else 1)
    failed = next((each for each in after.trainings if each.state == "failed"), None)
    if failed is not None:
        console.print(
            f"Why a training failed: csl show {failed.identity.id[:8]} --store {store}",
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(1)


@app.command(epilog="Example: csl plan table5 --json")
def plan(
    spec: SpecArgument,
    setting: SettingOption = "shapes",
    store: StoreOption = DEFAULT_STORE,
    data_root: DataOption = None,
    splits_root: SplitsRootOption = None,
    weights: WeightsOption = None,
    assignments: SetOption = None,
    profile: ProfileOption = "official",
    splits: SplitsOption = None,
    seeds: SeedsOption = None,
    retry_failed: RetryOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would train, what is stored already, and why."""
    grid = _grid(spec, setting, assignments, profile, splits, seeds)
    made = make_plan(
        grid, Locations(data_root, splits_root, weights), Store(store), retry_failed=retry_failed
    )
    _print(views.plan_object(made), as_json, lambda console: views.print_plan(console, made))


@app.command(epilog="Example: csl table table5 --format latex > table5.tex")
def table(
    spec: SpecArgument,
    setting: SettingOption = "shapes",
    store: StoreOption = DEFAULT_STORE,
    data_root: DataOption = None,
    splits_root: SplitsRootOption = None,
    weights: WeightsOption = None,
    assignments: SetOption = None,
    profile: ProfileOption = "official",
    splits: SplitsOption = None,
    seeds: SeedsOption = None,
    rule: RuleOption = Rule.best,
    format: Annotated[
        TableFormat, typer.Option("--format", help="How to render it.")
    ] = TableFormat.terminal,
) -> None:
    """Print a spec's table from the store; nothing is trained."""
    grid = _grid(spec, setting, assignments, profile, splits, seeds)
    locations = Locations(data_root, splits_root, weights)
    _print_table(grid, locations, Store(store), rule, format)


@app.command(epilog="Example: csl status --json")
def status(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Show what the store holds and what is under way."""
    seen = views.status_object(Store(store))
    _print(seen, as_json, lambda console: views.print_status(console, seen))


@app.command(epilog="Example: csl runs --failed")
def runs(
    store: StoreOption = DEFAULT_STORE,
    failed: Annotated[bool, typer.Option("--failed", help="Only failed attempts.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List every stored attempt."""
    records = [r for r in Store(store).records() if not failed or r.status == "failed"]
    rows = [views.run_object(record) for record in records]
    _print({"runs": rows}, as_json, lambda console: views.print_runs(console, rows))


@app.command(epilog="Example: csl show 3f2a91")
def show(
    run: Annotated[str, typer.Argument(help="A training's name or the start of it (csl runs).")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Show one training: configuration, provenance, curve, IoU per class."""
    record = Store(store).find(run)
    _print(views.show_object(record), as_json, lambda console: views.print_show(console, record))


@app.command(epilog="Example: csl doctor --store /shared/csl-store --address 10.0.0.1:6379")
def doctor(
    store: StoreOption = DEFAULT_STORE,
    address: Annotated[
        str | None, typer.Option("--address", help="Also see whether a Ray answers there.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check versions, cores, GPUs, memory, disk, Ray and the store; exit 1 if one is wrong."""
    from ablations.doctor import examine

    checks = examine(Store(store), address)
    _print(
        {"checks": [vars(check) for check in checks]},
        as_json,
        lambda console: views.print_checks(console, checks),
    )
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _grid(
    spec: str,
    setting: str,
    assignments: list[str] | None,
    profile: str,
    splits: str | None,
    seeds: str | None,
) -> Grid:
    options = Options(
        profile=profile,
        assignments=tuple(assignments or ()),
        splits=None if splits is None else _distinct("--splits", splits),
        seeds=None if seeds is None else tuple(map(_seed, _distinct("--seeds", seeds))),
    )
    return expand(load_spec(spec), load_setting(setting), options)


def _distinct(option: str, text: str) -> tuple[str, ...]:
    values = tuple(part.strip() for part in text.split(","))
    if len(set(values)) < len(values) or not all(values):
        raise InputError(
            "empty or named twice",
            key=option,
            value=text,
            remedy="separate different values by commas",
        )
    return values


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 2**31):
        raise InputError(
            "not a seed", key="--seeds", value=text, remedy="give whole numbers from 0 to 2^31-1"
        )
    return int(text)


def _print_table(
    grid: Grid, locations: Locations, store: Store, rule: Rule, format: TableFormat
) -> None:
    from ablations.tabulate import tabulate
    from results.render import render

    text = render(
        tabulate(grid, locations, store, rule.value),
        format.value,
        width=max(Console().width, 80) if sys.stdout.isatty() else 100,
        color=sys.stdout.isatty(),
    )
    sys.stdout.write(text)


def _print(content: object, as_json: bool, draw: views.Draw) -> None:
    if as_json:
        print(json.dumps(content, indent=2, ensure_ascii=False, default=str))
    else:
        # A pipe has no width: nothing is wrapped for it.
        draw(Console(width=None if sys.stdout.isatty() else 200))


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def main() -> None:
    """The command's entry: a user's mistake is one message and exit code 2."""
    warnings.showwarning = _warn
    try:
        app()
    except (InputError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


__all__ = ["Plan", "app", "main"]
