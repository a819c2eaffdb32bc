"""Takes what happens to jobs; gives it to Prometheus through Ray's exporter, and to other watchers.

Ray serves these metrics on the driver's node, each name with ``ray_`` before it:
cluster/deploy/grafana/csl.json draws them.
"""

from collections import Counter as Tally
from collections.abc import Callable, Sequence
from typing import Any

from ray.util.metrics import Counter, Gauge

_STATES = ("waiting", "running", "held", "finished", "failed")


class CampaignMetrics:
    """A watcher whose numbers are Prometheus metrics.

    Step time and the share of time that went into waiting for data are ratios of counters' rates,
    so they are right over any span and any number of trainings.

    Args:
        campaign: what the whole is called.
        labels: what each job is called, by index.
    """

    def __init__(self, campaign: str, labels: Sequence[str]) -> None:
        self.labels = [_ascii(label) for label in labels]
        self.states = ["waiting"] * len(labels)
        self.counts = Tally(self.states)
        tags = {"campaign": _ascii(campaign)}

        def gauge(name: str, description: str, tag: str) -> Gauge:
            metric = Gauge(name, description=description, tag_keys=("campaign", tag))
            metric.set_default_tags(tags)
            return metric

        def counter(name: str, description: str, *tag_keys: str) -> Counter:
            metric = Counter(name, description=description, tag_keys=("campaign", *tag_keys))
            metric.set_default_tags(tags)
            return metric

        self.trainings = gauge("csl_trainings", "Trainings by state.", "state")
        self.mean_iou = gauge("csl_mean_iou", "mIoU in percent, as last evaluated.", "training")
        self.failures = counter("csl_failures", "Attempts that failed, by name.", "failure")
        self.epochs = counter("csl_epochs", "Epochs trained.")
        self.steps = counter("csl_steps", "Steps trained.")
        self.seconds = counter("csl_training_seconds", "Time spent in training epochs.")
        self.wait = counter("csl_data_wait_seconds", "The part of it that waited for data.")
        for state in _STATES:
            self._show(state)

    def started(self, index: int) -> None:
        self._move(index, "running")

    def reported(self, index: int, metrics: dict[str, Any]) -> None:
        self.epochs.inc()
        steps = metrics.get("step", 0) / metrics["epoch"]  # each epoch has as many
        for counter, more in (
            (self.steps, steps),
            (self.seconds, metrics["seconds"]),
            (self.wait, metrics.get("data_wait_seconds", 0.0)),
        ):
            if more > 0:  # Ray refuses to add nothing
                counter.inc(more)
        if "mean_iou" in metrics:
            self.mean_iou.set(metrics["mean_iou"], tags={"training": self.labels[index]})

    def retried(self, index: int, reason: str) -> None:
        self._fail(reason)
        self._move(index, "waiting")

    def finished(self, index: int, *, elsewhere: bool = False) -> None:
        self._move(index, "finished")

    def held(self, index: int, holder: str) -> None:
        self._move(index, "held")

    def stopped(self, index: int) -> None:
        self._move(index, "waiting")

    def stopping(self, stop: object) -> None:
        """No number of its own."""

    def failed(self, index: int, reason: str) -> None:
        self._fail(reason)
        self._move(index, "failed")

    def _fail(self, reason: str) -> None:
        name = reason.partition(",")[0]  # "worker crashed, at the end" is a crash
        self.failures.inc(tags={"failure": name})

    def _move(self, index: int, state: str) -> None:
        before, self.states[index] = self.states[index], state
        self.counts[before] -= 1
        self.counts[state] += 1
        self._show(before)
        self._show(state)

    def _show(self, state: str) -> None:
        self.trainings.set(self.counts[state], tags={"state": state})


def _ascii(text: str) -> str:
    """Ray's exporter encodes nothing else: ω becomes \\u03c9."""
    return text.encode("ascii", "backslashreplace").decode()


def several(*watchers: object) -> Any:
    """A watcher that tells each of these everything it is told, in their order."""

    class Several:
        def __getattr__(self, event: str) -> Callable[..., None]:
            def tell(*particulars: Any, **named: Any) -> None:
                for each in watchers:
                    getattr(each, event)(*particulars, **named)

            return tell

    return Several()
