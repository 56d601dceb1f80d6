"""How many tools of public servers of the Model Context Protocol the inventory has, with the official client (root).

    scripts/bench mcp_servers FILE [--sensor-arguments "--body-bytes-per-second 1048576"]

Each line of FILE is a name, the path at which the server answers, and the command that starts it, with `{port}` where
its port belongs. A server that speaks standard input and output is put behind a bridge, such as mcp-proxy:

    git /mcp /tmp/bridge/bin/mcp-proxy --port {port} -- /tmp/servers/bin/mcp-server-git

Nothing of it is installed here. One session of the client lists the tools of each server, while a sensor watches the
cgroup of this program alone. A line for each server: `listed` by the client, `known` to the inventory, `named` there,
and `answer_bytes` of the list as JSON. The line `totals` has the recall.
"""

import argparse
import json
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
from mcp.client.client import Client

from scripts.live.host import start_collector, start_sensor
from scripts.ports import take_port
from tests.bpf.cgroups import in_cgroup

START_SECONDS = 60
KNOWN_SECONDS = 20


class ServerLine(NamedTuple):
    """One line of the file."""

    name: str
    path: str
    command: str


class Listed(NamedTuple):
    """Tools as the client got them."""

    names: set[str]
    answer_bytes: int


def read_lines(path: Path) -> list[ServerLine]:
    """Without blank lines and comments."""
    lines = (line.split(maxsplit=2) for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return [ServerLine(*line) for line in lines]


@contextmanager
def run_server(line: ServerLine, log: Path) -> Iterator[int]:
    """Its port, once something listens there."""
    port = take_port()
    command = shlex.split(line.command.replace("{port}", str(port)))
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output) as run,
    ):
        try:
            deadline = time.monotonic() + START_SECONDS
            while time.monotonic() < deadline and run.poll() is None:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.2)
            yield port
        finally:
            run.terminate()


async def list_tools(address: str) -> Listed:
    """One session."""
    async with Client(address, mode="legacy") as client:
        found = await client.list_tools()
    written = json.dumps([tool.model_dump(exclude_none=True) for tool in found.tools], separators=(",", ":"))
    return Listed({tool.name for tool in found.tools}, len(written.encode()))


def find_known(api: httpx.Client, port: int, wanted: int) -> list[str]:
    """Names of the tools that the inventory has of the server at a port, once these are as many, or time is over."""
    known: list[str] = []
    deadline = time.monotonic() + KNOWN_SECONDS
    while len(known) < wanted and time.monotonic() < deadline:
        time.sleep(1)
        for one in api.get("/api/v1/mcp/servers", params={"limit": 200}).json()["items"]:
            if one["service"].endswith(f":{port}"):
                server: Any = api.get(f"/api/v1/mcp/servers/{one['id']}").json()
                known = [item["name"] for item in server["items"] if item["kind"] == "tool"]
    return known


def main() -> None:
    """Prints a line a server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--sensor-arguments", default="")
    arguments = parser.parse_args()
    lines, totals = read_lines(arguments.file), {"servers": 0, "listed": 0, "known": 0, "named": 0}
    with tempfile.TemporaryDirectory(prefix="apidae-mcp-") as place, in_cgroup("mcp-servers") as cgroup:
        root = Path(place)
        own = "--cgroup-path", str(cgroup), "--run-dir", place
        collector, address = start_collector(root / "data", root)
        try:
            sensor = start_sensor(address, root / "sensor", root, *own, *shlex.split(arguments.sensor_arguments))
            try:
                with httpx.Client(base_url=address.url, timeout=30) as api:
                    for line in lines:
                        measure(line, api, root / f"{line.name}.log", totals)
            finally:
                sensor.stop()
        finally:
            collector.stop()
    recall = round(totals["known"] / max(totals["listed"], 1), 3)
    print(json.dumps({"totals": totals, "recall": recall}), flush=True)


def measure(line: ServerLine, api: httpx.Client, log: Path, totals: dict[str, int]) -> None:
    """One server; one that does not start is said to be so, and counts for nothing."""
    with run_server(line, log) as port:
        try:
            listed = anyio.run(list_tools, f"http://127.0.0.1:{port}{line.path}")
        except Exception as error:
            print(json.dumps({"server": line.name, "fault": repr(error)[:200]}), flush=True)
            return
        known = find_known(api, port, len(listed.names))
    counts = {"listed": len(listed.names), "known": len(known), "named": len(listed.names.intersection(known))}
    totals["servers"] += 1
    for name, count in counts.items():
        totals[name] += count
    print(json.dumps({"server": line.name, **counts, "answer_bytes": listed.answer_bytes}), flush=True)


if __name__ == "__main__":
    main()
