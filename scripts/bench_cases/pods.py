"""What following the Pods of a node costs and how soon they are known, against a fake API server in another process.

    scripts/bench pods [--pods 110] [--seconds 60] [--starts 100]

`memory`: resident set of the sensor's own modules, and how much more with the watches and so many Pods of 9 KB each as
the API writes them. `rest`: requests in `--seconds` in which nothing happens but a bookmark every ten. `start`: from
the write of a Pod, before its containers run, until it has a name, of so many.
"""

import argparse
import gc
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sensor.agent.compose as compose  # noqa: F401  The sensor's modules are there before: only what Kubernetes adds counts.
from sensor.enrich.cgroup import CgroupOwner, OwnerKind
from tests.cluster.api_server import ApiServer
from tests.cluster.pods import make_deployment_pod, make_uid

if TYPE_CHECKING:
    from sensor.enrich.kubernetes.cluster import Cluster


def fatten(pod: dict[str, Any]) -> dict[str, Any]:
    """As large as Pods are: environment, volumes, managed fields."""
    container = pod["spec"]["containers"][0]
    container["env"] = [{"name": f"SETTING_{number}", "value": "x" * 40} for number in range(40)]
    container["volumeMounts"] = [{"name": f"v{number}", "mountPath": f"/etc/v{number}"} for number in range(10)]
    pod["metadata"]["managedFields"] = [{"manager": "kubelet", "fieldsV1": {f"f:k{n}": {} for n in range(200)}}]
    return pod


def serve(pipe: Connection, directory: str, pods: int) -> None:
    """The API server's process: does what the pipe says."""
    with ApiServer(bookmark_seconds=10.0) as api:
        api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
        for number in range(pods):
            api.put(fatten(make_deployment_pod("cart", number)))
        pipe.send(str(api.write_kubeconfig(Path(directory) / "kubeconfig")))
        while (command := pipe.recv()) is not None:
            if command == "requests":
                pipe.send(len(api.requests))
            else:
                api.put(make_deployment_pod("late", command, is_started=False))
                pipe.send(True)


def read_memory() -> int:
    """Resident set in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def tell(scenario: str, **figures: float) -> None:
    """One line of the output."""
    print(json.dumps({"scenario": scenario, **figures}), flush=True)


def start_pods(cluster: "Cluster", pipe: Connection, count: int) -> list[float]:
    """Seconds from the write of each Pod until it has a name."""
    delays = []
    for number in range(count):
        pod = make_deployment_pod("late", number)
        owner = CgroupOwner(kind=OwnerKind.POD, pod_uid=make_uid(f"shop/{pod['metadata']['name']}"))
        written = time.perf_counter()
        pipe.send(number)
        while cluster.name(owner) is None:
            time.sleep(0.0005)
        delays.append(time.perf_counter() - written)
        pipe.recv()
    return delays


def rest(pipe: Connection, seconds: float) -> tuple[int, float]:
    """Requests and processor time of so many quiet seconds."""

    def count() -> int:
        pipe.send("requests")
        return int(pipe.recv())

    before, cpu = count(), time.process_time()
    time.sleep(seconds)
    return count() - before, time.process_time() - cpu


def measure(pipe: Connection, kubeconfig: Path, *, starts: int, seconds: float) -> None:
    """All three scenarios."""
    before = read_memory()
    # As sensor.enrich.kubernetes.open does it.
    from common.kubernetes.reflector import open_client
    from sensor.enrich.kubernetes.cluster import Cluster, ClusterSettings

    started = time.perf_counter()
    cluster = Cluster(ClusterSettings(node="n1"), open_client=partial(open_client, kubeconfig))
    assert cluster.start(wait_seconds=30.0), cluster.degradation
    listed_seconds = time.perf_counter() - started
    time.sleep(1.0)
    tell(
        "memory",
        pods=len(cluster.pods),
        sensor_mb=round(before / 1e6, 1),
        watcher_mb=round((read_memory() - before) / 1e6, 1),
        listed_seconds=round(listed_seconds, 3),
    )
    delays = start_pods(cluster, pipe, starts)
    tell(
        "start",
        pods=len(delays),
        median_ms=round(1e3 * statistics.median(delays), 2),
        max_ms=round(1e3 * max(delays), 2),
    )
    requests, cpu_seconds = rest(pipe, seconds)
    tell(
        "rest",
        seconds=seconds,
        requests=requests,
        requests_per_minute=round(60 * requests / seconds, 2),
        cpu_ms=round(1e3 * cpu_seconds, 1),
        memory_mb=round((read_memory() - before) / 1e6, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pods", type=int, default=110)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--starts", type=int, default=100)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    with tempfile.TemporaryDirectory() as directory:
        context.Process(target=serve, args=(other, directory, arguments.pods), daemon=True).start()
        measure(pipe, Path(pipe.recv()), starts=arguments.starts, seconds=arguments.seconds)
        pipe.send(None)


if __name__ == "__main__":
    main()
