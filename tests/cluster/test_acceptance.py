"""`scripts/acceptance` on a real cluster of two nodes, which run the images by the chart: everything that it tries
holds.

Kubernetes own programs are in no distribution of CI, so this runs where `APIDAE_KUBERNETES_BIN` names a directory
with them, and the images as archives are in `APIDAE_IMAGES` (sensor.tar, collector.tar).
"""

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from scripts.accepting.helm import APPLYING, Release, find_program
from tests.cluster.dns import answer_query
from tests.cluster.real import RealCluster, open_real_cluster, why_no_real_cluster
from tests.e2e.conftest import why_no_capture

IMAGES: Final = Path(os.environ.get("APIDAE_IMAGES", Path(__file__).parents[2] / ".run" / "images" / "oci"))
ARCHIVES: Final = [IMAGES / f"{side}.tar" for side in ("sensor", "collector")]
VALUES: Final = Path(__file__).with_name("acceptance-values.yaml")
ACCEPTANCE_SECONDS: Final = 1_800


def why_no_acceptance() -> str:
    """Why it cannot run here; empty where it can."""
    if reason := why_no_capture() or why_no_real_cluster():
        return reason
    if missing := [str(path) for path in ARCHIVES if not path.exists()]:
        return f"needs {missing[0]}: scripts/images --oci makes it"
    return "" if find_program() else "needs Helm"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RealCluster]:
    if reason := why_no_acceptance():
        pytest.skip(reason)
    with ExitStack() as stack:
        yield open_real_cluster(tmp_path, ARCHIVES, stack)


def write_commands(cluster: RealCluster) -> Path:
    """What fails here: a program is killed, and its supervisor starts it again."""
    control = cluster.control
    ready = f"until kubectl --kubeconfig={control.kubeconfig} get --raw /readyz; do sleep 1; done"
    kubelet = cluster.nodes[0].kubelet.pid_path
    path = cluster.directory / "commands.toml"
    path.write_text(
        f"restart_api_server = 'kill -9 $(cat {control.api_server.pid_path}); sleep 11; {ready}'\n"
        f"restart_kubelet = 'kill -9 $(cat {kubelet}); sleep 8'\n"
    )
    return path


def install(cluster: RealCluster) -> Release:
    """The chart as its users install it, with the images of this checkout."""
    control = cluster.control
    control.kubectl("create", "namespace", "apidae")
    control.kubectl("label", "namespace", "apidae", "pod-security.kubernetes.io/enforce=privileged")
    release = Release(
        program=find_program(),
        name="apidae",
        namespace="apidae",
        kubeconfig=control.kubeconfig,
        enter=tuple(control.enter),
    )
    release.run("install", release.name, str(release.chart), "--values", str(VALUES), *APPLYING)
    return release


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.full("sensor.enrich", "collector.kubernetes")
def test_all_that_the_acceptance_tries_holds(cluster: RealCluster) -> None:
    install(cluster)
    command = [*cluster.control.enter, sys.executable, "-m", "scripts.accepting", "--uninstall", "--namespace=shop"]
    command += ["--endpoint-seconds", "60", "60"]  # Of a machine that others share, times say nothing.
    command += [f"--kubeconfig={cluster.control.kubeconfig}", f"--control-plane-commands={write_commands(cluster)}"]
    done = subprocess.run(command, check=False, timeout=ACCEPTANCE_SECONDS)
    assert done.returncode == 0


def test_the_dns_of_the_cluster_knows_services_and_nothing_else() -> None:
    names = {"orders.shop.svc.cluster.local": ["10.96.0.7"], "cart.shop.svc.cluster.local": ["10.1.1.2", "10.1.2.2"]}

    def ask(name: str, kind: int = 1) -> tuple[int, list[str]]:
        labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
        query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + labels + struct.pack("!BHH", 0, kind, 1)
        answer = answer_query(query, names)
        assert answer[:2] == query[:2] and answer[12:].startswith(query[12:])
        count = int.from_bytes(answer[6:8])
        records = answer[len(query) :]
        return answer[3] & 15, [socket.inet_ntoa(records[16 * one + 12 : 16 * one + 16]) for one in range(count)]

    assert ask("orders.shop.svc.cluster.local") == (0, ["10.96.0.7"])
    assert ask("Cart.shop.svc.cluster.local") == (0, ["10.1.1.2", "10.1.2.2"])
    assert ask("orders.shop.svc.cluster.local", kind=28) == (0, [])
    assert ask("orders.example") == (3, [])
