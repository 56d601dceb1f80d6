"""What the terminal shows of a snapshot, read from the API's own form."""

from typing import Any

import httpx
import pytest
from rich.console import Console

from scripts.live.inventory import Snapshot, read_snapshot
from scripts.live.table import View, describe_credentials, describe_statuses, draw

ENDPOINT: dict[str, Any] = {
    "id": "a",
    "service": {"workload": "orders.service", "port": 8080, "host_name": "node-1"},
    "host": "shop.example",
    "method": "GET",
    "template": "/orders/{orderId}",
    "calls": 1_234,
    "status": {"1xx": 0, "2xx": 1_200, "3xx": 0, "4xx": 30, "5xx": 4, "aborted": 0},
    "latency_ms": {"p50": 1.0, "p95": 12.3, "p99": 20.0},
    "authentication": {"coverage": 1.0, "level": "full", "kinds": {"bearer_jwt": 1_234}},
    "consumers": 12,
}
ALERT: dict[str, Any] = {
    "id": "1",
    "kind": "volume_pair",
    "state": "open",
    "title": "One consumer takes orders far faster than others",
    "why": "Observed 10.0 calls/s, expected 0.4",
    "opened_at": "2026-11-24T16:00:00Z",
}


def read(endpoints: list[dict[str, Any]], alerts: list[dict[str, Any]]) -> Snapshot:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"items": endpoints if request.url.path.endswith("/endpoints") else alerts})

    with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://collector.test") as client:
        return read_snapshot(client)


def show(snapshot: Snapshot, height: int = 40, width: int = 140) -> str:
    console = Console(width=width)
    view = View(
        snapshot=snapshot,
        rates={"a": 3.2},
        url="http://collector.test",
        elapsed_seconds=3,
        notes=("a note",),
        height=height,
        width=width,
    )
    with console.capture() as capture:
        console.print(draw(view))
    return capture.get()


def test_an_endpoint_is_a_row_with_all_its_figures() -> None:
    text = show(read([ENDPOINT], []))
    row = next(line for line in text.splitlines() if "/orders/{orderId}" in line)
    for expected in ("orders.service:8080", "GET", "1,234", "3.2", "4xx 2%", "12.3", "JWT", "12"):
        assert expected in row
    assert "http://collector.test" in text


def test_alerts_stand_on_top_and_closed_ones_do_not() -> None:
    closed = {**ALERT, "id": "2", "state": "closed", "title": "an old story"}
    lines = show(read([ENDPOINT], [closed, ALERT])).splitlines()
    assert "1 alert" in lines[0]
    assert ALERT["title"] in lines[1]
    assert not any("an old story" in line for line in lines)


def test_the_newest_alert_comes_first() -> None:
    older = {**ALERT, "id": "0", "opened_at": "2026-11-24T15:00:00+00:00"}
    assert [alert.id for alert in read([], [older, ALERT]).open_alerts] == ["1", "0"]


def test_open_access_is_said_and_unknown_is_not_called_open() -> None:
    exposed = {**ENDPOINT, "authentication": {"coverage": 0.0, "kinds": {"none": 9}}}
    unknown = {**ENDPOINT, "authentication": {"coverage": None, "kinds": {"none": 9}}}
    partly = {**ENDPOINT, "authentication": {"coverage": 0.5, "kinds": {"api_key_header": 5, "none": 5}}}
    lines = read([exposed, unknown, partly], []).endpoints
    assert [describe_credentials(line).plain for line in lines] == ["none", "?", "API key 50%"]


def test_calls_that_were_not_read_are_marked_and_have_no_status() -> None:
    unread = {**ENDPOINT, "calls": 31_099, "is_estimated": True, "status": {"2xx": 0, "not_read": 31_099}}
    (line,) = read([unread], []).endpoints
    assert (line.is_estimated, line.statuses) == (True, ())
    assert "≈ 31,099" in show(read([unread], []))


def test_what_is_missing_or_odd_is_shown_as_unknown() -> None:
    odd = {"id": 7, "service": "orders:80", "authentication": None, "latency_ms": "fast", "status": None}
    (line,) = read([odd], [{}]).endpoints
    assert (line.service, line.p95_ms, line.coverage, line.statuses) == ("orders:80", None, None, ())


def test_a_collector_that_does_not_answer_is_told() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with httpx.Client(transport=httpx.MockTransport(refuse), base_url="http://collector.test") as client:
        snapshot = read_snapshot(client)
    assert "did not answer: ConnectError: refused" in show(snapshot)


def test_rows_past_the_screen_are_counted() -> None:
    many = [{**ENDPOINT, "id": str(number)} for number in range(30)]
    text = show(read(many, []), height=18)
    assert text.count("/orders/{orderId}") == 10
    assert "and 20 more" in text


@pytest.mark.parametrize(("width", "hidden"), [(80, ["p95 ms", "Status", "Consumers"]), (120, []), (200, [])])
def test_a_path_is_whole_while_columns_can_give_way(width: int, hidden: list[str]) -> None:
    long = {**ENDPOINT, "template": "/internal/users/{user_id}/[export]"}
    text = show(read([long], [ALERT]), width=width)
    assert long["template"] in text and "rvice:8080" in text
    assert [title for title in ("p95 ms", "Status", "Consumers") if title not in text] == hidden
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(("height", "width"), [(24, 80), (40, 120), (50, 60)])
def test_all_of_it_fits_the_screen(height: int, width: int) -> None:
    many = [{**ENDPOINT, "id": str(number)} for number in range(60)]
    wordy = {**ALERT, "why": "ten words that say why it was raised at all " * 5}
    lines = show(read(many, [wordy]), height, width).splitlines()
    assert len(lines) <= height
    assert "Ctrl-C stops" in lines[-1]


def test_small_shares_are_not_rounded_away() -> None:
    assert describe_statuses([("2xx", 9_999), ("5xx", 1)]).plain == "5xx <1%"
    assert describe_statuses([("2xx", 90), ("3xx", 4), ("4xx", 6)]).plain == "4xx 6%"
    assert describe_statuses([("2xx", 3)]).plain == "2xx"
    assert describe_statuses([]).plain == ""
