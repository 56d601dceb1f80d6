"""The acceptance: what its Pods count is what they called, and a row holds only if the collector has the same."""

import http.client
import json
import socketserver
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import kubernetes_validate
import pytest

from scripts.accepting import pod_program
from scripts.accepting.calls import check_calls, make_target
from scripts.accepting.kubernetes_client import AcceptanceError, Object
from scripts.accepting.removal import check_removal
from scripts.accepting.restarts import check_restarts
from scripts.accepting.run import Acceptance
from scripts.accepting.table import Row, Table, Verdict, count_differences, format_row
from scripts.accepting.workloads import ITEMS, ORDERS, PROGRAM, Workloads

KEY = "orders:8080 GET /api/v1/orders/{}"


@contextmanager
def run_server(server: socketserver.BaseServer) -> Iterator[str]:
    """Its address, while it serves."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        host, port = server.server_address[:2]
        yield f"{host!s}:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def shop() -> Iterator[str]:
    with run_server(pod_program._Server(("127.0.0.1", 0), pod_program._Handler)) as address:
        yield address


def test_a_client_counts_its_calls_by_workload_template_and_status(shop: str) -> None:
    targets = [
        {"address": shop, "workload": "orders:8080", "template": ORDERS, "count": 20},
        {"address": shop, "workload": "orders:8080", "template": "/api/v1/orders", "count": 3, "method": "POST"},
    ]
    assert pod_program.count_calls(targets) == {
        f"{KEY} 200": 16,
        f"{KEY} 404": 2,
        f"{KEY} 500": 2,
        "orders:8080 POST /api/v1/orders 201": 3,
    }


def test_a_call_without_a_response_is_a_reset_and_the_next_one_is_answered(shop: str) -> None:
    class Breaking(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)

    with run_server(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Breaking)) as address:
        connection = http.client.HTTPConnection(address, timeout=10)
        assert [pod_program.make_call(connection, "GET", "/x/1") for _ in range(2)] == [pod_program.RESET] * 2
    connection = http.client.HTTPConnection(shop, timeout=10)
    assert pod_program.make_call(connection, "GET", "/x/1") == "200"
    connection.close()


def test_a_proxy_passes_on_what_it_was_asked_and_by_whom(shop: str) -> None:
    seen: list[Any] = []

    class Behind(pod_program._Handler):
        def do_GET(self) -> None:  # noqa: N802 - the name is of http.server.
            seen.append((self.path, self.headers["Host"], self.headers["X-Forwarded-For"]))
            self.answer(404, b"{}")

    with ExitStack() as stack:
        behind = stack.enter_context(run_server(pod_program._Server(("127.0.0.1", 0), Behind)))
        hop = stack.enter_context(run_server(pod_program._Server(("127.0.0.1", 0), pod_program.make_hop(behind))))
        connection = http.client.HTTPConnection(hop, timeout=10)
        stack.callback(connection.close)
        assert pod_program.make_call(connection, "GET", "/api/v1/orders/7", "shop.example") == "404"
    assert seen == [("/api/v1/orders/7", "shop.example", "127.0.0.1")]


def test_a_visitor_calls_who_asks_for_it(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    target = {"address": shop, "workload": "orders:8080", "template": ORDERS}
    with run_server(pod_program._VisitorServer(("127.0.0.1", 0), pod_program.Visitor)) as visitor:
        host, _, port = visitor.rpartition(":")
        with pod_program.socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"{shop} churn-3 2\n".encode())
            assert connection.recv(16) == b"done\n"
    said = json.loads(capsys.readouterr().out)
    assert said.pop("called_at") > 0
    assert said == {"name": "churn-3", "counted": {"churn-3:8080 GET /api/v1/items/{} 200": 2}}
    assert pod_program.count_calls([{**target, "count": 1}]) == {f"{KEY} 200": 1}


def test_a_stream_says_each_second_how_many_calls_were_answered(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    pod_program.stream(shop, ORDERS, calls_per_second=50, seconds=1.2)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) >= 2 and sum(line.get("answered", 0) for line in lines) > 0
    assert not any(line.get("reset") for line in lines)


def test_the_program_runs_alone_and_reads_its_pods_address(shop: str) -> None:
    arguments = {"targets": [{"address": "$POD_ADDRESS", "workload": "orders:8080", "template": ORDERS, "count": 1}]}
    done = subprocess.run(
        [sys.executable, "-I", str(PROGRAM), "call", json.dumps(arguments)],
        env={"POD_ADDRESS": shop},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"counted": {f"{KEY} 200": 1}}


def test_rpcs_are_counted_by_their_own_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pod_program.socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, str(PROGRAM), "serve_rpc", json.dumps({"port": port})])
    try:
        pod_program.call_rpc(f"127.0.0.1:{port}", "rpc:50051", gets=20, watches=2)
    finally:
        server.kill()
        server.wait()
    assert json.loads(capsys.readouterr().out)["counted"] == {
        "rpc:50051 POST /shop.Orders/Get OK": 18,
        "rpc:50051 POST /shop.Orders/Get NOT_FOUND": 2,
        "rpc:50051 POST /shop.Orders/Watch OK": 2,
    }


def test_every_workload_is_an_object_that_kubernetes_takes() -> None:
    workloads = Workloads("shop", "localhost/apidae-collector:1", "/opt/apidae/bin/python")
    objects = [
        *workloads.make_base(),
        *workloads.make_servers(),
        workloads.make_report({}),
        workloads.make_job("client", "call", host_of="node-1", targets=[]),
        workloads.make_deployment("scraper", "stream", address="x:1"),
        workloads.make_bare_pod("churn-1", "churn", name="churn-1"),
        workloads.make_inspector("node-1", 0, "list_left", objects=[]),
    ]
    for made in objects:
        kubernetes_validate.validate(made, "1.31", strict=True)
    kinds = {made["kind"] for made in objects}
    assert {"Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job", "Pod", "Service", "Ingress"} <= kinds


class FakeCluster:
    """What an acceptance asks of kubectl, with answers of the test."""

    def __init__(self, items: dict[str, list[Object]], lines: list[Object]) -> None:
        self.namespace, self.items, self.lines = "shop", items, lines
        self.applied: list[Object] = []

    def list_items(self, kinds: str, *selectors: str, namespace: str = "") -> list[Object]:
        return self.items.get(kinds, [])

    def get(self, kind: str, name: str) -> Object:
        return self.items[kind][0]

    def apply(self, objects: list[Object]) -> None:
        self.applied += objects

    def read_lines(self, *what: str) -> list[Object]:
        return self.lines

    def run(self, *arguments: str, **_: Any) -> str:
        return ""

    def wait_for_job(self, name: str) -> None: ...

    def wait_for_rollout(self, *kinds: str, namespace: str = "") -> None: ...


class FakeCollector:
    """A collector with endpoints of the test, by `WORKLOAD:PORT METHOD TEMPLATE STATUS`."""

    namespace, release, image = "apidae", "apidae", ""

    def __init__(self, calls: dict[str, int], missed: tuple[Object, ...] = ()) -> None:
        self.calls, self.missed = calls, missed

    def list_items(self, path: str, **_: Any) -> list[Object]:
        if path != "/endpoints":
            return list(self.missed) if path == "/coverage/ports" else []
        return [
            {
                "id": key,
                "service": {"namespace": "shop", "workload": key.partition(":")[0], "port": 8080},
                "method": key.split(" ")[1],
                "template": key.split(" ")[2].replace("{}", "{order_id}"),
                "calls": calls,
                "host": "orders",
                "exposure": {"facts": []},
            }
            for key, calls in self.calls.items()
        ]

    def get(self, path: str, **_: Any) -> Any:
        key = path.removeprefix("/endpoints/")
        return {"status_codes": {key.split(" ")[3]: self.calls[key]}}


def make_run(monkeypatch: pytest.MonkeyPatch, collector: FakeCollector, cluster: FakeCluster | None = None) -> Any:
    monkeypatch.setattr("scripts.accepting.run.INVENTORY_SECONDS", 0.0)
    monkeypatch.setattr("scripts.accepting.restarts.BEFORE_SECONDS", 0.0)
    return Acceptance(
        kubernetes=cluster or FakeCluster({}, []),  # type: ignore[arg-type]
        collector=collector,  # type: ignore[arg-type]
        workloads=Workloads("shop", "image", "python"),
        table=Table(is_json=False),
    )


def test_a_call_that_the_collector_lacks_or_invents_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(monkeypatch, FakeCollector({f"{KEY} 200": 16, f"{KEY} 404": 1, f"{KEY} 502": 3}))
    counted = Counter({f"{KEY} 200": 16, f"{KEY} 404": 2})
    assert run.compare(counted) == {f"{KEY} 404": (2, 1), f"{KEY} 502": (0, 3)}


def test_equal_counts_are_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(monkeypatch, FakeCollector({f"{KEY} 200": 16}))
    assert run.compare(Counter({f"{KEY} 200": 16})) == {}
    assert count_differences({"a": 1}, {"a": 1}) == {}


def find_row(run: Acceptance, subject: str) -> Row:
    return next(row for row in run.table.rows if row.subject == subject)


@pytest.mark.parametrize(("found", "verdict"), [(499, Verdict.HOLDS), (498, Verdict.FAILS)])
def test_a_restart_holds_only_without_a_lost_call(
    monkeypatch: pytest.MonkeyPatch, found: int, verdict: Verdict
) -> None:
    key = f"steady:8080 GET {ITEMS} 200"
    pod = {"spec": {"nodeName": "node-1"}}
    cluster = FakeCluster({"pods": [pod]}, [{"counted": {key: 499}}])
    run = make_run(monkeypatch, FakeCollector({key: found}), cluster)
    check_restarts(run, {}, None)
    row = find_row(run, "collector Pod deleted")
    assert (row.verdict, f"{499 - found} of 499" in row.observed) == (verdict, True)
    assert find_row(run, "kubelet restarted").verdict is Verdict.NOT_TRIED
    assert find_row(run, "helm upgrade").verdict is Verdict.NOT_TRIED


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [((), Verdict.FAILS), (("connections without memory",), Verdict.FAILS), (("time without capture",), Verdict.HOLDS)],
)
def test_what_a_deleted_sensor_loses_must_be_in_the_coverage(
    monkeypatch: pytest.MonkeyPatch, losses: tuple[str, ...], verdict: Verdict
) -> None:
    key = f"steady:8080 GET {ITEMS} 200"
    cluster = FakeCluster({"pods": [{"spec": {"nodeName": "node-1"}}]}, [{"counted": {key: 499}}])
    said = tuple({"address": one, "reason": "16.9 s"} for one in losses)
    run = make_run(monkeypatch, FakeCollector({key: 600}, said), cluster)
    check_restarts(run, {}, None)
    assert find_row(run, "sensor Pod deleted").verdict is verdict


def test_a_command_that_fails_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    key = f"steady:8080 GET {ITEMS} 200"
    cluster = FakeCluster({"pods": [{"spec": {"nodeName": "node-1"}}]}, [{"counted": {key: 499}}])
    run = make_run(monkeypatch, FakeCollector({key: 1_497}), cluster)
    with pytest.raises(AcceptanceError, match="ended with 3"):
        check_restarts(run, {"restart_api_server": "exit 3"}, None)


def test_what_was_not_tried_is_printed_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(monkeypatch, FakeCollector({}))
    check_removal(run, None)
    assert run.table.has_held and run.table.summarise() == "0 holds, 0 FAILS, 2 not tried"
    assert "not tried  uninstall: objects" in capsys.readouterr().out
    run.table.add("x", "1", 2, holds=False)
    assert not run.table.has_held
    assert format_row(run.table.rows[-1]).split() == ["FAILS", "x", "1", "2"]


def test_missing_calls_of_any_workload_fail_the_first_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.accepting.calls.REPORT_SECONDS", 0.0)
    monkeypatch.setattr("scripts.accepting.calls.PROBE_SECONDS", 0.0)
    node = {"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}
    items = {"pods": [{"spec": {"nodeName": "n"}, "status": {"podIP": "192.0.2.9"}}], "node": [node]}
    items["service"] = [{"spec": {"ports": [{"nodePort": 30_000}]}}]
    cluster = FakeCluster(items, [{"counted": {f"{KEY} 200": 101}}])
    run = make_run(monkeypatch, FakeCollector({f"{KEY} 200": 1}), cluster)
    check_calls(run)
    verdicts = {row.subject: row.verdict for row in run.table.rows}
    assert verdicts["calls against clients' logs"] is Verdict.FAILS
    assert verdicts["names of clients"] is Verdict.FAILS and verdicts["probes of the kubelet"] is Verdict.FAILS
    assert verdicts["exposure"] is Verdict.FAILS and verdicts["CronJob"] is Verdict.FAILS
    assert make_target(run, "orders", 1)["address"] == "orders.shop:8080"
