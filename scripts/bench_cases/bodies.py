"""What reading a sampled body costs, without a kernel: raw bytes to facts, by coding and size.

    scripts/bench bodies [--rounds 5] [--without-schemas] [--only TEXT]

Lists of records of an invented shop: names, e-mails, phones, addresses, numbers, dates; and `wide`, one document of
11 KB with hundreds of fields, all of which are asked; and one of the lists as XML. Answers of 10 KB of an MCP server (a
list of tools, what a tool gives) and of model APIs (a chat as JSON and as a stream of events of three providers, a
vector), and the longest list of tools that is copied whole; these with their short requests.

Process time a body, the best of the rounds; `ns_a_byte` is of the bytes on the wire, which the budget
(`body_bytes_per_second`) counts. `references`: the same as a multiple of a fixed loop that is timed between the rounds,
the median, which says the same on a busy machine.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from sensor.core.calls import AuthenticationKind, Credentials, Hop, NamedEnds, PrincipalKind, RawBodies, Role
from sensor.core.keyed import KeyedHash
from sensor.describe.bodies.reader import BodyCall, BodyReader
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.schemas.book import SchemaBook
from sensor.describe.schemas.model_calls import names_model_api
from sensor.http.bodies import BODY_BYTES_MAX, LIST_BYTES_MAX, find_most
from sensor.routes.vocabulary import load_vocabulary
from tests.sensor.describe.bodies.messages import ENCODERS, chunk, response_head

REQUEST = b"GET /orders HTTP/1.1\r\nHost: shop\r\n\r\n"
ALL = SampleRule(first_count=1 << 30)
CREDENTIALS = Credentials(AuthenticationKind.NONE, 0, PrincipalKind.UNSPECIFIED, 0, False)
ENDS = NamedEnds(Role.SERVER, Hop.ENDPOINT, "10.0.0.9", "", "", "1.1", False)


def make_body(records: int) -> bytes:
    """A list; no two records are equal."""
    source = random.Random(records)
    names = ("Ada Lovelace", "Alan Turing", "Grace Hopper", "Edsger Dijkstra")
    return json.dumps(
        [
            {
                "id": i,
                "customer": {"name": source.choice(names), "email": f"u{source.randrange(10**6)}@example.org"},
                "phone": f"+1 415 555 {source.randrange(1000, 9999)}",
                "address": {"street": f"{source.randrange(999)} Main Street", "city": "Springfield"},
                "total": source.randrange(10**4) / 100,
                "created_at": "2026-11-24T17:00:00Z",
                "note": "left at the door",
            }
            for i in range(records)
        ]
    ).encode()


def make_wide_body() -> bytes:
    """One document of 11 KB, no list of records: 44 sections of six fields, one in three with an address of mail."""
    source = random.Random(1)

    def section(i: int) -> dict[str, object]:
        return {
            "id": f"{source.getrandbits(128):032x}",
            "display_label": f"Section {i} of the report",
            "updated_at": "2026-11-24T17:00:00Z",
            "href": f"https://api.example.org/v2/reports/{source.randrange(10**6)}/sections/{i}",
            "weight": source.randrange(10**4) / 100,
            "contact": f"u{source.randrange(10**6)}@example.org" if i % 3 == 0 else "nobody in particular",
        }

    return json.dumps({f"section_{i}": section(i) for i in range(44)}).encode()


def write_xml(body: bytes) -> bytes:
    """The same list as elements."""

    def write(name: str, value: object) -> str:
        if isinstance(value, dict):
            return f"<{name}>{''.join(write(*one) for one in value.items())}</{name}>"
        return f"<{name}>{value}</{name}>"

    return f"<orders>{''.join(write('order', record) for record in json.loads(body))}</orders>".encode()


class Exchange(NamedTuple):
    """What was asked, and the body of the answer with its type."""

    asked: object
    answer: bytes
    media_type: str = "application/json"
    path: str = "/api"


ANSWER_BYTES = 10_240


def make_tools(answer_bytes: int = ANSWER_BYTES) -> dict[str, object]:
    """An answer to `tools/list`, as frameworks write it from signatures."""
    source, tools, size = random.Random(2), list[dict[str, object]](), 2
    while size < answer_bytes - 400:
        verb, noun = source.choice(("get", "list", "create", "update")), source.choice(("order", "issue", "page"))
        properties = {
            name: {"type": kind, "title": name.title(), "description": f"The {name} of the {noun}, as it is shown."}
            for name, kind in (("project", "string"), ("number", "integer"), ("labels", "array"))
        }
        schema = {"type": "object", "properties": properties, "required": ["project", "number"]}
        described = f"Use this to {verb} one {noun}. Returns an error where it does not exist. {len(tools)}"
        hints = {"readOnlyHint": verb in ("get", "list"), "openWorldHint": False}
        name = f"{verb}_{noun}_{len(tools)}"
        tools.append({"name": name, "description": described, "inputSchema": schema, "annotations": hints})
        size += len(json.dumps(tools[-1])) + 2
    return {"tools": tools}


def make_exchanges() -> dict[str, Exchange]:
    """Answers of ANSWER_BYTES, and a list of tools that is as long as may be."""
    records = json.loads(make_body(34))
    results: dict[str, tuple[str, object, dict[str, object]]] = {
        "MCP tools/list": ("tools/list", {}, make_tools()),
        "MCP tools/list of 256 KiB": ("tools/list", {}, make_tools(LIST_BYTES_MAX - ANSWER_BYTES)),
        "MCP tools/call": (
            "tools/call",
            {"name": "list_order_1", "arguments": {"project": "shop"}},
            {"content": [{"type": "text", "text": json.dumps(records)}], "isError": False},
        ),
    }
    found: dict[str, Exchange] = {}
    for name, (method, params, result) in results.items():
        asked = {"jsonrpc": "2.0", "id": 3, "method": method, "params": params}
        body = json.dumps({"jsonrpc": "2.0", "id": 3, "result": result}).encode()
        found[name] = Exchange(asked, body)
        if len(body) > BODY_BYTES_MAX:
            continue  # Of a stream of events as much as of any body is copied.
        found[f"{name} as events"] = Exchange(asked, b"event: message\ndata: " + body + b"\n\n", "text/event-stream")
    words = " ".join(str(record["customer"]) + " left at the door." for record in records)
    return {**found, **make_model_exchanges(words * 5)}


CHAT_PATH = "/v1/chat/completions"


def make_model_exchanges(words: str) -> dict[str, Exchange]:
    """Answers of model APIs of ANSWER_BYTES; the answer of a chat has these words."""
    asked = {
        "model": "gpt-4o",
        "stream": True,
        "max_tokens": 512,
        "messages": [{"role": "user", "content": words[:300]}],
    }
    usage = {"prompt_tokens": 500, "completion_tokens": 2_500, "total_tokens": 3_000}
    base = {"id": "c1", "object": "chat.completion", "model": "gpt-4o-2024-08-06"}
    choice = {"index": 0, "message": {"role": "assistant", "content": words[: ANSWER_BYTES - 300]}}
    whole = {**base, "choices": [choice], "usage": usage}

    def write(text: str) -> object:
        return {**base, "created": 1, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}

    def write_of_messages(text: str) -> object:
        return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}

    def write_of_gemini(text: str) -> object:
        counts = {"promptTokenCount": 500, "candidatesTokenCount": 2_500, "totalTokenCount": 3_000}
        content = {"parts": [{"text": text}], "role": "model"}
        return {"candidates": [{"content": content}], "usageMetadata": counts, "modelVersion": "gemini-2.5-flash"}

    begun = {"type": "message_start", "message": {"model": "claude-sonnet-4-5", "usage": {"input_tokens": 500}}}
    ended = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 2_500}}
    of_gemini = {"contents": [{"role": "user", "parts": [{"text": words[:300]}]}]}
    source = random.Random(3)
    numbers = [source.uniform(-0.1, 0.1) for _ in range(450)]
    vector = {"object": "list", "model": "e-1", "data": [{"object": "embedding", "index": 0, "embedding": numbers}]}
    gemini_path = "/v1beta/models/gemini-2.5-flash:streamGenerateContent"
    events = "text/event-stream"
    return {
        "model chat": Exchange(asked, json.dumps(whole).encode(), path=CHAT_PATH),
        "model chat as events": Exchange(
            asked, stream_words(words, write, [], [{**base, "choices": [], "usage": usage}]), events, CHAT_PATH
        ),
        "model messages as events": Exchange(
            asked, stream_words(words, write_of_messages, [begun], [ended]), events, "/v1/messages"
        ),
        "model gemini as events": Exchange(
            of_gemini, stream_words(words, write_of_gemini, [], []), events, gemini_path
        ),
        "model vector": Exchange(
            {"model": "e-1", "input": words[:300]},
            json.dumps({**vector, "usage": usage}).encode(),
            path="/v1/embeddings",
        ),
    }


def stream_words(words: str, write: Callable[[str], object], first: list[object], last: list[object]) -> bytes:
    """A stream of events with five characters in each."""
    found, size, at = list(first), 0, 0
    while size < ANSWER_BYTES - 300:
        found.append(write(words[at : at + 5]))
        size, at = size + len(json.dumps(found[-1])) + 8, at + 5
    return b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in (*found, *last))


def burn() -> None:
    """The reference: 20,000 numbers as text."""
    total = 0
    for number in range(20_000):
        total += len(str(number))


class Cost(NamedTuple):
    """What a body costs, and how many records were told."""

    microseconds: float
    references: float
    records: int


def measure(raw: bytes, head: bytes, rounds: int, *, has_schemas: bool, asked: bytes = b"", path: str = "/api") -> Cost:
    """Of one body, again and again."""
    book = SchemaBook(load_vocabulary(), ALL)
    book.hash_by(KeyedHash(1, bytes(16)))
    reader = BodyReader(ALL, book if has_schemas else None)
    request = REQUEST
    if asked:
        lines = "POST /api HTTP/1.1", "Host: shop", "Content-Type: application/json", f"Content-Length: {len(asked)}"
        request = "\r\n".join((*lines, "", "")).encode()
    sizes = len(request) + len(asked), len(head) + len(raw)
    bodies, caller = RawBodies(asked, raw[: find_most(asked)]), (CREDENTIALS, ENDS) if asked else None
    method = "POST" if asked else "GET"
    call = BodyCall(
        *(1, 200, request, head, *sizes, 1, bodies),
        method=method,
        caller=caller,
        path=path,
        is_of_model=names_model_api(path),
    )
    count = max(3, 300_000 // max(len(raw), 3_000))
    costs: list[float] = []
    ratios: list[float] = []
    records = 0
    for _ in range(rounds):
        began = time.process_time_ns()
        burn()
        between = time.process_time_ns()
        for _ in range(count):
            facts = reader.read(call)
        ended = time.process_time_ns()
        burn()
        reference = (between - began + time.process_time_ns() - ended) / 2
        costs.append((ended - between) / count / 1_000)
        ratios.append((ended - between) / count / reference)
        records = facts.records if facts is not None else -1
    return Cost(min(costs), statistics.median(ratios), records)


def main() -> None:
    """Prints a line a scenario."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-schemas", action="store_true", help="Classify only, do not describe.")
    parser.add_argument("--only", default="", metavar="TEXT", help="Only scenarios with this text in their name.")
    arguments = parser.parse_args()
    bodies = [("wide", Exchange(None, make_wide_body()))] + [
        (f"{count} records", Exchange(None, make_body(count))) for count in (1, 10, 40, 100, 1_000)
    ]
    bodies.append(("40 records as XML", Exchange(None, write_xml(make_body(40)), "application/xml")))
    bodies += make_exchanges().items()
    for name, exchange in bodies:
        body = exchange.answer
        for coding in ("", "gzip", "br", "zstd", "chunked") if "records" in name[-7:] else ("",):
            scenario = f"{name}, {coding or 'plain'}"
            if arguments.only not in scenario:
                continue
            raw = chunk(body) if coding == "chunked" else ENCODERS[coding](body) if coding else body
            head = response_head(
                media_type=exchange.media_type,
                coding="" if coding == "chunked" else coding,
                length=None if coding == "chunked" else len(raw),
            )
            asked = json.dumps(exchange.asked).encode() if exchange.asked else b""
            has_schemas = not arguments.without_schemas
            cost = measure(raw, head, arguments.rounds, has_schemas=has_schemas, asked=asked, path=exchange.path)
            wire_bytes = min(len(raw), find_most(asked))
            line = {
                "scenario": scenario,
                "wire_bytes": wire_bytes,
                "us_a_body": round(cost.microseconds, 1),
                "references": round(cost.references, 3),
                "ns_a_byte": round(cost.microseconds * 1_000 / wire_bytes, 1),
                "records": cost.records,
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
