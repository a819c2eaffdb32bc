"""Takes the records of a trial's blocks; gives its score by each objective of the search."""

from collections.abc import Sequence
from statistics import fmean

from ablations.search.spec import Objective, SearchSpec
from results.schema import Record


def scores(records: Sequence[Record], spec: SearchSpec) -> list[float]:
    """Means over the blocks: mIoU and the worst class's IoU in percent, GPU-hours (on CPUs, hours
    of a slot) of a training."""
    return [fmean(_score(each, name, spec.rule) for each in records) for name in spec.objectives]


def _score(record: Record, objective: Objective, rule: str) -> float:
    evaluation = record.best if rule == "best" else record.last
    assert evaluation is not None, "a complete record has both evaluations"
    match objective:
        case "miou":
            return evaluation.mean_iou
        case "worst_class":
            return min(evaluation.class_iou[k] for k in record.scored_classes)
        case "gpu_hours":
            return (record.provenance.gpu_seconds or record.training_seconds) / 3600
