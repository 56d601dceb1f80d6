"""Bodies of replayed calls: kinds and records, and no value."""

import json

import pytest

from tests.sensor.capture.files.packets import GET, OK, Talk, run
from tests.sensor.describe.bodies.messages import ENCODERS, chunk, response_head


@pytest.mark.parametrize("coding", ["", "gzip", "br"])
@pytest.mark.parametrize("size", [1_400, 13])
def test_bodies_tell_kinds_and_records_and_no_value(coding: str, size: int) -> None:
    ask = b"POST /login HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 24\r\n\r\n"
    body = json.dumps({"items": [{"mail": f"{i}@kanarienvogel.example"} for i in range(9)], "total": 9}).encode()
    encoded = ENCODERS[coding](body) if coding else body
    answer = response_head(coding=coding) + chunk(encoded, 60)
    talk = Talk().open().ask(ask + b'{"password": "hunter2!"}').answer(answer, size=size).ask(GET).answer(OK)
    lines, _ = run(talk.close().packets, is_raw=True)
    first = lines[0]
    assert first["apidae.request.body.data_kinds"] == ["password"]
    assert first["apidae.response.body.data_kinds"] == ["email"]
    assert (first["apidae.response.records"], first["apidae.response.records_basis"]) == (9, "measured")
    assert "kanarienvogel" not in json.dumps(lines) and "hunter2" not in json.dumps(lines)


def test_a_body_with_a_hole_is_read_up_to_it() -> None:
    body = json.dumps([{"mail": f"{i:03}@shop.example"} for i in range(300)]).encode()
    answer = response_head(length=len(body)) + body
    packets = Talk().open().ask(GET).answer(answer).close().packets
    whole, _ = run(packets, is_raw=False)
    assert (whole[0]["apidae.response.records"], whole[0]["apidae.response.records_basis"]) == (300, "measured")
    cut, _ = run([*packets[:7], *packets[8:]], is_raw=False)
    assert cut[0]["apidae.lossy"]
    assert cut[0]["apidae.response.records_basis"] == "estimated"
    assert abs(int(str(cut[0]["apidae.response.records"])) - 300) < 15


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_stream_of_events_is_read_also_where_it_breaks_off(is_whole: bool) -> None:
    person = {"name": "Anna Meier", "email": "anna@kanarienvogel.example"}
    body = b"".join(b"id: %d\ndata: %s\n\n" % (n, json.dumps(person).encode()) for n in range(40))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = head + chunk(body, 90)
    talk = Talk().open().ask(GET).answer(answer if is_whole else answer[: len(answer) // 2])
    lines, _ = run((talk.close() if is_whole else talk.reset()).packets, is_raw=True)
    assert lines[0]["apidae.response.body.data_kinds"] == ["email", "person_name"]
    if is_whole:
        assert lines[0]["apidae.response.records"] == 40
    assert "kanarienvogel" not in json.dumps(lines)
