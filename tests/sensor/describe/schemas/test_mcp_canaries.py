"""No text of a tool's arguments or results, a prompt, a file's name or a description leaves the node.

Raw bodies in, and all that is reported of them is searched: facts of calls, schemas as they are sent, logs.
"""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from sensor.core.calls import AuthenticationKind, Credentials, Hop, NamedEnds, PrincipalKind, RawBodies, Role
from sensor.core.keyed import KeyedHash
from sensor.describe.bodies.reader import BodyCall, BodyReader
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.schemas.book import SchemaBook
from sensor.export.messages import write_schemas
from sensor.routes.vocabulary import load_vocabulary
from tests.sensor.describe.bodies.messages import chunk, response_head
from tests.sensor.records import make_origin

ALL = SampleRule(first_count=1 << 30)
# Words of no dictionary, of one, a person, a file, a number.
CANARIES = ("kanarienvogel", "zwetschge-41", "merger", "ginevra", "quittengelee.pdf", "4929171034590122")
SECRET = " ".join(CANARIES)
FILE = "file:///home/ginevra/merger/quittengelee.pdf"
SCHEMA = {
    "type": "object",
    "description": SECRET,
    "properties": {"city": {"type": "string", "description": SECRET, "default": SECRET, "enum": [SECRET, CANARIES[0]]}},
    "required": ["city"],
}
TOOL = {
    "name": "get_forecast",
    "title": SECRET,
    "description": SECRET,
    "inputSchema": SCHEMA,
    "outputSchema": SCHEMA,
    "annotations": {"title": SECRET},
    "icons": [{"src": SECRET}],
    "_meta": {CANARIES[0]: SECRET},
}
RESOURCE = {"uri": FILE, "name": "quittengelee.pdf", "title": SECRET, "description": SECRET, "mimeType": "text/plain"}
TEMPLATE = {**RESOURCE, "uriTemplate": FILE + "{id}", "name": "order"}
PROMPT = {"name": "greet", "title": SECRET, "description": SECRET, "arguments": [{"name": "to", "description": SECRET}]}
TEXT = {"type": "text", "text": json.dumps({"note": SECRET, "rows": [{"a": one} for one in CANARIES]})}
CALLS: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    (
        "initialize",
        {"protocolVersion": "2025-06-18", "clientInfo": {"name": SECRET, "version": SECRET}},
        {
            "protocolVersion": "2025-06-18",
            "capabilities": {"experimental": {CANARIES[0]: SECRET}},
            "serverInfo": {"name": "weather", "title": SECRET, "version": "1.0.0", "description": SECRET},
            "instructions": SECRET,
        },
    ),
    ("tools/list", {"cursor": SECRET}, {"tools": [TOOL], "nextCursor": SECRET, "_meta": {"note": SECRET}}),
    ("prompts/list", {}, {"prompts": [PROMPT]}),
    ("resources/list", {}, {"resources": [RESOURCE]}),
    ("resources/templates/list", {}, {"resourceTemplates": [TEMPLATE]}),
    ("resources/read", {"uri": FILE}, {"contents": [{"uri": FILE, "text": SECRET, "blob": "a2FuYXJpZW52b2dlbA=="}]}),
    ("resources/subscribe", {"uri": FILE}, {}),
    ("prompts/get", {"name": "greet", "arguments": {"to": SECRET}}, {"messages": [{"role": "user", "content": TEXT}]}),
    (
        "completion/complete",
        {"ref": {"type": "ref/resource", "uri": FILE}, "argument": {"name": "to", "value": SECRET}},
        {"completion": {"values": list(CANARIES)}},
    ),
    (
        "tools/call",
        {"name": "get_forecast", "arguments": {"city": SECRET, CANARIES[0]: {"a": list(CANARIES)}}},
        {
            "content": [TEXT, {"type": "resource_link", **RESOURCE}],
            "structuredContent": {"result": [{"note": SECRET, CANARIES[1]: 1}]},
        },
    ),
    ("tools/call", {"name": "zwetschge-41", "arguments": {}}, {"content": [TEXT], "isError": True}),
)
NOTICES = (
    {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"message": SECRET, "progressToken": SECRET}},
    {"jsonrpc": "2.0", "method": "notifications/message", "params": {"logger": SECRET, "data": {"file": FILE}}},
    {"jsonrpc": "2.0", "id": 90, "method": "elicitation/create", "params": {"message": SECRET}},
    {"jsonrpc": "2.0", "id": 91, "method": "sampling/createMessage", "params": {"systemPrompt": SECRET}},
    {"jsonrpc": "2.0", "id": 92, "error": {"code": -32603, "message": SECRET, "data": {"file": FILE}}},
)
CHAT = {
    "model": "m-1",
    "messages": [
        {"role": "system", "content": SECRET},
        {"role": "user", "content": [{"type": "text", "text": SECRET}]},
    ],
    "tools": [{"type": "function", "function": {"name": "get_forecast", "description": SECRET, "parameters": SCHEMA}}],
    "metadata": {"file": FILE},
}
CHAT_CALL = {"type": "function", "function": {"name": "get_forecast", "arguments": json.dumps({"city": SECRET})}}
CHAT_ANSWER = {"id": "c1", "model": "m-1", "choices": [{"message": {"content": SECRET, "tool_calls": [CHAT_CALL]}}]}


