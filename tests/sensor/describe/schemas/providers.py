"""Calls of model APIs as their providers' references show them: requests, answers, and what is to be known of each.

No text of these leaves the node. `text` is in each prompt and in each answer.
"""

import base64
import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sensor.describe.schemas.model_usage import ModelUsage

EVENTS = "text/event-stream"
JSON = "application/json"
LINES = "application/x-ndjson"
AWS_EVENTS = "application/vnd.amazon.eventstream"


class ModelExchange(NamedTuple):
    """One call. `host` is that of the provider; `request_model` and so on are what is to be known."""

    path: str
    host: str
    asked: dict[str, Any]
    answer: bytes
    media_type: str
    provider: str
    operation: str
    request_model: str
    response_model: str
    usage: ModelUsage
    is_streamed: bool = False
    head: tuple[str, ...] = ()


def write_events(messages: Iterable[object], *, has_names: bool = False, end: bytes = b"") -> bytes:
    """Server-sent events; with the type of each as its name."""
    return b"".join(_write_event(one, has_names) for one in messages) + end


def _write_event(message: Any, has_name: bool) -> bytes:
    name = f"event: {message['type']}\n" if has_name else ""
    return f"{name}data: {json.dumps(message)}\n\n".encode()


def write_lines(messages: Iterable[object]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in messages)


def write_frames(messages: Iterable[tuple[str, object]]) -> bytes:
    """Amazon's event stream: a header field with the kind of the message, and the message."""
    return b"".join(_write_frame(kind, message) for kind, message in messages)


def _write_frame(kind: str, message: object, name: str = ":event-type") -> bytes:
    payload = json.dumps(message, separators=(",", ":")).encode()
    head = bytes((len(name),)) + name.encode() + b"\x07" + struct.pack(">H", len(kind)) + kind.encode()
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    frame = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return frame + struct.pack(">I", zlib.crc32(frame))


def cut(text: str, size: int = 4) -> Iterator[str]:
    """Pieces of a text, as models write it."""
    return (text[at : at + size] for at in range(0, len(text), size))


def _pass_on(message: object) -> dict[str, str]:
    """A message of another provider in a frame of Bedrock's."""
    return {"bytes": base64.b64encode(json.dumps(message, separators=(",", ":")).encode()).decode(), "p": "abcdef"}


def make_model_exchanges(text: str) -> dict[str, ModelExchange]:
    """By a name for the test."""
    return {
        **_list_openai(text),
        **_list_anthropic(text),
        **_list_google(text),
        **_list_amazon(text),
        **_list_own(text),
    }


