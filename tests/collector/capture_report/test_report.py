"""Reports of captures: what is in them, what is not, and that the page stands alone."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer

from collector.capture_report.content import CaptureReport
from collector.capture_report.page import make_report, render_json, render_page, summarize
from sensor.capture.files.capture_file import CapturedPacket, CaptureFile
from sensor.cli.capture_node import CaptureNode
from sensor.cli.capture_sources import PacketSource
from sensor.cli.replay import Replay, load_report_writer, write_capture_report
from tests.collector.capture_report.captures import CANARIES, Capture, answer, ask, make_shop
from tests.sensor.capture.files.packets import Talk, write_pcap
from tests.sensor.capture.files.test_har import make_entry, write_har

EVALUATION = os.environ.get("APIDAE_EVAL_DIR")
SHOP, PEOPLE = "10.0.0.2:8080", "10.0.0.3:8081"


def report_on(path: Path) -> CaptureReport:
    capture = CaptureFile(path)
    try:
        return make_report(CaptureNode(PacketSource(capture, capture), path))
    finally:
        capture.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> CaptureReport:
    """Made without a connection to anybody."""

    def refuse(*arguments: object) -> None:
        raise AssertionError(f"a connection to {arguments[1:]}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        return report_on(make_shop().write(tmp_path_factory.mktemp("shop") / "shop.pcap"))


@pytest.fixture(scope="module")
def page(shop: CaptureReport) -> str:
    return render_page(shop)


def test_the_inventory_has_each_endpoint_with_its_figures(shop: CaptureReport) -> None:
    found = {(service.name, one.method, one.url_template): one for service, one in shop.endpoints}
    orders = found[SHOP, "GET", "/orders/{order_id}"]
    assert (orders.calls, orders.success, orders.authentication_kinds) == (31, 31, ("bearer_opaque",))
    assert orders.p50_ms is not None and orders.p95_ms is not None and 0.9 < orders.p50_ms <= orders.p95_ms < 1.2
    assert found[SHOP, "DELETE", "/baskets/{basket_id}"].server_error == 3
    assert found[PEOPLE, "GET", "/people/{person_id}"].calls == 10
    assert sum(one.client_error for one in found.values()) == 120
    assert sum(service.calls for service in shop.services) == shop.account.calls


def test_credentials_are_kinds_and_who_needs_none_is_listed(shop: CaptureReport) -> None:
    kinds = {one.kind: one for one in shop.credentials}
    assert kinds["bearer_opaque"].calls == 30
    assert kinds["api_key_query"].carriers == ("query api_key",)
    open_ones = {(service.name, one.url_template) for service, one in shop.unauthenticated}
    assert (PEOPLE, "/people/{person_id}") in open_ones
    assert open_ones.isdisjoint({(SHOP, "/orders/{order_id}"), (SHOP, "/login")})


def test_sensitive_data_is_named_by_endpoint(shop: CaptureReport) -> None:
    people = next(one for _, one in shop.endpoints if one.url_template == "/people/{person_id}")
    assert {(one.kind, one.side, one.share) for one in people.data} == {
        ("email", "response", 1.0),
        ("person_name", "response", 1.0),
        ("credit_card", "response", 1.0),
    }
    assert people.has_personal_data


def test_findings_and_alerts_are_those_of_a_collector(shop: CaptureReport) -> None:
    rules = {(one.rule, one.severity) for one in shop.findings}
    assert ("personal_data_without_authentication", "critical") in rules
    assert ("credentials_in_url", "medium") in rules
    alerts = {one.kind: one for one in shop.alerts}
    assert "203.0.113.67" in alerts["injection"].title
    assert "203.0.113.66" in alerts["scanning"].title
    assert "unauthenticated_sensitive_data" in alerts
    # The clock of the alerts is the capture's.
    first, last = shop.account.first_unix_ns // 10**9, shop.account.last_unix_ns // 10**9
    assert all(first <= one.opened_at <= last + 60 for one in shop.alerts)


def test_what_could_not_be_read_is_said(shop: CaptureReport, page: str) -> None:
    unread = {part.what: part.count for part in shop.account.unread}
    assert unread == {"Connections to 10.0.0.4:443 (tls)": 1, "Gaps in connections": 1}
    assert "Encrypted: capture behind the program that ends TLS" in page


def test_no_value_of_a_call_is_in_a_report(shop: CaptureReport, page: str) -> None:
    for text in (page, render_json(shop)):
        assert len(text) > 5_000
        assert not [canary for canary in CANARIES if canary in text]


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_stands_alone(page: str) -> None:
    elements = _Elements()
    elements.feed(page)
    assert not elements.wrong and not elements.open
    assert elements.names.isdisjoint({"script", "link", "img", "iframe", "object", "form"})
    assert not re.search(r"https?://|url\(|@import|\bon\w+=", page)
    links = [value for _, name, value in elements.attributes if name in ("href", "src")]
    targets = {f"#{value}" for _, name, value in elements.attributes if name == "id"}
    assert links and set(links) <= targets
    assert "prefers-color-scheme: dark" in page and "@media print" in page


def test_calls_of_grpc_are_in_the_inventory(shop: CaptureReport) -> None:
    (method,) = [one for _, one in shop.endpoints if one.url_template == "/shop.v1.Cart/Add"]
    assert (method.calls, method.success, method.protocols) == (3, 3, ("grpc",))


def test_json_has_all_that_the_page_has(shop: CaptureReport) -> None:
    read = json.loads(render_json(shop))
    assert read["account"]["calls"] == shop.account.calls
    assert len(read["alerts"]) == len(shop.alerts) and len(read["findings"]) == len(shop.findings)


# As `apidae` starts, without the packages of a sensor that captures.
_PROGRAM = "import sys; sys.modules['bcc'] = None; sys.argv[0] = 'apidae'; from common.main import main; main()"


@pytest.mark.full
def test_the_command_makes_the_same_report_again_without_root_and_bcc(shop: CaptureReport) -> None:
    with tempfile.TemporaryDirectory() as directory:  # Directories of pytest are for the user of the tests alone.
        _run_as_nobody(Path(directory), shop)


def _run_as_nobody(directory: Path, shop: CaptureReport) -> None:
    make_shop().write(directory / "shop.pcap")
    user: dict[str, object] = {}
    if os.geteuid() == 0:
        os.chown(directory, 65_534, 65_534)
        user = {"user": 65_534, "group": 65_534, "extra_groups": []}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, "replay", "shop.pcap", "--report", "out.json"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        **user,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.startswith("out.json: ")
    assert (directory / "out.json").read_text() == render_json(shop)
    assert sorted(path.name for path in directory.iterdir()) == ["out.json", "shop.pcap"]


@pytest.mark.full
@pytest.mark.parametrize(
    ("make", "endpoints"),
    [
        # Long ago, over some days, and without any time: nothing is deleted as old, and spans hold all calls.
        pytest.param(lambda: _at(-400_000_000.0), 1, id="years ago"),
        pytest.param(lambda: _at(*range(0, 3 * 86_400, 43_200)), 1, id="three days"),
        pytest.param(lambda: _at(-1_760_000_000.0), 1, id="1970"),
        pytest.param(lambda: Talk().open().ask(b"\x00" * 100).close().packets, 0, id="no HTTP"),
    ],
)
def test_captures_of_any_time_are_reported(
    tmp_path: Path, make: Callable[[], list[CapturedPacket]], endpoints: int
) -> None:
    packets = make()
    report = report_on(write_pcap(tmp_path / "x.pcap", sorted(packets, key=lambda packet: packet.time_ns)))
    assert len(report.endpoints) == endpoints
    assert sum(service.calls for service in report.services) == report.account.calls
    text = render_page(report)
    assert summarize(report) in text
    if not endpoints:
        assert "No HTTP call could be read in x.pcap." in text


@pytest.mark.full
def test_calls_long_before_earlier_ones_are_counted_as_missing(tmp_path: Path) -> None:
    report = report_on(write_pcap(tmp_path / "x.pcap", _at(0, -40 * 86_400.0, 20)))
    assert (report.account.calls, sum(service.calls for service in report.services)) == (3, 2)
    assert [(part.what, part.count) for part in report.account.unread] == [("Calls out of the order of time", 1)]


def _at(*seconds: float) -> list[CapturedPacket]:
    capture = Capture([])
    for one in seconds:
        capture.call(ask("GET", "/orders/7", "Authorization: Bearer t0"), answer("{}"), seconds=one)
    return capture.packets


def test_hostile_texts_are_escaped(shop: CaptureReport) -> None:
    account = replace(shop.account, file_name='<img src=x onerror="alert(1)">\u202e.pcap')
    text = render_page(replace(shop, account=account))
    assert "<img" not in text and "\u202e" not in text


def test_a_report_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.pcap").write_bytes(b"not a capture")
    with pytest.raises(typer.Exit):
        write_capture_report(tmp_path / "x.pcap", tmp_path / "x.html", ())
    assert re.fullmatch(r"apidae: .*x\.pcap is no capture: it starts with .*\n", capsys.readouterr().err)


@pytest.mark.parametrize("name", ["nowhere/out.html", "taken.html"])
def test_a_report_that_nobody_could_write_is_refused_before_the_capture_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "taken.html").mkdir()
    (tmp_path / "x.pcap").write_bytes(b"not a capture, which nobody gets to know")
    with pytest.raises(typer.Exit):
        write_capture_report(tmp_path / "x.pcap", tmp_path / name, ())
    assert re.fullmatch(rf"apidae: .*{name} cannot be written; name a file .*\n", capsys.readouterr().err)


def test_a_pipe_is_refused_before_it_is_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(typer.Exit):
        write_capture_report(tmp_path / "pipe", tmp_path / "x.html", ())
    assert "pipe is no regular file" in capsys.readouterr().err


def test_the_entry_point_is_the_collectors() -> None:
    assert load_report_writer().__module__ == "collector.capture_report.page"


@pytest.mark.full
def test_a_har_file_is_reported(tmp_path: Path) -> None:
    entries = [
        make_entry(f"https://api.example/v1/users/{number}", startedDateTime=f"2025-10-09T08:53:{number:02d}.000Z")
        for number in range(10, 40)
    ]
    write_capture_report(write_har(tmp_path, *entries), tmp_path / "x.html", ())
    text = (tmp_path / "x.html").read_text()
    assert "30 calls to 1 endpoint of 1 service" in text
    assert "api.example:443" in text and "/v1/users/{user_id}" in text and "E-mail address" in text
    assert "packets" not in text and "jane@" not in text and "t0ps3cret" not in text


@pytest.mark.skipif(EVALUATION is None, reason="APIDAE_EVAL_DIR names no evaluation data")
@pytest.mark.full
def test_captures_of_others_give_the_calls_that_replay_gives() -> None:
    counted = 0
    for path in sorted((Path(str(EVALUATION)) / "protocol").rglob("*.pcap*")):
        capture, again = CaptureFile(path), CaptureFile(path)
        node, replay = CaptureNode(PacketSource(capture, capture), path), Replay()
        messages, _ = list(node.read()), list(replay.run(again))
        capture.close()
        again.close()
        excluded = sum(part.count for part in node.count().unread if part.what.startswith("Health checks"))
        assert node.count().calls + excluded == replay.counts.calls, path.name
        counted += len(messages)
    assert counted > 100