class Exporter:
    """A reader and a book, and everything that they gave."""

    def __init__(self) -> None:
        self._book = SchemaBook(load_vocabulary(), ALL)
        self._book.hash_by(KeyedHash(1, bytes(16)))
        self._reader = BodyReader(ALL, self._book)
        self._now_ns = 1_700_000_000 * 10**9
        self.reported: list[str] = []

    def call(self, asked: object, answer: bytes, media_type: str, method: str = "POST") -> None:
        """One call from raw bytes; a stream also before its end."""
        self._now_ns += 10**9
        body = json.dumps(asked).encode() if asked is not None else b""
        lines = (
            f"{method} /mcp HTTP/1.1",
            "Host: shop",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        head = "\r\n".join((*lines, "", "")).encode()
        raw, answered = chunk(answer), response_head(media_type=media_type)
        credentials = Credentials(AuthenticationKind.NONE, 0, PrincipalKind.UNSPECIFIED, 0, False)
        ends = NamedEnds(Role.SERVER, Hop.ENDPOINT, "10.0.0.9", "", "", "1.1", False)
        sizes = len(head) + len(body), len(answered) + len(raw)
        call = BodyCall(
            *(7, 200, head, answered, *sizes, self._now_ns, RawBodies(body, raw)),
            origin=make_origin(1),
            path="/mcp",
            method=method,
            caller=(credentials, ends),
            mcp_version=CANARIES[0].encode(),
        )
        self._reader.read_beginning(call)
        self.reported += [str(self._reader.read(call)), str(call)]
        for message in self._book.take(self._now_ns):
            sent = write_schemas(message)
            self.reported += [str(message), str(sent), sent.SerializeToString().decode("latin-1")]


def write_answers(answers: list[object], form: str) -> bytes:
    """Messages as one body."""
    if form == "application/json":
        return json.dumps(answers if len(answers) > 1 else answers[0]).encode()
    return b"".join(b"event: message\ndata: " + json.dumps(one).encode() + b"\n\n" for one in answers)


def list_exchanges(form: str) -> Iterator[tuple[object, bytes, str]]:
    """What was asked, and the body of the answer: each alone, and all at once."""
    asked = [{"jsonrpc": "2.0", "id": n, "method": one, "params": given} for n, (one, given, _) in enumerate(CALLS)]
    answers: list[object] = [{"jsonrpc": "2.0", "id": n, "result": result} for n, (*_, result) in enumerate(CALLS)]
    for request, answer in zip(asked, answers, strict=True):
        yield request, write_answers([answer], form), form
    yield asked, write_answers([*NOTICES, *answers], form), form
    yield None, write_answers([*NOTICES, *answers], "text/event-stream"), "text/event-stream"
    yield CHAT, write_answers([CHAT_ANSWER], form), form
    pieces = [{"choices": [{"index": 0, "delta": {"content": SECRET[at : at + 4]}}]} for at in range(0, len(SECRET), 4)]
    yield {**CHAT, "stream": True}, write_answers(list(pieces), "text/event-stream"), "text/event-stream"


@pytest.mark.parametrize("form", ["application/json", "text/event-stream"])
def test_no_text_of_tools_prompts_files_and_models_leaves_the_node(form: str, caplog: pytest.LogCaptureFixture) -> None:
    exporter = Exporter()
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            for asked, answer, media_type in list_exchanges(form):
                exporter.call(asked, answer, media_type, "GET" if asked is None else "POST")
    told = "\n".join([*exporter.reported, caplog.text]).lower()
    assert "get_forecast" in told  # What may leave does.
    found = [one for one in (*CANARIES, "a2fuyxjpzw52b2dlba==", "/home/") if one in told]
    assert found == []
