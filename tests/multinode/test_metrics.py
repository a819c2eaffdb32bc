"""A campaign's numbers, scraped from the endpoint that Ray tells Prometheus about."""

import json
import re
import subprocess
import sys
import time
import urllib.request

from tests.deploy.filled import DEPLOY
from tests.multinode.conftest import Ray

CAMPAIGN = """
import sys
import ray
ray.init(address="{address}", log_to_driver=False)
from cluster.metrics import CampaignMetrics, several
told = []
class Other:
    def __getattr__(self, event):
        return lambda *particulars, **named: told.append(event)
watcher = several(CampaignMetrics("table5", ["a", "b", "c"]), Other())
watcher.started(0)
watcher.started(1)
epoch = dict(epochs=2, seconds=3.0)
watcher.reported(0, dict(epoch, epoch=1, step=6, data_wait_seconds=1.5, mean_iou=40.0))
watcher.reported(0, dict(epoch, epoch=2, step=12, data_wait_seconds=0.0, mean_iou=42.5))
watcher.finished(0, elsewhere=False)
watcher.retried(1, "worker crashed, at the end")
watcher.started(1)
watcher.failed(1, "not a number")
assert len(told) == 8
print("told", flush=True)
sys.stdin.read()
"""


def scrape(ray: Ray) -> dict[str, float]:
    """Every csl metric at every address that Ray tells Prometheus, by name and our tags."""
    found = {}
    discovery = ray.folder / "ray" / "prom_metrics_service_discovery.json"
    for target in {t for group in json.loads(discovery.read_text()) for t in group["targets"]}:
        try:
            text = urllib.request.urlopen(f"http://{target}/metrics").read().decode()
        except OSError:
            continue  # not every part of Ray serves yet
        for name, tags, value in re.findall(r"^(ray_csl_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
            ours = dict(re.findall(r'(\w+)="([^"]*)"', tags))
            tag = next((ours[k] for k in ("state", "failure", "training") if k in ours), "")
            assert ours["campaign"] == "table5"
            found[f"{name} {tag}".strip()] = float(value)
    return found


def test_prometheus_finds_what_the_dashboard_draws(ray: Ray) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", CAMPAIGN.format(address=ray.address)],
        env=ray.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert driver.stdout is not None
        assert driver.stdout.readline().strip() == "told"
        expected = {
            "ray_csl_trainings waiting": 1,
            "ray_csl_trainings running": 0,
            "ray_csl_trainings held": 0,
            "ray_csl_trainings finished": 1,
            "ray_csl_trainings failed": 1,
            "ray_csl_failures_total worker crashed": 1,
            "ray_csl_failures_total not a number": 1,
            "ray_csl_mean_iou a": 42.5,
            "ray_csl_epochs_total": 2,
            "ray_csl_steps_total": 12,
            "ray_csl_training_seconds_total": 6,
            "ray_csl_data_wait_seconds_total": 1.5,
        }
        seen: dict[str, float] = {}
        for _ in range(60):  # Ray gathers them every few seconds
            if (seen := scrape(ray)) == expected:
                break
            assert driver.poll() is None
            time.sleep(1)
        assert seen == expected
    finally:
        driver.communicate(input="")
    drawn = set(re.findall(r"ray_csl_[a-z_]+", (DEPLOY / "grafana/csl.json").read_text()))
    assert drawn == {name.split()[0] for name in seen}
