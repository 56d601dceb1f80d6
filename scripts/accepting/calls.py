"""Calls of every kind of workload, against the clients' own logs: counts, names of both ends, exposure, probes."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from scripts.accepting.kubernetes_client import Object, wait_for
from scripts.accepting.run import Acceptance
from scripts.accepting.workloads import (
    HOST,
    HOST_NETWORK_PORT,
    HOST_PORT,
    ITEMS,
    ORDERS,
    PORT,
    RPC_PORT,
    USERS,
)

KINDS: Final = {
    "orders": "Deployment",
    "cart": "StatefulSet",
    "agent": "DaemonSet",
    "web": "Deployment",
    "rpc": "Deployment",
    "edge": "Deployment",
    "steady": "Deployment",
}
# Of what leads to a workload; `any` of one kind is enough to be reached.
EXPOSURE: Final = {
    "orders": {"cluster_ip", "node_port", "ingress"},
    "agent": {"host_port"},
    "web": {"host_network"},
    "rpc": {"cluster_ip"},
}
REPORT_CALLS: Final = 13
REPORT_SECONDS: Final = 150.0
PROBE_SECONDS: Final = 20.0


def check_calls(run: Acceptance) -> None:
    """The clients, and what the inventory has of their calls."""
    run.kubernetes.apply([run.workloads.make_report(make_target(run, "orders", REPORT_CALLS, first=90_000))])
    run.run_jobs(_make_clients(run))
    _finish_report(run)
    total = sum(run.counted.values())
    differences = run.compare(run.counted)
    observed = f"{total} calls of {len(run.counted)} (endpoint, status)" if not differences else f"{differences}"
    run.table.add(
        "calls against clients' logs", "each counted once", observed, holds=not differences, details=differences
    )
    endpoints = run.list_endpoints()
    _check_servers(run, endpoints)
    _check_clients(run)
    _check_proxy(run, endpoints)
    _check_exposure(run, endpoints)
    _check_probes(run)


def make_target(run: Acceptance, service: str, count: int, template: str = ORDERS, **columns: Any) -> Object:
    """Where a client calls: a Service by its name."""
    address = f"{service}.{run.namespace}:{PORT}"
    return {"address": address, "workload": f"{service}:{PORT}", "template": template, "count": count, **columns}


def _make_clients(run: Acceptance) -> Iterator[Object]:
    """Prime numbers of calls, by every way that there is."""
    make, namespace = run.workloads.make_job, run.namespace
    cart = [
        {**make_target(run, "cart", 31, ITEMS), "address": f"cart-{number}.cart.{namespace}:{PORT}"}
        for number in (0, 1)
    ]
    made = {**make_target(run, "orders", 11, "/api/v1/orders"), "method": "POST"}
    yield make("shopper", "call", targets=[make_target(run, "orders", 101), made, *cart])
    agents = [
        {**make_target(run, "agent", 17, USERS), "address": f"{pod['status']['podIP']}:{PORT}"}
        for pod in run.kubernetes.list_items("pods", "-l", "app=agent")
    ]
    yield make("auditor", "call", targets=[*agents, make_target(run, "orders", 53, first=1_000)])
    buyer = {**make_target(run, "edge", 23), "host": HOST}
    yield make("buyer", "call", targets=[buyer])
    yield make(
        "rpc-client", "call_rpc", address=f"rpc.{namespace}:{RPC_PORT}", workload=f"rpc:{RPC_PORT}", gets=61, watches=5
    )
    # What a node itself calls: its own host port, a node port, a server on a node's network.
    node = run.kubernetes.list_items("pods", "-l", "app=agent")[0]["spec"]["nodeName"]
    address = _find_address(run.kubernetes.get("node", node))
    port = run.kubernetes.get("service", "orders")["spec"]["ports"][0]["nodePort"]
    web = run.kubernetes.list_items("pods", "-l", "app=web")[0]["status"]["podIP"]
    yield make(
        "host-client",
        "call",
        host_of=node,
        targets=[
            {**make_target(run, "orders", 19, first=2_000), "address": f"{address}:{port}"},
            {**make_target(run, "agent", 7, USERS), "address": f"{address}:{HOST_PORT}"},
            {
                **make_target(run, "web", 29, ITEMS),
                "address": f"{web}:{HOST_NETWORK_PORT}",
                "workload": f"web:{HOST_NETWORK_PORT}",
            },
        ],
    )


def _find_address(node: Object) -> str:
    addresses = node["status"]["addresses"]
    return str(next(one["address"] for one in addresses if one["type"] == "InternalIP"))


def _finish_report(run: Acceptance) -> None:
    """One run of the CronJob; no second one begins."""

    def find_ended() -> list[str]:
        return [
            job["metadata"]["name"]
            for job in run.kubernetes.list_items("jobs")
            if job["metadata"]["name"].startswith("report-") and job["status"].get("succeeded")
        ]

    ended = wait_for(find_ended, REPORT_SECONDS)
    run.kubernetes.run("patch", "cronjob", "report", "-p", '{"spec": {"suspend": true}}')
    for name in ended or ():
        run.add_counted("report", run.kubernetes.read_lines(f"job/{name}"))
    if not ended:
        run.table.add("CronJob", f"{REPORT_CALLS} calls", f"no run within {REPORT_SECONDS:.0f} s", holds=False)
    # The proxy passes each of its calls on.
    passed = {key.replace("edge:", "orders:"): calls for key, calls in run.select("edge").items()}
    run.counted.update(Counter(passed))


def _check_servers(run: Acceptance, endpoints: list[Object]) -> None:
    wrong = []
    for item in endpoints:
        service = item["service"]
        if service["workload"] not in KINDS or service["namespace"] != run.namespace:
            wrong.append(service)
    found = {item["service"]["workload"] for item in endpoints}
    missing = sorted({key.partition(":")[0] for key in run.counted} - found)
    run.table.add(
        "names of servers",
        "namespace and workload of each",
        f"{len(endpoints)} endpoints of {len(found)} workloads"
        if not (wrong or missing)
        else f"wrong {wrong}, missing {missing}",
        holds=not (wrong or missing),
    )


def _check_clients(run: Acceptance) -> None:
    """Each client by its address, and how many of its calls are under its name. Who calls from a node's network has any
    of the node's addresses, and other programs of the node have them too."""
    wrong, named = [], 0
    for client, calls in run.clients.items():
        selector = f"job-name={client}" if client != "report" else "app=report"
        pods = run.kubernetes.list_items("pods", "-l", selector)
        host = next((pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("hostNetwork")), "")
        wanted = f"node {host}" if host else f"{run.namespace}/{client}"
        addresses = list_node_addresses(run, host) if host else [pod["status"]["podIP"] for pod in pods]
        found = sum((find_callers(run, address) for address in addresses), Counter[str]())
        named += min(found[wanted], calls)
        if found[wanted] < calls or (not host and set(found) != {wanted}):
            wrong.append(f"{client}: {dict(found)} of {calls}")
    run.table.add(
        "names of clients",
        "workload of each; the node's for its network",
        f"{named} calls of {len(run.clients)} clients" if not wrong else "; ".join(wrong),
        holds=not wrong,
    )


