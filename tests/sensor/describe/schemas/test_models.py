"""Calls of model APIs: which are known, what is counted of them, and what of it may leave the node."""

import json
import logging
from typing import Any

import pytest

from sensor.core.calls import AuthenticationKind, Credentials, Hop, NamedEnds, PrincipalKind, RawBodies, Role
from sensor.core.keyed import KeyedHash
from sensor.describe.bodies.reader import BodyCall, BodyReader
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.schemas import model_uses
from sensor.describe.schemas.book import SchemaBook, SchemaPart
from sensor.describe.schemas.model_calls import names_model_api
from sensor.describe.schemas.model_endings import read_ending
from sensor.describe.schemas.model_usage import ModelUsage
from sensor.describe.schemas.model_uses import MAX_MODEL_NAMES, MAX_MODEL_USES, MAX_USED_MODELS, ModelUse, name_model
from sensor.export.messages import write_schemas
from sensor.routes.vocabulary import load_vocabulary
from sensor.sensitive.kinds import DataKind, DataPlace, make_codes
from tests.sensor.describe.bodies.messages import chunk
from tests.sensor.describe.schemas.providers import ModelExchange, make_model_exchanges
from tests.sensor.records import make_origin

SECOND = 10**9
TEXT = "What did the neighbour of our cousin say about the garden"
EXCHANGES = make_model_exchanges(TEXT)
CHAT = EXCHANGES["openai chat"]


class Node:
    """A reader of bodies with a book, and the calls that they get."""

    def __init__(self) -> None:
        self.book = SchemaBook(load_vocabulary(), SampleRule(first_count=1 << 30))
        self.book.hash_by(KeyedHash(1, bytes(16)))
        self._reader = BodyReader(SampleRule(first_count=1 << 30), self.book)
        self.now_ns = 1_700_000_000 * SECOND
        self.up_ns = SECOND
        self.facts = ""  # Of the last call.

    def call(
        self,
        exchange: ModelExchange,
        *,
        role: Role = Role.CLIENT,
        status: int = 200,
        route_id: int = 7,
        asked: object = None,
        answer: bytes | None = None,
        host: str | None = None,
        query: str = "",
        address: str = "10.0.0.9",
        raw_bytes: int = 1 << 20,
        last_bytes: int = 0,
        asked_bytes: int = 1 << 20,
        asked_type: str = "application/json",
    ) -> None:
        """One call; of the request and the answer so many bytes were copied, and so many at its end. `asked` as bytes
        is the body itself."""
        self.wait(1)
        asked = exchange.asked if asked is None else asked
        body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
        lines = (
            f"POST {exchange.path} HTTP/1.1",
            "Host: a",
            f"Content-Type: {asked_type}",
            f"Content-Length: {len(body)}",
        )
        head = "\r\n".join((*lines, "", "")).encode()
        answered = "\r\n".join(
            (
                f"HTTP/1.1 {status} OK",
                f"Content-Type: {exchange.media_type}",
                "Transfer-Encoding: chunked",
                *exchange.head,
            )
        ).encode()
        raw = chunk(exchange.answer if answer is None else answer)
        credentials = Credentials(AuthenticationKind.BEARER_OPAQUE, 3, PrincipalKind.TOKEN, 3, False)
        call = BodyCall(
            *(route_id, status, head, answered + b"\r\n\r\n", len(head) + len(body), len(answered) + 4 + len(raw)),
            *(
                self.now_ns,
                RawBodies(body[:asked_bytes], raw[:raw_bytes], response_last=raw[-last_bytes:] if last_bytes else b""),
            ),
            origin=make_origin(1),
            authentication=int(AuthenticationKind.BEARER_OPAQUE),
            path=exchange.path,
            query=query,
            method="POST",
            caller=(credentials, NamedEnds(role, Hop.ENDPOINT, address, "shop/agent", "", "1.1", False)),
            host=exchange.host if host is None else host,
            is_of_model=names_model_api(exchange.path),
        )
        self.book.weights.count(route_id)
        self.facts = str(self._reader.read(call)) + str(call)

    def wait(self, seconds: int) -> None:
        self.now_ns += seconds * SECOND
        self.up_ns += seconds * SECOND

    def take(self, route_id: int = 7) -> list[ModelUse]:
        """The newest state of a route, which may be written for the wire."""
        self.wait(300)
        schemas = [schema for message in self.book.take(self.up_ns) for schema in message]
        written = write_schemas(schemas)
        assert len(written.schemas.schemas) == len(schemas)
        found = [one for one in schemas if one.part is SchemaPart.MODEL_USES and one.route_id == route_id]
        return list(found[-1].model_uses) if found else []


