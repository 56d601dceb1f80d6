"""The commands that ask a collector, end to end: typer's runner, the real app, the embedded store."""

import csv
import io
import json
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner, Result

from collector import query_cli
from collector.api.app import ApiSettings, build_app
from collector.store.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts, make_alert
from tests.collector.inventory.seed import NOW, Seed, write_watch

pytestmark = pytest.mark.store

TOKEN = "correct-horse"
HOSTILE = "=cmd|' /C calc'!A0[bold]\x1b[31m"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = EmbeddedStore(tmp_path_factory.mktemp("store"))
    seed = Seed()
    seed.calls(seed.endpoint(1, "GET", "/orders/{order_id}"), 100)
    seed.calls(seed.endpoint(2, "GET", "/x", host=HOSTILE), 5, client_address="10.0.0.7")
    seed.write(store)
    write_watch(store)
    app = build_app(
        store=store,
        alerts=MemoryAlerts(make_alert("a1")),
        settings=ApiSettings(token=TOKEN, version="0.1.0"),
        clock=lambda: NOW,
        readiness=lambda: "",
        metrics=lambda: b"",
    )
    with TestClient(app) as opened:
        yield opened
    store.close()


class _Held:
    """`httpx.Client(...)` of the command, answered by the app in this process."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def __enter__(self) -> TestClient:
        return self._client

    def __exit__(self, *_: object) -> None:
        """The fixture closes it."""


@pytest.fixture
def apidae(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(query_cli.httpx, "Client", lambda **_: _Held(client))
    app = typer.Typer()
    query_cli.register(app)

    def run(*words: str, token: str = TOKEN) -> Result:
        return CliRunner().invoke(app, [*words, "--token", token], env={"COLUMNS": "220"})

    return run


def test_json_is_what_the_api_says(apidae):
    items = json.loads(apidae("endpoints", "-q", "order_id", "-o", "json").stdout)
    assert [(item["template"], item["calls"]) for item in items] == [("/orders/{order_id}", 100)]


def test_a_table_shows_hostile_text_without_obeying_it(apidae):
    result = apidae("endpoints")
    assert result.exit_code == 0
    assert "/orders/{order_id}" in result.stdout
    assert "\x1b" not in result.stdout
    assert "[bold]" in result.stdout


def test_no_cell_of_the_csv_is_a_formula(apidae):
    rows = list(csv.DictReader(io.StringIO(apidae("endpoints", "-o", "csv").stdout)))
    assert {row["host"] for row in rows} == {"shop.example", f"'{HOSTILE}"}
    assert rows[0]["calls"] == "100"


@pytest.mark.parametrize(
    ("command", "column", "values"),
    [
        ("consumers", "consumer", {"address:10.0.0.9", "address:10.0.0.7"}),
        ("alerts", "id", {"a1"}),
        ("coverage", "port", {"80", "443", "22"}),
        ("sensors", "loss_ratio", {"0.015"}),
    ],
)
def test_every_command_answers(apidae, command, column, values):
    rows = list(csv.DictReader(io.StringIO(apidae(command, "-o", "csv").stdout)))
    assert {row[column] for row in rows} == values


@pytest.mark.parametrize(
    ("words", "token", "sentence"),
    [
        (("endpoints",), "wrong", "401: The API token is wrong; use the one"),
        (("endpoints", "--sort", "size"), TOKEN, "422: The parameter 'sort' is 'size'; use one of 'calls'"),
        (("endpoints", "--since", "2h"), TOKEN, "The parameter 'since' is '2h'"),
        (("alerts", "--state", "shut"), TOKEN, "The parameter 'state' is 'shut'"),
    ],
)
def test_a_refusal_is_one_sentence(apidae, words, token, sentence):
    result = apidae(*words, token=token)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert result.stdout == ""


def test_nobody_there_is_one_sentence():
    app = typer.Typer()
    query_cli.register(app)
    result = CliRunner().invoke(app, ["endpoints", "--url", "http://127.0.0.1:1"])
    assert result.exit_code == 1
    assert "The collector at http://127.0.0.1:1 cannot be reached" in result.stderr
    assert "--url or APIDAE_URL" in result.stderr
