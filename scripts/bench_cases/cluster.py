"""What the collector's watch of a Kubernetes cluster costs, against a fake API server in another process.

    scripts/bench cluster [--pods 5000] [--seconds 30]

Pods of some 9 KB each as the API writes them, on nodes of 50, in Deployments of ten, each with a Service, its
EndpointSlice and an Ingress. `memory`: how much more resident set the watch takes, its packages included, at its peak
and once all is listed and judged; the store is a list that is thrown away. `look`: process time of one look at
everything, which follows changes at most each second. `rest`: requests and process time of so many quiet seconds.
"""

import argparse
import gc
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import collector.storage.base  # noqa: F401  What the collector has anyhow does not count.
from tests.cluster.api_server import ApiServer
from tests.collector.kubernetes.manifests import make_ingress, make_path, make_pod, make_service, make_slice

PODS_OF_A_WORKLOAD = 10
PODS_OF_A_NODE = 50


def fatten(pod: dict[str, Any]) -> dict[str, Any]:
    """As large as Pods are: environment, volumes, managed fields."""
    container = pod["spec"]["containers"][0]
    container["env"] = [{"name": f"SETTING_{number}", "value": "x" * 40} for number in range(40)]
    container["volumeMounts"] = [{"name": f"v{number}", "mountPath": f"/etc/v{number}"} for number in range(10)]
    pod["metadata"]["managedFields"] = [{"manager": "kubelet", "fieldsV1": {f"f:k{n}": {} for n in range(200)}}]
    return pod


def serve(pipe: Connection, directory: str, pods: int) -> None:
    """The API server's process: tells its kubeconfig, then how many requests it had, until it is told to end."""
    with ApiServer(bookmark_seconds=10.0) as api:
        for first in range(0, pods, PODS_OF_A_WORKLOAD):
            name = f"app-{first // PODS_OF_A_WORKLOAD}"
            labels = {"app": name, "pod-template-hash": "5d4f8b9c7d"}
            members: dict[str, str] = {}
            for number in range(first, min(first + PODS_OF_A_WORKLOAD, pods)):
                pod, address = (
                    f"{name}-5d4f8b9c7d-{number:05d}",
                    f"10.{1 + number // 62_500}.{number // 250 % 250}.{number % 250}",
                )
                node = number // PODS_OF_A_NODE
                members[pod] = address
                made = make_pod(
                    pod,
                    owner=("ReplicaSet", f"{name}-5d4f8b9c7d"),
                    labels=labels,
                    addresses=(address,),
                    node=f"node-{node}",
                    node_addresses=(f"10.200.{node // 250}.{node % 250}",),
                )
                api.put(fatten(made))
            index = first // PODS_OF_A_WORKLOAD
            api.put(make_service(name, address=f"10.96.{index // 250}.{index % 250}"))
            api.put(make_slice(name, members))
            api.put(make_ingress(name, make_path("/", service=name), host=f"{name}.example"))
        pipe.send(str(api.write_kubeconfig(Path(directory) / "kubeconfig")))
        while pipe.recv():
            pipe.send(len(api.requests))


class NoStore:
    """Counts rows."""

    def __init__(self) -> None:
        self.rows = 0

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Nothing is known."""
        return []

    def insert_records(self, table: str, records: Sequence[Any]) -> None:
        """Thrown away."""
        self.rows += len(records)


def read_memory() -> int:
    """Resident set in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def tell(scenario: str, **figures: float) -> None:
    """One line of the output."""
    print(json.dumps({"scenario": scenario, **figures}), flush=True)


def measure(pipe: Connection, kubeconfig: Path, *, pods: int, seconds: float) -> None:
    """All scenarios."""
    before = read_memory()
    from collector.kubernetes.watcher import ClusterWatcher

    store, started = NoStore(), time.perf_counter()
    watcher = ClusterWatcher(cluster="", kubeconfig=kubeconfig, store=store)  # type: ignore[arg-type]
    watcher.start()
    while not (watcher.status.is_current and store.rows >= pods):
        time.sleep(0.1)
    listed_seconds = time.perf_counter() - started
    time.sleep(2.0)
    tell(
        "memory",
        pods=watcher.status.pods,
        before_mb=round(before / 1e6, 1),
        watch_mb=round((read_memory() - before) / 1e6, 1),
        peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6 - before / 1e6, 1),
        listed_seconds=round(listed_seconds, 1),
    )
    cpu = time.process_time()
    watcher._look()
    tell("look", cpu_ms=round(1e3 * (time.process_time() - cpu), 1))
    pipe.send(True)
    requests, cpu = int(pipe.recv()), time.process_time()
    time.sleep(seconds)
    pipe.send(True)
    tell(
        "rest",
        seconds=seconds,
        requests=int(pipe.recv()) - requests,
        cpu_ms=round(1e3 * (time.process_time() - cpu), 1),
    )
    watcher.stop()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as directory:
        server = multiprocessing.get_context("spawn").Process(
            target=serve, args=(theirs, directory, arguments.pods), daemon=True
        )
        server.start()
        try:
            measure(ours, Path(ours.recv()), pods=arguments.pods, seconds=arguments.seconds)
            ours.send(False)
        finally:
            server.terminate()
            server.join(10)


if __name__ == "__main__":
    main()