def ask_once(exchange: ModelExchange, **given: Any) -> ModelUse:
    node = Node()
    node.call(exchange, **given)
    (use,) = node.take()
    return use


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("name", EXCHANGES)
def test_calls_of_each_provider_are_known_at_both_ends(name: str, role: Role) -> None:
    exchange = EXCHANGES[name]
    use = ask_once(exchange, role=role)
    assert (use.operation, use.request_model, use.response_model) == exchange[6:9]
    assert (use.calls, use.samples, use.counted, use.errors) == (1, 1, 1, 0)
    assert use.tokens == exchange.usage
    assert use.streamed == exchange.is_streamed
    assert (use.requests_read, use.responses_read) == (1, 1)
    if role is Role.CLIENT:
        assert use.provider == exchange.provider
    assert (use.client_workload, use.role, use.credential) == ("shop/agent", role, 3)
    assert use.authentication == ((int(AuthenticationKind.BEARER_OPAQUE), 1),)


def test_at_a_server_a_host_that_the_caller_wrote_is_no_word_on_who_answers() -> None:
    assert ask_once(CHAT, role=Role.SERVER).provider == "_OTHER"


@pytest.mark.parametrize("name", [name for name, one in EXCHANGES.items() if one.is_streamed and "list" not in name])
def test_a_stream_that_was_cut_is_known_without_its_counts(name: str) -> None:
    exchange = EXCHANGES[name]
    use = ask_once(exchange, raw_bytes=len(chunk(exchange.answer)) * 2 // 3)
    assert (use.calls, use.request_model, use.counted) == (1, exchange.request_model, 0)
    assert use.tokens == ModelUsage()


@pytest.mark.parametrize(
    ("path", "asked", "answer"),
    [
        ("/api/chat", {"messages": [{"role": "user", "content": "a"}]}, {"reply": "b"}),
        ("/api/generate", {"prompt": "a", "model": "x"}, {"response": "b"}),
        ("/forum/messages", {"messages": ["a"], "model": "t"}, {"content": "b", "type": "post"}),
        ("/v1/messages", {"to": "a", "max_tokens": 1}, {"type": "message", "content": "b"}),
        ("/surveys/4/responses", {"input": "a", "model": "b"}, {"output": []}),
        ("/search/embeddings", {"input": "a", "model": "b"}, {"data": [{"id": 1}]}),
        ("/model/7/invoke", {"command": "a"}, {"results": []}),
        ("/code/completions", {"prefix": "a"}, {"choices": ["b"]}),
    ],
)
def test_other_services_with_such_paths_are_no_model_apis(path: str, asked: object, answer: object) -> None:
    node = Node()
    exchange = CHAT._replace(path=path, host="models.internal")
    node.call(exchange, role=Role.SERVER, asked=asked, answer=json.dumps(answer).encode())
    assert node.take() == []


def test_a_caller_makes_no_model_api_of_a_service() -> None:
    node = Node()
    node.call(CHAT, role=Role.SERVER, status=404, answer=b'{"error": "no such path"}')
    node.call(CHAT, role=Role.SERVER, answer=b'{"ok": true}')
    assert node.take() == []


@pytest.mark.parametrize("status", [401, 429, 500])
def test_errors_are_counted_where_the_api_is_known(status: int) -> None:
    node = Node()
    node.call(CHAT, role=Role.SERVER)
    node.call(CHAT, role=Role.SERVER, status=status, answer=b'{"error": {"message": "no"}}')
    invented = {**CHAT.asked, "model": "gpt-zwetschge"}
    node.call(CHAT, role=Role.SERVER, status=status, asked=invented, answer=b'{"error": {"message": "no"}}')
    uses = {(use.request_model, use.response_model): (use.calls, use.errors) for use in node.take()}
    assert uses == {("gpt-4o", "gpt-4o-2024-08-06"): (1, 0), ("gpt-4o", ""): (1, 1), ("_OTHER", ""): (1, 1)}


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("openai chat stream", b'data: {"error": {"message": "the server is gone"}}\n\n'),
        ("anthropic stream", b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error"}}\n\n'),
        ("ollama chat stream", b'{"error": "out of memory"}\n'),
    ],
)
def test_an_error_within_a_stream_is_one(name: str, end: bytes) -> None:
    exchange = EXCHANGES[name]
    assert ask_once(exchange, answer=exchange.answer + end).errors == 1


