"""Cases of TLS beside the mix of `test_tls_calls`: each has a server of its own and says which calls it made there.

`TlsCases.open` comes before the sensor starts, `send` when it reads.
"""

import contextlib
import re
import ssl
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from scripts.live.program import Program
from tests.e2e.application import HERE, READY_SECONDS, Servers
from tests.e2e.certificates import Certificate
from tests.e2e.traffic import Table, expect, send_mix
from tests.e2e.wire import RawClient, Sent
from tests.waiting import wait_until

ADDRESS = "127.0.0.1"
LIBSSL = Path("/usr/lib/x86_64-linux-gnu/libssl.so.3")
LARGE = b"y" * (1 << 20)
WEAK_CIPHERS = "ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0"
EARLY = ("nginx", "python")  # docs/use/tls.md says what is missed of others.
# Kind of the server, and the versions in which a session is begun and resumed there.
OPENSSL11 = ("openssl11_descriptor", "openssl11_extended", "openssl11_memory")
RESUMED = {
    "resumed_12": ("python", (ssl.TLSVersion.TLSv1_2,)),
    "resumed_13": ("python", (ssl.TLSVersion.TLSv1_3,)),
    **{kind: (kind, (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)) for kind in OPENSSL11},
}
CASES = (*(f"early_{kind}" for kind in EARLY), *RESUMED, "large", "weak", "container", "bodies")
CONNECTIONS = 3  # Of a session that is resumed; the first one is the one that begins it.
LARGE_CALLS = 3
BODY_CALLS = 5
PEOPLE = 3  # In an answer of servers/app_tls.py.


def make_context(certificate: Certificate, version: ssl.TLSVersion, ciphers: str = "") -> ssl.SSLContext:
    """A client's, of just this version."""
    context = ssl.create_default_context(cafile=str(certificate.authority))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.1 is deprecated: that is why it is looked at.
        context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    return context


def wait_until_searched(sensor: Program, metrics: str) -> None:
    """Until the sensor, whose metrics are at that URL, has searched all files of the servers that run. One of 100 MB
    takes a fifth of a second of processor time, and longer than some seconds where others use it."""
    wait_until(lambda: "reading TLS of" in sensor.log_path.read_text(), "a library is found")

    def is_done() -> bool:
        text = httpx.get(metrics, timeout=60).text
        return re.search(r"^apidae_sensor_tls_waiting_files 0(\.0)?$", text, re.MULTILINE) is not None

    with contextlib.suppress(AssertionError):  # Each test says what of its own is missing.
        wait_until(is_done, "no file waits to be searched")


@dataclass(slots=True)
class TlsCases:
    """What was sent by case and the port of its server, or why it was not. Mutable."""

    servers: Servers
    certificate: Certificate
    directory: Path
    ports: dict[str, int] = field(default_factory=dict)
    sent: dict[str, Table] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    _early: dict[str, RawClient] = field(default_factory=dict)
    _programs: list[Program] = field(default_factory=list)

    def open(self) -> None:
        """Servers, and the connections that are older than the sensor."""
        for kind in EARLY:
            self._try(f"early_{kind}", lambda kind=kind: self._open_early(kind))
        for name, (kind, _) in RESUMED.items():
            self._try(name, lambda name=name, kind=kind: self._note(name, self.servers.start(kind, ADDRESS).port))
        self._try("large", lambda: self._note("large", self._start()))
        self._try("bodies", lambda: self._note("bodies", self._start()))
        self._try("weak", lambda: self._note("weak", self._start(ciphers=WEAK_CIPHERS)))
        self._try("container", lambda: self._note("container", self._start(*self._enclose())))

    def send(self) -> None:
        """All calls."""
        for name, client in self._early.items():
            client.calls.clear()
            send_mix(client)
            self.sent[name] = expect(client.calls)
            client.close()
        for name, (_, versions) in RESUMED.items():
            self._try(name, lambda name=name, versions=versions: self._resume(name, versions))
        self._send("large", self._send_large)
        self._send("bodies", _send_bodies)
        self._send("weak", _send_orders, ssl.TLSVersion.TLSv1_1, WEAK_CIPHERS)
        self._send("container", _send_orders)

    def stop(self) -> None:
        """Ends the servers that `Servers` did not start."""
        for program in self._programs:
            program.stop()

    def _try(self, name: str, step: Callable[[], None]) -> None:
        try:
            step()
        except pytest.skip.Exception as reason:
            self.skipped[name] = str(reason)

    def _note(self, name: str, port: int) -> None:
        self.ports[name] = port

    def _open_early(self, kind: str) -> None:
        name = f"early_{kind}"
        self.ports[name] = self.servers.start(kind, ADDRESS).port
        client = RawClient(ADDRESS, self.ports[name], tls=make_context(self.certificate, ssl.TLSVersion.TLSv1_3))
        client.call("GET", "/orders/1000")  # Before the sensor: nobody counts it.
        self._early[name] = client

    def _start(self, *before: str, ciphers: str = "") -> int:
        files = (str(self.certificate.certificate), str(self.certificate.key))
        command = [*before, sys.executable, str(HERE / "app_tls.py"), ADDRESS, *files, *((ciphers,) if ciphers else ())]
        program = Program("tls", command, self.directory / f"server{len(self._programs)}.log")
        self._programs.append(program)
        return int(program.wait_for("ready", READY_SECONDS)["port"])

    def _enclose(self) -> tuple[str, ...]:
        """A mount namespace of its own, in which the library is another file: as in a container."""
        copy = self.directory / "libssl.so.3"
        copy.write_bytes(LIBSSL.read_bytes())
        mount = f"mount --bind {copy} {LIBSSL.resolve()} && exec "
        probed = subprocess.run(
            ["unshare", "--mount", "sh", "-c", f"{mount} true"], capture_output=True, text=True, check=False, timeout=60
        )
        if probed.returncode:
            pytest.skip(f"no mount namespace: {probed.stderr.strip()}")
        return "unshare", "--mount", "sh", "-c", f'{mount} "$@"', "sh"

    def _resume(self, name: str, versions: Iterable[ssl.TLSVersion]) -> None:
        """The mix on each of three connections of each version, of which two go on with the session of the first."""
        if name in self.skipped:
            return
        calls = list[Sent]()
        for version in versions:
            context, session = make_context(self.certificate, version), None
            for number in range(CONNECTIONS):
                with RawClient(ADDRESS, self.ports[name], tls=context, session=session) as client:
                    send_mix(client)
                    assert client.is_resumed == bool(number), f"connection {number} of {name}"
                    session = client.tls_session
                    calls += client.calls
        self.sent[name] = expect(calls)

    def _send(
        self,
        name: str,
        what: Callable[[RawClient], None],
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        ciphers: str = "",
    ) -> None:
        if name in self.skipped:
            return
        with RawClient(ADDRESS, self.ports[name], tls=make_context(self.certificate, version, ciphers)) as client:
            what(client)
            self.sent[name] = expect(client.calls)

    @staticmethod
    def _send_large(client: RawClient) -> None:
        for number in range(LARGE_CALLS):
            client.call("POST", f"/uploads/{number}", LARGE)
            client.call("GET", f"/exports/{number}")


def _send_orders(client: RawClient) -> None:
    for number in range(1_001, 1_024):
        client.call("GET", f"/orders/{number}")


def _send_bodies(client: RawClient) -> None:
    for number in range(BODY_CALLS):
        client.call("GET", f"/customers/{number}")
        client.call("POST", "/logins", b'{"user": "ada", "password": "correct-horse"}')