def _list_openai(text: str) -> dict[str, ModelExchange]:
    tool = {
        "type": "function",
        "function": {"name": "get_forecast", "description": text, "parameters": {"title": text}},
    }
    chat: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": text},
            {"role": "user", "content": [{"type": "text", "text": text}]},
        ],
        "model": "gpt-4o",
        "tools": [tool],
        "metadata": {"file": text},
    }
    tool_call = {
        "id": "t1",
        "type": "function",
        "function": {"name": "get_forecast", "arguments": json.dumps({"a": text})},
    }
    usage = {
        "prompt_tokens": 120,
        "completion_tokens": 30,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 100, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 10},
    }
    counted = ModelUsage(input_tokens=120, output_tokens=30, cache_read_tokens=100, reasoning_tokens=10)
    base = {"id": "chatcmpl-1", "created": 1_790_000_000, "model": "gpt-4o-2024-08-06", "system_fingerprint": "fp_1"}
    message = {"role": "assistant", "content": text, "tool_calls": [tool_call]}
    whole = {**base, "object": "chat.completion", "choices": [{"index": 0, "message": message}], "usage": usage}
    piece = {**base, "object": "chat.completion.chunk", "usage": None}
    pieces = [{**piece, "choices": [{"index": 0, "delta": {"content": one}}]} for one in cut(text)]
    stream = write_events([*pieces, {**piece, "choices": [], "usage": usage}], end=b"data: [DONE]\n\n")
    response = {
        "id": "resp_1",
        "object": "response",
        "status": "in_progress",
        "error": None,
        "instructions": text,
        "model": "gpt-5-mini-2025-08-07",
        "output": [],
        "usage": None,
    }
    usage_of_responses = {
        "input_tokens": 75,
        "input_tokens_details": {"cached_tokens": 64},
        "output_tokens": 1_186,
        "output_tokens_details": {"reasoning_tokens": 1_024},
        "total_tokens": 1_261,
    }
    content = [{"type": "message", "content": [{"type": "output_text", "text": text}]}]
    done = {
        **response,
        "status": "completed",
        "output": content,
        "usage": usage_of_responses,
        "user": None,
        "metadata": {},
    }
    deltas = [{"type": "response.output_text.delta", "item_id": "i1", "delta": one} for one in cut(text)]
    told = [
        {"type": "response.created", "response": response},
        *deltas,
        {"type": "response.completed", "response": done},
    ]
    of_responses = ModelUsage(input_tokens=75, output_tokens=1_186, cache_read_tokens=64, reasoning_tokens=1_024)
    vectors = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.0023, -0.0093, 0.0101]}],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    host, names = "api.openai.com", ("openai", "chat", "gpt-4o", "gpt-4o-2024-08-06")
    asked_responses = {"input": text, "model": "gpt-5-mini", "instructions": text}
    of_input = ModelUsage(input_tokens=8)
    azure = "/openai/deployments/gpt-4o-eu/chat/completions"
    return {
        "openai chat": ModelExchange("/v1/chat/completions", host, chat, _json(whole), JSON, *names, counted),
        "openai chat stream": ModelExchange(
            *("/v1/chat/completions", host, {**chat, "stream": True}, stream, EVENTS, *names, counted, True)
        ),
        "openai completion": ModelExchange(
            *("/v1/completions", host, {"model": "gpt-3.5-turbo-instruct", "prompt": text}),
            _json({**base, "object": "text_completion", "choices": [{"text": text, "index": 0}], "usage": usage}),
            *(JSON, "openai", "text_completion", "gpt-3.5-turbo-instruct", "gpt-4o-2024-08-06", counted),
        ),
        "openai responses": ModelExchange(
            *("/v1/responses", host, asked_responses, _json(done), JSON, "openai", "chat"),
            *("gpt-5-mini", "gpt-5-mini-2025-08-07", of_responses),
        ),
        "openai responses stream": ModelExchange(
            *("/v1/responses", host, {**asked_responses, "stream": True}, write_events(told, has_names=True), EVENTS),
            *("openai", "chat", "gpt-5-mini", "gpt-5-mini-2025-08-07", of_responses, True),
        ),
        "openai embeddings": ModelExchange(
            *("/v1/embeddings", host, {"input": [text], "model": "text-embedding-3-small"}, _json(vectors), JSON),
            *("openai", "embeddings", "text-embedding-3-small", "text-embedding-3-small", of_input),
        ),
        "azure chat": ModelExchange(
            *(azure, "acme.openai.azure.com", {"messages": chat["messages"]}, _json(whole), JSON),
            *("azure.ai.openai", "chat", "gpt-4o-eu", "gpt-4o-2024-08-06", counted),
        ),
    }


def _list_anthropic(text: str) -> dict[str, ModelExchange]:
    asked = {
        "max_tokens": 1_024,
        "messages": [{"role": "user", "content": text}],
        "model": "claude-sonnet-4-5",
        "system": text,
    }
    begun = {"input_tokens": 21, "cache_creation_input_tokens": 188, "cache_read_input_tokens": 900, "output_tokens": 1}
    base = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929"}
    whole = {**base, "content": [{"type": "text", "text": text}], "usage": {**begun, "output_tokens": 393}}
    told = [
        {"type": "message_start", "message": {**base, "content": [], "usage": begun}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": one}}
            for one in cut(text)
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 393}},
        {"type": "message_stop"},
    ]
    counted = ModelUsage(input_tokens=1_109, output_tokens=393, cache_read_tokens=900, cache_creation_tokens=188)
    names = ("anthropic", "chat", "claude-sonnet-4-5", "claude-sonnet-4-5-20250929")
    host = "api.anthropic.com"
    return {
        "anthropic messages": ModelExchange("/v1/messages", host, asked, _json(whole), JSON, *names, counted),
        "anthropic stream": ModelExchange(
            *("/v1/messages", host, {**asked, "stream": True}, write_events(told, has_names=True), EVENTS),
            *(*names, counted, True),
        ),
    }


