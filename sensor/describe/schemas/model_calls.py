"""Recognises calls of model APIs: a sampled call with its bodies in, a `ModelCall` out, and never a text of either.

The path names the form of an API, and the bodies have to have the shape of that form: `/api/chat` and `/messages` are
paths of many services. Forms are those of OpenAI (also Azure, vLLM, LiteLLM and most others), Anthropic, Gemini (also
Vertex AI), Amazon Bedrock and Ollama. Who answers is known from the host that a client on this node called, and from
marks that servers leave in their answers; a caller's word for it, such as Host at a server, counts for nothing.

A call shows a model API where its answer has the shape, or where a client on this node called the host of a provider.

Names of values are those of OpenTelemetry's semantic conventions for generative AI: `gen_ai.provider.name`,
`gen_ai.operation.name`. Token counts are sensor/describe/schemas/model_usage.py.

Sources: API references of OpenAI (chat, completions, responses, embeddings), Azure OpenAI, Anthropic (messages), Google
(Gemini API, Vertex AI), Amazon Bedrock (Converse, InvokeModel), Ollama; vLLM's and LiteLLM's documentation.
"""

import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import msgspec
from pydantic_core import from_json

from common.model_hosts import find_host_provider
from sensor.core.calls import STATUS_NOT_READ, Role
from sensor.describe.bodies.documents import AWS_EVENTS, EVENTS
from sensor.describe.bodies.reader import BodyCall, BodyDocument
from sensor.describe.schemas.model_endings import Ending, has_error, read_ending
from sensor.describe.schemas.model_usage import ModelUsage, find_usage, read_usage_head

OTHER_PROVIDER: Final = "_OTHER"
_FIRST_MESSAGES: Final = 3  # Of a stream, that are looked at for what it is.
_PATH_CHARACTERS_MAX: Final = 1_024
_STREAM_TYPES: Final = frozenset((EVENTS, AWS_EVENTS, "application/x-ndjson", "application/ndjson"))
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{8,}={0,2}\Z")


class ModelOperation(StrEnum):
    """`gen_ai.operation.name`."""

    CHAT = "chat"
    TEXT_COMPLETION = "text_completion"
    GENERATE_CONTENT = "generate_content"
    EMBEDDINGS = "embeddings"


_Message = dict[str, Any]


def _is_any(message: _Message) -> bool:
    return True


def _has_choices(message: _Message) -> bool:
    return isinstance(message["choices"], list) and ("id" in message or "usage" in message)


def _is_of_responses(message: _Message) -> bool:
    kind = message.get("type")
    return message.get("object") == "response" or (isinstance(kind, str) and kind.startswith("response."))


def _is_of_messages(message: _Message) -> bool:
    return message.get("type") in ("message", "message_start")


def _has_vectors(message: _Message) -> bool:
    first = message["data"][:1] if isinstance(message["data"], list) else []
    return bool(first) and isinstance(first[0], dict) and _is_vector(first[0].get("embedding"))


def _has_own_vectors(message: _Message) -> bool:
    first = message["embeddings"][:1] if isinstance(message.get("embeddings"), list) else []
    return _is_vector(first[0] if first else message.get("embedding"))


def _is_vector(value: object) -> bool:
    """Numbers, or these in base64."""
    if isinstance(value, str):
        return _BASE64.match(value) is not None
    return isinstance(value, list) and bool(value) and all(isinstance(one, int | float) for one in value[:8])


def _is_of_ollama(message: _Message) -> bool:
    return isinstance(message.get("model"), str) and isinstance(message.get("done"), bool)


class _Form(NamedTuple):
    """How an API is asked and answers. `asked`, `answered`: of which fields a request, or an answer or one of its first
    messages, has one at least; `provider`: whose API it is; others serve the same form."""

    operation: ModelOperation
    asked: tuple[str, ...]
    answered: tuple[str, ...]
    provider: str = OTHER_PROVIDER
    needs_model: bool = True  # In the request's body.
    needs_tokens: bool = False  # `max_tokens`, which only Anthropic's API demands.
    # Distinguishes an answer from those of other services, where its fields have common names.
    is_answer: Callable[[_Message], bool] = _is_any


