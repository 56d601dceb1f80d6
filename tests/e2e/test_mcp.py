"""Servers of the Model Context Protocol by its official library, with its official client, end to end: what they offer
and who uses it, the alert for a changed tool, and that no text of either leaves the node."""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest
import uvicorn
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.server import MCPServer

from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.e2e.test_bodies import dump_store, read_text
from tests.waiting import DEADLINE_SECONDS, wait_for_equal, wait_until

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.e2e,
    pytest.mark.full("sensor.describe.schemas", "collector.inventory", "collector.detection.changes"),
]

# Of descriptions, arguments, results, files and texts of prompts.
SECRETS = ("kanarienvogel", "Zwetschgenknoedel", "Ginevra", "Holunderblueten", "Quittengelee")
TOOLS = {"get_forecast", "delete_station"}


def make_server(description: str) -> MCPServer:
    """Two tools, a prompt, a resource and a template."""
    server = MCPServer("weather-server", version="1.2.0")

    def get_forecast(city: str, days: int = 3) -> str:
        return f"{SECRETS[2]} {city} {days}"

    def delete_station(station: str) -> str:
        return station

    def describe_weather(tone: str) -> str:
        return f"{SECRETS[4]} {tone}"

    server.tool(description=description)(get_forecast)
    server.tool(description=SECRETS[0])(delete_station)
    server.prompt(description=SECRETS[0])(describe_weather)
    server.resource(f"file:///{SECRETS[3]}", name="report")(lambda: SECRETS[2])
    server.resource("station://{number}", name="station")(lambda number: SECRETS[2])
    return server


@contextmanager
def serve(server: MCPServer, transport: str, port: int = 0) -> Iterator[int]:
    """Its port, on loopback."""
    app = server.sse_app() if transport == "sse" else server.streamable_http_app()
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: running.started, "the MCP server")
        yield running.servers[0].sockets[0].getsockname()[1]
    finally:
        running.should_exit = True
        thread.join()


async def use(transport: str, port: int, is_known: threading.Event) -> None:
    """One session of a client. Over SSE it stays open until its server is known, as those of agents do for hours."""
    address = f"http://127.0.0.1:{port}"
    if transport == "sse":
        client = Client(sse_client(f"{address}/sse"), mode="legacy")
    else:
        client = Client(f"{address}/mcp", mode="legacy" if transport == "sessions" else "auto")
    async with client:
        await client.list_tools()
        await client.list_prompts()
        await client.list_resources()
        await client.list_resource_templates()
        for days in (1, 2, 3):
            await client.call_tool("get_forecast", {"city": SECRETS[1], "days": days})
        await client.get_prompt("describe_weather", {"tone": SECRETS[1]})
        if transport == "sse":
            await anyio.to_thread.run_sync(is_known.wait, DEADLINE_SECONDS)


def play(transport: str, port: int, look: Callable[[], None]) -> None:
    """A session, and a look at what is known of its server."""
    is_known = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        session = pool.submit(anyio.run, use, transport, port, is_known)
        if transport != "sse":
            session.result()
        try:
            look()
        finally:
            is_known.set()
            session.result()


def find(inventory: Inventory, port: int) -> Any:
    """What is known of the server at a port; None before."""
    for one in inventory.get("/mcp/servers")["items"]:
        if one["service"].endswith(f":{port}"):
            return inventory.get(f"/mcp/servers/{one['id']}")
    return None


def count_pins(product: Product, port: int) -> int:
    """Pins that the collector keeps of the server at a port."""
    with closing(sqlite3.connect(f"file:{product.data_directory / 'state.db'}?mode=ro", uri=True)) as database:
        sql = "SELECT count(*) FROM change_facts WHERE kind = 'mcp_item' AND scope LIKE ?"
        return int(database.execute(sql, (f"%:{port}",)).fetchone()[0])


KNOWN = {
    ("tool", "get_forecast"): 3,
    ("tool", "delete_station"): 0,
    ("prompt", "describe_weather"): 1,
    ("resource", ""): 0,
    ("resource_template", "station"): 0,
    ("instructions", ""): 0,
}


def list_known(inventory: Inventory, port: int) -> dict[tuple[str, str], int]:
    """What the server at a port lists, with sampled calls."""
    server = find(inventory, port)
    return {} if server is None else {(one["kind"], one["name"]): one["sampled_calls"] for one in server["items"]}


def wait_for_known(inventory: Inventory, port: int) -> None:
    wait_for_equal(lambda: list_known(inventory, port), KNOWN, "what the server lists")


def list_changes(inventory: Inventory) -> list[Any]:
    """Alerts of changed tools."""
    found: list[Any] = inventory.get("/alerts", kind="mcp_tool_changed")["items"]
    return found


def test_mcp_servers(product: Product) -> None:
    collector, address = product.start_collector(constants={"collector.server.compose.RISK_SECONDS": 2})
    sensor = product.start_sensor(address)
    inventory = product.open_inventory(address)
    texts = ""
    for transport in ("sessions", "sse", "stateless"):
        with serve(make_server(SECRETS[0]), transport) as port:
            play(transport, port, partial(wait_for_known, inventory, port))
        server = find(inventory, port)
        texts += json.dumps(server)
        assert server["transports"] == ["sse" if transport == "sse" else "streamable_http"]
        assert (server["name"], server["version"]) == ("weather-server", "1.2.0")
        assert server["protocol_versions"][-1].startswith("2026" if transport == "stateless" else "2025")
        tools = {one["name"]: one for one in server["items"] if one["kind"] == "tool"}
        assert tools.keys() == TOOLS
        assert [(one["name"], one["type"], one["is_required"]) for one in tools["get_forecast"]["arguments"]] == [
            ("city", "string", True),
            ("days", "integer", False),
        ]
        assert {one["consumer"] for one in server["uses"]} == {"address:127.0.0.1"}

    with serve(make_server(SECRETS[0]), "stateless") as port:
        play("stateless", port, partial(wait_for_known, inventory, port))
        pins = {one["name"]: one["pins"][0]["description_hash"] for one in find(inventory, port)["items"]}
    wait_until(lambda: count_pins(product, port) == len(TOOLS) + 2, "pins of tools, the prompt, instructions")
    with serve(make_server(SECRETS[4]), "stateless", port):
        play("stateless", port, partial(wait_until, lambda: list_changes(inventory), "the alert"))
    (alert,) = list_changes(inventory)
    assert "get_forecast" in alert["title"]
    after = {one["name"]: one["pins"][0]["description_hash"] for one in find(inventory, port)["items"]}
    assert {name for name in pins if pins[name] != after[name]} == {"get_forecast"}

    texts += json.dumps(alert)
    assert sensor.stop() == 0, sensor.log_tail()
    assert collector.stop() == 0, collector.log_tail()
    texts += read_text(product.data_directory) + dump_store(product.data_directory / "store")
    texts += read_text(product.data_directory.parent / "sensor") + read_text(product.data_directory.parent / "logs")
    assert "get_forecast" in texts
    for secret in SECRETS:
        assert secret not in texts
