"""Takes a command line; gives plans, runs, tables. The ``csl`` command.

Heavy libraries (torch, ray, pandas) are imported inside the commands that need them.
"""

import errno
import gc
import io
import json
import os
import sys
import warnings
from difflib import unified_diff
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ablations import plan_views, views
from ablations.data import data_app
from ablations.figures import figure
from ablations.handover import RuntimeEnvOption, check_store, command_there, hand_over
from ablations.judging import select
from ablations.layers import resolve_setting
from ablations.plan import make_plan
from ablations.report import report
from ablations.request import (
    DEFAULT_STORE,
    Choice,
    Launch,
    Request,
    StoreOption,
    WorkOption,
    distinct,
    to_read,
    with_options,
)
from ablations.search.command import search
from ablations.spec import load_setting
from ablations.store import store_app, tidy
from ablations.texts import Rule, RuleOption, TableFormat, committed, format_of, render_tables
from ablations.watch import cancel, follow, watch
from cluster.connect import is_submission
from csl.errors import InputError
from results.documents import DocumentError
from results.store import Store, StoreError

_GARBAGE = 300_000
"""New objects until cycles among them are looked for: the records of a store have none, and to look
every 700, as Python does, takes a tenth of the time of a table of ten thousand."""

app = typer.Typer(
    name="csl",
    help="Run and tabulate the ablations of Confidence Separable Learning on a Ray cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")
app.add_typer(store_app, name="store")
app.command(epilog="Example: csl watch --store /shared/csl-store")(watch)
app.command(epilog="Example: csl cancel csl-20260131-120000-5f3a --address http://head:8265")(
    cancel
)
app.command(epilog="Example: csl figure figure4a --setting voc321 --out figure4a.pdf")(figure)
app.command(epilog="Example: csl report --store /shared/csl-store -o report.html")(report)
app.command(epilog="Example: csl select 3f2a91 --selectors csl,threshold,flexmatch --out lab")(
    select
)
app.command(epilog="Example: csl search alpha-theta-s --setting voc321 --data-root DIR")(search)


class Document(StrEnum):
    """What users write."""

    spec = "spec"
    campaign = "campaign"
    search = "search"
    setting = "setting"
    places = "places"


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command(epilog="Example: csl run table5 --setting voc-animals --data-root DIR --weights FILE")
@with_options
def run(
    request: Request,
    choice: Choice,
    launch: Launch,
    rule: RuleOption = Rule.best,
    runtime_env: RuntimeEnvOption = None,
    log_to: Annotated[
        str | None,
        typer.Option(help="Show every epoch to tensorboard, mlflow, wandb (separated by commas)."),
    ] = None,
) -> None:
    """Train what a spec needs and the store lacks, then print its table.

    Running it again repeats nothing; after any kill, the same command goes on."""
    grids = request.grids
    if hand_over(request, sys.argv[1:], launch.address, runtime_env):
        return
    store = request.open_for_training()
    plan = make_plan(grids, request.places, store, choice.policy, choice.limits)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    plan_views.print_summary(console, plan)
    interrupted = False
    if plan.to_run:
        from ablations.launch import check_inputs, run_plan
        from cluster.trackers import check_trackers

        trackers = distinct("--log-to", log_to) if log_to else ()
        check_inputs(plan, launch)
        check_trackers(trackers)
        try:
            stop = run_plan(plan, launch, trackers)
            interrupted = stop is not None and stop.interrupted
        except KeyboardInterrupt:
            interrupted = True
    sys.stdout.write(render_tables(request, rule, TableFormat.terminal))
    after = make_plan(grids, request.places, store)
    failed = [each for each in after.trainings if each.state == "failed"]
    if failed:
        name = failed[0].named.key[:8]
        console.print(f"Why a training failed: csl show {name} --store {request.store}")
    if after.to_run:
        console.print(f"{len(after.to_run)} still to run; the same command goes on with them.")
    if plan.to_run and not interrupted:
        tidy(store, console)
    asked = {each.named.key for each in plan.to_run}
    left = [each for each in after.to_run if each.named.key in asked]  # not beyond the limits
    if interrupted or left or failed:
        raise typer.Exit(130 if interrupted else 1)


