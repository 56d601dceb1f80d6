"""What `apidae trace` prints, and how it asks a collector for the last stage."""

from collections.abc import Iterable, Iterator, Mapping
from http.client import BadStatusLine
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from sensor.agent.pause import ControlError
from sensor.cli.trace import Tables, choose_endpoint, follow_to_tables, format_event, open_tables

CALL = {
    "event": "call", "number": 1, "time": "2026-12-01T10:31:29.316000000Z", "window": "2026-12-01T10:31:20Z",
    "way": "packets", "role": "server", "client": "192.0.2.1", "client_port": 40_000, "service": "shop/orders:80",
    "version": "1.1", "method": "GET", "template": "/orders/{integer}", "status": 200, "calls": 1, "stage": "aggregate",
}  # fmt: skip
COUNTED = "counted for shop/orders:80"
SETTLED = {"event": "settled", "numbers": [1], "stage": "spool", "reason": "acknowledged"}
END = {"event": "end", "why": "30 s", "sums": {"read": 1}}


class FakeTables(Tables):
    """Answers what a test says, one a question."""

    def __init__(self, *answers: Mapping[str, str] | Exception | None) -> None:
        super().__init__("", "", None)
        object.__setattr__(self, "answers", list(answers))

    answers: list[Mapping[str, str] | Exception | None]

    def find_endpoint(self, call: Mapping[str, Any]) -> Mapping[str, Any] | None:
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


def follow(events: Iterable[Mapping[str, Any]], tables: Tables) -> Iterator[Mapping[str, Any]]:
    clock = iter(range(1_000))
    return follow_to_tables(events, tables, wait=lambda seconds: None, now=lambda: next(clock))


def test_an_endpoint_is_looked_for_until_it_is_there() -> None:
    tables = FakeTables(None, None, {"id": "e1", "template": "/orders/{order_id}"})
    *before, stored, end = follow([CALL, SETTLED, END], tables)
    assert (before, end) == ([CALL, SETTLED], END)
    assert (stored["numbers"], stored["endpoint"]) == ([1], "e1")


def test_what_is_not_in_the_tables_at_the_end_is_said_before_it() -> None:
    *_, stored, end = follow([CALL, SETTLED, END], FakeTables())
    assert stored["reason"] == "acknowledged, and not in the tables yet"
    assert end == END


def test_a_collector_that_cannot_be_asked_is_asked_once() -> None:
    events = list(follow([CALL, SETTLED, END], FakeTables(URLError("refused"), {"id": "e1", "template": "/"})))
    (stored,) = [event for event in events if event["event"] == "stored"]
    assert "cannot be asked" in stored["reason"]
    assert stored["fix"].startswith("Check --url")


def test_a_collector_that_cannot_be_asked_is_not_asked_for_later_calls() -> None:
    other = {**CALL, "number": 2, "template": "/users"}
    later = {**SETTLED, "numbers": [2]}
    tables = FakeTables(BadStatusLine("\x00"), {"id": "e1", "template": "/users"})
    events = list(follow([CALL, other, SETTLED, later, END], tables))
    stored = [event for event in events if event["event"] == "stored"]
    assert [event["numbers"] for event in stored] == [[1], [2]]
    assert all("cannot be asked" in event["reason"] for event in stored)
    assert len(tables.answers) == 1


def make_endpoint(template: str, namespace: str = "shop", port: int = 80) -> dict[str, Any]:
    return {"id": template, "template": template, "service": {"namespace": namespace, "port": port}}


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("/orders/{integer}", "/orders/{order_id}"),
        ("/orders/search", "/orders/search"),
        ("/orders/{word}", "/orders/{order_id}"),
        ("/files/v{}", "/files/v{file_id}"),
        ("/tags/{word}", "/tags/red"),
        ("/orders", None),
        ("/baskets/{integer}", None),
    ],
)
def test_the_endpoint_of_a_call_is_the_one_that_fits_best(template: str, found: str | None) -> None:
    endpoints = [
        make_endpoint(one) for one in ("/orders/search", "/orders/{order_id}", "/files/v{file_id}", "/tags/red")
    ]
    others = [make_endpoint("/orders/{order_id}", "staging"), make_endpoint("/orders/{order_id}", port=81)]
    best = choose_endpoint({**CALL, "template": template}, [*others, *endpoints])
    assert (best and (best["template"], best["service"]["namespace"])) == (found and (found, "shop"))


@pytest.mark.parametrize("token", [b"two\nlines", b"caf\xc3\xa9", b"\xff"])
def test_a_token_that_cannot_be_sent_is_one_sentence_without_it(tmp_path: Path, token: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(token)
    with pytest.raises(
        ControlError, match=r"^The API token is not printable ASCII; correct --token-file or [A-Z_]+\.$"
    ):
        open_tables("http://127.0.0.1:1", path, None)


@pytest.mark.parametrize(("name", "sentence"), [("token_file", "The token file"), ("ca_file", "The CA file")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, sentence: str) -> None:
    missing = tmp_path / "missing"
    files = {"token_file": None, "ca_file": None, name: missing}
    with pytest.raises(ControlError, match=rf"^{sentence} {missing} cannot be read \(No such file or directory\)"):
        open_tables("https://127.0.0.1:1", **files)


def test_rows_that_were_refused_are_not_looked_for() -> None:
    assert list(follow([CALL, {**SETTLED, "reason": "refused"}, END], FakeTables()))[-1] == END


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (CALL, [f"#1 10:31:29.316 192.0.2.1:40000 packets > HTTP/1.1 > GET /orders/{{integer}} 200 > {COUNTED}"]),
        (
            {**CALL, "client": "", "client_port": 0, "version": "", "status": "not read", "calls": 9, "reason": "why"},
            [
                f"#1 10:31:29.316 ? packets > HTTP > GET /orders/{{integer}} not read > 9 calls > {COUNTED}",
                "  why: why",
            ],
        ),
        ({"event": "sent", "numbers": [1, 2, 3, 7], "batches": [4, 5]}, ["#1, #2, #3, #7 > row in batch 4, 5"]),
        (
            {"event": "sent", "numbers": [1, 2, 3], "batches": [], "reason": "unwritable", "fix": "Report it."},
            ["#1 to #3 > row dropped", "  why: unwritable", "  fix: Report it."],
        ),
        (
            {**SETTLED, "reason": "spool_full", "fix": "Raise spool_bytes."},
            ["#1 > spool_full", "  fix: Raise spool_bytes."],
        ),
        (
            {
                "event": "lost",
                "stage": "kernel",
                "name": "heads past the budget",
                "reason": "Raise it.",
                "calls": 1_200,
            },
            ["lost meanwhile on this node, at stage kernel: heads past the budget (1,200)", "  why: Raise it."],
        ),
        (
            {**END, "unacknowledged": [1], "waiting_rows": [2], "advice": "See the log."},
            [
                "end after 30 s: read 1",
                "#2 are counted, and their rows have not left: they leave with their window",
                "#1 are sent, and not acknowledged",
                "  fix: See the log.",
            ],
        ),
    ],
)
def test_lines_for_people(event: Mapping[str, Any], lines: list[str]) -> None:
    assert list(format_event(event)) == lines


def test_text_from_outside_moves_no_cursor() -> None:
    (line,) = format_event({**CALL, "template": "/\x1b[2Jx"})
    assert "\x1b" not in line