def test_words_of_an_answer_are_no_counts_and_no_errors() -> None:
    said = 'data: {"error": {"a": 1}} {"usage": {"prompt_tokens": 7000, "completion_tokens": 9}}'
    for name, exchange in make_model_exchanges(said).items():
        use = ask_once(exchange)
        assert (use.errors, use.tokens.input_tokens) == (0, exchange.usage.input_tokens), name


def test_classes_of_data_in_prompts_and_answers_are_counted() -> None:
    turns = [{"role": "user", "content": f"question {number}"} for number in range(40)]
    turns[-1]["content"] = "Charge 4111 1111 1111 1111 and write to ada@example.org"
    answer = CHAT.answer.replace(TEXT.encode(), b"Her number is +1 415 555 2671, I wrote to bob@example.com")
    use = ask_once(CHAT, asked={**CHAT.asked, "messages": turns}, answer=answer)
    expected = make_codes(DataPlace.REQUEST_BODY, {DataKind.CREDIT_CARD, DataKind.EMAIL})
    expected |= make_codes(DataPlace.RESPONSE_BODY, {DataKind.PHONE, DataKind.EMAIL})
    assert dict(use.data) == dict.fromkeys(expected, 1)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("key=AIzaSyA-0123456789abcdefghijklmnopqrstu", 1),
        ("api-version=2024-10-21&api-key=0123456789abcdef0123456789abcdef", 1),
        ("auth=sk-proj-0123456789abcdefghij", 1),
        ("api-version=2024-10-21", 0),
        ("alt=sse&key=short", 0),
    ],
)
def test_keys_in_urls_are_counted(query: str, count: int) -> None:
    assert ask_once(EXCHANGES["gemini"], query=query).url_keys == count


def test_samples_count_as_many_calls_as_they_stand_for() -> None:
    node = Node()
    node.call(CHAT)
    node.wait(1)
    node.book.weights.count(7, 9)  # Nine that were not read, and one that is.
    node.call(CHAT)
    (use,) = node.take()
    assert (use.calls, use.samples) == (11, 2)
    assert use.tokens.input_tokens == 11 * CHAT.usage.input_tokens
    node.book.weights.count(7, 5)  # After the last one that was read.
    (use,) = node.take()
    assert (use.calls, use.samples) == (16, 2)
    assert use.tokens.input_tokens == 16 * CHAT.usage.input_tokens


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("ft:gpt-4o-mini-2024-07-18:acme::AbC123", "ft:gpt-4o-mini-2024-07-18"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        (
            "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-lite-v1:0",
            "eu.amazon.nova-lite-v1:0",
        ),
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("/mnt/models/qwen3-8b", "qwen3-8b"),
        ("support-model-v2", "support-model-v2"),
        ("", ""),
        ("ada@example.org", "_OTHER"),
        ("4929171034590122", "_OTHER"),
        ("What did she say?", "_OTHER"),
        ("9f86d081884c7d659a2feaa0c55ad015", "_OTHER"),
        ("gpt-" + "a" * 200, "_OTHER"),
        ("/home/ginevra", "_OTHER"),
        ("o1", "o1"),
        ("text-embedding-ada-002", "text-embedding-ada-002"),
        ("gpt-4.1-2025-04-14", "gpt-4.1-2025-04-14"),
        ("command-r-plus-08-2024", "command-r-plus-08-2024"),
        ("mixtral-8x22b-instruct", "mixtral-8x22b-instruct"),
        ("llama3.1:70b-instruct-q4_K_M", "llama3.1:70b-instruct-q4_K_M"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"),
        ("qwen3-235b-a22b-instruct-2507", "qwen3-235b-a22b-instruct-2507"),
        ("claude-dupont-hiv-positive", "_OTHER"),
        ("ayaan.khan-4.12.1961", "_OTHER"),
        ("nova-kowalska-diagnosis", "_OTHER"),
        ("john.smith/gpt-notes", "gpt-notes"),
        ("gpt-patient-4711-john-smith", "_OTHER"),
        ("gpt-sk-proj-abcdefghijklmnop1234567890ABCD", "_OTHER"),
        ("gpt-AKIAIOSFODNN7EXAMPLE", "_OTHER"),
        ("gpt-123-45-6789", "_OTHER"),
        ("gpt-06-12-34-56-78", "_OTHER"),
        ("gpt-4o-04-12-1961", "_OTHER"),
        ("claude-4111-1111-1111-1111", "_OTHER"),
        ("command-password-Hunter2xyz", "_OTHER"),
        ("gpt-what-did-the-neighbour-say-about-us", "_OTHER"),
    ],
)
def test_names_leave_where_they_are_those_of_models(text: str, name: str) -> None:
    book = SchemaBook(load_vocabulary(), SampleRule())
    assert name_model(text, book._name_model_word) == name


