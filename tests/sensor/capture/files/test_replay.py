"""Captures through the whole pipeline: what would leave the node, what --raw adds, and what is counted."""

import json

import pytest

from sensor.capture.files.flows import MAX_FLOWS, FlowTable
from sensor.capture.files.network import TcpSegment
from sensor.cli.replay import summarize
from tests.sensor.capture.files.packets import CLIENT6, GET, OK, SERVER6, SYN, Talk, run

SMUGGLING = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"


def test_what_would_leave_the_node() -> None:
    (line,), replay = run(Talk().open().ask(GET).answer(OK).close().packets, is_raw=False)
    assert line.pop("apidae.principal.hash")
    assert line.pop("apidae.credential.hash") and line.pop("apidae.object.hash")
    assert line == {
        "timestamp": "2025-10-09T08:53:20.003000000Z",
        "http.request.method": "GET",
        "url.template": "/v1/users/{integer}",
        "url.domain": "api.example",
        "http.response.status_code": 200,
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "server.address": "10.0.0.2",
        "server.port": 80,
        "client.address": "10.0.0.1",
        "http.request.size": len(GET),
        "http.response.size": len(OK),
        "apidae.duration_seconds": 0.001,
        "apidae.time_to_first_byte_seconds": 0.001,
        "apidae.response.media_type": "application/json",
        "apidae.authentication": ["bearer_opaque"],
        "apidae.principal.kind": "token",
        "apidae.response.records": 1,
        "apidae.response.records_basis": "measured",
    }
    assert (replay.counts.calls, dict(replay.counts.unreported)) == (1, {})


@pytest.mark.parametrize(
    ("host", "domain", "port"),
    [
        (b"API.example", "api.example", None),
        (b"api.example:8080", "api.example", 8080),
        (b"api.example:80", "api.example", None),
        (b"[::1]:8080", "[::1]", 8080),
        (b"[::1]", "[::1]", None),
    ],
)
def test_the_host_and_its_port_are_two_names(host: bytes, domain: str, port: int | None) -> None:
    ask = b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host
    (line,), _ = run(Talk().open().ask(ask).answer(OK).close().packets, is_raw=False)
    assert (line["url.domain"], line.get("url.port")) == (domain, port)


@pytest.mark.parametrize("is_raw", [False, True])
def test_secrets_are_in_no_line(is_raw: bool) -> None:
    head = (
        b"GET /v1/users/hunter2 HTTP/1.1\r\nHost: h\r\nCookie: session=k33p\r\nX-Api-Key: 0p3n\r\n"
        b"Authorization: Basic dXNlcjpwYXNzdzByZA==\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n"
    )
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: session=fr3sh\r\nContent-Length: 7\r\n\r\npayl0ad"
    lines, _ = run(Talk().open().ask(head).answer(answer).close().packets, is_raw=is_raw)
    text = json.dumps(lines)
    for secret in ("k33p", "0p3n", "dXNlcj", "passw0rd", "c2Vjc", "fr3sh", "payl0ad"):
        assert secret not in text
    assert ("hunter2" in text) == is_raw


def test_raw_adds_the_wire() -> None:
    head = (
        b"POST /a?b=c HTTP/1.1\r\nHost: h:81\r\nUser-Agent: curl/8\r\nContent-Length: 3\r\nReferer: http://x/\r\n"
        b"Authorization: Basic dXNlcjpw\r\n\r\nabc"
    )
    answer = b"HTTP/1.0 201 Made it\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    (line,), _ = run(Talk().open().ask(head, size=7).answer(answer, size=5).close().packets)
    expected = {
        "url.path": "/a",
        "url.query": "b=c",
        "url.original": "/a?b=c",
        "user_agent.original": "curl/8",
        "user.name": "user",
        "http.request.header.host": ["h:81"],
        "http.request.header.referer": ["http://x/"],
        "http.request.body.size": 3,
        "http.response.body.size": 3,
        "http.response.status_code": 201,
        "apidae.response.reason": "Made it",
        "network.protocol.version": "1.0",
        "apidae.request.protocol_version": "1.1",
        "client.port": 40_000,
        "network.type": "ipv4",
        "apidae.request.header_names": ["Host", "User-Agent", "Content-Length", "Referer", "Authorization"],
    }
    assert {name: line.get(name) for name in expected} == expected