def _list_google(text: str) -> dict[str, ModelExchange]:
    asked = {
        "contents": [{"role": "user", "parts": [{"text": text}]}],
        "systemInstruction": {"parts": [{"text": text}]},
    }

    def write(words: str, output: int) -> dict[str, object]:
        counts = {"promptTokenCount": 40, "candidatesTokenCount": output, "thoughtsTokenCount": 12}
        return {
            "candidates": [{"content": {"parts": [{"text": words}], "role": "model"}, "index": 0}],
            "usageMetadata": {**counts, "totalTokenCount": 52 + output, "cachedContentTokenCount": 16},
            "modelVersion": "gemini-2.5-flash",
            "responseId": "r1",
        }

    pieces = [write(one, number) for number, one in enumerate(cut(text), 1)]
    pieces[-1]["candidates"] = [{"content": {"parts": [{"text": text[-1:]}]}, "finishReason": "STOP", "index": 0}]
    counted = ModelUsage(input_tokens=40, output_tokens=19, cache_read_tokens=16, reasoning_tokens=12)
    in_stream = ModelUsage(input_tokens=40, output_tokens=12 + len(pieces), cache_read_tokens=16, reasoning_tokens=12)
    host, base = "generativelanguage.googleapis.com", "/v1beta/models/gemini-2.5-flash"
    vertex = "/v1/projects/acme/locations/europe-west1/publishers/google/models/gemini-2.5-flash:generateContent"
    names = ("gcp.gemini", "generate_content", "gemini-2.5-flash", "gemini-2.5-flash")
    return {
        "gemini": ModelExchange(f"{base}:generateContent", host, asked, _json(write(text, 7)), JSON, *names, counted),
        "gemini stream": ModelExchange(
            *(f"{base}:streamGenerateContent", host, asked, write_events(pieces), EVENTS, *names, in_stream, True)
        ),
        "gemini stream as a list": ModelExchange(
            *(f"{base}:streamGenerateContent", host, asked, _json(pieces), JSON, *names, in_stream, True)
        ),
        "gemini embeddings": ModelExchange(
            *("/v1beta/models/gemini-embedding-001:embedContent", host, {"content": {"parts": [{"text": text}]}}),
            _json({"embedding": {"values": [0.1, 0.2]}, "usageMetadata": {"promptTokenCount": 5}}),
            *(JSON, "gcp.gemini", "embeddings", "gemini-embedding-001", "", ModelUsage(input_tokens=5)),
        ),
        "vertex": ModelExchange(
            *(vertex, "europe-west1-aiplatform.googleapis.com", asked, _json(write(text, 7)), JSON),
            *("gcp.vertex_ai", "generate_content", "gemini-2.5-flash", "gemini-2.5-flash", counted),
        ),
    }


def _list_amazon(text: str) -> dict[str, ModelExchange]:
    model = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    asked = {"messages": [{"role": "user", "content": [{"text": text}]}], "system": [{"text": text}]}
    usage = {"inputTokens": 30, "outputTokens": 628, "totalTokens": 658, "cacheReadInputTokens": 10}
    counted = ModelUsage(input_tokens=40, output_tokens=628, cache_read_tokens=10)
    answer = {"role": "assistant", "content": [{"text": text}]}
    whole = {"output": {"message": answer}, "stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 1_275}}
    told: list[tuple[str, object]] = [
        ("messageStart", {"role": "assistant", "p": "abc"}),
        *(("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": one}, "p": "ab"}) for one in cut(text)),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"metrics": {"latencyMs": 1_275}, "p": "abcdefg", "usage": usage}),
    ]
    invoked = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 512,
        "messages": [{"role": "user", "content": text}],
    }
    counts = {"inputTokenCount": 30, "outputTokenCount": 628, "cacheReadInputTokenCount": 10}
    passed = [
        (
            "chunk",
            _pass_on({"type": "message_start", "message": {"model": "claude-sonnet-4-5-20250929", "content": []}}),
        ),
        *(("chunk", _pass_on({"type": "content_block_delta", "delta": {"text": one}})) for one in cut(text)),
        ("chunk", _pass_on({"type": "message_stop", "amazon-bedrock-invocationMetrics": counts})),
    ]
    titan = {"embedding": [0.1, 0.2], "inputTextTokenCount": 9}
    host, path = "bedrock-runtime.eu-central-1.amazonaws.com", "/model/" + model.replace(":", "%3A")
    names = ("aws.bedrock", "chat", model, "")
    return {
        "bedrock converse": ModelExchange(f"{path}/converse", host, asked, _json(whole), JSON, *names, counted),
        "bedrock converse stream": ModelExchange(
            *(f"{path}/converse-stream", host, asked, write_frames(told), AWS_EVENTS, *names, counted, True)
        ),
        "bedrock invoke": ModelExchange(
            *(f"{path}/invoke", host, invoked, _json({"type": "message", "content": [{"text": text}]}), JSON, *names),
            ModelUsage(input_tokens=30, output_tokens=628),
            head=("x-amzn-bedrock-input-token-count: 30", "x-amzn-bedrock-output-token-count: 628"),
        ),
        "bedrock invoke stream": ModelExchange(
            *(f"{path}/invoke-with-response-stream", host, invoked, write_frames(passed), AWS_EVENTS),
            *("aws.bedrock", "chat", model, "claude-sonnet-4-5-20250929", counted, True),
        ),
        "bedrock embeddings": ModelExchange(
            *("/model/amazon.titan-embed-text-v2:0/invoke", host, {"inputText": text}, _json(titan), JSON),
            *("aws.bedrock", "embeddings", "amazon.titan-embed-text-v2:0", "", ModelUsage(input_tokens=9)),
        ),
    }


