"""`POST /consumers/identify` finds who a token or name is as sensors hash it, under every key that is kept, and the
collector writes nothing of it."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from collector.inventory.consumers.identify import list_forms
from collector.trust.imports import KEYS_FILE
from sensor.core.keyed import KeyedHash
from sensor.describe.auth.principal import Principals
from sensor.http.http1.head import RequestHead, parse_request_head
from tests.collector.detection.states import read_columns
from tests.collector.risk.judging import feed, start_collector
from tests.collector.running import RunningCollector, clean_environment
from tests.files import read_files

KEYED = KeyedHash(1, b"sixteen bytes!!!")  # As tests/collector/risk/traffic.py hashes.
OLDEST, NEW = 1, 2


def make_jwt(signature: str = "c2lnbmF0dXJl", **claims: object) -> str:
    def encode(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{encode({'alg': 'HS256', 'typ': 'JWT'})}.{encode(claims)}.{signature}"


def read_head(line: str, query: str = "") -> RequestHead:
    head = parse_request_head(f"GET /{query} HTTP/1.1\r\n{line}\r\n\r\n".encode(), False)
    assert isinstance(head, RequestHead)
    return head


JWT = make_jwt(iss="https://id.example/realms/shop", sub="customer-4711")
CLIENT_JWT = make_jwt(iss="https://id.example", client_id="batch-export")
BASIC = base64.b64encode(b"grace:open sesame 12").decode()


@pytest.mark.parametrize(
    ("line", "query", "pasted"),
    [
        (f"Authorization: Bearer {JWT}", "", f"Bearer {JWT}"),
        (f"Authorization: Bearer {JWT}", "", f"  {JWT}\n"),
        (f"Authorization: bearer {JWT}", "", JWT),
        (f"Authorization: Bearer {JWT}", "", f"Authorization: Bearer {JWT}"),
        (f"Authorization: Bearer {JWT}", "", f"-H 'Authorization: Bearer {JWT}'"),
        (f"Authorization: Bearer {CLIENT_JWT}", "", CLIENT_JWT),
        (f"Cf-Access-Jwt-Assertion: {JWT}", "", JWT),
        ("Authorization: Bearer 4f9d2c81a77e4b02", "", "4f9d2c81a77e4b02"),
        ("Authorization: Token 4f9d2c81a77e4b02", "", "4f9d2c81a77e4b02"),
        ("Authorization: 4f9d2c81a77e4b02", "", "4f9d2c81a77e4b02"),
        ("X-Api-Key: 4f9d2c81a77e4b02", "", "4f9d2c81a77e4b02"),
        ("X-Api-Key: 4f9d2c81a77e4b02", "", "x-api-key: 4f9d2c81a77e4b02"),
        ("Accept: */*", "?api_key=4f9d2c81%2Fa77e4b02", "4f9d2c81/a77e4b02"),
        ("Accept: */*", "?api_key=4f9d2c81%2Fa77e4b02", "https://shop.example/x?a=1&api_key=4f9d2c81%2Fa77e4b02"),
        (f"Authorization: Basic {BASIC}", "", f"Basic {BASIC}"),
        (f"Authorization: Basic {BASIC}", "", "grace:open sesame 12"),
        ("Cookie: theme=dark; PHPSESSID=r2t5uvjq435r4q7ib3vtdjq120", "", "r2t5uvjq435r4q7ib3vtdjq120"),
        ("Cookie: PHPSESSID=r2t5uvjq435r4q7ib3vtdjq120", "", "Cookie: a=b; PHPSESSID=r2t5uvjq435r4q7ib3vtdjq120"),
        ('Authorization: Digest username="grace", response="6629fae4"', "", 'Digest username="grace", response="0"'),
    ],
)  # fmt: skip
def test_a_pasted_credential_is_hashed_as_the_sensor_hashes_it(line: str, query: str, pasted: str) -> None:
    seen = Principals(KEYED).read(read_head(line, query))
    hashes = {form.kind: set[int]() for form in list_forms(pasted)}
    for form in list_forms(pasted):
        hashes[form.kind].add(KEYED(form.text))
    assert seen.principal in hashes["principal"] and seen.credential in hashes["credential"]


@pytest.mark.parametrize(
    ("line", "name", "issuers"),
    [
        (f"Authorization: Bearer {JWT}", "customer-4711", ["https://id.example/realms/shop"]),
        (f"Authorization: Bearer {CLIENT_JWT}", "batch-export", ["https://id.example"]),
        (f"Authorization: Bearer {make_jwt(sub='grace@shop.example')}", "grace@shop.example", []),
        (f"Authorization: Basic {BASIC}", "grace", []),
        ('Authorization: Digest username="grace", response="6629fae4"', "grace", []),
        ("Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20301129/eu/s3, Signature=ab", "AKIDEXAMPLE", []),
        (
            'X-Forwarded-Client-Cert: By=x;URI="spiffe://shop/ns/a/sa/cart"',
            "spiffe://shop/ns/a/sa/cart",
            [],
        ),
    ],
)
def test_a_name_is_the_principal_that_the_sensor_makes_of_it(line: str, name: str, issuers: list[str]) -> None:
    seen = Principals(KEYED).read(read_head(line))
    assert seen.principal in {KEYED(form.text) for form in list_forms(name, issuers) if form.kind == "principal"}


def test_a_form_does_not_show_its_text() -> None:
    assert "4f9d2c81" not in repr(list_forms("Bearer 4f9d2c81a77e4b02"))


# Nothing but this test has these: what is found in a file was written by the collector.
API_KEY, SESSION, USER = "9f8e7d6c5b4a392817", "r2t5uvjq435r4q7ib3vtdjq120", "kanarienvogel"
USER_BASIC = base64.b64encode(f"{USER}:zwetschge 7391".encode()).decode()
OWN_JWT = make_jwt(iss="https://id.example", sub="canary-7391", exp=1)
CASES: list[dict[str, Any]] = [
    {"id": "with-key", "path": "/v1/orders/{n}", "headers": [f"X-Api-Key: {API_KEY}"]},
    {"id": "with-jwt", "path": "/v1/carts/{n}", "headers": [f"Authorization: Bearer {OWN_JWT}"]},
    {"id": "with-basic", "path": "/v1/bills/{n}", "headers": [f"Authorization: Basic {USER_BASIC}"]},
    {"id": "with-cookie", "path": "/v1/mails/{n}", "headers": [f"Cookie: PHPSESSID={SESSION}"]},
]
CANARIES = (API_KEY, SESSION, USER, USER_BASIC, OWN_JWT, "canary-7391", "zwetschge 7391", "f3b1c0ffee5e", "7391-unseen")
WORKLOADS = {API_KEY: "with-key", OWN_JWT: "with-jwt", f"Bearer {OWN_JWT}": "with-jwt", "canary-7391": "with-jwt",
             USER: "with-basic", f"{USER}:zwetschge 7391": "with-basic", f"Basic {USER_BASIC}": "with-basic",
             SESSION: "with-cookie", f"Cookie: a=b; PHPSESSID={SESSION}": "with-cookie"}  # fmt: skip


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningCollector, Path]]:
    """One whose key was rotated: the calls are of the key before."""
    directory = tmp_path_factory.mktemp("identify")
    (directory / "data").mkdir(mode=0o700)
    keys = [{"key_id": NEW, "secret": "ab" * 16, "made_at": time.time()}]
    keys.append({"key_id": OLDEST, "secret": b"sixteen bytes!!!".hex(), "made_at": 0.0})
    path = directory / "data" / KEYS_FILE
    path.write_text(json.dumps(keys))
    path.chmod(0o600)
    running = start_collector(directory, "--log-level", "debug")
    feed(running, CASES)
    yield running, directory / "data"
    running.process.poll() is None and running.stop()


def identify(collector: RunningCollector, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"http://{collector.ready['http']}/api/v1/consumers/identify", json=body, timeout=60)


@pytest.mark.store
def test_the_collector_finds_who_it_is_and_writes_nothing_of_it(collector: tuple[RunningCollector, Path]) -> None:
    running, directory = collector
    for pasted, workload in WORKLOADS.items():
        answer = identify(running, {"value": pasted, "issuers": ["https://id.example"]})
        assert answer.status_code == 200, answer.text
        [found] = answer.json()["items"]
        detail = running.get(f"/consumers/{found['id']}").json()
        assert [one["service"]["workload"] for one in _list_endpoints(running, detail)] == [workload], pasted
        assert found["kind"] == "principal" and found["key_id"] == OLDEST and found["forms"]
        assert {one["key_id"] for one in answer.json()["candidates"]} == {OLDEST, NEW}
        assert pasted not in answer.text
    unseen = identify(running, {"value": "f3b1c0ffee5e"})
    assert unseen.status_code == 200 and unseen.json()["items"] == [] and unseen.json()["candidates"]
    wrong = [
        {"value": "7391-unseen", "valu": "7391-unseen"},
        {"7391-unseen": "7391-unseen", "value": "x"},
        {"value": ["7391-unseen"]},
        {"value": "7391-unseen", "issuers": "7391-unseen"},
        {"value": "7391-unseen" * 10_000},
    ]
    for body in wrong:
        answer = identify(running, body)
        assert answer.status_code in (413, 422) and "7391" not in answer.text
    url = f"http://{running.ready['http']}/api/v1/consumers/identify"
    answer = httpx.post(url, content=b"7391-unseen", headers={"content-type": "application/json"}, timeout=60)
    assert answer.status_code == 422 and "7391" not in answer.text
    page = httpx.post(f"http://{running.ready['http']}/consumers/identify", data={"value": API_KEY}, timeout=60)
    assert page.status_code == 200 and "/consumers/principal" in page.text and API_KEY not in page.text
    command = [sys.executable, "-c", "from common.main import main; main()", "consumers", "identify"]
    asked = [*command, "--url", f"http://{running.ready['http']}"]
    done = subprocess.run(asked, input=SESSION, capture_output=True, text=True, env=clean_environment(), check=False)
    assert done.returncode == 0 and "principal:" in done.stdout and SESSION not in done.stdout + done.stderr
    assert running.stop() == 0
    written = {str(path): _unpack(data) for path, data in read_files(directory).items()}
    written["standard error"] = "".join(running.errors).encode()
    assert any(name.endswith(".wal") for name in written) and any("store" in name for name in written)
    for canary in CANARIES:
        for form in (canary.encode(), base64.b64encode(canary.encode()).rstrip(b"=")[:-1]):
            assert [name for name, data in written.items() if form in data] == [], canary


def _list_endpoints(collector: RunningCollector, detail: dict[str, Any]) -> list[dict[str, Any]]:
    return [collector.get(f"/endpoints/{one['endpoint_id']}").json() for one in detail["touched"]]


def _unpack(data: bytes) -> bytes:
    return read_columns(data) if data.startswith(b"PK") else data
