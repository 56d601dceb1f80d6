"""The health check of the collector's image."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from collector.server.probe import main


class Answer(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_collector_that_answers_is_healthy(port: int) -> None:
    assert main({"APIDAE_COLLECTOR_HTTP_LISTEN": f"127.0.0.1:{port}"}) == 0


def test_one_that_answers_otherwise_is_not(
    port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Answer, "status", 503)
    assert main({"APIDAE_COLLECTOR_HTTP_LISTEN": f"127.0.0.1:{port}"}) == 1
    assert "/healthz answers 503" in capsys.readouterr().err


def test_nobody_and_wrong_settings_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main({"APIDAE_COLLECTOR_HTTP_LISTEN": "127.0.0.1:9"}) == 1
    assert "does not answer" in capsys.readouterr().err
    assert main({"APIDAE_COLLECTOR_HTTP_LISTENS": "x"}) == 1
    assert "not a setting of the collector" in capsys.readouterr().err
