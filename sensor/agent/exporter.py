"""The sensor's HTTP listener (`/metrics` for Prometheus, `/healthz` and `/readyz` for kubelets) and its ready file.

The listener is off unless `metrics_listen` is set. It shows counters only, without TLS. `/healthz` answers 200 while
the sensor's loop answers. `/readyz` answers 200 while it captures or was paused by an operator. Otherwise both answer
503.

The ready file says that the sensor captures, is paused, or can replace the sensor that runs. It is for probes that
cannot use the metrics port, because two sensors share the node's network and the other one has the port. It exists
until the process ends in order. The next start removes one that a killed process left.
"""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from sensor.core.health import HealthReport, MetricsCollector

logger = logging.getLogger(__name__)

_TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")


@contextlib.contextmanager
def serve(
    *, host: str, port: int, read_health: Callable[[], HealthReport], is_ready: Callable[[], bool]
) -> Iterator[int]:
    """Answer on `host:port` (0 = any) from a daemon thread until the block is left; gives the port. Both callables are
    called from threads of the listener, may block, and where `read_health` raises, the sensor is not healthy.

    Raises OSError when the port is taken or not allowed."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricsCollector(read_health))
    application = _build(make_wsgi_app(registry), read_health, is_ready)
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    server = make_server(host, port, application, _SERVERS[family], handler_class=_QuietHandler)
    thread = threading.Thread(target=server.serve_forever, name="apidae-exporter", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _build(
    metrics: WSGIApplication, read_health: Callable[[], HealthReport], is_ready: Callable[[], bool]
) -> WSGIApplication:
    def answer(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environment.get("PATH_INFO", "")
        if path == "/healthz":
            return _respond(start, _is_answering(read_health), "healthy", "the sensor's loop does not answer")
        if path == "/readyz":
            return _respond(start, is_ready(), "ready", "the sensor does not capture yet")
        return metrics(environment, start)

    return answer


def _is_answering(read_health: Callable[[], HealthReport]) -> bool:
    try:
        read_health()
    except Exception:  # The loop hangs or ends, whatever it raised: that is the answer.
        return False
    return True


def _respond(start: StartResponse, is_good: bool, good: str, bad: str) -> Iterable[bytes]:
    # A list of its own each time: wsgiref adds the length to it.
    start("200 OK" if is_good else "503 Service Unavailable", [_TEXT])
    return [f"{good if is_good else bad}\n".encode()]


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Probes would fill the log."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


_SERVERS: Final[dict[int, type[_Server]]] = {socket.AF_INET: _Server, socket.AF_INET6: _Server6}


class ReadyFile:
    """For readiness probes that read a file. None as its path: nobody looks."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def set(self) -> None:
        """Ready from now on. A file that cannot be written is a warning: the probe fails, the sensor works."""
        if self._path is None:
            return
        try:
            # Through no link: the directory may be anybody's.
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644))
        except OSError as error:
            logger.warning("%s cannot be written (%s): a probe that reads it fails", self._path, error.strerror)

    def clear(self) -> None:
        """Not ready, or no longer."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
