"""What fails and comes back while a client calls: Pods of the product, the API server, a kubelet, an upgrade."""

import functools
import subprocess
import time
from collections.abc import Callable
from typing import Final

from scripts.accepting.calls import make_target
from scripts.accepting.kubernetes_client import AcceptanceError
from scripts.accepting.run import Acceptance
from scripts.accepting.workloads import ITEMS

CALLS: Final = 499
PAUSE_SECONDS: Final = 0.05
BEFORE_SECONDS: Final = 4.0  # The client has begun when something is taken away.
COMMAND_SECONDS: Final = 600.0
GAP: Final = "time without capture"  # Address of its row in the coverage.


def check_restarts(run: Acceptance, commands: dict[str, str], upgrade: Callable[[], None] | None) -> None:
    """`commands`: shell commands by name (restart_api_server, restart_kubelet), each of which returns when what it
    restarts is back."""
    product = run.collector.namespace
    _check_without_loss(run, "collector", "collector Pod deleted", lambda: _delete_pods(run, "collector"))
    _check_sensor(run)
    for name in ("restart_api_server", "restart_kubelet"):
        subject = f"{name.replace('restart_', '').replace('_', ' ')} restarted"
        if name not in commands:
            run.table.skip(subject, "0 calls lost", f"--control-plane-commands has no {name}")
            continue
        _check_without_loss(run, name.replace("_", "-"), subject, functools.partial(_run_command, commands[name]))
    if upgrade is None:
        run.table.skip("helm upgrade", "0 calls lost", "no helm here, or the release was not made by Helm")
        return
    _check_without_loss(run, "upgrade", "helm upgrade", upgrade)
    run.kubernetes.wait_for_rollout(*_list_rollouts(run), namespace=product)


def _run_command(command: str) -> None:
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS)
    if done.returncode:
        raise AcceptanceError(f"`{command}` ended with {done.returncode}: {done.stderr.strip()[-300:]}")


def _list_rollouts(run: Acceptance) -> list[str]:
    """The release's workloads, as `kind/name`."""
    items = run.kubernetes.list_items(
        "daemonsets,statefulsets",
        "-l",
        f"app.kubernetes.io/instance={run.collector.release}",
        namespace=run.collector.namespace,
    )
    return [f"{item['kind'].lower()}/{item['metadata']['name']}" for item in items]


def _delete_pods(run: Acceptance, component: str, *more: str) -> None:
    """Those of one side, and until the next ones are ready."""
    selector = f"app.kubernetes.io/component={component}"
    run.kubernetes.run("delete", "pods", "-l", selector, *more, namespace=run.collector.namespace)
    run.kubernetes.wait_for_rollout(*_list_rollouts(run), namespace=run.collector.namespace)


def _call_meanwhile(run: Acceptance, name: str, action: Callable[[], None]) -> tuple[int, int, float]:
    """(calls that the client counted, calls that are in the inventory, seconds of the action) of a Job that calls
    `steady` while something happens."""
    job = f"during-{name}"
    target = make_target(run, "steady", CALLS, ITEMS)
    before = run.select("steady")
    run.kubernetes.apply([run.workloads.make_job(job, "call", targets=[target], pause_seconds=PAUSE_SECONDS)])
    run.kubernetes.run("wait", "--for=jsonpath={.status.ready}=1", f"job/{job}", "--timeout=120s")
    time.sleep(BEFORE_SECONDS)
    began = time.monotonic()
    action()
    seconds = time.monotonic() - began
    run.kubernetes.wait_for_job(job)
    run.read_job(job)
    expected = run.select("steady")
    differences = run.compare(expected, ["steady"])
    lost = sum(wanted - found for wanted, found in differences.values())
    for key, (wanted, found) in differences.items():  # What is lost once is not missed again.
        run.counted[key] -= wanted - found
    return (expected - before).total(), lost, seconds


def _check_without_loss(run: Acceptance, name: str, subject: str, action: Callable[[], None]) -> None:
    calls, lost, seconds = _call_meanwhile(run, name, action)
    run.table.add(subject, "0 calls lost", f"{lost} of {calls} lost, back after {seconds:.0f} s", holds=lost == 0)


def _check_sensor(run: Acceptance) -> None:
    """Deleted by hand there is a gap, and the coverage has it."""
    pods = run.kubernetes.list_items("pods", "-l", "app=steady")
    node = pods[0]["spec"]["nodeName"]
    calls, lost, seconds = _call_meanwhile(
        run, "sensor", lambda: _delete_pods(run, "sensor", f"--field-selector=spec.nodeName={node}")
    )
    rows = run.collector.list_items("/coverage/ports", node=node, protocol="missed")
    gaps = [row["reason"] for row in rows if row["address"] == GAP]
    run.table.add(
        "sensor Pod deleted",
        "what is lost is in the coverage as a gap",
        f"{lost} of {calls} lost, ready after {seconds:.0f} s; coverage: {', '.join(gaps) or 'no gap'}",
        holds=lost == 0 or bool(gaps),
        details=rows,
    )