def test_pipelined_calls_over_ipv6() -> None:
    talk = Talk((CLIENT6, 5), (SERVER6, 8080)).open()
    talk.ask(b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(5)))
    talk.answer(b"".join(b"HTTP/1.1 20%d X\r\nContent-Length: 0\r\n\r\n" % number for number in range(5))).close()
    lines, _ = run(talk.packets)
    assert [(line["url.path"], line["http.response.status_code"]) for line in lines] == [
        (f"/{number}", 200 + number) for number in range(5)
    ]
    assert {line["client.address"] for line in lines} == {"::1"}


@pytest.mark.parametrize("is_raw", [False, True])
def test_a_payload_is_told_by_class_and_hash(is_raw: bool) -> None:
    talk = Talk().open()
    talk.ask(b"GET /v1/users?name=%27+or+%271%27%3D%271 HTTP/1.1\r\nHost: h\r\n\r\n").answer(OK)
    talk.ask(b"GET /v1/users?name=ann HTTP/1.1\r\nHost: h\r\n\r\n").answer(OK)
    (attack, plain), replay = run(talk.close().packets, is_raw=is_raw)
    assert attack["apidae.attack.class"] == "sqli"
    assert attack["apidae.attack.confidence"] in ("medium", "high")
    assert len(str(attack["apidae.attack.hash"])) == 16
    assert not [name for name in plain if name.startswith("apidae.attack")]
    assert replay.counts.attacks == 1
    assert "requests with payloads of attacks: 1" in summarize(replay, is_truncated=False)
    assert is_raw or "'1'" not in json.dumps(attack)


@pytest.mark.parametrize("answer", [OK, b""])
def test_smuggling_is_one_flagged_call_and_the_next_request_is_read(answer: bytes) -> None:
    talk = Talk().open().ask(SMUGGLING + b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
    if answer:
        talk.answer(answer).ask(GET).answer(OK)
    lines, replay = run(talk.close().packets)
    assert [line["url.path"] for line in lines] == (["/", "/v1/users/17"] if answer else ["/"])
    assert lines[0]["http.request.smuggling"] == ["length_and_coding"]
    assert replay.counts.smuggling == 1
    lines, replay = run(talk.packets, is_raw=False)
    assert len(lines) == (2 if answer else 1)
    assert "requests with signs of smuggling: 1" in summarize(replay, is_truncated=False)


def test_a_gap_in_a_body_hits_one_call() -> None:
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"
    talk = Talk().open().ask(GET).answer(body).answer(b"x" * 20).lose().answer(b"y" * 30).ask(GET).answer(OK).close()
    lines, replay = run(talk.packets)
    assert [line.get("apidae.lossy", False) for line in lines] == [True, False]
    assert lines[0]["http.response.body.size"] == 50
    assert (replay.flows.counts.streams.gaps, replay.flows.counts.streams.gap_bytes) == (1, 20)
    assert any("1 gap of 20 bytes, 1 call hit" in sentence for sentence in summarize(replay, is_truncated=False))


def test_a_lost_answer_shifts_no_other() -> None:
    talk = Talk().open().ask(b"GET /1 HTTP/1.1\r\n\r\n").answer(OK).lose()
    talk.ask(b"GET /2 HTTP/1.1\r\n\r\n").answer(OK.replace(b"200", b"404")).close()
    lines, _ = run(talk.packets)
    assert [(line["url.path"], line.get("http.response.status_code")) for line in lines] == [("/1", None), ("/2", 404)]
    assert lines[0]["apidae.answer_lost"] is True


def test_a_lost_request_shifts_no_answer() -> None:
    talk = Talk().open().ask(b"GET /1 HTTP/1.1\r\n\r\n").lose().answer(OK)
    talk.ask(b"GET /2 HTTP/1.1\r\n\r\n").answer(OK.replace(b"200", b"404")).close()
    lines, replay = run(talk.packets)
    assert [(line.get("url.path"), line["http.response.status_code"]) for line in lines] == [(None, 200), ("/2", 404)]
    assert replay.counts.unreported == {"request_not_seen": 1}


def test_a_tunnel_holds_a_conversation_of_its_own() -> None:
    talk = Talk().open().ask(b"CONNECT h:443 HTTP/1.1\r\n\r\n").answer(b"HTTP/1.1 200 Go\r\n\r\n").ask(GET).answer(OK)
    lines, _ = run(talk.close().packets)
    assert [line["http.request.method"] for line in lines] == ["CONNECT", "GET"]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"\x16\x03\x01\x02\x00\x01", "tls"),
        (bytes(20_000), "other_protocol"),
        (b"SSH-2.0-x\r\n", "undecided"),
    ],
)
def test_other_protocols_are_counted(said: bytes, kind: str) -> None:
    lines, replay = run(Talk().open().ask(said).answer(b"?").close().packets)
    assert lines == []
    assert replay.flows.counts.unread_bytes == {kind: len(said) + 1}
    assert any(f"{kind} {len(said) + 1}" in sentence for sentence in summarize(replay, is_truncated=False))


