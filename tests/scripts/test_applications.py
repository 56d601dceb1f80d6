"""The benchmark of real applications: what its packet capture says, and how an inventory is scored."""

from pathlib import Path

import pytest

from scripts.bench_cases.applying import observed
from scripts.bench_cases.applying.application import Application
from scripts.bench_cases.applying.observed import ObservedCall, read_calls
from scripts.bench_cases.applying.scores import score

SHOP = Application(name="shop", routes=("GET /boxes/{name}", "GET /tags/{name}", "PUT /tags/{name}"))


def _endpoint(line: str, calls: int, operation: object = None) -> dict[str, object]:
    method, template = line.split(" ")
    status = {"1xx": 0, "2xx": calls, "3xx": 0}
    kinds = {"kinds": {"none": calls}}
    return {
        "id": line, "method": method, "template": template, "calls": calls, "status": status, "authentication": kinds,
        "operation": operation,
    }  # fmt: skip


def test_a_parameter_with_one_value_may_be_that_value() -> None:
    calls = [ObservedCall("GET", "/boxes/tools", 200)] * 2 + [ObservedCall("GET", f"/tags/{n}", 200) for n in range(2)]
    right = score(SHOP, calls, [_endpoint("GET /boxes/tools", 2), _endpoint("GET /tags/{tag_id}", 2)], [], [])
    assert (right.precision, right.recall, right.missed_routes) == (1, 1, ())
    both = Application(name="both", routes=("GET /{place}/{name}/{state}",))
    open_calls = [ObservedCall("GET", f"/depot/box-{n}/open", 200) for n in range(2)]
    assert score(both, open_calls, [_endpoint("GET /depot/{depot_id}/{word}", 2)], [], []).precision == 1
    wrong = score(SHOP, calls, [_endpoint("GET /boxes/{box_id}", 2), _endpoint("GET /tags/0", 1)], [], [])
    assert (wrong.precision, wrong.recall, wrong.wrong_endpoints) == (0.5, 0.5, ("GET /tags/0",))


def test_calls_of_operations_are_those_of_their_parents() -> None:
    calls = [ObservedCall("GET", "/boxes/tools", 200)] * 3
    both = [_endpoint("GET /boxes/tools", 3), _endpoint("GET /boxes/tools", 2, {"name": "Open"})]
    assert score(SHOP, calls, both, [], []).is_exact
    assert not score(SHOP, calls, [_endpoint("GET /boxes/tools", 4)], [], []).is_exact


def test_frames_of_several_streams_in_one_packet_are_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    head = "4 53 54 20"
    rows = {
        "http2.headers": [
            ["7", "4,1,0", "0,1,1", "POST", "/a", ""],
            ["7", "8,1,0,1", "0,3,3,5", "POST,GET", "/b,/c?x=1", ""],
            ["7", "1,0,1,1", "1,1,1,3", "", "", "200,404"],
        ],
        "http.request": [
            ["1", "GET", "/d", "", ""],
            ["1", "", "", "", b"MKCALENDAR /e HTTP/1.1\r\n".hex()],
            ["1", "", "", "204", head.replace(" ", "")],
            ["1", "", "", "201", ""],
        ],
    }
    monkeypatch.setattr(observed, "_list_rows", lambda file, port, wanted, fields: rows[wanted.split(" ")[0]])
    assert read_calls(Path("none"), 80) == [
        ObservedCall("GET", "/d", 204), ObservedCall("MKCALENDAR", "/e", 201), ObservedCall("POST", "/a", 200),
        ObservedCall("POST", "/b", 404), ObservedCall("GET", "/c", 0),
    ]  # fmt: skip