def list_node_addresses(run: Acceptance, node: str) -> list[str]:
    """Addresses of consumers that the collector takes for a node's."""
    return [
        item["value"]
        for item in run.collector.list_items("/consumers", kind="address")
        if any(holder["kind"] == "node" and holder["label"] == node for holder in item["holders"])
    ]


def find_callers(run: Acceptance, address: str) -> Counter[str]:
    """Calls from an address by who made them: `NAMESPACE/WORKLOAD`, `node NAME`, or `?`."""
    found: Counter[str] = Counter()
    known = [one["id"] for one in run.collector.list_items("/consumers", q=address)]
    if f"address:{address}" not in known:
        return found
    for caller in run.collector.get(f"/consumers/address:{address}")["callers"]:
        holder = caller["holder"]
        label = (
            "?" if not holder else holder["label"] if holder["kind"] == "pod" else f"{holder['kind']} {holder['label']}"
        )
        found[label] += caller["calls"]
    return found


def _check_proxy(run: Acceptance, endpoints: list[Object]) -> None:
    """Its own calls and those that it passed on: two endpoints, of which neither has the other's calls."""
    expected = sum(run.select("edge").values())
    found = {
        name: sum(item["calls"] for item in endpoints if item["service"]["workload"] == name and item["host"] == HOST)
        for name in ("edge", "orders")
    }
    observed = f"{found['edge']} at the proxy, {found['orders']} behind it"
    run.table.add("proxy in front", f"{expected} calls at each end", observed, holds=set(found.values()) == {expected})


def _check_exposure(run: Acceptance, endpoints: list[Object]) -> None:
    wrong = []
    for workload, expected in EXPOSURE.items():
        facts = {
            fact["kind"]
            for item in endpoints
            if item["service"]["workload"] == workload
            for fact in item["exposure"]["facts"]
        }
        if not expected <= facts:
            wrong.append(f"{workload}: {sorted(facts)} lacks {sorted(expected - facts)}")
    kinds = sorted(set().union(*EXPOSURE.values()))
    run.table.add("exposure", ", ".join(kinds), "; ".join(wrong) or "as expected", holds=not wrong)


def _check_probes(run: Acceptance) -> None:
    """Those of the kubelet for `orders`."""
    paths = {"/ready", "/healthz"}

    def count_excluded() -> int:
        rows = run.collector.list_items("/coverage/ports", reading="left_out")
        return sum(row["calls"] for row in rows if row["service"]["workload"] == "orders")

    excluded = wait_for(count_excluded, PROBE_SECONDS)
    listed = [item["template"] for item in run.list_endpoints() if item["template"] in paths]
    run.table.add(
        "probes of the kubelet",
        "excluded and counted",
        f"{excluded} excluded, in the inventory: {listed or 'none'}",
        holds=bool(excluded) and not listed,
    )
