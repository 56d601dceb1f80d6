"""`scripts/acceptance`: shows on any cluster that an installed release counts, names and stops what it should; see
there."""

import argparse
import shutil
import sys
import time
import tomllib
from pathlib import Path
from typing import Final

from scripts.accepting.blocking import check_block
from scripts.accepting.calls import check_calls
from scripts.accepting.churning import GOAL_SECONDS, check_churn
from scripts.accepting.helm import Release, find_program
from scripts.accepting.kubernetes_client import AcceptanceError, Collector, Kubernetes
from scripts.accepting.removal import check_removal
from scripts.accepting.restarts import check_restarts
from scripts.accepting.run import Acceptance
from scripts.accepting.table import Table
from scripts.accepting.workloads import LABEL, Workloads

PARTS: Final = ("sensors", "calls", "churn", "block", "restarts", "helm-test", "uninstall")
PYTHON: Final = "/opt/apidae/bin/python"  # Of both images.
SERVERS: Final = ("deployment", "statefulset", "daemonset")


def main(arguments: list[str]) -> int:
    """0: all that was tried holds; 1: something does not; 2: the run could not go on."""
    options = _parse(arguments)
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        print("acceptance: kubectl is missing: apt-get install kubernetes-client", file=sys.stderr)
        return 2
    table = Table(is_json=options.json)
    kubernetes = Kubernetes(kubectl, options.kubeconfig, options.namespace)
    try:
        collector = Collector(kubernetes, options.product_namespace)
    except AcceptanceError as error:
        print(f"acceptance: {error}", file=sys.stderr)
        return 2
    workloads = Workloads(options.namespace, options.image or collector.image, PYTHON)
    run = Acceptance(kubernetes=kubernetes, collector=collector, workloads=workloads, table=table)
    began = time.monotonic()
    try:
        _prepare(run)
        _carry_out(run, options)
    except AcceptanceError as error:
        print(f"acceptance: {error}", file=sys.stderr)
        return 2
    finally:
        collector.close()
        if not options.keep:
            kubernetes.run("delete", "namespace", options.namespace, "--ignore-not-found", "--wait=true")
    print(f"acceptance: {table.summarise()}, in {time.monotonic() - began:.0f} s", flush=True)
    return 0 if table.has_held else 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/acceptance", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True, help="of a user who may do all in both namespaces")
    parser.add_argument("--namespace", required=True, help="for the workloads; made by the run, and deleted at its end")
    parser.add_argument("--product-namespace", default="apidae", help="where the chart is installed")
    parser.add_argument("--image", default="", help="that the workloads run; the collector's if not given")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to try; all if not given")
    parser.add_argument(
        "--control-plane-commands",
        type=Path,
        metavar="FILE",
        help="TOML with the shell commands restart_api_server and restart_kubelet, which return when it is back",
    )
    parser.add_argument(
        "--endpoint-seconds",
        nargs=2,
        type=float,
        default=GOAL_SECONDS,
        metavar=("MEDIAN", "LONGEST"),
        help="goals from a Pod's start to its endpoint; 2 and 4 if not given",
    )
    parser.add_argument(
        "--uninstall", action="store_true", help="at the end uninstall the release, and look what is left"
    )
    parser.add_argument("--keep", action="store_true", help="leave the workloads")
    parser.add_argument("--json", action="store_true", help="a JSON line a row, with details")
    return parser.parse_args(arguments)


def _prepare(run: Acceptance) -> None:
    """The namespace, which is the run's own, and the servers in it."""
    found = run.kubernetes.list_items("namespaces", f"--field-selector=metadata.name={run.namespace}")
    if found and LABEL not in found[0]["metadata"].get("labels", {}):
        raise AcceptanceError(f"the namespace {run.namespace} exists and is not of an acceptance: name another one")
    if found:
        run.kubernetes.run("delete", "namespace", run.namespace, "--wait=true")
    if run.list_endpoints():
        raise AcceptanceError(f"the inventory has calls of the namespace {run.namespace} already: name another one")
    run.kubernetes.apply(run.workloads.make_base())
    servers = run.workloads.make_servers()
    run.kubernetes.apply(servers)
    kinds = [
        f"{item['kind'].lower()}/{item['metadata']['name']}" for item in servers if item["kind"].lower() in SERVERS
    ]
    run.kubernetes.wait_for_rollout(*kinds)


def _carry_out(run: Acceptance, options: argparse.Namespace) -> None:
    program = find_program()
    release = None
    if program:
        release = Release(
            program=program,
            name=run.collector.release,
            namespace=run.collector.namespace,
            kubeconfig=options.kubeconfig,
        )
    commands = tomllib.loads(options.control_plane_commands.read_text()) if options.control_plane_commands else {}
    if "sensors" in options.only:
        _check_sensors(run)
    if "calls" in options.only:
        check_calls(run)
    if "churn" in options.only:
        check_churn(run, options.endpoint_seconds)
    if "block" in options.only:
        check_block(run)
    if "restarts" in options.only:
        check_restarts(run, commands, release.upgrade if release else None)
    if "helm-test" in options.only:
        _check_helm_test(run, release)
    if "uninstall" in options.only:
        check_removal(run, release if options.uninstall else None)


def _check_sensors(run: Acceptance) -> None:
    """One on each node where the chart puts it, and each captures by packets."""
    pods = run.kubernetes.list_items(
        "pods", "-l", "app.kubernetes.io/component=sensor", namespace=run.collector.namespace
    )
    nodes = {pod["spec"]["nodeName"] for pod in pods}
    sensors = {sensor["node"]: sensor for sensor in run.collector.get("/sensors")["items"] if sensor["node"] in nodes}
    others = [
        f"{node}: {sensor['state']}, {sensor['capture']} {sensor['fallback_reason']}"
        for node, sensor in sensors.items()
        if sensor["capture"] != "cgroup_skb" or sensor["state"] != "capturing"
    ]
    run.table.add(
        "sensors",
        f"by packets on {len(nodes)} nodes",
        "; ".join(others) or f"by packets on {len(sensors)} nodes",
        holds=nodes == sensors.keys() and not others,
    )


def _check_helm_test(run: Acceptance, release: Release | None) -> None:
    if release is None:
        run.table.skip("helm test", "succeeds", "there is no helm here")
        return
    try:
        said = release.test()
    except AcceptanceError as error:
        run.table.add("helm test", "succeeds", error, holds=False)
        return
    has_succeeded = "Succeeded" in said
    run.table.add("helm test", "succeeds", "Succeeded" if has_succeeded else said.strip(), holds=has_succeeded)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