def test_names_callers_and_uses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()

    def ask(name: str, address: str = "10.0.0.9", route_id: int = 7) -> None:
        answer = CHAT.answer.replace(b"gpt-4o-2024-08-06", name.encode())
        node.call(CHAT, asked={**CHAT.asked, "model": name}, answer=answer, address=address, route_id=route_id)

    for number in range(MAX_USED_MODELS + 5):
        ask(f"gpt-v{number}")
    uses = node.take()
    assert len(uses) == MAX_USED_MODELS + 1
    assert {use.request_model: use.calls for use in uses}["_OTHER"] == 5
    for number in range(MAX_MODEL_NAMES):
        ask(f"gpt-v{number}", f"10.0.1.{number}")
    assert len({use.request_model for use in node.take()}) == MAX_MODEL_NAMES + 1
    for number in range(MAX_MODEL_USES):
        ask("gpt-v0", f"10.{number // 250 + 2}.0.{number % 250}")
    assert len(node.take()) == MAX_MODEL_USES
    monkeypatch.setattr(model_uses, "MAX_ALL_USES", MAX_MODEL_USES)
    ask("gpt-v0", route_id=8)
    assert node.take() == []
    ask("gpt-v0")
    assert len(node.take()) == 1


# Words of no dictionary, of one, a person, a file, a number, an address.
CANARIES = ("kanarienvogel", "zwetschge-41", "merger", "ginevra", "quittengelee.pdf", "4929171034590122", "b@c.example")


