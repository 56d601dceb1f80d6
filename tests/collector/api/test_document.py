"""Every operation of the OpenAPI document against a collector that runs, with values that a client should not send.

Whatever comes is answered with a status that the document names, and an error is a problem in our own words: nothing of
the database's, of Python's or of the framework's.
"""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.collector.running import RunningCollector

pytestmark = pytest.mark.store

JSON = {"content-type": "application/json"}
PROBLEM = "application/problem+json"
# What others would write; none of it is in a sentence of ours.
FOREIGN = (
    "DB::",
    "Code: ",
    "Traceback",
    "b'{",
    "<class",
    "QUERY_PARAMETER",
    "error parsing",
    "unable to parse",
    "valid dictionary",
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
TEXTS = ("", "0", "-1", "1e9", "9" * 30, "NaN", "'; DROP", "%ff", "\x00", "\U0010ffff", "x" * 5_000)
TIMES = (
    *("0", "1e9", "1969-12-31", "1970-01-01", "9999-12-31", "0001-01-01", "1969-12-31T23:59:59Z"),
    *("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2026-11-26T15:00:00"),
)
VALUES: tuple[bytes, ...] = (
    *(b"0", b"1", b"-1", b"1.5", b"true", b"null", b"1e308", b"NaN", b"9" * 30, b"9" * 5_000),
    *(b'""', b'"1"', b'"true"', b'"\\u0000"', b'"\\ud800"', b'"' + b"x" * 5_000 + b'"'),
    *(b"[]", b"{}", b"[1]", b'["\\ud800"]'),
)
TYPES = (None, "text/plain", "application/x-www-form-urlencoded", "application/json", "application/json; charset=x")
BODIES = (
    *((b"{bad", kind) for kind in TYPES),
    *((body, TYPES[3]) for body in (b"", b"\xff\xfe{}", b"[]", b"null", b'"x"', b"{}", b"[" * 50_000)),
)
# A value that is good, by field.
GOOD: dict[str, Any] = {
    "asked_by": "me",
    "consumer": "address:203.0.113.9",
    "document": "{}",
    "endpoints": ["a", "b"],
    "level": "normal",
    "list": "endpoints",
    "name": "a",
    "note": "n",
    "place": 0,
    "prices": [{"model": "acme-*", "input": 1.0, "output": 4.0}],
    "query": "",
    "ratio": 0.5,
    "role": "viewer",
    "is_on": True,
    "kind": "user",
    "seconds": 60,
    "state": "open",
    "step": "alert",
    "value": "me",
    "verdict": "confirmed",
}
SPAN = {"start": "2026-11-01", "end": "2026-11-02"}


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCollector]:
    running = RunningCollector(tmp_path_factory.mktemp("data"), "--no-auth")
    yield running
    assert running.stop() == 0
    assert "Traceback" not in "".join(running.errors)


@pytest.fixture(scope="module")
def client(collector: RunningCollector) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{collector.ready['http']}", timeout=60) as opened:
        yield opened


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    return dict(client.get("/api/v1/openapi.json").json())


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()


class Operation:
    """One of the document, and how to ask for it."""

    def __init__(self, document: dict[str, Any], path: str, method: str) -> None:
        self.path, self.method = path, method.upper()
        self.described = document["paths"][path][method]
        self.parameters = self.described.get("parameters", [])
        content = self.described.get("requestBody", {}).get("content", {})
        name = content.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
        self.body = document["components"]["schemas"].get(name, {})

    def fill(self, **values: str) -> str:
        """The path with a value for each of its parameters."""
        path = self.path
        for one in self.parameters:
            if one["in"] == "path":
                known = one["schema"].get("$ref", "")
                default = "enumeration" if known.endswith("AlertKind") else "haproxy" if known else "x"
                path = path.replace(f"{{{one['name']}}}", quote(values.get(one["name"], default), safe=""))
        return path

    def needs(self) -> dict[str, str]:
        """Query parameters without which nothing is answered."""
        names = {one["name"] for one in self.parameters if one["in"] == "query" and one.get("required")}
        time = "T00:00:00Z" if self.path.endswith("/calls") else ""
        found = {name: value + time for name, value in SPAN.items() if name in names}
        return found | ({"endpoint": "x"} if time else {})

    def make_body(self) -> dict[str, Any]:
        """One whose required fields are good."""
        return {name: GOOD[name] for name in self.body.get("required", ())}


def list_operations(document: dict[str, Any]) -> list[Operation]:
    return [Operation(document, path, method) for path, methods in document["paths"].items() for method in methods]


def check(operation: Operation, answer: httpx.Response, asked: object) -> str:
    """What is wrong with an answer; empty where nothing is."""
    problems = []
    if str(answer.status_code) not in operation.described["responses"]:
        problems.append("the status is not in the document")
    if answer.status_code >= 500:
        problems.append("the collector failed")
    if answer.status_code >= 400:
        if answer.headers.get("content-type") != PROBLEM:
            problems.append("it is no problem")
        problems += [f"it says {text!r}" for text in FOREIGN if text in answer.text]
    if not problems:
        return ""
    what = "; ".join(problems)
    return f"{operation.method} {operation.path} {asked!r:.80}: {answer.status_code} {what}: {answer.text[:200]}"


