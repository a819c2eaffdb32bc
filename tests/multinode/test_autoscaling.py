"""A cluster that starts its nodes on demand, by Ray's own autoscaler, from none."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.multinode.conftest import Ray
from tests.multinode.losses import Driver, Grid, assert_equal

LITTLE = 100_000_000
EMPTY = (  # what Ray's launcher would have filled in
    *("cluster_synced_files", "initialization_commands", "setup_commands"),
    *("head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands"),
)
NODES = {
    "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
    "worker": {
        "resources": {"CPU": 1, "object_store_memory": LITTLE},
        "node_config": {},
        "min_workers": 0,
        "max_workers": 2,
    },
}


def test_trainings_bring_their_nodes(
    grid: Grid,
    drive: Callable[..., Driver],
    start_ray: Callable[..., Ray],
    tmp_path: Path,
) -> None:
    def options(address: str) -> tuple[str, ...]:
        file = tmp_path / "autoscaler.yaml"
        provider = {
            "type": "fake_multinode",
            "gcs_address": address,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "module": "ray.autoscaler._private.fake_multi_node.node_provider",
        }
        file.write_text(
            json.dumps(
                {
                    "cluster_name": "fake",
                    "max_workers": 2,
                    "idle_timeout_minutes": 60,
                    "upscaling_speed": 1.0,
                    "provider": provider,
                    "auth": {"ssh_user": "nobody"},
                    "available_node_types": NODES,
                    "head_node_type": "ray.head.default",
                    "file_mounts": {},
                    **{key: [] for key in EMPTY},
                }
            )
        )
        return (f"--autoscaling-config={file}",)

    fake = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    ray = start_ray(0, options=options, environment=fake)
    refused = drive(ray, tmp_path / "refused", grid.arguments)
    assert "say what they have with --gpus-per-worker" in refused.end(2)
    driver = drive(ray, tmp_path / "store", grid.arguments, "--gpus-per-worker", "0")
    driver.until(lambda: ray.ask("print(len([n for n in ray.nodes() if n['Alive']]))") == "3")
    assert "Waiting for a node with 1 CPU: this Ray has none yet." in driver.end()
    assert assert_equal(grid, driver.store) == []
