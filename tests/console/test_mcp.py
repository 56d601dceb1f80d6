"""`apidae mcp` asked by a client of the protocol's own library: the fifty questions, over stdio and over HTTP."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import anyio
import httpx
import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from collector.cli.mcp import TOOLS, drop_empty, read_address
from tests.console.seeded import HOSTILE, SeededCollector
from tests.console.test_questions import QUESTIONS, WORDS, Question
from tests.console.test_questions import fill as fill
from tests.waiting import wait_until

pytestmark = [pytest.mark.store, pytest.mark.full("collector.ui", "collector.api", "collector.cli")]

PROGRAM: Final = str(Path(sys.executable).parent / "apidae")
# A question that the API answers by a POST; agents get none of those.
NOT_ASKED: Final = {48: "whom a block would stop"}
Fill = Callable[[Question, str], str]


def choose_tool(route: str) -> tuple[str, dict[str, Any]]:
    """The tool of a route of the API, and its arguments."""
    parts = urlsplit(route)
    for name, tool in TOOLS.items():
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(f"/{tool.path}"))
        found = re.fullmatch(pattern, parts.path)
        if found is not None:
            query = {key: int(value) if value.isdecimal() else value for key, value in parse_qsl(parts.query)}
            return name, {key: unquote(value) for key, value in found.groupdict().items()} | query
    raise AssertionError(f"no tool reads {route}")


def read_text(answer: Any) -> str:
    return "".join(part.text for part in answer.content)


def run_apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """In a thread of its own: what drives the browser in other tests keeps an event loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(anyio.run, work, *arguments).result()


def connect(collector: SeededCollector, token: str) -> Any:
    environment = {"APIDAE_URL": collector.address, "APIDAE_TOKEN": token, "PATH": os.environ["PATH"]}
    return stdio_client(StdioServerParameters(command=PROGRAM, args=["mcp"], env=environment))


def test_an_agent_gets_answers_to_the_fifty_questions(collector: SeededCollector, fill: Fill) -> None:
    wrong = {}

    async def run() -> None:
        async with Client(connect(collector, collector.token)) as client:
            tools = (await client.list_tools()).tools
            assert {tool.name for tool in tools} == TOOLS.keys()
            assert all(tool.annotations is not None and tool.annotations.read_only_hint for tool in tools)
            for question in QUESTIONS:
                if question.number in NOT_ASKED:
                    continue
                name, arguments = choose_tool(fill(question, question.routes[-1]))
                answer = await client.call_tool(name, arguments)
                if answer.is_error or WORDS[question.number] not in read_text(answer):
                    wrong[question.number] = f"{name} {arguments}: {read_text(answer)[:500]}"

    run_apart(run)
    assert not wrong


def test_what_is_wrong_is_a_sentence_and_names_are_data(collector: SeededCollector) -> None:
    async def run() -> list[Any]:
        async with Client(connect(collector, collector.token)) as client:
            found = [
                await client.call_tool("describe_endpoint", {"endpoint": "nothing/../x"}),
                await client.call_tool("find_endpoints", {"since": "9y"}),
                await client.call_tool("find_endpoints", {"q": "script", "limit": 5}),
                await client.call_tool("open_alerts", {}),
            ]
        async with Client(connect(collector, "wrong")) as client:
            return [*found, await client.call_tool("list_services", {})]

    unknown, refused, hostile, alerts, denied = run_apart(run)
    assert unknown.is_error and "answered 404: There is nothing at" in read_text(unknown)
    assert refused.is_error
    (item,) = json.loads(read_text(hostile))["items"]
    assert item["template"] == f"/{HOSTILE}" and "" not in item.values() and None not in item.values()
    assert {one["state"] for one in json.loads(read_text(alerts))["items"]} == {"open"}
    assert denied.is_error and "did not accept the API token" in read_text(denied)


@pytest.fixture
def address(collector: SeededCollector) -> Iterator[str]:
    """Of a server over HTTP whose own command line has the admin's token."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "APIDAE_URL": collector.address, "APIDAE_TOKEN": collector.token}
    with subprocess.Popen([PROGRAM, "mcp", "--listen", f"127.0.0.1:{port}"], env=environment) as process:
        try:
            wait_until(lambda: is_open(port), "the server listens")
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            process.terminate()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_over_http_each_request_has_its_own_token(collector: SeededCollector, address: str) -> None:
    async def call(token: str) -> Any:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60.0) as http,
            Client(streamable_http_client(address, http_client=http)) as client,
        ):
            return await client.call_tool("list_services", {})

    allowed, wrong, nobody = (run_apart(call, token) for token in (collector.token, "wrong", ""))
    assert not allowed.is_error and "payments" in read_text(allowed)
    assert wrong.is_error and "did not accept the API token" in read_text(wrong)
    assert nobody.is_error and "The request has no API token" in read_text(nobody)
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    headers = {"accept": "application/json, text/event-stream", "host": "evil.example"}
    assert httpx.post(address, json=body, headers=headers, timeout=60.0).status_code == 421


@pytest.mark.parametrize("text", ["0.0.0.0:8090", "collector.example:1", "127.0.0.1", "127.0.0.1:99999"])
def test_it_listens_on_loopback_only(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    with pytest.raises(typer.Exit):
        read_address(text)
    assert f"--listen is {text!r}; use a loopback address" in capsys.readouterr().err


def test_what_is_empty_is_not_sent() -> None:
    document = {"a": None, "b": [], "c": {"d": ""}, "e": 0, "f": False, "g": [{"h": ""}, 1]}
    assert drop_empty(document) == {"e": 0, "f": False, "g": [{}, 1]}
