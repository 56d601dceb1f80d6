"""Exported documents as a team would use them: a client is generated from each, and calls the application.

    scripts/bench exports [--only NAME ..] [--keep DIRECTORY]

Five applications (scripts/bench_cases/exporting/programs.py) are called, and the bytes of the calls go through the
sensor's own code to a collector. Of each the OpenAPI document is exported, a client is generated from it by
openapi-python-client, and every operation is called with it, with the credential that the document names and without.
One JSON line an application: operations in the document, calls answered as the document says, secured operations
refused without, and what was wrong. Exits with 1 where a call was answered otherwise. Needs the package registry; says
so where a package cannot be installed.
"""

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from apidae.v1 import stream_pb2
from openapi_spec_validator import OpenAPIV31SpecValidator

from scripts.bench_cases.applications import HOME
from scripts.bench_cases.applying.application import (
    Application,
    ApplicationError,
    install,
    wait_until_ready,
)
from scripts.bench_cases.exporting.programs import BODY, HEADERS, KEY, PATHS, PROGRAMS
from scripts.ports import take_port
from sensor.export.messages import write_schemas
from tests.collector.risk.traffic import FIRST_PORT, Sensor
from tests.collector.running import RunningCollector, make_hello, talk, wrap

PROGRAMS_FILE: Final = Path(__file__).parent / "exporting" / "programs.py"
CLIENT_FILE: Final = Path(__file__).parent / "exporting" / "client.py"
TOOLS: Final = Application(
    name="exports",
    routes=(),
    python=(
        *("openapi-python-client", "fastapi", "uvicorn", "flask", "django", "djangorestframework", "starlette"),
        "aiohttp",
    ),
)
OPERATIONS: Final = 5  # Of each application: status, list, create, read, delete.
ROUNDS: Final = 12
SETTLE_SECONDS: Final = 90.0
STILL_SECONDS: Final = 5.0  # Templates are grouped once a second here.


@contextmanager
def run_program(name: str, python: str, port: int, directory: Path) -> Iterator[None]:
    """The application on a port of loopback, ended at the end. Raises ApplicationError."""
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen([python, str(PROGRAMS_FILE), name, str(port)], stdout=output, stderr=output)
        try:
            wait_until_ready(process, port, log, name)
            yield
        finally:
            process.terminate()
            process.wait()


def call_program(sensor: Sensor, name: str, port: int) -> None:
    """What clients of it do: all operations with the credential, and the list without. The sensor gets the bytes."""
    status, listed, created, record = PATHS[name]
    for number in range(ROUNDS):
        calls = [
            ("GET", status, {}, b""), ("GET", listed, HEADERS[name], b""), ("POST", created, HEADERS[name], BODY),
            ("GET", record.format(number + 40), HEADERS[name], b""),
            ("DELETE", record.format(number + 40), HEADERS[name], b""),
            ("GET", listed.partition("?")[0], {}, b""),
        ]  # fmt: skip
        for method, path, headers, body in calls:
            request, response = exchange_bytes(port, method, path, headers, body)
            code = int(response[0].split(b" ", 2)[1])
            sensor.see_bytes(name, request, response, client=f"198.51.100.{number + 1}", status=code)


def exchange_bytes(
    port: int, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    """Head and body of a request and of its response, as they were on the wire."""
    sent = {"Host": "shop.example", "Connection": "close", **headers}
    if body:
        sent |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    head = f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head + body)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    told, mark, rest = answer.partition(b"\r\n\r\n")
    return (head, body), (told + mark, rest)


def generate(document: Mapping[str, Any], home: Path, directory: Path) -> Path:
    """The package of a client for a document. Raises ApplicationError."""
    directory.mkdir(parents=True)
    file, package = directory / "openapi.json", directory / "generated_client"
    file.write_text(json.dumps(document, indent=1))
    command = [str(home / "python/bin/openapi-python-client"), "generate", "--path", str(file), "--meta", "none"]
    done = subprocess.run([*command, "--output-path", str(package)], capture_output=True, text=True, check=False)
    if done.returncode or "WARNING" in done.stdout + done.stderr:
        raise ApplicationError(f"no client can be generated: {(done.stdout + done.stderr)[-800:]}")
    return package