@pytest.mark.parametrize("raw_bytes", [1 << 20, 400])
def test_no_text_of_prompts_tools_files_and_answers_leaves_the_node(
    raw_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    reported = []
    with caplog.at_level(logging.DEBUG):
        for number, (name, exchange) in enumerate(make_model_exchanges(" ".join(CANARIES)).items()):
            for role in Role:
                node = Node()
                node.call(exchange, role=role, route_id=number, raw_bytes=raw_bytes, query=f"user={CANARIES[3]}")
                reported.append(node.facts)
                node.call(exchange, role=role, route_id=number, status=500, answer=b'{"error": "kanarienvogel"}')
                reported.append(node.facts)
                for canary in CANARIES[:2] + CANARIES[3:]:  # One of a dictionary may be of a model's name.
                    path = exchange.path.replace("gpt-4o-eu", f"gpt-{canary}").replace("gemini-2.5", f"gemini-{canary}")
                    named = exchange._replace(path=path)
                    answer = exchange.answer.replace(b"-2024-08-06", f"-{canary}".encode())
                    asked = {**exchange.asked, "model": f"gpt-{canary}"}
                    node.call(named, role=role, route_id=number, asked=asked, answer=answer, raw_bytes=raw_bytes)
                    reported.append(node.facts)
                node.wait(300)
                for message in node.book.take(node.up_ns):
                    sent = write_schemas(message)
                    reported += [str(message), str(sent), sent.SerializeToString().decode("latin-1")]
                assert exchange.request_model in reported[-2] or raw_bytes == 400, name
    told = "\n".join([*reported, caplog.text]).lower()
    assert [one for one in CANARIES if one in told] == []


@pytest.mark.parametrize("name", [name for name, one in EXCHANGES.items() if one.is_streamed])
def test_of_a_stream_that_was_cut_the_last_bytes_have_the_counts(name: str) -> None:
    exchange = make_model_exchanges(" ".join([TEXT] * 40))[name]
    use = ask_once(exchange, raw_bytes=9_000, last_bytes=1_500)
    assert (use.counted, use.tokens) == (1, exchange.usage)


@pytest.mark.parametrize("name", [name for name, one in EXCHANGES.items() if one.is_streamed and "list" not in name])
def test_a_stream_whose_client_leaves_after_its_last_message_is_counted(name: str) -> None:
    exchange = EXCHANGES[name]
    raw_bytes = len(chunk(exchange.answer)) - len(b"0\r\nX-Trailer: 1\r\n\r\n")
    assert ask_once(exchange, raw_bytes=raw_bytes).tokens == exchange.usage


def test_bodies_of_model_apis_are_not_described() -> None:
    node = Node()
    node.call(CHAT)
    schemas = [schema for message in node.book.take(node.up_ns) for schema in message]
    assert {schema.part for schema in schemas} == {SchemaPart.MODEL_USES}


def test_calls_that_are_of_no_model_add_nothing_to_those_that_are() -> None:
    node = Node()
    for _ in range(20):
        node.call(CHAT)
    for _ in range(200):
        node.call(CHAT, status=400, asked={"a": 1}, answer=b'{"error": "no"}')
    (use,) = node.take()
    assert (use.calls, use.tokens.input_tokens) == (20, 20 * CHAT.usage.input_tokens)


@pytest.mark.parametrize("status", [401, 429])
def test_refused_callers_take_no_place_from_those_that_are_served(status: int) -> None:
    node = Node()
    node.call(CHAT, role=Role.SERVER)
    for number in range(MAX_MODEL_USES + 88):
        address = f"192.0.{number // 250}.{number % 250}"
        node.call(CHAT, role=Role.SERVER, status=status, answer=b'{"error": {"message": "no"}}', address=address)
    node.call(CHAT, role=Role.SERVER, address="10.0.0.77")
    uses = {use.client_address: (use.calls, use.errors) for use in node.take()}
    assert uses == {"10.0.0.9": (1, 0), "": (MAX_MODEL_USES + 88, MAX_MODEL_USES + 88), "10.0.0.77": (1, 0)}


def test_callers_past_the_bound_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_uses, "MAX_MODEL_USES", 4)
    node = Node()
    for number in range(40):
        node.call(CHAT, address=f"10.0.1.{number}")
    assert len(node.take()) == 4
    (entry,) = (one for one in node.book._entries.values() if one.model_uses is not None)
    assert entry.model_uses is not None
    assert (len(entry.model_uses._used), entry.left_out) == (4, 36)


LONG = {
    "messages": [
        {"role": "user", "content": "a question " * 9_000},
        {"role": "user", "content": "4111 1111 1111 1111"},
    ],
    "model": "gpt-4o",
}


def test_long_prompts_are_of_the_model_of_the_short_ones_and_are_not_read() -> None:
    node = Node()
    node.call(CHAT)
    for _ in range(2):
        node.call(CHAT, asked=LONG, asked_bytes=65_536)
    node.call(CHAT, asked=LONG, asked_bytes=65_536, status=429, answer=b'{"error": {"message": "no"}}')
    uses = {(use.request_model, use.response_model): (use.calls, use.errors) for use in node.take()}
    assert uses == {("gpt-4o", "gpt-4o-2024-08-06"): (3, 0), ("", ""): (1, 1)}
    long = ask_once(CHAT, asked=LONG, asked_bytes=65_536)
    assert (long.calls, long.requests_read, long.data) == (1, 0, ())
    begun = {**LONG, "messages": list(reversed(LONG["messages"]))}
    assert ask_once(CHAT, asked=begun, asked_bytes=65_536).requests_read == 1  # What is in it was found.


