"""Reads token counts from answers of model APIs: parsed messages or a head in, `ModelUsage` out.

Of a long answer only the end has them (sensor/describe/schemas/model_endings.py).

`gen_ai.usage.input_tokens` has cached tokens, and `output_tokens` those of reasoning. Anthropic and Amazon count
cached tokens beside the input, Google counts reasoning beside the output.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

TOKENS_MAX: Final = 1 << 31  # Of one call: more is no count.
_FIELDS: Final = ("usage", "usageMetadata", "amazon-bedrock-invocationMetrics")
_BARE: Final = ("prompt_eval_count", "eval_count", "inputTextTokenCount")  # Beside the answer, of Ollama and Titan.
_HEAD: Final = re.compile(
    rb"\nx-amzn-bedrock-(input|output|cache-read-input|cache-write-input)-token-count: *(\d{1,10})", re.I
)
_INPUT: Final = ("prompt_tokens", "promptTokenCount", "prompt_eval_count", "inputTextTokenCount")
# Without cached tokens, where these are counted by names of `_CACHED`.
_INPUT_APART: Final = ("input_tokens", "inputTokens", "inputTokenCount")
_OUTPUT: Final = (
    *("completion_tokens", "output_tokens", "candidatesTokenCount", "outputTokens", "outputTokenCount", "eval_count"),
    "tokenCount",
)
_CACHED: Final = ("cache_read_input_tokens", "cacheReadInputTokens", "cacheReadInputTokenCount")
_CREATED: Final = ("cache_creation_input_tokens", "cacheWriteInputTokens", "cacheWriteInputTokenCount")
_CACHED_WITHIN: Final = ("cachedContentTokenCount", "prompt_cache_hit_tokens")
_DETAILS: Final = (
    "prompt_tokens_details",
    "input_tokens_details",
    "completion_tokens_details",
    "output_tokens_details",
)


class ModelUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one call, or of several."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_creation_tokens: int = 0
    reasoning_tokens: int = 0

    def join(self, *others: "ModelUsage") -> "ModelUsage":
        """What several messages of one answer say: counts only grow while it comes."""
        every = (self, *others)
        return ModelUsage(**{name: max(getattr(one, name) for one in every) for name in self.__struct_fields__})

    def add(self, other: "ModelUsage", weight: int) -> "ModelUsage":
        """With those of `weight` calls like another one."""
        return ModelUsage(
            **{name: getattr(self, name) + weight * getattr(other, name) for name in self.__struct_fields__}
        )


def find_usage(message: dict[str, Any]) -> ModelUsage | None:
    """Counts of a parsed answer, or of one message of a stream; within `response` or `message` too."""
    for holder in (message, message.get("response"), message.get("message"), message.get("metadata")):
        if not isinstance(holder, dict):
            continue
        for name in _FIELDS:
            found = _read_counts(holder.get(name))
            if found is not None:
                return found
    results = message.get("results")  # Of Titan.
    if isinstance(results, list) and results and isinstance(results[0], dict):
        message = {**message, **results[0]}
    return _read_counts(message) if any(name in message for name in _BARE) else None


def read_usage_head(head: bytes) -> ModelUsage | None:
    """Counts in the head of an answer, as Amazon Bedrock writes them."""
    counts = {name: int(count) for name, count in _HEAD.findall(head)} if b"bedrock" in head else {}
    if not counts:
        return None
    return _read_counts(
        {
            "inputTokens": counts.get(b"input", 0),
            "outputTokens": counts.get(b"output", 0),
            "cacheReadInputTokens": counts.get(b"cache-read-input", 0),
            "cacheWriteInputTokens": counts.get(b"cache-write-input", 0),
        }
    )


def _read_counts(usage: object) -> ModelUsage | None:
    """None where there is no count of input or output."""
    if not isinstance(usage, dict):
        return None
    whole, apart, output = (_find_count(usage, names) for names in (_INPUT, _INPUT_APART, _OUTPUT))
    if whole is None and apart is None and output is None:
        return None
    cached, created = _find_count(usage, _CACHED) or 0, _find_count(usage, _CREATED) or 0
    details = [one for one in (usage.get(name) for name in _DETAILS) if isinstance(one, dict)]
    reasoning = max((_find_count(one, ("reasoning_tokens",)) or 0 for one in details), default=0)
    thoughts = _find_count(usage, ("thoughtsTokenCount",)) or 0
    within = max(
        _find_count(usage, _CACHED_WITHIN) or 0,
        max((_find_count(one, ("cached_tokens",)) or 0 for one in details), default=0),
    )
    entered = apart + cached + created if whole is None and apart is not None else whole or 0
    return ModelUsage(
        input_tokens=entered + (_find_count(usage, ("toolUsePromptTokenCount",)) or 0),
        output_tokens=(output or 0) + thoughts,
        cache_read_tokens=max(cached, within),
        cache_creation_tokens=created,
        reasoning_tokens=max(reasoning, thoughts),
    )


def _find_count(fields: dict[str, Any], names: Iterable[str]) -> int | None:
    for name in names:
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < TOKENS_MAX:
            return value
    return None
