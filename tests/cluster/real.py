"""A real cluster on one machine: a control plane and nodes, each in namespaces of its own, made of programs that are
here already (`why_no_real_cluster` names what is missing).

What is real: API server, controllers, scheduler, kubelets, containerd, runc, CNI plugins, kube-proxy. What is not: DNS
is `tests.cluster.dns`, the sandbox's image is a static busybox, and all nodes share one kernel.
"""

import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from scripts.live.program import Program
from tests.cluster.control_plane import CONTROL_PROGRAMS, ControlPlane, find_binary
from tests.cluster.network import Network
from tests.cluster.real_node import DNS_SERVICE, PAUSE_IMAGE, RealNode, keep_sysctls, why_no_node

NODE_COUNT: Final = 2
VOLUME: Final = "/var/lib/volume"
_BUSYBOX: Final = "/bin/busybox"


@dataclass(slots=True, kw_only=True)
class RealCluster:
    """Everything that runs."""

    directory: Path
    control: ControlPlane
    nodes: list[RealNode] = field(default_factory=list)


def why_no_real_cluster() -> str:
    """Why no real cluster can be made here; empty where it can."""
    if os.geteuid():
        return "needs root"
    for name in (*CONTROL_PROGRAMS, "ip"):
        if find_binary(name) is None:
            return f"needs {name} on the PATH or in APIDAE_KUBERNETES_BIN"
    if find_busybox() is None:
        return "needs a static busybox (busybox-static)"
    if not Path("/sys/fs/cgroup/unified/cgroup.procs").exists():
        return "needs cgroups of version 1 beside those of version 2 (hybrid)"
    return why_no_node()


def find_busybox() -> Path | None:
    """The static one."""
    found = shutil.which("busybox")
    return Path(found).resolve() if found else None


def open_real_cluster(directory: Path, archives: list[Path], stack: ExitStack) -> RealCluster:
    """Control plane and nodes, ready, with the images of `archives`; all end with the stack."""
    name = f"apd{os.getpid() % 10_000}"
    # The last thing: files of images are many.
    stack.callback(_remove_node_files, directory)
    stack.enter_context(keep_sysctls())
    network = Network(name, NODE_COUNT + 1)
    stack.callback(network.close)
    home = network.nodes[NODE_COUNT]  # The last is the control plane's: it has no Pods.
    control = ControlPlane(directory, home.namespace, home.address_4, stack)
    _start_dns(control, stack)
    pause = write_pause_image(directory / "pause.tar")
    cluster = RealCluster(directory=directory, control=control)
    for number in range(1, NODE_COUNT + 1):
        node = RealNode(
            number,
            directory=directory / f"node-{number}",
            interface=network.nodes[number - 1],
            cgroup=name,
            control=control,
            archives=[pause, *archives],
            stack=stack,
        )
        cluster.nodes.append(node)
    _add_volume(cluster)
    return cluster


def _remove_node_files(directory: Path) -> None:
    for place in directory.glob("node-*/lib"):
        shutil.rmtree(place, ignore_errors=True)


def _start_dns(control: ControlPlane, stack: ExitStack) -> None:
    command = [*control.enter, sys.executable, "-m", "tests.cluster.dns", control.address, str(control.kubeconfig)]
    program = Program("dns", command, control.directory / "dns.log")
    stack.callback(program.stop)
    program.wait_for("ready", 30)
    port = {"name": "dns", "port": 53, "protocol": "UDP"}
    place = {"namespace": "kube-system", "name": "kube-dns"}
    control.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": place,
            "spec": {"clusterIP": DNS_SERVICE, "ports": [port]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**place, "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "ports": [port],
            "endpoints": [{"addresses": [control.address], "conditions": {"ready": True}}],
        },
    )
    # A kubelet's user may read what its Pods need; the proxy reads Services and its own node.
    control.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "kube-proxy"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-proxier"},
            "subjects": [{"kind": "User", "name": "system:kube-proxy", "apiGroup": "rbac.authorization.k8s.io"}],
        }
    )


def _add_volume(cluster: RealCluster) -> None:
    """One local volume on the first node, of the default class."""
    home = cluster.nodes[0]
    home.run("mkdir", "-p", VOLUME)
    node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [home.name]}
    cluster.control.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "local-1"},
            "spec": {
                "capacity": {"storage": "30Gi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "local",
                "persistentVolumeReclaimPolicy": "Retain",
                "local": {"path": VOLUME},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [node]}]}},
            },
        },
    )


def write_pause_image(path: Path) -> Path:
    """The image of sandboxes, which only wait: a static busybox, as an archive of Docker's form."""
    busybox = find_busybox()
    assert busybox is not None
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        archive.add(busybox, "busybox")
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/busybox", "sleep", "2147483647"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    files: dict[str, Any] = {
        "config.json": json.dumps(config).encode(),
        "layer.tar": layer.getvalue(),
        "manifest.json": json.dumps(
            [{"Config": "config.json", "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}]
        ).encode(),
    }
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