@app.command(epilog="Example: csl plan paper --seeds 0 --slots 8")
@with_options
def plan(
    request: Request,
    choice: Choice,
    trainings: Annotated[
        bool, typer.Option("--trainings", help="List every training, however many.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would train and what it would cost, what is stored already, and why."""
    made = make_plan(
        request.grids, request.places, request.open_store(), choice.policy, choice.limits
    )
    views.show_either(
        plan_views.plan_object(made),
        as_json,
        lambda console: plan_views.print_plan(console, made, trainings),
    )


@app.command(epilog="Example: csl table table5 --format latex > table5.tex")
@with_options
def table(
    request: Request,
    rule: RuleOption = Rule.best,
    format: Annotated[
        TableFormat | None, typer.Option(help="How to render it.  [default: terminal]")
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(help="Compare with this file instead; exit 1 if the store says otherwise."),
    ] = None,
) -> None:
    """Print a spec's table from the store; nothing is trained."""
    if check is None:
        sys.stdout.write(render_tables(request, rule, format or TableFormat.terminal))
        return
    said = committed(check)
    found = render_tables(request, rule, format or format_of(check), plain=True)
    if said != found:
        before, now = said.splitlines(keepends=True), found.splitlines(keepends=True)
        sys.stdout.writelines(unified_diff(before, now, str(check), request.store))
        raise typer.Exit(1)


@app.command(epilog="Example: csl status --json")
def status(
    store: StoreOption = DEFAULT_STORE, work: WorkOption = None, as_json: JsonOption = False
) -> None:
    """Show what the store holds and what is under way."""
    seen = views.status_object(to_read(store, work))
    views.show_either(seen, as_json, lambda console: views.print_status(console, seen))


@app.command(epilog="Example: csl runs --failed")
def runs(
    store: StoreOption = DEFAULT_STORE,
    failed: Annotated[bool, typer.Option("--failed", help="Only failed attempts.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List every stored attempt."""
    headers = [h for h in to_read(store).headers() if not failed or h.status == "failed"]
    rows = [views.run_object(header) for header in headers]
    views.show_either({"runs": rows}, as_json, lambda console: views.print_runs(console, rows))


@app.command(epilog="Example: csl show 3f2a91 --out figures --beside 77b0,c2d4")
def show(
    run: Annotated[str, typer.Argument(help="A training's name or the start of it (csl runs).")],
    store: StoreOption = DEFAULT_STORE,
    out: Annotated[
        Path | None, typer.Option(help="A folder for Figure 6: the pseudo-labels of each epoch.")
    ] = None,
    beside: Annotated[
        str | None,
        typer.Option(
            help="Other trainings, separated by commas: compared over the same validation images; "
            "with --out, drawn in the same figure."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show one training: configuration, provenance, curve, IoU per class, mIoU over images."""
    record = Store(store).find(run)
    names = distinct("--beside", beside) if beside else ()
    others = [Store(store).find(name) for name in names]
    for path in views.write_curves(out, [record, *others]) if out else ():
        print(f"written: {path}", file=sys.stderr)
    seen = views.show_object(record, () if out else others)
    views.show_either(seen, as_json, lambda console: views.print_show(console, record, seen))


@app.command(epilog="Example: csl new patch-size.yaml --over masking.patch=8,16,32")
def new(
    file: Annotated[Path, typer.Argument(help="The .yaml file to write.")],
    over: Annotated[
        list[str] | None,
        typer.Option(help="A key and its values: key=value,value; may be repeated."),
    ] = None,
    setting: Annotated[
        str, typer.Option(help="Where keys and values are tried out; see csl run.")
    ] = "shapes",
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Override key=value of it; may be repeated.")
    ] = None,
) -> None:
    """Write a spec of your own to start from: every combination of some keys' values."""
    from ablations.scaffold import scaffold

    spec = scaffold(file, tuple(over or ()), setting, tuple(assignments or ()))
    print(f"{file}: {len(spec.expanded)} variants. Edit it, then: csl plan {file}")


@app.command(epilog="Example: csl schema spec > spec.schema.json")
def schema(
    kind: Annotated[Document, typer.Argument(help="Which kind of document.")] = Document.spec,
) -> None:
    """Print the JSON Schema of a document, for an editor that completes and checks YAML."""
    from ablations.schema import json_schema

    print(json.dumps(json_schema(kind.value), indent=2, ensure_ascii=False))


@app.command(epilog="Example: csl weights --setting voc-animals --download lite0.safetensors")
def weights(
    setting: Annotated[str, typer.Option(help="A packaged setting or a .yaml file.")],
    file: Annotated[
        Path | None,
        typer.Option("--weights", envvar="CSL_WEIGHTS", help="A .pth or .safetensors to examine."),
    ] = None,
    download: Annotated[
        Path | None, typer.Option(help="Fetch the published weights into this .safetensors.")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Override key=value; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether a weights file fits a setting's backbone (exit 2 if not), or fetch one."""
    from ablations import weights as files

    network = resolve_setting(load_setting(setting), tuple(assignments or ())).network
    if download is not None:
        files.download(network, download)
        file = download
    if file is None:
        raise InputError(
            "no weights file was given", key="--weights", remedy="give one, or --download FILE"
        )
    report = files.examine(network, file)
    views.show_either(report, as_json, lambda console: files.print_report(console, report))
    if not report["fits"]:
        raise typer.Exit(2)


@app.command(epilog="Example: csl doctor --store /shared/csl-store --address 10.0.0.1:6379")
def doctor(
    store: StoreOption = DEFAULT_STORE,
    work: WorkOption = None,
    address: Annotated[
        str | None,
        typer.Option(help="Also ask every node of the Ray there: host:port, auto, http://..."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check versions, cores, GPUs, memory, disk, Ray and the store; exit 1 if one is wrong.

    With --address: on every node, with what must be equal there and seen from all of them."""
    if address is not None and is_submission(address):
        from cluster.submission import submit

        check_store(store, work)
        follow(submit(address, command_there(sys.argv[1:], store, work)), address)
    from ablations.doctor import examine

    checks = examine(Store(store, work), address)
    views.show_either(
        {"checks": [vars(check) for check in checks]},
        as_json,
        lambda console: views.print_checks(console, checks),
    )
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def main() -> None:
    """The command's entry: a user's mistake is one message and exit code 2."""
    warnings.showwarning = _warn
    gc.set_threshold(_GARBAGE)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack ± and ─
            stream.reconfigure(errors="replace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except (InputError, StoreError, DocumentError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has seen enough.
        _give_up_output()
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        _give_up_output()
        print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
        sys.exit(2)


def _give_up_output() -> None:
    """Or Python would write what is left of it at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
