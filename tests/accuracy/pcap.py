"""`apidae replay --raw` against what zeek and suricata wrote of the same captures: fields found of fields expected.

Both write a record for each request; a record is held against the line of the replay that agrees with it in most
fields, and no line stands for two records.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from sensor.capture.files.capture_file import CaptureFile
from sensor.capture.files.lines import Line
from sensor.cli.replay import Replay


@dataclass(slots=True)
class Score:
    """Fields, and what differs: (case, field, expected, told)."""

    right: int = 0
    total: int = 0
    wrong: list[tuple[str, str, object, object]] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return self.right / self.total if self.total else 0.0

    def count(self, case: str, name: str, expected: object, told: object, is_right: bool) -> None:
        self.total += 1
        self.right += is_right
        if not is_right:
            self.wrong.append((case, name, expected, told))


def replay(path: Path) -> list[Line]:
    """Raw lines of one capture."""
    capture = CaptureFile(path)
    try:
        return list(Replay(is_raw=True).run(capture))
    finally:
        capture.close()


def _get(name: str) -> Callable[[Line], object]:
    return lambda line: line.get(name)


def _header(name: str) -> Callable[[Line], object]:
    def get(line: Line) -> object:
        values = line.get(name)
        return values[0] if isinstance(values, list) else None

    return get


def _names(name: str) -> Callable[[Line], object]:
    def get(line: Line) -> object:
        values = line.get(name)
        return ",".join(str(value).upper() for value in values) if isinstance(values, list) else None

    return get


def _filename(line: Line) -> object:
    match = re.search(r'filename="?([^";]+)', str(_header("http.response.header.content-disposition")(line)))
    return match[1] if match else None


def _decoded(side: str) -> Callable[[Line], object]:
    """zeek counts bodies after gzip is undone."""
    return lambda line: line.get(f"apidae.{side}.body.decoded_size", line.get(f"http.{side}.body.size"))


# Fields of zeek's http.log. Its `version` is that of the response, where there is one.
ZEEK = {
    "id.orig_h": _get("client.address"),
    "id.orig_p": _get("client.port"),
    "id.resp_h": _get("server.address"),
    "id.resp_p": _get("server.port"),
    "method": _get("http.request.method"),
    "host": _header("http.request.header.host"),
    "uri": _get("url.original"),
    "referrer": _header("http.request.header.referer"),
    "origin": _header("http.request.header.origin"),
    "version": _get("apidae.response.protocol_version"),
    "user_agent": _get("user_agent.original"),
    "request_body_len": _decoded("request"),
    "response_body_len": _decoded("response"),
    "status_code": _get("http.response.status_code"),
    "status_msg": _get("apidae.response.reason"),
    "username": _get("user.name"),
    "resp_filenames": _filename,
    "client_header_names": _names("apidae.request.header_names"),
    "server_header_names": _names("apidae.response.header_names"),
}
# Fields of an `http` event of suricata.
SURICATA = {
    "proto": lambda line: str(line.get("network.transport", "")).upper(),
    "ip_v": lambda line: str(line.get("network.type", ""))[-1:],
    "src_ip": _get("client.address"),
    "src_port": _get("client.port"),
    "dest_ip": _get("server.address"),
    "dest_port": _get("server.port"),
    "tx_id": _get("apidae.connection.call"),
    "http.http_method": _get("http.request.method"),
    "http.hostname": _header("http.request.header.host"),
    "http.url": _get("url.original"),
    "http.http_refer": _header("http.request.header.referer"),
    "http.http_user_agent": _get("user_agent.original"),
    "http.http_content_type": _get("apidae.response.media_type"),
    "http.protocol": _get("apidae.request.protocol_version"),
    "http.status": _get("http.response.status_code"),
    "http.status_string": _get("apidae.response.status"),
    "http.length": _get("http.response.body.size"),
}


def _matches_zeek(name: str, expected: object, line: Line) -> bool:
    if name not in ZEEK:
        return False
    told = ZEEK[name](line)
    if told is None and name == "version":
        told = line.get("apidae.request.protocol_version")
    if not line:
        return False
    # zeek writes 0 and <empty> where there is none.
    if told is None and str(expected) in ("0", "<empty>"):
        return True
    if name == "uri":  # Which zeek decodes.
        return unquote(str(told), "latin-1") == expected
    return str(told) == str(expected)


def _is_call(record: dict[str, object]) -> bool:
    """zeek also notes bytes that are no request and got no answer; such a record has neither method nor status."""
    return "method" in record or "status_code" in record or "uri" in record


def compare_zeek(directory: Path) -> Score:
    """`directory` holds cases.jsonl and traces/."""
    score, seen = Score(), dict[str, list[Line]]()
    for case in _read(directory / "cases.jsonl"):
        trace, records = str(case["trace"]), case["http"]
        assert isinstance(records, list)
        if trace not in seen:
            seen[trace] = replay(directory / "traces" / trace)
        records = [record for record in records if _is_call(record)]
        for record, line in _pair(records, seen[trace], _matches_zeek):
            for name, value in record.items():
                told = ZEEK[name](line) if name in ZEEK else None
                score.count(str(case["test"]), name, value, told, _matches_zeek(name, value, line))
    return score


# What changes what suricata logs, not what is on the wire.
_POLICIES = ("midstream", "exception-policy", "simulate-ips", "reputation")
_NO_HTTP_FIELDS = frozenset(("pcap_cnt", "metadata.entropy.content"))


def compare_suricata(directory: Path) -> Score:
    """`directory` holds cases.jsonl and pcaps/. A check is a number of events with given fields."""
    score, seen = Score(), dict[str, list[Line]]()
    for case in _read(directory / "cases.jsonl"):
        pcap, checks = str(case["pcap"]), case["checks"]
        assert isinstance(checks, list)
        if pcap not in seen:
            seen[pcap] = replay(directory / "pcaps" / pcap)
        for check in checks:
            match = {name: value for name, value in check["match"].items() if name not in _NO_HTTP_FIELDS}
            if match and check["count"]:
                for record, line in _pair([match] * check["count"], seen[pcap], _matches_suricata):
                    for name, value in record.items():
                        told = _find_suricata(name, line)
                        score.count(str(case["test"]), name, value, told, _matches_suricata(name, value, line))
            # An expected absence is a matter of settings, too: the request is on the wire.
            elif not match and check["count"] and not any(policy in str(case["args"]) for policy in _POLICIES):
                count = len(seen[pcap])
                score.count(str(case["test"]), "count", check["count"], count, count == check["count"])
    return score


# One of the fields of a head, whose places we do not tell; values only of those that --raw tells.
_FIELD = re.compile(r"http\.(request|response)_headers\[\d+\]\.(name|value)")


def _find_suricata(name: str, line: Line) -> object:
    match = _FIELD.fullmatch(name)
    if match is None:
        return SURICATA[name](line) if name in SURICATA else None
    side, part = match.groups()
    if part == "name":
        names = line.get(f"apidae.{side}.header_names")
        return [str(one).lower() for one in names] if isinstance(names, list) else None
    return [values for key, values in line.items() if key.startswith(f"http.{side}.header.")]


def _matches_suricata(name: str, expected: object, line: Line) -> bool:
    told = _find_suricata(name, line)
    if isinstance(told, list):
        return str(expected).lower() in told or [expected] in told
    if name == "http.protocol":
        told = f"HTTP/{told}"
    elif name == "http.hostname":  # Without the port.
        told = re.sub(r":\d+$", "", str(told))
    return str(told) == str(expected)


Record = dict[str, object]


def _pair(
    records: list[Record], lines: list[Line], matches: Callable[[str, object, Line], bool]
) -> Iterator[tuple[Record, Line]]:
    """Each record with the line that agrees best, the best pairs first; with an empty line where none is left."""
    scores = sorted(
        (
            (-sum(matches(name, value, line) for name, value in record.items()), number, place)
            for number, record in enumerate(records)
            for place, line in enumerate(lines)
        ),
    )
    taken: dict[int, int] = {}
    for _, number, place in scores:
        if number not in taken and place not in taken.values():
            taken[number] = place
    for number, record in enumerate(records):
        yield record, lines[taken[number]] if number in taken else {}


def _read(path: Path) -> Iterator[dict[str, object]]:
    for line in path.read_text("utf-8").split("\n"):
        if line:
            yield json.loads(line)
