"""An uninstall leaves no object of the release in the cluster, and no map, program or link of its sensors in a kernel.
The volume and the Secrets with authority and tokens stay, as documented."""

from typing import Any, Final

from scripts.accepting.helm import Release
from scripts.accepting.kubernetes_client import Object, wait_for
from scripts.accepting.run import Acceptance

KINDS: Final = (
    "pods,services,configmaps,serviceaccounts,daemonsets,statefulsets,jobs,networkpolicies,"
    "poddisruptionbudgets,roles,rolebindings,clusterroles,clusterrolebindings"
)
GONE_SECONDS: Final = 120.0


def check_removal(run: Acceptance, release: Release | None) -> None:
    """What sensors hold now, and what of it is left after the uninstall."""
    subjects = ("uninstall: objects", "uninstall: kernel")
    if release is None:
        for subject in subjects:
            run.table.skip(subject, "nothing is left", "--uninstall was not given, or there is no helm here")
        return
    product = run.collector.namespace
    uids: dict[str, list[str]] = {}
    for pod in run.kubernetes.list_items("pods", "-l", "app.kubernetes.io/component=sensor", namespace=product):
        uids.setdefault(pod["spec"]["nodeName"], []).append(pod["metadata"]["uid"])
    held = {
        node: _inspect(run, node, number, "list_objects", pod_uids=uids[node])["objects"]
        for number, node in enumerate(sorted(uids))
    }
    selector = f"app.kubernetes.io/instance={release.name}"

    def list_objects() -> list[str]:
        items: list[Object] = run.kubernetes.list_items(KINDS, "-l", selector, namespace=product)
        return [f"{item['kind']} {item['metadata']['name']}" for item in items]

    count = len(list_objects())
    run.collector.close()
    release.uninstall()
    wait_for(lambda: not list_objects(), GONE_SECONDS)
    objects = list_objects()
    run.table.add(
        subjects[0],
        "nothing but volume and Secrets is left",
        f"{len(objects)} of {count}: {objects}",
        holds=not objects,
    )
    left = {
        node: _inspect(run, node, number, "list_left", objects=held[node])["left"]
        for number, node in enumerate(sorted(uids))
    }
    total, remaining = sum(map(len, held.values())), sum(map(len, left.values()))
    run.table.add(
        subjects[1],
        "no map, program or link is left",
        f"{remaining} of {total} on {len(uids)} nodes",
        holds=total > 0 and not remaining,
        details=left,
    )


def _inspect(run: Acceptance, node: str, number: int, program: str, **arguments: Any) -> Object:
    """What a Pod on the node says of its kernel."""
    pod = run.workloads.make_inspector(node, number, program, **arguments)
    name = pod["metadata"]["name"]
    run.kubernetes.apply([pod])
    run.kubernetes.run("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", "--timeout=120s")
    lines = run.kubernetes.read_lines(name)
    run.kubernetes.run("delete", "pod", name, "--wait=false")
    return lines[-1]
