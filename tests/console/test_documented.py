"""Commands in blocks of the documentation run, on a collector of their own. Those of a page of an alert kind or a
finding rule run on an alert or findings of that kind, `[OPTIONS]` stands for `--help`, and all others run in a shell.

tests/documented.py names those that do not."""

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from jinja2 import ChoiceLoader, DictLoader

from collector.alerting.alert import AlertKind, KindGroup
from collector.risk.finding import Finding, FindingState
from collector.risk.rules import load_rules
from collector.ui.site import Site
from tests.collector.inventory.seed import NOW
from tests.console.answers import TOKEN
from tests.console.seeded import SeededCollector, open_seeded
from tests.documented import BLOCKS, ROUTES, SHELL, Block, find_reason
from tests.scripts.test_documented_commands import APP
from tests.sensor.capture.files.packets import Talk, write_pcap
from tests.test_docs import ROOT
from tests.waiting import wait_until

pytestmark = [pytest.mark.store, pytest.mark.full("docs", "collector.api", "collector.cli")]

GENERATED: Final = ("docs/alerts/", "docs/findings/")
SYNOPSIS: Final = re.compile(r"^apidae ((?:[a-z-]+ )+)\S* ?.*\[")
# Exit codes that a page says, by how the command begins; curl's is of a stream that was left.
CODES: Final = {"apidae gate": 3, "curl -N": 28}
SPEC: Final = """
openapi: 3.1.0
info: {title: Orders, version: "1"}
paths: {"/orders/{order_id}": {delete: {responses: {"200": {description: ok}}}}}
"""
# The call of docs/use/replay.md.
ASKED: Final = b"GET /v1/users/7 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer 4f9d2c81a77e4b02\r\n\r\n"
PERSON: Final = b'{"name": "Ada Lovelace", "email": "ada@example.com"}'
ANSWERED: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(PERSON),
    PERSON,
)
FIRST_TOKEN_ON: Final = "apidae keys first-token on"  # A running collector learns it within a second.
_SECONDS: Final = 120.0
_FIGURE: Final = re.compile(r"\d[\d,.:T+-]*\d|\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of a command."""

    code: Any
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What commands run with. `names`: what stands for what in a page."""

    collector: SeededCollector
    directory: Path
    environment: Mapping[str, str]
    names: Mapping[str, str]

    def run(self, words: list[str]) -> Done:
        """A command of Apidae, in this process."""
        said = io.StringIO()
        with patch.dict(os.environ, self.environment), redirect_stdout(said), redirect_stderr(said):
            try:
                APP.main(words, prog_name="apidae")
            except SystemExit as ended:
                return Done(code=ended.code, output=said.getvalue())
        raise AssertionError(f"{words} did not end")


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("documented")
    with open_seeded(directory / "data") as collector:
        write_kinds(collector)
        write_rules(collector)
        (directory / "data" / "tls").mkdir()  # Of a collector off loopback, whose certificate another authority issued.
        programs = directory / "programs"
        programs.mkdir()
        (programs / "sudo").write_text('#!/bin/sh\n[ "$1" = -u ] && shift 2\nexec "$@"\n')
        (programs / "sudo").chmod(0o755)
        environment = {
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "APIDAE_URL": collector.address,
            "APIDAE_TOKEN": collector.token,
            "APIDAE_COLLECTOR_DATA_DIR": str(directory / "data"),
            "OPENBLAS_NUM_THREADS": "1",
        }
        yield Installation(
            collector=collector, directory=directory, environment=environment, names=find_names(collector, directory)
        )


def write_kinds(collector: SeededCollector) -> None:
    """An alert of each kind that has none yet."""
    seen = {one["kind"] for one in ask(collector, "alerts?limit=500")}
    for number, kind in enumerate(kind for kind in AlertKind if kind not in seen):
        is_own = kind.row.group is KindGroup.SELF
        own = {"consumer": "", "endpoint_id": "", "node": f"node-{kind}"} if is_own else {}
        collector.report(500 + number, kind=kind, **own)


def write_rules(collector: SeededCollector) -> None:
    """Two open findings of each rule in the namespace `shop`: one for a decision on one, one for that on many."""
    risks = collector.services.risks
    assert risks is not None
    findings = [
        Finding(
            id=f"{place}{number:015x}",
            endpoint_id=endpoint_id,
            rule=rule.id,
            severity=rule.severity,
            owasp=rule.owasp,
            state=FindingState.OPEN,
            title=rule.title,
            why="Written by the test.",
            advice=rule.advice,
            signs=("one",),
            first_seen=NOW,
            last_seen=NOW,
            updated_at=NOW,
            changed_at=NOW,
            changed_by="apidae",
            note="",
            is_reopened=False,
            method="GET",
            host="shop.example",
            url_template="/users/{user_id}",
            service="shop/users:8080",
        )
        for number, (rule, _) in enumerate(load_rules())
        for place, endpoint_id in enumerate(("ep0001", "ep0002"), start=1)
    ]
    risks.table.save([], findings, [])


def ask(collector: SeededCollector, path: str) -> list[dict[str, Any]]:
    """The items of a list of the API."""
    headers = {"Authorization": f"Bearer {collector.token}"}
    items: list[dict[str, Any]] = httpx.get(f"{collector.address}/api/v1/{path}", headers=headers).json()["items"]
    return items


def accepts_token(collector: SeededCollector) -> bool:
    """Whether the first token opens something."""
    headers = {"Authorization": f"Bearer {collector.token}"}
    return httpx.get(f"{collector.address}/api/v1/me", headers=headers).is_success


def find_names(collector: SeededCollector, directory: Path) -> dict[str, str]:
    """What a page writes for what a reader has."""
    headers = {"Authorization": f"Bearer {collector.token}"}
    body = {"name": "page", "role": "admin", "days": 1, "asked_by": "ada"}
    made = httpx.post(f"{collector.address}/api/v1/tokens", headers=headers, json=body).raise_for_status().json()
    principals = [one["id"] for one in ask(collector, "consumers?limit=500") if one["kind"] == "principal"]
    return {
        "https://collector.example:8080": collector.address,
        "http://127.0.0.1:8080": collector.address,
        "export APIDAE_TOKEN=...": f"export APIDAE_TOKEN={collector.token}",
        "APIDAE_TOKEN=apidae_...": f"APIDAE_TOKEN={made['token']}",
        "curl -N": "curl -N --max-time 1",
        "principal:...": principals[0],
        "principal:9a3c...": principals[1],
        "/var/lib/apidae/collector": str(directory / "restored"),
        "/tmp/people": str(directory / "people"),
        "ALERT": collector.alert_id,
        "ENDPOINT": "ep0001",
        "FINDING": ask(collector, "findings?state=open&limit=1")[0]["id"],
        "MCP_SERVER": "ep0090",
        "SERVICE": "shop/users:8080",
    }


def fill_in(command: str, names: Mapping[str, str]) -> str:
    """A command with what the reader has."""
    for name, value in names.items():
        pattern = rf"(?<![\w$]){re.escape(name)}(?!\w)" if name.isupper() else re.escape(name)
        command = re.sub(pattern, lambda _, value=value: value, command)
    return command


def write_files(place: Path, installation: Installation) -> None:
    """A directory and a home with the files that pages speak of."""
    home = place / "home"
    for folder in (".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions"):
        (home / folder).mkdir(parents=True)
    (place / "apidae").symlink_to(ROOT)
    for name in ("api.token", "backup.token"):
        (place / name).write_bytes((installation.directory / "data" / name).read_bytes())
    (home / "shop.token").write_text(installation.collector.token)
    for path in (place / "ca.crt", home / "shop-ca.crt"):
        path.touch()
    (place / "token.txt").write_text(f"{TOKEN}\n")
    (place / "openapi.yaml").write_text(SPEC)
    (place / "model-prices.toml").write_bytes((ROOT / "deploy/examples/model-prices.toml").read_bytes())
    once = Talk().open().ask(ASKED).answer(ANSWERED)
    write_pcap(place / "calls.pcap", once.close().packets)
    twice = Talk().open().ask(ASKED).answer(ANSWERED).ask(ASKED).answer(ANSWERED)
    write_pcap(place / "shop.pcap", twice.close().packets)


def make_script(block: Block, names: Mapping[str, str]) -> str:
    """The commands of a block that run, each with the exit code that its page says."""
    lines = []
    for command in block.commands:
        if find_reason(block.page, command):
            continue
        code = next((code for start, code in CODES.items() if command.startswith(start)), 0)
        line = fill_in(command, names)
        lines.append(f"{line} || [ $? = {code} ]" if code else line)
    return "\n".join(lines)


COMMAND_BLOCKS: Final = [block for block in BLOCKS if block.language in SHELL and not block.page.startswith(ROUTES)]
KIND_BLOCKS: Final = [block for block in COMMAND_BLOCKS if block.page.startswith(GENERATED)]
SYNOPSES: Final = [block.commands[0] for block in COMMAND_BLOCKS if SYNOPSIS.match(block.commands[0])]
SHELL_BLOCKS: Final = [
    block
    for block in COMMAND_BLOCKS
    if block not in KIND_BLOCKS and block.commands[0] not in SYNOPSES and make_script(block, {})
]
SHELL_PAGES: Final = sorted({block.page for block in SHELL_BLOCKS})


@pytest.mark.parametrize("page", SHELL_PAGES)
def test_blocks_of_a_page_run(page: str, installation: Installation, tmp_path: Path) -> None:
    write_files(tmp_path, installation)
    for block in (block for block in SHELL_BLOCKS if block.page == page):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", make_script(block, installation.names)],
            cwd=tmp_path,
            env={**installation.environment, "HOME": str(tmp_path / "home")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
        assert done.returncode == 0, f"{block}: {done.stdout}"
        if FIRST_TOKEN_ON in block.text:
            wait_until(lambda: accepts_token(installation.collector), "the collector accepts its first token")
        for line in block.printed if block.language == "console" else ():
            assert is_printed(line, done.stdout), f"{block} shows {line!r}, and it prints {done.stdout}"


def is_printed(line: str, output: str) -> bool:
    """Whether the output has the line, with any figures. Of a line of JSON, which a page shortens, it has all names."""
    if names := re.findall(r'"([\w.]+)":', line):
        return all(f'"{name}":' in output for name in names)
    return _FIGURE.sub("0", line) in _FIGURE.sub("0", output)


def test_blocks_of_kinds_and_rules_run(installation: Installation) -> None:
    """Each kind has a page, and each rule, with commands of one place: so they run in this process."""
    failed = {}
    for block in KIND_BLOCKS:
        folder, name = block.page.removeprefix("docs/").removesuffix(".md").split("/")
        word = {"alerts": "kind", "findings": "rule"}[folder]
        found = ask(installation.collector, f"{folder}?{word}={name}")
        identity = next(one["id"] for one in found)
        for command in block.commands:
            done = installation.run(shlex.split(fill_in(command, {"ID": identity}))[1:])
            if done.code:
                failed[f"{block}: {command}"] = done.output
    assert len(KIND_BLOCKS) > 60 and not failed


def test_commands_have_the_options_of_their_synopsis(installation: Installation) -> None:
    wrong = {}
    for synopsis in SYNOPSES:
        words = SYNOPSIS.findall(synopsis)[0].split()
        done = installation.run([*words, "--help"])
        if done.code or not all(option in done.output for option in re.findall(r"--[a-z-]+", synopsis)):
            wrong[synopsis] = done.output
    assert len(SYNOPSES) > 100 and not wrong


def test_a_command_that_fails_and_output_that_differs_are_found(installation: Installation) -> None:
    assert installation.run(["get", "nothing"]).code == 2
    block = Block(page="docs/a.md", line=1, language="console", text="$ apidae gate\n$ false # no\nshop: 7 calls\n")
    assert make_script(block, {}) == "apidae gate || [ $? = 3 ]\nfalse # no"
    assert is_printed("shop: 7 calls", "shop: 1,024 calls\n") and not is_printed("shop: 7 calls", "shop: 7 call")
    assert not is_printed('{"a": 1}', '{"b": 1}')
    assert fill_in("apidae get risk ENDPOINT", {"ENDPOINT": "ep1"}) == "apidae get risk ep1"


def test_the_example_of_a_page_is_shown(installation: Installation) -> None:
    page = {block.language: block for block in BLOCKS if block.page == "docs/internals/console.md"}
    (program,) = [block for block in BLOCKS if block.page == page["html"].page and "PAGE = " in block.text]
    made: dict[str, Any] = {}
    exec(compile(program.text, str(program), "exec"), made)
    site = Site(installation.collector.services, [made["PAGE"]])
    loader = site.templates.loader
    assert loader is not None
    site.templates.loader = ChoiceLoader([DictLoader({"services/list.html": page["html"].text}), loader])
    app, router = FastAPI(), APIRouter()
    made["PAGE"].add_routes(router, site)
    app.include_router(router)
    with TestClient(app) as client:
        answered = client.get("/services")
    assert answered.status_code == 200
    assert "<title>Services · Apidae</title>" in answered.text and 'data-live="calls"' in answered.text


def test_statements_are_those_of_clickhouse(installation: Installation) -> None:
    for block in (block for block in BLOCKS if block.language == "sql"):
        assert installation.collector.services.store.query(f"EXPLAIN AST {block.text.strip().rstrip(';')}")