@pytest.mark.parametrize(
    ("path", "media_type", "asked", "answer"),
    [
        ("/rooms/7/messages", "text/plain", b"hello", {"type": "message", "content": "b"}),
        ("/rooms/7/messages", "application/json", b"", {"type": "message", "content": "b"}),
        ("/rooms/7/messages", "application/json", b'["hi"]', {"type": "message", "content": "b"}),
        ("/quiz/4/completions", "application/json", b"", {"id": 5, "choices": ["a"]}),
        ("/quiz/4/completions", "application/json", b"", {"model": "a", "choices": [], "usage": {"prompt_tokens": 1}}),
        ("/api/embed", "application/json", b'{"input": "a", "model": "b"}', {"embedding": "<iframe>"}),
        ("/model/churn/invoke", "application/json", b'{"inputs": [[1, 2]]}', {"outputs": [0.3]}),
    ],
)
def test_answers_alone_make_no_model_api(path: str, media_type: str, asked: bytes, answer: object) -> None:
    node = Node()
    exchange = CHAT._replace(path=path, host="models.internal")
    node.call(exchange, role=Role.SERVER, asked=asked, asked_type=media_type, answer=json.dumps(answer).encode())
    assert node.take() == []


@pytest.mark.parametrize("name", ["anthropic messages", "gemini", "vertex", "bedrock converse", "azure chat"])
@pytest.mark.parametrize("role", list(Role))
def test_the_form_of_an_api_does_not_say_who_serves_it(name: str, role: Role) -> None:
    assert ask_once(EXCHANGES[name], role=role, host="models.internal").provider == "_OTHER"


FAKE = {"usage": {"prompt_tokens": 1_000_000_000}, "error": {"a": 1}}


@pytest.mark.parametrize("name", ["ollama chat", "ollama chat stream", "anthropic messages", "gemini", "gemini stream"])
@pytest.mark.parametrize("raw_bytes", [1 << 20, 500])
def test_what_a_model_writes_into_arguments_of_tools_is_no_count_and_no_error(name: str, raw_bytes: int) -> None:
    exchange = EXCHANGES[name]
    tool = {"id": 1, "input": FAKE, "args": FAKE, "function": {"name": "a", "arguments": FAKE}, "list": [FAKE]}
    answer = exchange.answer
    for begin in (b'"content": [', b'"parts": [', b'"message": {'):
        at = answer.rfind(begin)
        if at >= 0:
            written = json.dumps(tool).encode()
            written = written + b", " if begin.endswith(b"[") else b'"tool_calls": [' + written + b"], "
            answer = answer[: at + len(begin)] + written + answer[at + len(begin) :]
            break
    assert b"1000000000" in answer
    use = ask_once(exchange, answer=answer, raw_bytes=raw_bytes, last_bytes=len(answer) - 100)
    assert (use.errors, use.tokens) == (0, exchange.usage)


def test_fields_beside_the_answer_hold_no_counts() -> None:
    whole = json.loads(CHAT.answer)
    del whole["usage"]
    use = ask_once(CHAT, answer=json.dumps({**whole, "x": {"usage": {"prompt_tokens": 77_777}}}).encode())
    assert (use.counted, use.tokens.input_tokens) == (0, 0)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("openai chat", b'{"id": "a", "error": {"code": 502}, "choices": []}'),
        ("openai responses stream", b'data: {"type": "response.failed", "response": {"error": {"code": "x"}}}\n\n'),
    ],
)
def test_an_error_beside_an_answer_is_one(name: str, end: bytes) -> None:
    exchange = EXCHANGES[name]
    assert ask_once(exchange, answer=(exchange.answer if exchange.is_streamed else b"") + end).errors == 1


@pytest.mark.parametrize("name", ["openai chat stream", "anthropic stream", "openai responses stream"])
def test_events_whose_lines_end_with_cr_and_lf_are_no_framing_of_chunks(name: str) -> None:
    exchange = make_model_exchanges(" ".join([TEXT] * 40))[name]
    answer = exchange.answer.replace(b"\n", b"\r\n")
    use = ask_once(exchange, answer=answer, raw_bytes=9_000, last_bytes=1_500)
    assert (use.counted, use.tokens) == (1, exchange.usage)


def test_counts_are_found_behind_bytes_that_are_missing_in_the_end() -> None:
    exchange = make_model_exchanges(" ".join([TEXT] * 40))["openai responses stream"]
    ending = read_ending(exchange.answer[5_000:5_600] + exchange.answer[-900:], exchange.media_type)
    assert (ending.usages, ending.is_over) == ([exchange.usage], True)
