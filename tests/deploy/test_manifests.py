"""Deployment files: whole once filled in, and loud where a value was forgotten."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.runtime_env import RuntimeEnv

from tests.deploy.filled import DEPLOY, FILES, LAST_LINE, MARK, filled
from tests.deploy.kuberay import MODELS, check_kubernetes

KUBERAY = ["kuberay/store.yaml", "kuberay/cluster.yaml", "kuberay/job.yaml"]
RAY_UP = ["ray-up/ssh.yaml", "ray-up/aws.yaml", "ray-up/gcp.yaml"]
CLOUDS = RAY_UP[1:]


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(filled(name)))


def check(document: dict[str, Any]) -> None:
    model = MODELS.get(document["kind"])
    if model is None:
        check_kubernetes(document)
    else:
        model.model_validate(document)


def ray_clusters() -> list[dict[str, Any]]:
    (cluster,) = (d for d in documents("kuberay/cluster.yaml") if d["kind"] == "RayCluster")
    (job,) = documents("kuberay/job.yaml")
    return [cluster["spec"], job["spec"]["rayClusterSpec"]]


@pytest.mark.parametrize("name", KUBERAY)
def test_kubernetes_manifests_fit_their_schemas(name: str) -> None:
    for document in documents(name):
        check(document)


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ("spec", "enableInTreeAutoscalling", True),
        ("spec.headGroupSpec", "rayStartParams", {"num-cpus": 0}),
        ("spec.autoscalerOptions", "version", "v3"),
        ("spec.workerGroupSpecs.0", "maxReplicas", "16"),
        ("spec.workerGroupSpecs.0.template.spec", "toleration", []),
        ("spec.workerGroupSpecs.0.template.spec.containers.0", "image", 5),
    ],
)
def test_the_schema_finds_mistakes(path: str, key: str, value: object) -> None:
    (cluster,) = (d for d in documents("kuberay/cluster.yaml") if d["kind"] == "RayCluster")
    part: Any = cluster
    for step in path.split("."):
        part = part[int(step) if step.isdecimal() else step]
    part[key] = value
    with pytest.raises(Exception, match=key):
        check(cluster)


def test_drivers_have_the_head_for_themselves_and_are_never_on_spot_nodes() -> None:
    for spec in ray_clusters():
        head, (workers,) = spec["headGroupSpec"], spec["workerGroupSpecs"]
        assert head["rayStartParams"]["num-cpus"] == "0"
        assert not {"nodeSelector", "tolerations"} & head["template"]["spec"].keys()
        spot = workers["template"]["spec"]
        assert {each["key"] for each in spot["tolerations"]} >= spot["nodeSelector"].keys()
    for name in CLOUDS:
        types = yaml.safe_load(filled(name))["available_node_types"]
        assert not re.search("spot", json.dumps(types["head"]), re.IGNORECASE)
        assert re.search("spot", json.dumps(types["gpu"]), re.IGNORECASE)


def test_every_ray_asks_for_a_token_and_no_file_has_one() -> None:
    for spec in ray_clusters():
        assert spec["authOptions"] == {"mode": "token"}
    for name in RAY_UP:
        config = yaml.safe_load(filled(name))
        for role in ("head", "worker"):
            start = config[f"{role}_start_ray_commands"][-1]
            assert "RAY_AUTH_MODE=token" in start
        assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]
        assert "~/.ray/auth_token" in config["file_mounts"]
    for path in FILES:
        assert not re.search(r"RAY_AUTH_TOKEN=[\"']?\w", path.read_text()), path


def test_pods_mount_only_what_they_have_and_are_fenced() -> None:
    fence = next(d for d in documents("kuberay/store.yaml") if d["kind"] == "NetworkPolicy")
    fenced = fence["spec"]["podSelector"]["matchLabels"]
    templates = [
        each["template"]
        for spec in ray_clusters()
        for each in (spec["headGroupSpec"], *spec["workerGroupSpecs"])
    ]
    redis = next(d for d in documents("kuberay/cluster.yaml") if d["kind"] == "Deployment")
    for template in (*templates, redis["spec"]["template"]):
        assert fenced.items() <= template["metadata"]["labels"].items()
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    claims = {
        d["metadata"]["name"]
        for name in KUBERAY
        for d in documents(name)
        if d["kind"] == "PersistentVolumeClaim"
    }
    used = {
        volume["persistentVolumeClaim"]["claimName"]
        for template in (*templates, redis["spec"]["template"])
        for volume in template["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert used == claims


def test_the_job_is_a_command_that_csl_has() -> None:
    (job,) = documents("kuberay/job.yaml")
    program, command, spec, *_ = shlex.split(job["spec"]["entrypoint"])
    assert (program, command, spec) == ("csl", "run", "table5")


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_itself_accepts_its_cluster_files(name: str) -> None:
    config = prepare_config(yaml.safe_load(filled(name)))
    validate_config(config)
    assert config["head_node_type"] in config["available_node_types"]


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_refuses_what_is_misspelled(name: str) -> None:
    config = yaml.safe_load(filled(name)) | {"setup_comands": []}
    with pytest.raises(Exception, match="setup_comands"):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("tool", ["pip", "conda"])
def test_ray_accepts_the_runtime_environments(tool: str) -> None:
    environment = RuntimeEnv(**yaml.safe_load(filled(f"container/runtime-env-{tool}.yaml")))
    assert environment.env_vars()["CSL_STORE"]
    assert environment[tool]


@pytest.mark.parametrize("name", KUBERAY + RAY_UP)
def test_what_is_not_filled_in_is_refused_by_what_reads_it(name: str) -> None:
    text = (DEPLOY / name).read_text()
    assert len(re.findall(LAST_LINE, text, re.MULTILINE)) == 1
    assert MARK not in filled(name).replace(f"grep -n {MARK}", "").replace(f"every {MARK}:", "")
    (raw,) = (each for each in yaml.safe_load_all(text) if MARK in each)
    with pytest.raises(Exception, match=MARK):
        check(raw) if "kind" in raw else validate_config(prepare_config(raw))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_values_to_fill_in_have_the_one_mark(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"<[a-z][a-z ]*>|TODO|CHANGE.?ME|example\.(com|org)", text, re.IGNORECASE)
    if "FILL_IN_" in text:
        assert f"grep -n {MARK}" in text, "the file says how to find them"
