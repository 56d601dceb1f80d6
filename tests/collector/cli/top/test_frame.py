"""What the terminal shows of a snapshot, read from the API's own form."""

import re
from typing import Any

import httpx
import pytest

from collector.cli.top.frame import (
    UNKNOWN_LEGEND,
    View,
    cut_middle,
    describe_credentials,
    describe_statuses,
    draw_frame,
)
from collector.cli.top.snapshot import Snapshot, read_snapshot
from collector.cli.top.state import Sort, State

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
    "severity": "high",
    "title": "One consumer takes orders far faster than others",
    "why": "Observed 10.0 calls/s, expected 0.4",
    "opened_at": "2026-11-24T16:00:00Z",
}


def read(endpoints: list[dict[str, Any]], alerts: list[dict[str, Any]]) -> Snapshot:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"items": endpoints if request.url.path.endswith("/endpoints") else alerts})

    with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://collector.test") as client:
        return read_snapshot(client)


def make_view(snapshot: Snapshot, **fields: Any) -> View:
    return View(
        snapshot=snapshot, rates={"a": 3.2}, url="http://collector.test", elapsed_seconds=3, notes=("a note",), **fields
    )


def list_lines(snapshot: Snapshot, height: int = 40, width: int = 140, **state: Any) -> list[str]:
    return [line.plain for line in draw_frame(make_view(snapshot), State(**state), width, height).lines]


def show(snapshot: Snapshot, height: int = 40, width: int = 140, **state: Any) -> str:
    return "\n".join(list_lines(snapshot, height, width, **state))


def test_an_endpoint_is_a_row_with_all_its_figures() -> None:
    text = show(read([ENDPOINT], []))
    row = next(line for line in text.splitlines() if "/orders/{orderId}" in line)
    for expected in ("orders.service:8080", "GET", "1,234", "3.2", "4xx 2%", "12.3", "JWT", "12"):
        assert expected in row
    assert "http://collector.test" in text


def test_alerts_stand_on_top_and_closed_ones_do_not() -> None:
    closed = {**ALERT, "id": "2", "state": "closed", "title": "an old story"}
    lines = show(read([ENDPOINT], [closed, ALERT])).splitlines()
    assert "1 open alert" in lines[0]
    assert "high" in lines[1] and ALERT["title"] in lines[1]
    assert not any("an old story" in line for line in lines)


def test_the_gravest_alert_comes_first_and_of_equals_the_newest() -> None:
    older = {**ALERT, "id": "0", "opened_at": "2026-11-24T15:00:00+00:00"}
    graver = {**ALERT, "id": "2", "severity": "critical", "opened_at": "2026-11-20T15:00:00Z"}
    assert [alert.id for alert in read([], [older, ALERT, graver]).open_alerts] == ["2", "1", "0"]


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


def test_a_collector_that_does_not_answer_is_an_error_of_the_snapshot() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with httpx.Client(transport=httpx.MockTransport(refuse), base_url="http://collector.test") as client:
        assert read_snapshot(client).error == "ConnectError: refused"


def test_after_an_error_the_last_figures_are_dim_below_the_sentence() -> None:
    view = make_view(read([ENDPOINT], []), error="ConnectError: refused", stale_seconds=12)
    lines = draw_frame(view, State(), 120, 30).lines
    assert lines[1].plain == "The collector did not answer for 12 s: ConnectError: refused"
    row = next(line for line in lines if "/orders/{orderId}" in line.plain)
    assert "dim" in [span.style for span in row.spans]


def test_the_rows_that_do_not_fit_are_counted() -> None:
    many = [{**ENDPOINT, "id": str(number)} for number in range(30)]
    lines = list_lines(read(many, []), height=18)
    assert len(lines) == 18
    assert sum("/orders/{orderId}" in line for line in lines) == 14


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("sort", list(Sort))
def test_the_column_that_is_sorted_by_is_always_shown(width: int, sort: Sort) -> None:
    long = {**ENDPOINT, "template": "/internal/users/{user_id}/[export]"}
    lines = list_lines(read([long, {**long, "id": "b", "host": "other.example"}], [ALERT]), width=width, sort=sort)
    (header,) = [line for line in lines if "Credentials" in line and "Method" in line]
    assert re.search(rf"{re.escape(sort)} [▲▼]", header, re.IGNORECASE)
    assert max(map(len, lines)) <= width
    assert any(long["template"] in line for line in lines) or width == 80


def test_the_host_is_shown_where_rows_differ_by_it() -> None:
    other = {**ENDPOINT, "id": "b", "host": "other.example"}
    assert "other.example" in show(read([ENDPOINT, other], []), width=200)
    assert "shop.example" not in show(read([ENDPOINT, {**ENDPOINT, "id": "b"}], []), width=200)


@pytest.mark.parametrize(("height", "width"), [(24, 80), (40, 120), (50, 60), (8, 40)])
def test_all_of_it_fits_the_screen(height: int, width: int) -> None:
    many = [{**ENDPOINT, "id": str(number)} for number in range(60)]
    wordy = {**ALERT, "title": "ten words that say why it was raised at all " * 5}
    lines = list_lines(read(many, [wordy] * 9), height, width)
    assert len(lines) <= height and max(map(len, lines)) <= width
    assert "quit" in lines[-1]


def test_the_selected_row_is_on_the_screen_and_its_details_below_it() -> None:
    many = [{**ENDPOINT, "id": str(number), "template": f"/n{number}"} for number in range(60)]
    lines = list_lines(read(many, []), 24, 100, selected="40", expanded="40")
    place = next(index for index, line in enumerate(lines) if "/n40 " in line)
    assert any("shop.example" in line for line in lines[place + 1 : place + 3])
    assert any("apidae describe endpoint 40" in line for line in lines)


def test_a_filter_keeps_what_holds_all_its_words() -> None:
    other = {**ENDPOINT, "id": "b", "template": "/people", "method": "POST"}
    text = show(read([ENDPOINT, other], []), search="post PEOPLE")
    assert "/people" in text and "/orders" not in text
    assert "Nothing matches the filter." in show(read([ENDPOINT], []), search="zzz")


def test_unknown_credentials_have_a_legend() -> None:
    unknown = {**ENDPOINT, "authentication": {"coverage": None, "kinds": {}}}
    assert UNKNOWN_LEGEND in show(read([unknown], []))
    assert UNKNOWN_LEGEND not in show(read([ENDPOINT], []))


def test_hostile_names_steer_no_terminal() -> None:
    hostile = {**ENDPOINT, "template": "/[bold]\x1b[2J", "service": "a\x07:1"}
    text = show(read([hostile], [{**ALERT, "title": "\x1b]0;x"}]))
    assert "\x1b" not in text and "\x07" not in text and "/[bold]" in text


def test_a_long_service_keeps_both_ends() -> None:
    assert cut_middle("scripts.demo.orders:34327", 15) == "scripts…s:34327"
    assert cut_middle("orders:80", 15) == "orders:80"


def test_small_shares_are_not_rounded_away() -> None:
    assert describe_statuses([("2xx", 9_999), ("5xx", 1)]).plain == "5xx <1%"
    assert describe_statuses([("2xx", 90), ("3xx", 4), ("4xx", 6)]).plain == "4xx 6%"
    assert describe_statuses([("2xx", 3)]).plain == "2xx"
    assert describe_statuses([]).plain == ""