def test_a_request_that_the_capture_ends_in_is_no_call_but_told_raw() -> None:
    talk = Talk().open().ask(b"GET /cut HTTP/1.1\r\nHost: h\r\nUser-Ag")
    (line,), replay = run(talk.packets)
    assert (line["url.path"], line["http.request.header.host"]) == ("/cut", ["h"])
    assert (line["apidae.not_reported"], line["apidae.request.faults"]) == ("request_head_cut", ["head_cut"])
    assert run(talk.packets, is_raw=False)[0] == []
    assert replay.counts.calls == 0


def test_a_connection_joined_in_its_middle() -> None:
    talk = Talk()
    talk.answer(b"the end of some body").ask(GET).answer(OK)
    lines, replay = run(talk.packets)
    assert [line["url.path"] for line in lines] == ["/v1/users/17"]
    assert replay.flows.counts.joined_midstream == 1


def test_ports_used_again_are_another_connection() -> None:
    first = Talk().open().ask(GET).answer(OK)
    second = Talk(next=[90_000, 95_000]).open().ask(GET).answer(OK).close()
    lines, _ = run(first.packets + second.packets)
    assert [line["apidae.connection.id"] for line in lines] == [1, 2]


def test_a_forged_reset_blinds_nobody() -> None:
    lines, _ = run(Talk().open().reset().ask(GET).answer(OK).close().packets)
    assert [line["http.response.status_code"] for line in lines] == [200]


def test_packets_after_the_end_make_no_call() -> None:
    talk = Talk().open().ask(GET).answer(OK).close()
    lines, replay = run(talk.packets + talk.packets[3:5])
    assert len(lines) == 1
    assert replay.flows.counts.stray_segments == 2


def test_only_the_port_that_was_asked_for() -> None:
    from sensor.cli.replay import Replay

    packets = [*Talk().open().ask(GET).answer(OK).packets, *Talk(server=(SERVER6[:4], 81)).open().ask(GET).packets]
    replay = Replay(is_raw=True, ports=[81])
    assert [line["server.port"] for line in replay.run(packets)] == [81]
    assert replay.reader.counts.other_packets == {"other_port": 5}


def test_flows_are_bounded() -> None:
    table = FlowTable()
    for number in range(MAX_FLOWS + 3):
        source = number.to_bytes(4, "big")
        list(table.take(TcpSegment(source, 5, b"\xff\xff\xff\xff", 80, 1, 0, SYN, b"", 0), 0))
    assert table.counts.evicted == 3