_CHAT: Final = _Form(ModelOperation.CHAT, ("messages",), ("choices",), is_answer=_has_choices)
_TEXT: Final = _Form(ModelOperation.TEXT_COMPLETION, ("prompt",), ("choices",), is_answer=_has_choices)
_RESPONSES: Final = _Form(
    ModelOperation.CHAT,
    ("input", "prompt", "previous_response_id", "conversation"),
    ("output", "response"),
    is_answer=_is_of_responses,
)
_EMBEDDINGS: Final = _Form(ModelOperation.EMBEDDINGS, ("input",), ("data",), is_answer=_has_vectors)
_MESSAGES: Final = _Form(
    ModelOperation.CHAT,
    ("messages",),
    ("content", "message"),
    "anthropic",
    needs_tokens=True,
    is_answer=_is_of_messages,
)
_GENERATE: Final = _Form(
    ModelOperation.GENERATE_CONTENT,
    ("contents",),
    ("candidates", "usageMetadata", "promptFeedback"),
    "gcp.gemini",
    needs_model=False,
)
_EMBED: Final = _Form(
    ModelOperation.EMBEDDINGS, ("content", "requests"), ("embedding", "embeddings"), "gcp.gemini", needs_model=False
)
_CONVERSE: Final = _Form(
    ModelOperation.CHAT,
    ("messages",),
    ("output", "role", "delta"),
    "aws.bedrock",
    needs_model=False,
)
_INVOKE: Final = _Form(
    ModelOperation.CHAT,
    ("messages", "prompt", "inputText", "inputs", "texts"),
    ("content", "completion", "results", "generation", "outputs", "embedding", "embeddings", "choices", "message"),
    "aws.bedrock",
    needs_model=False,
    is_answer=lambda one: not isinstance(one.get("message"), str),
)
_RAW_PREDICT: Final = _MESSAGES._replace(provider="gcp.vertex_ai", needs_model=False)
_OLLAMA_CHAT: Final = _Form(ModelOperation.CHAT, ("messages",), ("message",), "ollama", is_answer=_is_of_ollama)
_OLLAMA_GENERATE: Final = _Form(
    ModelOperation.TEXT_COMPLETION, ("prompt",), ("response",), "ollama", is_answer=_is_of_ollama
)
_OLLAMA_EMBED: Final = _Form(
    ModelOperation.EMBEDDINGS, ("input", "prompt"), ("embedding", "embeddings"), "ollama", is_answer=_has_own_vectors
)
# By the end of the path.
_FORMS: Final = (
    (re.compile(r"/chat/completions\Z"), _CHAT),
    (re.compile(r"/completions\Z"), _TEXT),
    (re.compile(r"/responses\Z"), _RESPONSES),
    (re.compile(r"/api/embed(?:dings)?\Z"), _OLLAMA_EMBED),
    (re.compile(r"/embeddings\Z"), _EMBEDDINGS),
    (re.compile(r"/messages\Z"), _MESSAGES),
    (re.compile(r"/models/(?P<model>[^/:]+):(?:streamG|g)enerateContent\Z"), _GENERATE),
    (re.compile(r"/models/(?P<model>[^/:]+):(?:embedContent|batchEmbedContents)\Z"), _EMBED),
    (re.compile(r"/models/(?P<model>[^/:]+):(?:streamRawPredict|rawPredict)\Z"), _RAW_PREDICT),
    (re.compile(r"/model/(?P<model>[^/]+)/converse(?:-stream)?\Z"), _CONVERSE),
    (re.compile(r"/model/(?P<model>[^/]+)/invoke(?:-with-response-stream)?\Z"), _INVOKE),
    (re.compile(r"/api/chat\Z"), _OLLAMA_CHAT),
    (re.compile(r"/api/generate\Z"), _OLLAMA_GENERATE),
)
_SIGN: Final = re.compile(
    r"(?:completions|responses|embeddings|messages|embed|chat|generate|converse|converse-stream|invoke|"
    r"invoke-with-response-stream|Content|Contents|Predict)\Z"
)
# Of a model that Bedrock serves: its vendor, and a region before it.
_VENDOR: Final = re.compile(
    r"(?:arn:aws|(?:[a-z-]{2,8}\.)?(?:ai21|amazon|anthropic|cohere|deepseek|luma|meta|minimax|mistral|moonshot|nvidia|openai|"
    r"qwen|stability|twelvelabs|writer|google|zai)\.)"
)
_NO_ENDING: Final = Ending([], [], False, False)
_STREAM_PATH: Final = re.compile(r"(?::stream[A-Z]\w+|/converse-stream|/invoke-with-response-stream)\Z")
_DEPLOYMENT: Final = re.compile(r"/openai/deployments/(?P<model>[^/]+)/")
# Marks of who answers: in the answer's head,
_HEAD_MARKS: Final = (
    (re.compile(rb"\nx-litellm-", re.IGNORECASE), "litellm"),
    (re.compile(rb"\n(?:openai-processing-ms|openai-organization|openai-version):", re.IGNORECASE), "openai"),
)
# and fields that only vLLM's answers have.
_VLLM_FIELDS: Final = ("prompt_logprobs", "kv_transfer_params")
_KEY_IN_URL: Final = re.compile(
    r"(?:\A|&)(?:(?:key|api[-_]?key|subscription-key|access[-_]token|token)=[\w.~%-]{16,}"
    r"|[^=&]{1,64}=(?:sk-|AIza|gsk_|xai-|hf_|pplx-)[\w.~%-]{16,})",
    re.IGNORECASE,
)


