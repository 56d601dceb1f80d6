"""Canaries: secrets of every class in every part of the traffic are found, and none of them ever leaves the node.

Looked for in what the sensor sends, in the collector's log, store and tables on disk, its standard error at debug, its
API and its page.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sensor.classify.sensitive.kinds import DATA_CLASSES, DataClass, DataKind
from tests.collector.risk.judging import feed, start_collector
from tests.collector.risk.traffic import Sensor
from tests.collector.running import RunningCollector

pytestmark = pytest.mark.store

# A value a class that its check takes, with the field that names it where its form does not.
CANARIES = {
    DataKind.EMAIL: ("mail", "kanarienvogel.7391@example.org"),
    DataKind.PHONE: ("phone", "+49 30 7391 4482"),
    DataKind.PERSON_NAME: ("fullName", "Kanarienvogel Zwetschge"),
    DataKind.ADDRESS: ("street", "Zwetschgenallee 7391"),
    DataKind.DATE_OF_BIRTH: ("dateOfBirth", "1873-09-14"),
    DataKind.SSN: ("ssn", "536-22-8726"),
    DataKind.IBAN: ("iban", "DE89370400440532013000"),
    DataKind.CREDIT_CARD: ("card", "4111111111111111"),
    DataKind.PASSWORD: ("password", "korrekt-pferd-7391"),
    DataKind.AWS_KEY: ("aws", "AKIAKANARIENVOGEL739"),
    DataKind.GITHUB_TOKEN: ("gh", "ghp_kanarienvogel7391kanarienvogel7391kan"),
    DataKind.STRIPE_KEY: ("st", "sk_live_kanarienvogel7391kanari"),
    DataKind.CONNECTION_STRING: ("dsn", "postgres://kanari:vogel7391@db/app"),
    DataKind.PASSPORT: ("passportNumber", "C73914482"),
    DataKind.MEDICAL_RECORD: ("mrn", "MRN-73914482"),
    DataKind.DIAGNOSIS: ("diagnosis", "Kanarienfieber J67.2"),
    DataKind.BANK_ACCOUNT: ("accountNumber", "0073914482007"),
    DataKind.API_KEY: ("clientSecret", "kanari7391vogel4482zwetschge"),
    DataKind.MAC_ADDRESS: ("mac", "7a:39:1b:44:82:0c"),
}
_PARTS = (
    "path",
    "query",
    "header",
    "cookie",
    "credential",
    "request",
    "response",
    "form",
    "html",
    "text",
    "cut",
    "error",
)


def _make_case(part: str) -> dict[str, Any]:
    """All canaries in one part of the calls of one endpoint."""
    fields = dict(CANARIES.values())
    case: dict[str, Any] = {"id": f"canary-{part}", "path": "/v1/things", "answer": {"ok": True}}
    # In heads without what a head cannot hold.
    plain = {name: re.sub(r"[\s/:;,]", "", value) for name, value in fields.items()}
    pairs = [f"{name}={value}" for name, value in plain.items()]
    changes: dict[str, dict[str, Any]] = {
        "path": {"path": "/v1/" + "/".join(plain.values())},
        "query": {"path": "/v1/things?" + "&".join(pairs)},
        "header": {"headers": [f"X-{name}: {value}" for name, value in plain.items()]},
        "cookie": {"headers": ["Cookie: " + "; ".join(pairs)]},
        "credential": {"headers": ["Authorization: Bearer " + "".join(plain.values())]},
        "request": {"method": "POST", "body": fields},
        "response": {"answer": [fields] * 3},
        "form": {
            "method": "POST",
            "body": "&".join(pairs),
            "body_type": "application/x-www-form-urlencoded",
        },
        "html": {
            "answer": "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in fields.items()),
            "answer_type": "text/html",
        },
        "text": {
            "answer": "\n".join(f"{name}: {value}" for name, value in fields.items()),
            "answer_type": "text/plain",
        },
        "error": {"status": 500, "also_ok": 2, "answer": {"error": str(fields)}},
        "cut": {"answer": json.dumps([fields] * 3)[:-40]},
    }
    return {**case, **changes[part]}


# What would give a canary away, whole or as a piece of it.
_TELLTALES = tuple(
    sorted(
        {value.encode() for _, value in CANARIES.values()} | {b"anarienvogel", b"wetschge", b"vogel7391", b"73914482"}
    )
)


def find_canaries(data: bytes) -> list[bytes]:
    """The telltales in some bytes."""
    return [telltale for telltale in _TELLTALES if telltale in data]


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("canaries")
    running = start_collector(directory, "--log-level", "debug")
    feed(running, [_make_case(part) for part in _PARTS])
    yield running, directory
    if running.process.poll() is None:
        assert running.stop() == 0


def test_the_canaries_are_seen_at_all() -> None:
    """Else nothing below would prove anything."""
    sensor = Sensor(["canary-response"])
    sensor.see(_make_case("response"))
    codes = {code for batch in sensor.flush() for code in batch.rows.found_code}
    kinds = {kind for number, kind in enumerate(DataKind, 1) if (2 << 6 | number) in codes}
    assert kinds >= set(CANARIES)
    assert {DATA_CLASSES[kind] for kind in kinds} == set(DataClass) - {DataClass.CUSTOM}


@pytest.mark.parametrize("part", _PARTS)
def test_no_message_holds_one(part: str) -> None:
    sensor = Sensor([f"canary-{part}"])
    case = _make_case(part)
    sensor.see(case)
    for batch in sensor.flush():
        assert find_canaries(batch.SerializeToString()) == []


def test_no_answer_and_no_page_holds_one(collector: tuple[RunningCollector, Path]) -> None:
    running, _ = collector
    endpoints = running.get("/endpoints?limit=500").json()["items"]
    assert len(endpoints) >= len(_PARTS)
    paths = ["/endpoints?limit=500", "/findings?limit=500", "/consumers?limit=500", "/alerts"]
    paths += [f"/endpoints/{one['id']}{more}" for one in endpoints for more in ("", "/risk", "/schema")]
    for path in paths:
        answer = running.get(path)
        assert answer.status_code == 200, (path, answer.text)
        assert find_canaries(answer.content) == [], path


def test_no_file_and_no_log_holds_one(collector: tuple[RunningCollector, Path]) -> None:
    running, directory = collector
    assert running.stop() == 0
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wal" for path in files)
    for path in files:
        assert find_canaries(path.read_bytes()) == [], path
    assert find_canaries("".join(running.errors).encode()) == []