def _list_own(text: str) -> dict[str, ModelExchange]:
    """Of software that serves models."""
    chat = {"model": "llama3.2", "messages": [{"role": "user", "content": text}]}
    base = {"model": "llama3.2", "created_at": "2026-11-24T17:00:00Z"}
    end = {**base, "done": True, "done_reason": "stop", "total_duration": 4_883_583_458, "prompt_eval_count": 26}
    end["eval_count"] = 282
    lines = [{**base, "message": {"role": "assistant", "content": one}, "done": False} for one in cut(text)]
    whole = {**end, "message": {"role": "assistant", "content": text}}
    counted = ModelUsage(input_tokens=26, output_tokens=282)
    own = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "Qwen/Qwen3-8B"}
    choices = [{"index": 0, "message": {"role": "assistant", "content": text}}]
    usage = {"prompt_tokens": 26, "completion_tokens": 282, "total_tokens": 308}
    asked = {"model": "Qwen/Qwen3-8B", "messages": chat["messages"]}
    served = {**own, "choices": choices, "usage": usage}
    names = ("chat", "Qwen/Qwen3-8B", "Qwen/Qwen3-8B", counted)
    path, host = "/v1/chat/completions", "models.internal:8000"
    ollama = ("ollama", "chat", "llama3.2", "llama3.2", counted)
    ended = {**end, "message": {"role": "assistant", "content": ""}}
    return {
        "ollama chat": ModelExchange("/api/chat", host, {**chat, "stream": False}, _json(whole), JSON, *ollama),
        "ollama chat stream": ModelExchange(
            "/api/chat", host, chat, write_lines([*lines, ended]), LINES, *ollama, True
        ),
        "ollama generate": ModelExchange(
            *("/api/generate", host, {"model": "llama3.2", "prompt": text}),
            write_lines([*({**base, "response": one, "done": False} for one in cut(text)), {**end, "response": ""}]),
            *(LINES, "ollama", "text_completion", "llama3.2", "llama3.2", counted, True),
        ),
        "ollama embeddings": ModelExchange(
            *("/api/embed", host, {"model": "nomic-embed-text", "input": [text]}),
            _json({"model": "nomic-embed-text", "embeddings": [[0.1, 0.2], [0.3, 0.4]], "prompt_eval_count": 8}),
            *(JSON, "ollama", "embeddings", "nomic-embed-text", "nomic-embed-text", ModelUsage(input_tokens=8)),
        ),
        "ollama as openai": ModelExchange(
            *(path, host, asked, _json({**served, "system_fingerprint": "fp_ollama"}), JSON, "ollama", *names)
        ),
        "vllm": ModelExchange(*(path, host, asked, _json({**served, "prompt_logprobs": None}), JSON, "vllm", *names)),
        "litellm": ModelExchange(
            *("/chat/completions", host, asked, _json(served), JSON, "litellm", *names),
            head=("x-litellm-call-id: 1", "x-litellm-version: 1.80"),
        ),
        "another": ModelExchange(path, host, asked, _json(served), JSON, "_OTHER", *names),
    }


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