class ModelCall(msgspec.Struct, frozen=True, kw_only=True):
    """What one call shows. Names of models are as they were written: private until they have been assessed.
    `is_confirmed`: the call surely is of a model API, whatever else is known of its route."""

    provider: str
    operation: ModelOperation
    request_model: str
    response_model: str
    is_confirmed: bool
    is_streamed: bool
    has_failed: bool
    has_url_key: bool
    usage: ModelUsage | None

    def __repr__(self) -> str:
        return f"ModelCall({self.provider}, {self.operation}, redacted)"


def names_model_api(path: str) -> bool:
    """Whether a path is one of a model API, as far as a path can show. Cost: 0.5 us."""
    return _find_form(path) is not None


def read_model_call(call: BodyCall, request: BodyDocument | None, response: BodyDocument | None) -> ModelCall | None:
    """None where the call is of no form of a model API. Never raises. Cost: 1 us of others."""
    if call.method != "POST":
        return None
    found = _find_form(call.path)
    if found is None:
        return None
    form, model = found
    if request is not None and not isinstance(request.tree, dict):
        return None
    asked = request.tree if request is not None and isinstance(request.tree, dict) else None
    host_provider = _find_host(call)
    if form is _INVOKE and not host_provider and _VENDOR.match(model) is None:
        return None
    messages = _list_first(response)
    is_answered = 200 <= call.status_code < 300 and any(_is_answer(form, one) for one in messages)
    if asked is None:
        # An answer alone may be that of any service, unless it says which model it is of and what that counted.
        is_answered = is_answered and not _is_empty(call) and _says_model_and_usage(messages)
    is_asked = asked is not None and _is_request(form, asked, model)
    if request is not None and asked is not None and not is_asked:
        if request.is_complete:
            return None
        is_asked = any(asked.get(name) for name in form.asked)  # The rest may be behind the cut.
    if not (is_answered or is_asked):
        return None
    is_stream = response is not None and response.media_type in _STREAM_TYPES
    is_single = response is not None and response.is_complete and not is_stream and isinstance(response.tree, dict)
    # Of an answer that was parsed whole nothing else is a count, or an error.
    ending = _NO_ENDING if response is None or is_single else read_ending(response.last, response.media_type)
    return ModelCall(
        provider=host_provider or _find_mark(call, form, messages),
        operation=_find_operation(form, model, messages),
        request_model=model or _read_text(asked, "model"),
        response_model=_find_response_model(messages),
        is_confirmed=is_answered or host_provider != "",
        is_streamed=is_stream
        or (asked is not None and asked.get("stream") is True)
        or _STREAM_PATH.search(call.path) is not None,
        has_failed=_has_failed(call.status_code) or ending.has_failed or any(map(has_error, messages)),
        has_url_key=_KEY_IN_URL.search(call.query) is not None,
        usage=_read_usage(call, messages, ending, is_whole=response is not None and response.is_complete),
    )


