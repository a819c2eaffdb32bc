"""The dashboard draws metrics that exist, and all of them."""

import json
import re

from cluster.metrics import CampaignMetrics
from tests.deploy.filled import DEPLOY


def test_it_draws_what_is_exported() -> None:
    dashboard = json.loads((DEPLOY / "grafana/csl.json").read_text())
    text = json.dumps([panel["targets"] for panel in dashboard["panels"]])
    drawn = set(re.findall(r"ray_(csl_[a-z_]+)", text))
    exported = CampaignMetrics("table5", ["a"])
    metrics = [each for each in vars(exported).values() if hasattr(each, "info")]
    names = {
        f"{each.info['name']}_total" if type(each).__name__ == "Counter" else each.info["name"]
        for each in metrics
    }
    assert drawn == names
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
