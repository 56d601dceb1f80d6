"""The commands that ask a collector, end to end: typer's runner, the real app, the embedded store."""

import csv
import io
import json
import re
from collections.abc import Iterator

import httpx
import pytest
import typer
import yaml
from rich.console import Console
from typer.testing import CliRunner, Result

from collector.api.columns import pick
from collector.api.services import ApiSettings, Services
from collector.cli import output as table
from collector.cli.client import LOOKED_UP, Api, name_commands
from collector.cli.commands import register
from collector.cli.lists import LISTS
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts, make_alert
from tests.collector.inventory.seed import FALLBACK_REASON, NOW, Seed, write_watch
from tests.collector.states import create_state

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
    registry = write_watch(store)
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            registry=registry,
            alerts=MemoryAlerts(make_alert("a1")),
            settings=ApiSettings(token=TOKEN, version="0.1.0"),
            clock=lambda: NOW,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
        )
    )
    with TestClient(app) as opened:
        yield opened
    store.close()


class Held:
    """`httpx.Client(...)` of the command, answered by the app in this process."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def __enter__(self) -> TestClient:
        return self._client

    def __exit__(self, *_: object) -> None:
        """The fixture closes it."""


@pytest.fixture
def apidae(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(httpx, "Client", lambda **_: Held(client))
    app = typer.Typer()
    register(app)

    def run(*words: str, token: str = TOKEN) -> Result:
        return CliRunner().invoke(app, [*words, "--token", token], env={"COLUMNS": "220"})

    return run


def test_json_is_what_the_api_says(apidae):
    items = json.loads(apidae("get", "endpoints", "-q", "order_id", "-o", "json").stdout)
    assert [(item["template"], item["calls"]) for item in items] == [("/orders/{order_id}", 100)]


def test_the_evidence_of_an_alert_says_how_it_was_judged_above_its_rows(apidae):
    shown = apidae("get", "evidence", "a1")
    assert "observed 10.4 calls/s, expected 15.6 calls/min, limit 2.0 calls/s" in shown.stderr
    assert "the same by /api/v1/calls?endpoint=ep0001&consumer=address%3A10.0.0.9&start=" in shown.stderr
    rows = list(csv.DictReader(io.StringIO(apidae("get", "evidence", "a1", "-o", "csv").stdout)))
    assert [row["calls"] for row in rows] == ["100"]
    missing = apidae("get", "evidence", "nothing")
    assert (missing.exit_code, "look it up in `apidae get alerts`" in missing.stderr) == (1, True)


def test_a_place_in_a_list_is_that_of_each_of_its_items():
    assert pick({"holders": [{"label": "shop/a"}, {"label": "shop/b"}]}, "holders.label") == "shop/a, shop/b"
    assert pick({"holders": []}, "holders.label") == ""


def test_a_service_is_named_with_its_namespace():
    """The same workload in two namespaces is two services."""
    services = [{"namespace": namespace, "workload": "orders", "port": 80} for namespace in ("shop", "")]
    assert [pick({"service": one}, "service") for one in services] == ["shop/orders", "orders"]


def test_exposure_is_a_command(apidae):
    found = apidae("get", "exposure", "-o", "json")
    assert found.exit_code == 0 and json.loads(found.stdout) == []


def test_a_table_shows_hostile_text_without_obeying_it(apidae):
    result = apidae("get", "endpoints")
    assert result.exit_code == 0
    assert "/orders/{order_id}" in result.stdout
    assert "\x1b" not in result.stdout
    assert "[bold]" in result.stdout


@pytest.mark.parametrize(
    ("width", "hidden"),
    [(80, {"consumers", "p95_ms", "2xx", "host", "service"}), (120, {"host", "tier", "last_seen"}), (400, set())],
)
def test_a_table_leaves_out_columns_before_it_breaks_words(width, hidden):
    columns = LISTS["endpoints"].columns
    cells = [
        [
            "e5a0c3f1d2b4a697",
            "GET",
            "127.0.0.1:8080",
            "/users/{user_id}/export",
            "get_order",
            "scripts.demo.users",
            *["12345"] * 5,
            "1.2",
            "none",
        ]
    ]
    cells[0] += [
        "5",
        "confirmed",
        "2026-11-24T19:29:30Z",
        "http/1.1",
        "contact",
        "12",
        "external",
        "documented",
        "Deployment",
        "docker.io/library/nginx",
        "1.27",
        "72",
        "api_key_header, none",
    ]
    printed = io.StringIO()
    Console(file=printed, width=width).print(table.draw_table(columns, cells, width))
    head, _, row, *rest = [line for line in printed.getvalue().splitlines() if line.strip()]
    shown = set(head.split())
    assert shown.isdisjoint(hidden)
    assert {"id", "method", "template", "calls", "credentials"} <= shown
    assert "/users/{user_id}/export" in row and "e5a0c3f1d2b4a697" in row
    assert all(name in " ".join(rest) for name in hidden)
    assert max(map(len, printed.getvalue().splitlines())) <= width


def test_a_table_too_wide_for_any_choice_is_broken_and_not_cut():
    cells = [["e1", "GET", "", "/a/" + "b" * 90, "", "shop", "1", *[""] * (len(LISTS["endpoints"].columns) - 7)]]
    printed = io.StringIO()
    Console(file=printed, width=60).print(table.draw_table(LISTS["endpoints"].columns, cells, 60))
    assert printed.getvalue().count("b") >= 90
    assert "…" not in printed.getvalue()


def test_nothing_found_is_said(apidae):
    assert "nothing found" in apidae("get", "endpoints", "-q", "no-such-thing").stdout


def test_no_cell_of_the_csv_is_a_formula_or_steers_a_terminal(apidae):
    rows = list(csv.DictReader(io.StringIO(apidae("get", "endpoints", "-o", "csv").stdout)))
    assert {row["host"] for row in rows} == {"shop.example", f"'{HOSTILE}".replace("\x1b", "\ufffd")}
    assert rows[0]["calls"] == "100"


@pytest.mark.parametrize(
    ("command", "column", "values"),
    [
        ("consumers", "consumer", {"address:10.0.0.9", "address:10.0.0.7"}),
        ("alerts", "id", {"a1"}),
        ("coverage", "port", {"80", "443", "22", "8080", "0"}),
        ("sensors", "loss_ratio", {"0.015"}),
        ("sensors", "capture", {"syscalls"}),
        ("sensors", "fallback_reason", {FALLBACK_REASON}),
        ("sensors", "certificate_left_days", {"27.0"}),
    ],
)
def test_every_command_answers(apidae, command, column, values):
    rows = list(csv.DictReader(io.StringIO(apidae("get", command, "-o", "csv").stdout)))
    assert {row[column] for row in rows} == values


def test_coverage_by_node_and_what_was_lost(apidae):
    nodes = list(csv.DictReader(io.StringIO(apidae("get", "coverage", "--nodes", "-o", "csv").stdout)))
    assert [row["node"] for row in nodes] == ["(all)", "node-1"]
    assert {round(float(row["read_connections_ratio"]), 3) for row in nodes} == {round(102 / 502, 3)}
    losses = list(csv.DictReader(io.StringIO(apidae("get", "coverage", "--losses", "-o", "csv").stdout)))
    assert {row["reason"] for row in losses} == {"ring_full", "malformed"}
    assert all(row["meaning"] and row["advice"] for row in losses)


def test_coverage_lists_what_is_never_read(apidae):
    rows = list(csv.DictReader(io.StringIO(apidae("get", "coverage", "--blind-spots", "-o", "csv").stdout)))
    assert [row["kind"] for row in rows] == ["http3", "unix", "sockmap", "kernel_tls", "exclusions"]
    assert [row["places"] for row in rows] == ["1", "1", "0", "0", "0"]
    assert all(row["meaning"] for row in rows)


def test_coverage_is_filtered(apidae):
    rows = list(csv.DictReader(io.StringIO(apidae("get", "coverage", "--reading", "unseen", "-o", "csv").stdout)))
    assert [(row["service"], row["address"]) for row in rows] == [("php", "/run/php.sock")]


@pytest.mark.parametrize(
    ("words", "token", "sentence"),
    [
        (("endpoints",), "wrong", "did not accept the API token; name the file of its token by --token-file"),
        (("endpoints", "--auth", "pigeon"), TOKEN, "422: The parameter 'auth' is 'pigeon'; use one of"),
    ],
)
def test_a_refusal_is_one_sentence(apidae, words, token, sentence):
    result = apidae("get", *words, token=token)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("url", "token", "sentence"),
    [
        ("http://127.0.0.1:1", "", "The collector at http://127.0.0.1:1 cannot be reached"),
        ("nonsense", "", "The URL is 'nonsense'; it must begin with http:// or https://; set --url or APIDAE_URL."),
        (
            "http://127.0.0.1:1",
            "geh\u00e9im",
            "The API token is not printable ASCII; correct --token-file or APIDAE_TOKEN.",
        ),
        (
            "http://127.0.0.1:1",
            "geheim\nx",
            "The API token is not printable ASCII; correct --token-file or APIDAE_TOKEN.",
        ),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(url, token, sentence):
    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(app, ["get", "endpoints", "--url", url, "--token", token])
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert "geh" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_notifiers_are_listed_and_an_unknown_one_is_told_in_a_sentence(apidae):
    assert json.loads(apidae("get", "notifiers", "-o", "json").stdout) == []
    failed = apidae("notifiers", "test", "pager")
    assert (failed.exit_code, "There is no notifier" in failed.output) == (1, True)
    assert json.loads(apidae("get", "incidents", "-o", "json").stdout) == []


def test_one_thing_is_described_in_sections_or_as_the_api_says_it(apidae):
    shown = apidae("describe", "endpoint", "ep0001")
    assert shown.exit_code == 0, shown.output
    assert re.search(r"^template +/orders/\{order_id\}$", shown.stdout, re.MULTILINE)
    assert "Busiest consumers (1)" in shown.stdout and "address:10.0.0.9" in shown.stdout
    assert json.loads(apidae("describe", "endpoint", "ep0001", "-o", "json").stdout)["template"] == "/orders/{order_id}"
    assert yaml.safe_load(apidae("describe", "alert", "a1", "-o", "yaml").stdout)["id"] == "a1"
    for words in (("consumer", "address:10.0.0.9"), ("alert", "a1"), ("sensor", "node-1")):
        assert apidae("describe", *words).exit_code == 0
    hostile = apidae("describe", "service", "shop/orders")
    assert hostile.exit_code in (0, 1) and "\x1b" not in hostile.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("describe", "endpoint", "nothing"), "404: No call to an endpoint 'nothing'"),
        (("describe", "sensor", "nothing"), "There is no sensor 'nothing'; `apidae get sensors` lists them."),
        (("describe", "alert", "a1", "-o", "csv"), "One alert is printed as table, wide, json or yaml"),
    ],
)
def test_what_cannot_be_described_is_one_sentence(apidae, words, sentence):
    result = apidae(*words)
    assert (result.exit_code, sentence in result.stderr, result.stderr.count("\n")) == (1, True, 1)


def test_all_pages_are_one_list_and_a_page_says_that_it_is_one(apidae):
    page = apidae("get", "endpoints", "--limit", "1", "-o", "name")
    assert (page.stdout, page.stderr) == ("ep0001\n", "1 of 2 shown; --all shows all.\n")
    whole = apidae("get", "endpoints", "--all", "-o", "name", "--sort", "calls")
    assert (whole.stdout.split(), whole.stderr) == (["ep0001", "ep0002"], "")


def test_a_table_without_headers_is_rows_alone(apidae):
    rows = apidae("get", "consumers", "--no-headers").stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["address:10.0.0.9", "address:10.0.0.7"]
    assert apidae("get", "consumers", "--no-headers", "-o", "csv").stdout.startswith("address:10.0.0.9,")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((12_345, "12,345"), (1190.4, "1,190"), (3.14159, "3.14"), (0.00123, "0.00123"), (0.0, "0"), (99.96, "100")),
        *((1e12, "1,000,000,000,000"), (1e-9, "0"), (True, "yes"), (None, ""), ("GET", "GET"), (float("inf"), "inf")),
    ],
)
def test_numbers_are_for_people(value, text):
    assert table.write_value(value) == text


def test_ports_are_names(apidae):
    assert " 8080 " in apidae("get", "coverage").stdout


def test_identify_reads_standard_input_and_says_who_it_is_not(apidae, client):
    app = typer.Typer()
    register(app)
    words = ["consumers", "identify", "--token", TOKEN]
    empty = CliRunner().invoke(app, words, input=" \n")
    assert empty.exit_code == 1 and "Standard input is empty" in empty.stderr
    unknown = CliRunner().invoke(app, words, input="4f9d2c81a77e4b02\n")
    assert unknown.exit_code == 0 and "Nobody called with it" in unknown.stderr
    assert "4f9d2c81" not in unknown.output
    argument = CliRunner().invoke(app, [*words, "4f9d2c81a77e4b02"])
    assert argument.exit_code == 2


def test_a_label_is_given_shown_in_the_list_and_taken_away(apidae):
    given = apidae("set", "consumer-label", "address:10.0.0.7", "crawler", "--note", "of marketing")
    assert given.exit_code == 0, given.output
    [item] = json.loads(apidae("get", "consumers", "--label", "crawl", "-o", "json").stdout)
    assert (item["id"], item["label"]["name"]) == ("address:10.0.0.7", "crawler")
    assert "crawler" in apidae("get", "consumers").stdout and "of marketing" in apidae("get", "consumer-labels").stdout
    assert apidae("set", "consumer-label", "address:10.0.0.7", "").exit_code == 0
    assert json.loads(apidae("get", "consumer-labels", "-o", "json").stdout) == []


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("Hostname mismatch, certificate is not valid for 'a.example'.", "use a name that it has in --url"),
        ("self-signed certificate in certificate chain", "name the file of its authority by --ca-file"),
    ],
)
def test_a_certificate_of_another_name_is_not_blamed_on_the_authority(reason, sentence):
    error = httpx.ConnectError(f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {reason} (_ssl.c:1)")
    assert sentence in Api(url="https://a.example:8080", token="").explain_failure(error)


def test_sentences_of_the_api_name_commands_that_exist(apidae):
    assert name_commands("look it up in /api/v1/mcp/servers or") == "look it up in `apidae get mcp-servers` or"
    assert name_commands("look it up in /api/v1/sessions.") == "look it up in /api/v1/sessions."
    assert [name for name in LOOKED_UP if apidae("get", name, "--help").exit_code] == []


def test_an_operation_of_an_endpoint_has_its_name_in_the_list():
    columns = {column.name: column.place for column in LISTS["endpoints"].columns}
    assert pick({"operation": {"name": "get_order"}}, columns["operation"]) == "get_order"
    assert pick({"operation": None}, columns["operation"]) is None
