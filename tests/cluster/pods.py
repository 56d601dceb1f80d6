"""Objects of the API as the controllers and kubelets of a cluster write them, for the fake server."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

CREATED = "2026-11-25T12:00:00Z"


def make_uid(name: str) -> str:
    """A uid that is the same in each run."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def make_container_id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def make_owner(kind: str, name: str, api_version: str = "apps/v1") -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": make_uid(name), "controller": True}


def make_pod(
    name: str,
    *,
    namespace: str = "shop",
    node: str = "n1",
    owner: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    containers: Sequence[str] = ("app",),
    is_started: bool = True,
    is_host_network: bool = False,
    ip: str = "10.244.1.7",
    runtime: str = "containerd",
) -> dict[str, Any]:
    """A Pod; `is_started`: the kubelet told its containers' ids."""
    metadata: dict[str, Any] = {
        "namespace": namespace,
        "name": name,
        "uid": make_uid(f"{namespace}/{name}"),
        "creationTimestamp": CREATED,
        "labels": dict(labels or {}),
        "annotations": dict(annotations or {}),
    }
    if owner is not None:
        metadata["ownerReferences"] = [dict(owner)]
    statuses = [
        {"name": one, "containerID": f"{runtime}://{make_container_id(f'{namespace}/{name}/{one}')}", "ready": True}
        for one in containers
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "nodeName": node,
            "hostNetwork": is_host_network,
            "containers": [{"name": one, "image": "registry.example/app:1"} for one in containers],
        },
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": ip}],
            "containerStatuses": statuses if is_started else [],
        },
    }


def make_deployment_pod(workload: str, number: int = 0, **arguments: Any) -> dict[str, Any]:
    """A Pod of a Deployment."""
    hash_ = "7d4b9c6f55"
    return make_pod(
        f"{workload}-{hash_}-{number:05x}",
        owner=make_owner("ReplicaSet", f"{workload}-{hash_}"),
        labels={"pod-template-hash": hash_, "app.kubernetes.io/name": workload, **arguments.pop("labels", {})},
        **arguments,
    )


def find_cgroup(
    pod: Mapping[str, Any], container: str = "app", *, driver: str = "systemd", qos: str = "burstable"
) -> str:
    """The path of a container's cgroup as the kubelet and the runtime make it."""
    metadata, runtime = pod["metadata"], "containerd"
    uid = metadata["annotations"].get("kubernetes.io/config.mirror", metadata["uid"])
    id_ = make_container_id(f"{metadata['namespace']}/{metadata['name']}/{container}")
    for status in pod["status"]["containerStatuses"]:
        runtime = status["containerID"].partition(":")[0]
    if driver == "cgroupfs":
        middle = "" if qos == "guaranteed" else f"/{qos}"
        return f"/kubepods{middle}/pod{uid}/{'crio-' if runtime == 'cri-o' else ''}{id_}"
    middle = "" if qos == "guaranteed" else f"-{qos}"
    prefix = {"containerd": "cri-containerd", "cri-o": "crio", "docker": "docker"}[runtime]
    parent = "/kubepods.slice" + (f"/kubepods{middle}.slice" if middle else "")
    return f"{parent}/kubepods{middle}-pod{uid.replace('-', '_')}.slice/{prefix}-{id_}.scope"