def check(name: str, document: Mapping[str, Any], home: Path, url: str, directory: Path) -> dict[str, Any]:
    """The line of one application."""
    OpenAPIV31SpecValidator(dict(document)).validate()
    package = generate(document, home, directory)
    request = directory / "request.json"
    request.write_text(
        json.dumps({"document": document, "package": str(package), "url": url, "user": "ada", "key": KEY})
    )
    done = subprocess.run(
        [str(home / "python/bin/python"), str(CLIENT_FILE), str(request)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ApplicationError(f"the generated client of {name} failed: {done.stderr[-800:]}")
    calls = json.loads(done.stdout)
    wrong = [one for one in calls if one["status"] not in one["expected"]]
    wrong += [one for one in calls if one["is_secured"] and one["without"] != 401]
    return {
        "application": name,
        "operations": len(calls),
        "answered": sum(one["status"] in one["expected"] for one in calls),
        "refused_without": sum(one["is_secured"] and one["without"] == 401 for one in calls),
        "schemes": document.get("components", {}).get("securitySchemes", {}),
        "wrong": wrong,
    }


def export(collector: RunningCollector, port: int) -> Mapping[str, Any]:
    """The document of the service on a port, once it has all operations and its paths stay the same; else as it is at
    the end."""
    deadline, known, since = time.monotonic() + SETTLE_SECONDS, 0, time.monotonic()
    while True:
        services = collector.get("/services").json()["items"]
        names = [one["service"] for one in services if one["service"].endswith(f":{port}")]
        answer = collector.get(f"/services/{names[0]}/openapi.json") if names else None
        document: Mapping[str, Any] = answer.json() if answer is not None and answer.is_success else {"paths": {}}
        if hash(tuple(document["paths"])) != known:
            known, since = hash(tuple(document["paths"])), time.monotonic()
        is_whole = sum(map(len, document["paths"].values())) == OPERATIONS
        if (is_whole and time.monotonic() - since > STILL_SECONDS) or time.monotonic() > deadline:
            return document
        time.sleep(1.0)


def measure(chosen: list[str], home: Path, directory: Path) -> Iterator[dict[str, Any]]:
    """A line for each application. Those that fail have an `error`."""
    python = str(home / "python/bin/python")
    ports = {name: take_port() for name in chosen}
    with ExitStack() as running:
        for name, port in ports.items():
            running.enter_context(run_program(name, python, port, directory))
        sensor = Sensor(chosen)
        for name, port in ports.items():
            call_program(sensor, name, port)
        collector = RunningCollector(
            directory / "data", "--no-auth", constants={"collector.inventory.templates.catalogue.GROUP_SECONDS": 1}
        )
        running.callback(collector.stop)
        schemas = [write_schemas(some).SerializeToString() for some in sensor.schemas.take(sensor.time_ns)]
        said = [make_hello(), *map(wrap, sensor.flush()), *map(stream_pb2.ConnectRequest.FromString, schemas)]
        talk(collector.ready["grpc"], said)
        for number, (name, port) in enumerate(ports.items()):
            try:
                document = export(collector, FIRST_PORT + number)
                yield check(name, document, home, f"http://127.0.0.1:{port}", directory / name)
            except ApplicationError as error:
                yield {"application": name, "error": str(error)}


def main() -> None:
    """Prints the lines."""
    parser = argparse.ArgumentParser(prog="scripts/bench exports")
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=list(PROGRAMS), help="these applications only")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="keep logs, documents and clients here")
    options = parser.parse_args()
    try:
        home = install(TOOLS, HOME)
    except ApplicationError as error:
        print(f"skipped: the generator or a framework could not be installed: {error}", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as temporary:
        directory = (options.keep or Path(temporary)).absolute()
        directory.mkdir(parents=True, exist_ok=True)
        is_right = True
        for line in measure(options.only, home, directory):
            print(json.dumps(line), flush=True)
            is_right = is_right and not line.get("error") and not line["wrong"] and line["operations"] == OPERATIONS
    if not is_right:
        sys.exit(1)


if __name__ == "__main__":
    main()