def _find_form(path: str) -> tuple[_Form, str] | None:
    """The form that a path names, and the model where it is in the path."""
    path = path[:_PATH_CHARACTERS_MAX].rstrip("/")
    if _SIGN.search(path) is None:
        return None
    for pattern, form in _FORMS:
        found = pattern.search(path)
        if found is None:
            continue
        found = found if "model" in found.groupdict() else _DEPLOYMENT.search(path)
        if found is None:
            return form, ""
        if form.provider == OTHER_PROVIDER:
            form = form._replace(provider="azure.ai.openai", needs_model=False)
        elif form.provider == "gcp.gemini" and "/publishers/" in path:
            form = form._replace(provider="gcp.vertex_ai")
        return form, unquote(found["model"])
    return None


def _is_request(form: _Form, asked: _Message, model: str) -> bool:
    if not any(asked.get(name) for name in form.asked):
        return False
    if form.needs_tokens and not isinstance(asked.get("max_tokens"), int):
        return False
    return bool(model) or not form.needs_model or isinstance(asked.get("model"), str)


def _list_first(response: BodyDocument | None) -> list[_Message]:
    """The answer, or the first messages of a stream."""
    if response is None:
        return []
    found: Iterable[object] = ()
    if response.messages:
        found = map(_parse, response.messages[:_FIRST_MESSAGES])
    elif isinstance(response.tree, list):
        found = response.tree[:_FIRST_MESSAGES]
    else:
        found = (response.tree,)
    return [one for one in found if isinstance(one, dict)]


def _parse(message: bytes) -> object:
    try:
        return from_json(message)
    except ValueError:
        return None


def _is_answer(form: _Form, message: _Message) -> bool:
    """Whether an answer, or a message of one, is of a form: a list, an object or, of pieces, a text is in it."""
    has_any = any(isinstance(message.get(name), list | dict | str) for name in form.answered)
    return has_any and form.is_answer(message)


def _find_host(call: BodyCall) -> str:
    """The provider whose host a client on this node called."""
    if call.caller is None or call.caller[1].role is not Role.CLIENT:
        return ""
    return find_host_provider(call.host)


def _find_mark(call: BodyCall, form: _Form, messages: list[_Message]) -> str:
    """Who answers, by what the answer says."""
    head = call.response_head or (call.bodies.response_head if call.bodies is not None else b"")
    found = next((provider for pattern, provider in _HEAD_MARKS if pattern.search(head)), "")
    if found or form.provider == "ollama":
        return found or form.provider
    if any(one.get("system_fingerprint") == "fp_ollama" for one in messages):
        return "ollama"
    return "vllm" if any(name in one for one in messages for name in _VLLM_FIELDS) else OTHER_PROVIDER


def _find_operation(form: _Form, model: str, messages: list[_Message]) -> ModelOperation:
    """Of Bedrock's `invoke` the answer, or the model, says whether these are embeddings."""
    is_embedding = form is _INVOKE and ("embed" in model or any("embedding" in one for one in messages))
    return ModelOperation.EMBEDDINGS if is_embedding else form.operation


def _read_text(fields: object, name: str) -> str:
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, str) else ""


def _find_response_model(messages: list[_Message]) -> str:
    """As the answer names it; of some streams within its first message."""
    for message in messages:
        for holder in (message, message.get("response"), message.get("message")):
            found = _read_text(holder, "model") or _read_text(holder, "modelVersion")
            if found:
                return found
    return ""


def _is_empty(call: BodyCall) -> bool:
    """Whether a request has no body."""
    if call.payloads is not None:
        return call.payloads[0].is_complete and not call.payloads[0].data
    return call.request_bytes <= len(call.request_head)


def _says_model_and_usage(messages: list[_Message]) -> bool:
    return bool(_find_response_model(messages)) and any(find_usage(one) is not None for one in messages)


def _has_failed(status_code: int) -> bool:
    return status_code >= 400 or (status_code < 100 and status_code != STATUS_NOT_READ)


def _read_usage(call: BodyCall, messages: list[_Message], ending: Ending, *, is_whole: bool) -> ModelUsage | None:
    """Counts of the first messages and of the end: some APIs say at first what came in, and at last what went out.
    Without the end nobody knows what an answer has counted."""
    found: list[ModelUsage] = []
    if is_whole or ending.is_over:
        found = [usage for one in messages for usage in (find_usage(one),) if usage is not None] + ending.usages
    head = call.response_head or (call.bodies.response_head if call.bodies is not None else b"")
    counted = read_usage_head(head)
    found += [] if counted is None else [counted]
    return None if not found else found[0].join(*found[1:])
