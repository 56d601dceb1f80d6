"""A miniature cluster on one machine: three nodes with a sensor each, a collector, an API server, Pods that serve and
call. What is real: sensors, collector, kernel, sockets, addresses, translation, names of cgroups. What is not: kubelet,
runtime and controllers, whose words (Pods, EndpointSlices) the tests put into the API server.
"""

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.live.host import (
    APIDAE,
    COLLECTOR_READY_SECONDS,
    SENSOR_READY_SECONDS,
    CollectorAddress,
    keep_images,
    lend_images,
)
from scripts.live.program import Program
from tests.cluster.api_server import ApiServer
from tests.cluster.cgroups import CgroupTree, Container, Runtime
from tests.cluster.network import Interface, Network
from tests.collector.kubernetes.manifests import Manifest, make_pod, make_service, make_slice

CLUSTER = "miniature"
NODES = (Runtime.SYSTEMD_CONTAINERD, Runtime.CGROUPFS_CONTAINERD, Runtime.SYSTEMD_CRIO)
# The first host of a Pod's network that is given; .1 is the gateway.
FIRST_HOST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A Pod that runs: its place, its object, its containers by name."""

    name: str
    namespace: str
    workload: str
    node: int
    interface: Interface
    is_host_network: bool
    containers: Mapping[str, Container]
    manifest: Manifest


class Zygote:
    """The process that all processes of Pods are forked from (tests/cluster/zygote.py)."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._pids: list[int] = []

    def ask(self, **order: Any) -> dict[str, Any]:
        """One order, and its answer."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def run(
        self, program: str, *, cgroup: Path | None, netns: Path, is_waiting: bool = True, **arguments: Any
    ) -> tuple[int, Any]:
        """A process, and what it told once it was ready; without waiting, ask `wait` for it later."""
        answer = self.ask(
            program=program,
            cgroup=str(cgroup) if cgroup else "",
            netns=str(netns),
            is_waiting=is_waiting,
            arguments=arguments,
        )
        pid = int(answer["pid"])
        self._pids.append(pid)
        assert not is_waiting or answer["told"] is not None, f"{program} did not start: see {self._log.name}"
        return pid, answer["told"]

    def wait(self, pid: int) -> Any:
        """What a process told that was not waited for."""
        told = self.ask(wait=pid)["told"]
        assert told is not None, f"process {pid} failed: see {self._log.name}"
        return told

    def end(self, pid: int) -> None:
        """End a process and wait for it."""
        self._pids.remove(pid)
        self.ask(end=pid)

    def close(self) -> None:
        """End all of them."""
        for pid in list(self._pids):
            self.end(pid)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        self._log.close()


@dataclass(slots=True, kw_only=True)
class Cluster:
    """Everything that runs. `log` is what the clients counted: calls by `service template status`, by client."""

    directory: Path
    api: ApiServer
    network: Network
    cgroups: CgroupTree
    zygote: Zygote
    stack: ExitStack
    log: dict[str, Counter[str]] = field(default_factory=dict)
    sensors: list[Program] = field(default_factory=list)
    pods: dict[str, Pod] = field(default_factory=dict)
    _processes: dict[str, list[int]] = field(default_factory=dict)
    _hosts: Counter[int] = field(default_factory=Counter)

    def add_pod(
        self,
        name: str,
        *,
        node: int,
        owner: tuple[str, str] | None,
        workload: str,
        namespace: str = "shop",
        containers: Sequence[str] = ("app",),
        is_host_network: bool = False,
        labels: dict[str, str] | None = None,
        host: int = 0,
        **columns: Any,
    ) -> Pod:
        """A Pod with its address, its cgroups and its object, as they are once the kubelet has started it."""
        if not host:
            host = FIRST_HOST + self._hosts[node]
            self._hosts[node] += 1
        home = self.network.nodes[node - 1]
        interface = home if is_host_network else self.network.add_pod(node, host)
        uid = str(uuid.uuid4())
        made = {one: self.cgroups.add_container(node, NODES[node - 1], uid) for one in containers}
        manifest = make_pod(
            name,
            namespace=namespace,
            owner=owner,
            labels=labels or {},
            node=f"node-{node}",
            addresses=(interface.address_4, interface.address_6),
            node_addresses=(home.address_4, home.address_6),
            is_host_network=is_host_network,
            uid=uid,
            started=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            **columns,
        )
        manifest["spec"]["containers"] = [
            {**manifest["spec"]["containers"][0], "name": one, "image": f"example/{one}"} for one in containers
        ]
        manifest["status"]["qosClass"] = "Burstable"
        manifest["status"]["containerStatuses"] = [
            {
                "name": one,
                "containerID": container.status_id,
                "image": f"example/{one}",
                "imageID": "",
                "ready": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": manifest["status"]["startTime"]}},
            }
            for one, container in made.items()
        ]
        self.api.put(manifest)
        pod = Pod(
            name=name,
            namespace=namespace,
            workload=workload,
            node=node,
            interface=interface,
            is_host_network=is_host_network,
            containers=made,
            manifest=manifest,
        )
        self.pods[name] = pod
        self._processes[name] = []
        return pod

    def run(self, pod: Pod, program: str, container: str = "app", *, is_waiting: bool = True, **arguments: Any) -> Any:
        """A process in a container; without waiting its number, for `finish`."""
        pid, told = self.zygote.run(
            program,
            cgroup=pod.containers[container].path,
            netns=pod.interface.path,
            is_waiting=is_waiting,
            **arguments,
        )
        self._processes[pod.name].append(pid)
        return told if is_waiting else pid

    def call(self, pod: Pod, *targets: Mapping[str, Any], count: int, **arguments: Any) -> None:
        """Calls from a Pod, into the log."""
        told = self.run(pod, "call", targets=list(targets), count=count, **arguments)
        self.log.setdefault(pod.name, Counter()).update(told)

    def delete_pod(self, pod: Pod) -> None:
        """Its processes, its network, its cgroups, and last its object: as a kubelet does it."""
        for pid in self._processes.pop(pod.name):
            self.zygote.end(pid)
        if not pod.is_host_network:
            self.network.remove_pod(pod.interface)
        for container in pod.containers.values():
            self.cgroups.remove_container(container)
        self.api.delete(pod.manifest)
        del self.pods[pod.name]

    def add_service(self, name: str, pods: Sequence[Pod], *, address: str, port: int, **columns: Any) -> None:
        """A Service and its EndpointSlice."""
        namespace = pods[0].namespace
        self.api.put(make_service(name, namespace=namespace, address=address, **columns))
        addresses = {pod.name: pod.interface.address_4 for pod in pods}
        self.api.put(make_slice(name, addresses, namespace=namespace, port=port))

    def start_product(self, *sensor_flags: str) -> CollectorAddress:
        """The collector, and a sensor on each node; all are ready when it returns."""
        kubeconfig = self.api.write_kubeconfig(self.directory / "kubeconfig")
        command = [APIDAE, "collector", "--data-dir", str(self.directory / "data"), "--no-auth"]
        command += [
            "--other-clusters",
            f"{CLUSTER}={kubeconfig}",
            "--grpc-listen",
            "127.0.0.1:0",
            "--http-listen",
            "127.0.0.1:0",
        ]
        collector = Program("collector", command, self.directory / "collector.log")
        self.stack.callback(collector.stop)
        event = collector.wait_for("ready", COLLECTOR_READY_SECONDS)
        address = CollectorAddress(grpc=event["grpc"], http=event["http"])
        ports = [int(address.grpc.rpartition(":")[2]), self.api.port]
        for number in range(1, len(NODES) + 1):
            self.sensors.append(self._start_sensor(number, address, ports, kubeconfig, sensor_flags))
            if number == 1:  # The others take what the first one compiled.
                self.sensors[0].wait_for("capturing", SENSOR_READY_SECONDS)
                keep_images(self.directory / "sensor-1")
        for sensor in self.sensors[1:]:
            sensor.wait_for("capturing", SENSOR_READY_SECONDS)
        return address

    def _start_sensor(
        self, node: int, address: CollectorAddress, ports: list[int], kubeconfig: Path, flags: Sequence[str]
    ) -> Program:
        """In its node's network, with its node's cgroups as all there are."""
        home = self.network.nodes[node - 1]
        self.zygote.run("relay", cgroup=None, netns=home.path, ports=ports)
        mount = self.directory / f"cgroup-{node}"
        mount.mkdir()
        inside = f'mount --bind {self.cgroups.node_path(node)} {mount} && exec "$@"'
        command = ["nsenter", f"--net={home.path}", "unshare", "--mount", "sh", "-c", inside, "sh", APIDAE, "sensor"]
        command += ["--collector", address.grpc, "--cluster", CLUSTER, "--node", f"node-{node}"]
        command += ["--cgroup-path", str(mount)]
        command += [
            "--state-dir",
            str(self.directory / f"sensor-{node}"),
            "--run-dir",
            str(self.directory / f"r{node}"),
        ]
        lend_images(self.directory / f"sensor-{node}")
        environment = {"APIDAE_SENSOR_KUBERNETES": "on", "APIDAE_SENSOR_KUBECONFIG": str(kubeconfig)}
        program = Program(f"sensor-{node}", [*command, *flags], self.directory / f"sensor-{node}.log", environment)
        self.stack.callback(program.stop)
        return program

    def stop_sensors(self) -> None:
        """Each sends all that it holds."""
        for sensor in self.sensors:
            assert sensor.stop() == 0, sensor.log_tail()

    def total(self, service: str) -> Counter[tuple[str, int]]:
        """What all clients counted at a service, by template and status."""
        counted: Counter[tuple[str, int]] = Counter()
        for log in self.log.values():
            for text, calls in log.items():
                name, template, status = text.split(" ")
                if name == service:
                    counted[template, int(status)] += calls
        return counted


def open_cluster(directory: Path, stack: ExitStack) -> Cluster:
    """Nodes, network, cgroups and API server; no Pod and no sensor yet. All end with the stack."""
    name = f"apd{os.getpid() % 10_000}"
    api = stack.enter_context(ApiServer())
    cgroups = CgroupTree(name)
    stack.callback(cgroups.close)
    network = Network(name, len(NODES))
    stack.callback(network.close)
    zygote = Zygote(directory / "pods.log")
    stack.callback(zygote.close)
    return Cluster(directory=directory, api=api, network=network, cgroups=cgroups, zygote=zygote, stack=stack)


def why_no_cluster() -> str:
    """Why no miniature cluster can be made here; empty where it can."""
    for program in ("ip", "nft", "nsenter", "unshare", "haproxy"):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            return f"needs {program}"
    return ""
