"""Takes nothing; gives how long a table over thousands of stored trainings takes.

    python benchmarks/store.py                        # a table; writes 1,000 and 10,000 records
    python benchmarks/store.py --json --mlflow PYTHON # one object; also against MLflow's sqlite

Stores are filled with table5 on shapes, a thousand times as many seeds as it has: records of 80
epochs whose pseudo-label counts are as long as VOC's. Measured is ``csl table table5`` in a new
process, start of Python included, once per kind of store (each after an unmeasured call), and
reading all headers in a new process; ``small_table`` is one of ten trainings of the large store,
``table`` shows all of it, with a thousand seeds in each of ten cells, ``report`` is the page with
everything. ``packed_*``: the same once the store is compact, as ``csl run`` leaves it.
``memory_mb``: peak of the largest table's process. ``vs_mlflow``: MLflow's time over ours for the
same means per variant and split, of as many runs; PYTHON is an interpreter that has mlflow.
Ratios are of CPU seconds (``cpu_s``), which other processes disturb less than wall time.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from ablations.expand import Options, expand
from ablations.spec import load_setting, load_spec
from csl.identity import identify_all
from csl.locations import Locations
from results.columns import to_table
from results.parquet import write
from results.schema import (
    EpochMetrics,
    Evaluation,
    ImageCounts,
    Provenance,
    PseudoLabels,
    PseudoLabelScores,
    Record,
)
from results.store import Store
from results.upkeep import compact

EPOCHS, CLASSES, CELLS = 80, 21, 10
IMAGES, PIXELS = 1449, 333 * 500  # VOC's validation images
TABLE = "from ablations.cli import main; main()"
HEADERS = "import sys; from results.store import Store; print(len(Store(sys.argv[1]).headers()))"
PEAK = "import resource, sys; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"

FILL_MLFLOW = """
import json, sys, mlflow
from mlflow.entities import Metric, Param
mlflow.set_tracking_uri(sys.argv[1])
client = mlflow.MlflowClient()
experiment = client.create_experiment("table5")
for run in json.load(sys.stdin):
    made = client.create_run(experiment).info.run_id
    scores = [Metric("mean_iou", value, 0, step) for step, value in enumerate(run["curve"])]
    scores.append(Metric("best_mean_iou", max(run["curve"]), 0, 0))
    params = [Param(key, str(run[key])) for key in ("variant", "split", "seed")]
    client.log_batch(made, scores, params)
    client.set_terminated(made)
"""
ASK_MLFLOW = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
runs = mlflow.search_runs(experiment_names=["table5"], max_results=100_000)
cells = runs.groupby(["params.variant", "params.split"])["metrics.best_mean_iou"]
print(cells.agg(["mean", "std"]))
"""


def template(generator: random.Random) -> Record:
    """A record as large as a real one on VOC."""

    def counts(bins: int) -> tuple[int, ...]:
        return tuple(int(generator.random() ** 4 * 1e7) for _ in range(bins))

    def images() -> ImageCounts:
        """Background and one to six other classes of each: what it shows, and wrong guesses."""
        rows: list[tuple[int, ...]] = []
        for image in range(IMAGES):
            for k in [0, *sorted(generator.sample(range(1, CLASSES), generator.randint(1, 6)))]:
                union = 1 + int(generator.random() ** 2 * PIXELS)
                rows.append((image, k, int(union * generator.random()), union))
        return ImageCounts(IMAGES, *zip(*rows, strict=True))

    def evaluation(epoch: int) -> Evaluation:
        iou = tuple(100 * generator.random() for _ in range(CLASSES))
        return Evaluation(epoch, 75.0, iou, counts(CLASSES**2), images())

    def line(epoch: int) -> EpochMetrics:
        labels = PseudoLabels(*[counts(bins) for bins in [CLASSES] * 4 + [64] * 4 + [15] * 3])
        values = [generator.random() for _ in range(10)]
        return EpochMetrics(epoch, 500 * epoch, *values, 0.1, labels)  # type: ignore[call-arg, arg-type]

    now = datetime.now(UTC)
    packages = tuple(f"package-{index}==1.{index}.0" for index in range(10))
    place = Provenance(
        "f" * 40, None, "e" * 16, "d" * 16, "3.11.9", packages, "Linux-x86_64", "node-1",
        ("NVIDIA H100",), "570.1", 1, now, now, 3e4, None, "job", "trial", "csl run table5",
    )  # fmt: skip
    return Record(
        identity="", recipe="", attempt="", status="complete", failure=None,
        launched_as="table5/all/1/16/seed 0", setting="shapes", split="", seed=0, configuration="",
        split_hash="c" * 16, data_fingerprint="d" * 16, weights_hash="", supersedes=False,
        steps=500 * EPOCHS, training_seconds=3e4, resumed=0, last=evaluation(EPOCHS),
        best=evaluation(71), pseudo_label_scores=PseudoLabelScores(88.0, 91.5, 93.0),
        provenance=place, failure_detail=None, log_tail=None,
        scored_classes=tuple(range(CLASSES)),
        class_names=tuple(f"class {index}" for index in range(CLASSES)),
        curve=tuple(line(epoch) for epoch in range(1, EPOCHS + 1)),
    )  # fmt: skip


