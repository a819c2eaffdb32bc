"""KubeRay's RayCluster and RayJob as models: an unknown key or a wrong type is an error.

No registry that this project uses ships KubeRay's CRD, so this is the part of it that our files
touch, written from its generated reference ("KubeRay CRD API reference", ray.io/v1, v1.7.1, in
Ray's documentation). Pod templates are held against Kubernetes' own schema.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import kubernetes_validate
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

KUBERNETES = "1.32"

Count = Annotated[int, Field(ge=0, strict=True)]
Strings = dict[str, Annotated[str, Field(strict=True)]]


def check_kubernetes(document: dict[str, Any]) -> None:
    """Hold a document against Kubernetes' schema; unknown keys are errors."""
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def _a(kind: str, version: str = "v1") -> Callable[[dict[str, Any]], dict[str, Any]]:
    def check(part: dict[str, Any]) -> dict[str, Any]:
        metadata = part.get("metadata", {})
        check_kubernetes({"apiVersion": version, "kind": kind, **part, "metadata": metadata})
        return part

    return check


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


PodTemplate = Annotated[dict[str, Any], AfterValidator(_a("Pod"))]


class SecretKey(_Model):
    name: str
    key: str


class ValueFrom(_Model):
    secretKeyRef: SecretKey  # noqa: N815


class RedisCredential(_Model):
    valueFrom: ValueFrom  # noqa: N815


class GcsFaultTolerance(_Model):
    redisAddress: str  # noqa: N815
    redisPassword: RedisCredential  # noqa: N815


class Authentication(_Model):
    mode: Literal["disabled", "token"]


class Autoscaler(_Model):
    version: Literal["v1", "v2"]
    idleTimeoutSeconds: Count  # noqa: N815


class HeadGroup(_Model):
    rayStartParams: Strings  # noqa: N815
    template: PodTemplate


class WorkerGroup(_Model):
    groupName: str  # noqa: N815
    replicas: Count
    minReplicas: Count  # noqa: N815
    maxReplicas: Count  # noqa: N815
    rayStartParams: Strings  # noqa: N815
    template: PodTemplate


class RayClusterSpec(_Model):
    rayVersion: str  # noqa: N815
    authOptions: Authentication  # noqa: N815
    enableInTreeAutoscaling: bool  # noqa: N815
    autoscalerOptions: Autoscaler  # noqa: N815
    gcsFaultToleranceOptions: GcsFaultTolerance | None = None  # noqa: N815
    headGroupSpec: HeadGroup  # noqa: N815
    workerGroupSpecs: list[WorkerGroup]  # noqa: N815


class RayJobSpec(_Model):
    entrypoint: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]  # noqa: N815
    backoffLimit: Count  # noqa: N815
    shutdownAfterJobFinishes: bool  # noqa: N815
    ttlSecondsAfterFinished: Count  # noqa: N815
    rayClusterSpec: RayClusterSpec  # noqa: N815


class Metadata(_Model):
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=50)]


class RayCluster(_Model):
    apiVersion: Literal["ray.io/v1"]  # noqa: N815
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: RayClusterSpec


class RayJob(_Model):
    apiVersion: Literal["ray.io/v1"]  # noqa: N815
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: RayJobSpec


MODELS: dict[str, type[BaseModel]] = {"RayCluster": RayCluster, "RayJob": RayJob}
