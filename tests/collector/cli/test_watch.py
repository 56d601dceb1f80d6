"""`apidae watch` against a collector that says when alerts changed."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from collector.cli.commands import register

ALERT: dict[str, Any] = {
    "id": "a1",
    "kind": "bola",
    "state": "open",
    "severity": "high",
    "title": "shop: one consumer reads objects of others",
    "updated_at": "2026-11-30T10:00:00.123Z",
    "closed_at": None,
}
LOW = {**ALERT, "id": "a2", "severity": "low", "title": "a notice \x1b[2J"}
CLOSED = {**ALERT, "state": "closed", "closed_at": "2026-11-30T11:00:00Z"}


class Answers(BaseHTTPRequestHandler):
    """One list after another; the stream says once that calls changed and once that alerts did."""

    def do_GET(self) -> None:
        lists: list[list[dict[str, Any]]] = self.server.lists  # type: ignore[attr-defined]
        if self.path == "/api/v1/events":
            topics = (["alerts"], ["calls"], ["alerts"])
            names = ("hello", "change", "change")
            body = "".join(
                f"event: {name}\ndata: {json.dumps({'topics': found})}\n\n"
                for name, found in zip(names, topics, strict=True)
            ).encode()
        else:
            body = json.dumps({"items": lists.pop(0) if len(lists) > 1 else lists[0], "next_cursor": None}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def watch(server: ThreadingHTTPServer, lists: list[list[dict[str, Any]]], *words: str) -> Result:
    server.lists = lists  # type: ignore[attr-defined]
    app = typer.Typer()
    register(app)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    return CliRunner().invoke(app, ["watch", "--url", url, *words])


def test_a_line_for_each_alert_that_opens_or_closes(server: ThreadingHTTPServer) -> None:
    done = watch(server, [[ALERT], [ALERT], [LOW, CLOSED]], "--seconds", "3")
    assert done.exit_code == 0
    assert [line.split()[0:3] for line in done.stdout.splitlines()] == [
        ["2026-11-30T10:00:00Z", "high", "open"],
        ["2026-11-30T11:00:00Z", "high", "closed"],
        ["2026-11-30T10:00:00Z", "low", "open"],
    ]
    assert "\x1b" not in done.stdout and done.stdout.splitlines()[0].endswith("objects of others  a1")


def test_once_ends_with_a_status_of_its_own_and_json_is_what_the_api_says(server: ThreadingHTTPServer) -> None:
    done = watch(server, [[LOW], [LOW], [ALERT, LOW]], "--once", "--severity", "high", "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)) == (3, ALERT)


def test_what_is_open_at_the_start_can_be_skipped(server: ThreadingHTTPServer) -> None:
    done = watch(server, [[ALERT], [ALERT], [LOW, ALERT]], "--new", "--kind", "bola", "--once")
    assert (done.exit_code, done.stdout.split()[-1]) == (3, "a2")


def test_a_collector_that_is_not_there_is_one_sentence() -> None:
    app = typer.Typer()
    register(app)
    done = CliRunner().invoke(app, ["watch", "--url", "http://127.0.0.1:1"])
    assert (done.exit_code, "cannot be reached" in done.stderr) == (1, True)
