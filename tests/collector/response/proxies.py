"""Real proxies that refuse whom our deny lists name, and clients of theirs at an address of their own."""

import socket
import ssl
from pathlib import Path
from typing import Final

import pytest

from scripts.bench_cases.block import make_context
from scripts.fetched import NotFetchedError, find_fetched
from scripts.ports import take_port
from tests.e2e.daemon import Daemon, find_program

REQUEST: Final = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
GREETING: Final = b"220 ready\r\n"

HAPROXY: Final = """
global
    stats socket {runtime} mode 600 level admin
defaults
    mode http
    timeout client 5s
    timeout connect 5s
    timeout server 5s
frontend front
    bind {address}:{port}
    acl apidae_blocked src -f {deny}
    tcp-request connection reject if apidae_blocked
    http-request return status 200
"""

TRAEFIK: Final = """
entryPoints:
  web: {{address: "{address}:{port}"}}
  websecure: {{address: "{address}:{tls_port}"}}
  mail: {{address: "{address}:{mail_port}"}}
providers:
  providersThrottleDuration: 100ms
  file: {{directory: "{directory}", watch: true}}
ping: {{manualRouting: true}}
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
"""
# What the operator has: an app in the clear and behind TLS, and a server that speaks first.
TRAEFIK_APP: Final = """
http:
  routers:
    app: {{rule: "Host(`a.example`)", service: ping@internal, entryPoints: [web]}}
    app-tls: {{rule: "Host(`a.example`)", service: ping@internal, entryPoints: [websecure], tls: {{}}}}
tcp:
  routers:
    mail: {{rule: "HostSNI(`*`)", service: mail, entryPoints: [mail]}}
  services:
    mail: {{loadBalancer: {{servers: [{{address: "127.0.0.1:{mail_port}"}}]}}}}
tls:
  certificates: [{{certFile: "{directory}/cert.pem", keyFile: "{directory}/key.pem"}}]
"""

ENVOY: Final = """
node: {{id: front, cluster: front}}
static_resources:
  listeners:
  - address: {{socket_address: {{address: {address}, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          use_remote_address: true
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, direct_response: {{status: 200}}}}]}}
          http_filters:
          - name: apidae.blocked
            config_discovery:
              config_source: {{path_config_source: {{path: "{deny}"}}}}
              type_urls: [type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC]
              default_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC}}
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
"""


def call(port: int, source: str, *, is_tls: bool = False) -> str:
    """The status that a client at `source` gets, or `refused`."""
    try:
        with socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0)) as connection:
            if is_tls:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                with context.wrap_socket(connection, server_hostname="a.example") as wrapped:
                    return _ask(wrapped)
            return _ask(connection)
    except (ConnectionError, ssl.SSLEOFError):
        return "refused"


def _ask(connection: socket.socket) -> str:
    connection.sendall(REQUEST)
    return connection.recv(100)[9:12].decode() or "refused"


class HaproxyFront:
    """HAProxy with a list of ours, empty at first."""

    def __init__(self, directory: Path) -> None:
        program = find_program("haproxy")
        if program is None:
            pytest.skip("haproxy is not installed")
        self.runtime, self.deny = str(directory / "admin.sock"), str(directory / "blocks.acl")
        Path(self.deny).write_text("# Apidae\n")
        path = directory / "haproxy.cfg"
        self._daemon = Daemon(
            [program, "-db", "-f", str(path)],
            path,
            HAPROXY,
            address="127.0.0.1",
            runtime=self.runtime,
            deny=self.deny,
        )
        self.ports: dict[str, int] = {"http": self._daemon.port}
        self.stop = self._daemon.stop


class TraefikFront:
    """Traefik with an app, a server of mail, and whatever files come into `directory`/traefik."""

    def __init__(self, directory: Path) -> None:
        watched = directory / "traefik"
        watched.mkdir()
        self._mail = socket.create_server(("127.0.0.1", 0))
        make_context(directory)
        app = TRAEFIK_APP.format(mail_port=self._mail.getsockname()[1], directory=directory)
        (watched / "app.yaml").write_text(app)
        path = directory / "traefik.yaml"
        self.ports = {"https": take_port(), "mail": take_port()}
        self._daemon = Daemon(
            [_find("traefik"), f"--configFile={path}"],
            path,
            TRAEFIK,
            address="127.0.0.1",
            directory=str(watched),
            tls_port=str(self.ports["https"]),
            mail_port=str(self.ports["mail"]),
        )
        self.ports["http"] = self._daemon.port

    def serve_mail(self) -> bytes:
        """What one client of the server that speaks first gets."""
        self._mail.settimeout(5)
        with socket.create_connection(("127.0.0.1", self.ports["mail"]), 10) as connection:
            connection.settimeout(3)
            try:
                accepted, _ = self._mail.accept()
                with accepted:
                    accepted.sendall(GREETING)
                return connection.recv(100)
            except TimeoutError:
                return b""

    def stop(self) -> None:
        self._daemon.stop()
        self._mail.close()


class EnvoyFront:
    """Envoy that reads `directory`/envoy/blocks.yaml."""

    def __init__(self, directory: Path) -> None:
        path = directory / "envoy.yaml"
        self._daemon = Daemon(
            [_find("envoy"), "-c", str(path), "--use-dynamic-base-id", "--log-level", "warning"],
            path,
            ENVOY,
            address="127.0.0.1",
            deny=str(directory / "envoy" / "blocks.yaml"),
        )
        self.ports = {"http": self._daemon.port}
        self.stop = self._daemon.stop


def _find(name: str) -> str:
    try:
        return str(find_fetched(name))
    except NotFetchedError as error:
        pytest.skip(str(error))
