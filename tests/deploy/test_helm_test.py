"""`helm test`: the program of the chart's test Pod, run against an API of the test."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import certifi
import pytest

from tests.deploy.chart import documents, find, need_helm

CALLS = 23


@contextmanager
def run_api(calls: int, workload: str, capture: str) -> Iterator[str]:
    """A collector's API that has so many calls of a workload, whose sensor captures so."""

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            split = urlsplit(self.path)
            is_known = self.headers["Authorization"] == "Bearer the-token"
            endpoint = {"service": {"namespace": "apidae", "workload": workload}, "calls": calls}
            sensor = {"node": "node-1", "capture": capture, "fallback_reason": "no right"}
            items = [endpoint] if split.path == "/api/v1/endpoints" else [sensor]
            if split.path == "/api/v1/endpoints" and not parse_qs(split.query)["q"][0].startswith("helm-test-"):
                items = []
            body = json.dumps({"items": items}).encode()
            self.send_response(200 if is_known else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("calls", "workload", "capture", "said"),
    [
        (CALLS, "apidae-test", "cgroup_skb", "captures by packets."),
        (CALLS, "apidae-test", "syscalls", "does not capture by packets: no right"),
        (CALLS - 1, "apidae-test", "cgroup_skb", "They should be of apidae/apidae-test."),
        (CALLS, "other", "cgroup_skb", "They should be of apidae/apidae-test."),
    ],
)
def test_the_test_pod_succeeds_only_with_all_calls_by_packets_under_its_name(
    tmp_path: Path, calls: int, workload: str, capture: str, said: str
) -> None:
    need_helm()
    pod = find(documents("smallest"), "Pod", "-test")
    script: str = pod["spec"]["containers"][0]["args"][0]
    (tmp_path / "token").write_text("the-token\n")
    for place, other in (
        ("/etc/apidae/tokens/api-token", str(tmp_path / "token")),
        ("/etc/apidae/trusted/ca.crt", certifi.where()),
        ("SECONDS = 23, 90", "SECONDS = 23, 2"),
        ('ADDRESS"], 8080', 'ADDRESS"], PORT'),
    ):
        assert place in script
        script = script.replace(place, other)
    script = (
        "import socket\nwith socket.socket() as s:\n    s.bind(('127.0.0.1', 0))\n    PORT = s.getsockname()[1]\n"
        + script
    )
    with run_api(calls, workload, capture) as url:
        environment = {
            "URL": url,
            "ADDRESS": "127.0.0.1",
            "POD": "apidae-test",
            "NAMESPACE": "apidae",
            "NODE": "node-1",
        }
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
    assert said in done.stdout + done.stderr
    assert (done.returncode == 0) == said.startswith("captures")


def test_nothing_of_the_release_takes_the_test_pod_for_its_own() -> None:
    need_helm()
    chart = documents("smallest")
    labels = find(chart, "Pod", "-test")["metadata"]["labels"]
    for document in chart:
        selector = document.get("spec", {}).get("selector", {}) if document["kind"] != "Pod" else {}
        wanted = selector.get("matchLabels", selector)
        assert not wanted or any(labels.get(name) != value for name, value in wanted.items()), document["metadata"]