def fill(store: Store, records: int) -> None:
    """One record per training of table5 on shapes with so many seeds that there are enough."""
    generator = random.Random(0)
    shared = to_table(template(generator))
    bulk = shared.select(["curve"]).column(0)
    seeds = tuple(range(records // CELLS))
    grid = expand(load_spec("table5"), load_setting("shapes"), Options(seeds=seeds))
    trainings = [cell.training for cell in grid.cells]
    base = replace(template(generator), curve=())
    identities = identify_all((training, Locations()) for training in trainings)
    for training, identity in zip(trainings, identities, strict=True):
        assert base.best is not None
        record = replace(
            base,
            identity=identity.id,
            recipe=identity.recipe,
            attempt=f"{generator.getrandbits(128):032x}",
            split=training.split,
            seed=training.seed,
            configuration=training.config.model_dump_json(),
            best=replace(base.best, mean_iou=70 + 10 * generator.random()),
        )
        table = to_table(record)
        index = table.schema.get_field_index("curve")
        table = table.set_column(index, table.schema.field(index), bulk)
        store.files.write(
            "records",
            f"{record.identity}-{record.attempt}.parquet",
            lambda out, table=table: write([table], out),  # type: ignore[misc]
        )


def timed(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of the second of two runs."""
    for _ in range(2):
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall = time.perf_counter() - started
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def table_command(store: Store, records: int, code: str = TABLE) -> list[str]:
    seeds = ",".join(map(str, range(records // CELLS)))
    return [
        sys.executable, "-c", code, "table", "table5", "--store", store.location, "--seeds", seeds
    ]  # fmt: skip


def report_command(store: Store, folder: Path) -> list[str]:
    page = str(folder / "report.html")
    return [sys.executable, "-c", TABLE, "report", "--store", store.location, "--out", page]


def peak_mb(command: list[str]) -> float:
    code = f"import atexit; atexit.register(lambda: exec({PEAK!r}))\n{command[2]}"
    done = subprocess.run([*command[:2], code, *command[3:]], check=True, capture_output=True)
    return int(done.stdout.splitlines()[-1]) / 1024


def mlflow_seconds(python: str, folder: Path, records: int) -> tuple[float, float]:
    """The same means from MLflow's sqlite store of as many runs with as long a curve."""
    generator = random.Random(0)
    grid = expand(
        load_spec("table5"), load_setting("shapes"), Options(seeds=tuple(range(records // CELLS)))
    )
    runs = [
        {
            "variant": cell.row,
            "split": cell.column,
            "seed": cell.training.seed,
            "curve": [70 + 10 * generator.random() for _ in range(EPOCHS)],
        }
        for cell in islice(grid.cells, records)
    ]
    uri = f"sqlite:///{folder / f'mlflow-{records}.db'}"
    subprocess.run(
        [python, "-c", FILL_MLFLOW, uri], input=json.dumps(runs), text=True, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
    )  # fmt: skip
    return timed([python, "-c", ASK_MLFLOW, uri])


def measure(folder: Path, few: int, many: int, mlflow: str | None, runs: int) -> dict[str, Any]:
    stores = {count: Store(folder / str(count)) for count in (few, many)}
    for count, store in stores.items():
        fill(store, count)
    seen = {
        "table": table_command(stores[many], many),
        "table_1k": table_command(stores[few], few),
        "headers": [sys.executable, "-c", HEADERS, stores[many].location],
        "headers_1k": [sys.executable, "-c", HEADERS, stores[few].location],
        "small_table": table_command(stores[many], CELLS),
        "report": report_command(stores[many], folder),
        "report_1k": report_command(stores[few], folder),
    }
    taken = {name: timed(command) for name, command in seen.items()}
    result: dict[str, Any] = {
        "records": [few, many],
        "table_s_10k": taken["table"][0],
        "small_table_s_10k": taken["small_table"][0],
        "headers_s_10k": taken["headers"][0],
        "report_s_10k": taken["report"][0],
        "report_growth": taken["report"][1] / taken["report_1k"][1],
        "report_memory_mb": peak_mb(seen["report"]),
        "growth_1k_to_10k": taken["table"][1] / taken["table_1k"][1],
        "memory_mb": peak_mb(seen["table"]),
    }
    if mlflow:
        ours = taken["table_1k"] if runs == few else timed(table_command(stores[many], runs))
        theirs = mlflow_seconds(mlflow, folder, runs)
        result |= {"mlflow_runs": runs, "vs_mlflow": theirs[1] / ours[1]}
        taken["mlflow"] = theirs
    started = time.perf_counter()
    compact(stores[many])
    result["compact_s_10k"] = time.perf_counter() - started
    packed = {name: timed(seen[name]) for name in ("headers", "table", "small_table", "report")}
    result |= {f"packed_{name}_s_10k": wall for name, (wall, _) in packed.items()}
    taken |= {f"packed_{name}": both for name, both in packed.items()}
    result["cpu_s"] = {name: cpu for name, (_, cpu) in taken.items()}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--few", type=int, default=1000, help="records of the small store (1000)")
    parser.add_argument("--many", type=int, default=10_000, help="of the large one (10000)")
    parser.add_argument("--mlflow", help="a Python that has mlflow; left out if not given")
    parser.add_argument("--mlflow-runs", type=int, default=1000, help="its runs (1000)")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        result = measure(
            Path(folder), options.few, options.many, options.mlflow, options.mlflow_runs
        )
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:<22}{value if not isinstance(value, float) else round(value, 2)}")


if __name__ == "__main__":
    main()
