"""Java servers over TLS with the agent in them, and what the sensor's side reads of it."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts.live.program import Program
from sensor.capture.java.agents import JavaAgents
from sensor.capture.java.attachments import Attachments
from sensor.capture.java.build import build_jar
from sensor.capture.java.ring import STATE_READING, STATE_WAITING
from sensor.capture.tls.reader import TlsReader
from sensor.core.calls import Exchange
from sensor.http.http2.exchange import StreamExchange
from tests.e2e.application import HERE
from tests.e2e.certificates import Certificate, make_certificate
from tests.e2e.traffic import Table, expect
from tests.e2e.wire import Sent
from tests.waiting import wait_until

ADDRESS = "127.0.0.1"
OPTIONS = ("-Xshare:auto", "-XX:TieredStopAtLevel=1")
# The patched code must pass the verifier, which the JVM does not ask for its own classes.
VERIFYING = ("-XX:+UnlockDiagnosticVMOptions", "-XX:+BytecodeVerificationLocal")
CGROUP_ID = 1  # Of the root, which is everybody's: so sockets are found by descriptors.
READY_SECONDS = 60.0
STATE_AT = 144  # In the agent's memory.


class Jvms:
    """Starts servers, each with the agent; `stop` ends them. Skips where there is no JDK."""

    def __init__(self, directory: Path) -> None:
        if shutil.which("javac") is None:
            pytest.skip("javac is not installed: apt-get install default-jdk-headless")
        self.directory = directory
        self.jar = build_jar(directory / "agent.jar")
        self.certificate = make_certificate(directory, "server", f"IP:{ADDRESS}")
        self._running: list[Program] = []

    def start(
        self,
        kind: str,
        *,
        options: Sequence[str] = (),
        has_agent: bool = True,
        jar: Path | None = None,
        within: Sequence[str] = (),
    ) -> tuple[Program, int]:
        """`engine`: a server over SSLEngine, `socket`: over SSLSocket, `stream`: over SSLEngine and streams. Gives
        it and its port. `within`: a command that runs it."""
        command = [*within, "java", *OPTIONS, *VERIFYING, *options]
        if has_agent:
            command.append(f"-javaagent:{jar or self.jar}")
        if kind == "engine":
            command += [str(HERE / "App.java"), ADDRESS, str(self.certificate.certificate), str(self.certificate.key)]
        else:
            source = Path(__file__).parent / "SocketServer.java"
            command += [str(source), ADDRESS, str(make_key_store(self.certificate, self.directory))]
            command += ["engine"] if kind == "stream" else []
        program = Program(kind, command, self.directory / f"{kind}-{len(self._running)}.log")
        self._running.append(program)
        return program, int(program.wait_for("ready", READY_SECONDS)["port"])

    def start_client(self, port: int, start: Path, options: Sequence[str] = ()) -> Program:
        """Calls a server over HTTP/2 when the file `start` is there, and then says `done`."""
        source = Path(__file__).parent / "Client.java"
        command = ["java", *OPTIONS, *VERIFYING, *options, f"-javaagent:{self.jar}", str(source)]
        command += [f"https://{ADDRESS}:{port}", str(self.certificate.authority), str(start)]
        program = Program("client", command, self.directory / f"client-{len(self._running)}.log")
        self._running.append(program)
        program.wait_for("ready", READY_SECONDS)
        return program

    def stop(self) -> None:
        """Ends what was started."""
        for program in self._running:
            program.stop()


def make_key_store(certificate: Certificate, directory: Path) -> Path:
    """PKCS12 with the password that SocketServer.java knows."""
    store = directory / "server.p12"
    pair = ("-in", str(certificate.certificate), "-inkey", str(certificate.key))
    command = ["openssl", "pkcs12", "-export", *pair, "-out", str(store), "-passout", "pass:secret"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return store


def tabulate(calls: list[Exchange]) -> Table:
    """As `expect` does what was sent."""
    sent = []
    for call in calls:
        method, target, _ = call.request_head.split(b" ", 2)
        figures = call.figures
        sent.append(
            Sent(
                method=method.decode(),
                target=target.decode(),
                status=figures.status_code,
                request_bytes=figures.request_bytes,
                response_bytes=figures.response_bytes,
            )
        )
    return expect(sent)


def find_memory(pid: int) -> Path:
    """The descriptor of the agent's memory, in a process that may close others meanwhile."""
    found = []
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if "apidae-java-" in str(one.readlink()):
                found.append(one)
    (memory,) = found
    return memory


def read_state(pid: int) -> int:
    """What the agent of a process says of itself now, whoever reads it."""
    with find_memory(pid).open("rb") as file:
        file.seek(STATE_AT)
        return int.from_bytes(file.read(8), "little")


class Sensor:
    """What of a sensor reads Java. `calls` are all that it gave so far. `read` shows the agent that somebody does."""

    def __init__(self, pid: int, attachments: Attachments | None = None, *, requests_per_second: int = 10_000) -> None:
        self.pid = pid
        self.agents = JavaAgents(
            "/proc",
            find_cgroup_id=lambda _: CGROUP_ID,
            monotonic_ns=time.monotonic_ns,
            requests_per_second=requests_per_second,
            attachments=attachments,
        )
        self.reader = TlsReader(
            to_unix_ns=lambda ns: ns, refuse=lambda event, verdict: self.agents.refuse(event.socket)
        )
        self.calls: list[Exchange] = []

    def look(self) -> str | None:
        """Why the process is not read; empty where it is, None where it has no agent."""
        reason = self.agents.look({self.pid}).get(self.pid)
        self.read()
        return reason

    def start(self) -> None:
        """Returns once the agent has its patches in."""
        wait_until(lambda: self.look() == "" and read_state(self.pid) == STATE_READING, "the agent reads")

    def wait_until_patches_are_out(self) -> None:
        """Without a heartbeat."""
        wait_until(lambda: read_state(self.pid) == STATE_WAITING, "the agent waits")

    def end(self) -> None:
        """As a sensor does."""
        self.agents.stop()
        self.agents.close()

    def read(self) -> int:
        """How many calls there are by now."""
        for one in self.reader.take(self.agents.read(1_000)):
            self.calls.append(one.exchange if isinstance(one, StreamExchange) else one)
        return sum(call.figures.calls for call in self.calls)