@pytest.mark.full("collector.api", "collector.inventory")
def test_parameters_of_any_value_are_answered_as_described(client: httpx.Client, document: dict[str, Any]) -> None:
    wrong = []
    for operation in list_operations(document):
        for parameter in operation.parameters if operation.method == "GET" else ():
            for text in TIMES if parameter["name"] in SPAN else TEXTS:
                query = operation.needs()
                path = operation.fill()
                if parameter["in"] == "path":
                    path = operation.fill(**{parameter["name"]: text or "x"})
                else:
                    query[parameter["name"]] = text
                answer = client.get(path, params=query)
                wrong.append(check(operation, answer, (parameter["name"], text)))
    assert len(wrong) > 400
    assert not list(filter(None, wrong)), "\n".join(filter(None, wrong))


def test_fields_of_any_value_are_answered_as_described(client: httpx.Client, document: dict[str, Any]) -> None:
    wrong = []
    for operation in list_operations(document):
        for name, schema in operation.body.get("properties", {}).items():
            for value in VALUES:
                good = {**operation.make_body(), name: None}
                body = json.dumps(good).encode().replace(f'"{name}": null'.encode(), f'"{name}": '.encode() + value)
                answer = client.request(operation.method, operation.fill(), content=body, headers=JSON)
                wrong.append(check(operation, answer, (name, value)))
                kinds = {schema.get("type"), *(one.get("type") for one in schema.get("anyOf", ()))}
                if answer.status_code != 422 and not fits(value, kinds, is_reference="$ref" in json.dumps(schema)):
                    wrong.append(f"{operation.method} {operation.path}: {name} took {value[:20]!r}")
    assert len(wrong) > 500
    assert not list(filter(None, wrong)), "\n".join(filter(None, wrong))


def fits(value: bytes, kinds: set[str | None], *, is_reference: bool) -> bool:
    """Whether a value is of a type that the document names."""
    try:
        read = json.loads(value)
    except ValueError:
        return False
    if isinstance(read, bool):
        return "boolean" in kinds
    if isinstance(read, float | int):
        return "number" in kinds or ("integer" in kinds and read == int(read))
    if isinstance(read, str):
        return "string" in kinds or is_reference
    return {list: "array", dict: "object", type(None): "null"}[type(read)] in kinds


def test_bodies_of_any_form_are_answered_as_described(client: httpx.Client, document: dict[str, Any]) -> None:
    wrong = []
    for operation in list_operations(document):
        for body, kind in BODIES if operation.body else ():
            headers = {"content-type": kind} if kind is not None else {}
            answer = client.request(operation.method, operation.fill(), content=body, headers=headers)
            wrong.append(check(operation, answer, (body[:20], kind)))
            if body == b"{bad" and answer.status_code != (422 if "json" in (kind or "") else 415):
                wrong.append(f"{operation.method} {operation.path} {kind}: {answer.status_code}")
    assert len(wrong) > 200
    assert not list(filter(None, wrong)), "\n".join(filter(None, wrong))


def write_pattern(template: str) -> str:
    """The paths of a template: a name of a description may have a `/`."""
    return re.sub(r"\{.*?\}", lambda parameter: ".+" if parameter[0] == "{name}" else "[^/]+", template)


def test_a_method_that_is_not_there_names_all_that_are(client: httpx.Client, document: dict[str, Any]) -> None:
    for operation in list_operations(document):
        path = operation.fill()
        # `/blocks/preview` is a `/blocks/{block_id}`, too.
        fitting = [one for one in document["paths"] if re.fullmatch(write_pattern(one), path)]
        there = {method.upper() for one in fitting for method in document["paths"][one]}
        for method in METHODS:
            if method not in there:
                answer = client.request(method, path)
                assert answer.status_code == 405, (method, path)
                assert {name.strip() for name in answer.headers["allow"].split(",")} == there, (method, path)


@pytest.mark.parametrize("host", ["[", "a b", "\u00ff", "evil.example"])
def test_hosts_of_any_form_are_refused_in_words(client: httpx.Client, host: str) -> None:
    answer = client.get("/api/v1/alerts", headers=[(b"host", host.encode("latin-1"))])
    assert (answer.status_code, answer.headers["content-type"]) == (421, PROBLEM)


def test_times_that_cannot_be_are_refused_in_words(client: httpx.Client) -> None:
    def ask(path: str, **query: str) -> tuple[int, str]:
        answer = client.get(f"/api/v1/{path}", params=query)
        return answer.status_code, answer.json().get("detail", "")

    for start in ("1969-12-31", "0001-01-01", "1800-01-01"):
        assert ask("inventory/diff", start=start, end="1970-01-03") == (
            422,
            f"The parameter 'start' is '{start}'; use a year from 1970 to 2105.",
        )
    assert ask("inventory/diff", start="0", end="2026-01-01")[1].endswith("use a date like 2026-10-01.")
    assert ask("inventory/diff", start="1970-01-01", end="2105-12-31")[0] == 200
    early = {"endpoint": "x", "start": "1969-01-01T00:00:00Z", "end": "1969-01-01T02:00:00Z"}
    assert "use a year from 1970 to 2105" in ask("calls", **early)[1]
    assert "use a time like" in ask("calls", **{**early, "start": "0"})[1]
    first = {"endpoint": "x", "start": "1970-01-01T00:00:00Z", "end": "2105-12-31T23:59:59Z"}
    assert ask("calls", **first, resolution="hour")[0] == 200
