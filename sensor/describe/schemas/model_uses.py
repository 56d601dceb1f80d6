"""Counts who asked which models of one route of a model API: sampled calls in, `ModelUse`s out.

A sample counts as many calls as it stands for (sensor/describe/schemas/tally.py), and so do its tokens. Names of models
leave the node where they look like such names and the API served them: whoever calls may write any word there.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

import msgspec

from common.bounded import BoundedDict
from sensor.core.calls import Credentials, NamedEnds, PrincipalKind, Role
from sensor.describe.schemas.model_calls import OTHER_PROVIDER, ModelCall, ModelOperation
from sensor.describe.schemas.model_usage import ModelUsage
from sensor.describe.schemas.tally import Sample
from sensor.describe.schemas.uses import Caller, Uses, name_caller
from sensor.sensitive.document import classify_field
from sensor.sensitive.kinds import PLACE_SHIFT, DataPlace

MAX_MODEL_USES: Final = 512  # Of one route.
MAX_USED_MODELS: Final = 32  # Of one caller of it; further ones are one.
MAX_MODEL_NAMES: Final = 128  # Of one route.
MAX_MODEL_ROUTES: Final = 256  # The one called longest ago is forgotten.
MAX_ALL_USES: Final = 4_096  # Of all routes, some 4 MB.
MODEL_USE_NODES: Final = 6  # What one takes of a message, in fields of a schema.
MAX_USE_CODES: Final = 64  # Kinds of data by place, of one use.
OTHER_MODEL: Final = "_OTHER"
_SECOND_NS: Final = 1_000_000_000
# Behind `@` only a version: else it may be an address.
_NAME: Final = re.compile(r"(?=.{1,128}\Z)[A-Za-z0-9][A-Za-z0-9._:/+-]*(?:@(?:\d+|latest|default))?\Z")
_PIECE: Final = re.compile(r"[-_./:@+]")
# Words of published models, and of who publishes them: they say nothing of whoever asks for these. Without digits.
_KNOWN_TEXT: Final = (
    "ai ai21 aion all allenai amazon anthropic apac arctic awq aws aya azure b baai babbage baichuan bartowski base "
    "behemoth beta bf bge bigcode bloom bnb c4ai chat chatglm chatgpt claude code codegemma codellama coder "
    "codestral codex cohere command commandr computer dall databricks davinci dbrx deepseek devstral distill "
    "distilled dolphin e edit embed embedding embeddings english ernie eu exp experimental falcon fast fireworks "
    "flash flux fp ft gemini gemma gguf glm google gpt gptq granite grok groq gte guard haiku hermes hf high "
    "huggingface huggingfacetb hy ibm image imagen instruct instruction int internlm it jamba jina jp k kimi l "
    "large latest learnlm lite live llama llava lm lmstudio lmsys long low m macro magistral maverick max medium "
    "meta micro microsoft mini minicpm minilm minimax ministral mistral mistralai mixtral moderation moonshot "
    "moonshotai multilingual multimodal mxbai nano nemo nemotron neural nomic nousresearch nova nvidia o olmo omni "
    "online open openai openchat openhermes openrouter opus org oss palm perplexity phi pixtral plus premier "
    "preview pro q qat quantized qwen qwq r realtime reasoner reasoning rerank research s sambanova scout search "
    "small smol smollm snowflake solar sonar sonnet speech stability stabilityai stable stablelm starcoder starling "
    "swallow tb text thebloke thinking tiiuae tiny tinyllama titan together togethercomputer transcribe translate "
    "tts tulu turbo ultra unsloth us v veo versatile vertex vicuna vision vl voyage web whisper wizard wizardlm "
    "writer x xai xl xlarge xs yi zai zephyr"
)
_KNOWN_WORDS: Final = frozenset(_KNOWN_TEXT.split())
# Sizes and versions: at most three digits between letters.
_VERSION_PIECE: Final = re.compile(r"[A-Za-z]?\d{1,3}[A-Za-z]|[A-Za-z]\d{1,3}|\d{1,2}x\d{1,3}[bB]|\d{1,2}bit")
# Digits alone: small ones, and dates since 2020 or parts of these.
_NUMBER: Final = re.compile(
    r"\d{1,2}|00\d|20[2-4]\d|(?:20)?[2-4]\d(?:0[1-9]|1[0-2])|(?:0[1-9]|1[0-2])[0-3]\d|20[2-4]\d(?:0[1-9]|1[0-2])[0-3]\d"
)
# Whose pieces are others' too.
_KNOWN_NAMES: Final = frozenset(("o1", "o3", "text-embedding-ada-002"))
_NUMBERS_MAX: Final = 5  # In one name, of which so many have two digits: more is a telephone number, or another.
_PAIRS_MAX: Final = 3
_OTHER_WORDS_MAX: Final = 4  # Of a vocabulary alone: more is a sentence.
_PATH_OR_ARN: Final = re.compile(r"[/.~]|arn:|file:")
_BODY_PLACES: Final = (DataPlace.REQUEST_BODY, DataPlace.RESPONSE_BODY)


def name_model(text: str, name_word: Callable[[str], str]) -> str:
    """A model's name as it may leave the node: empty where there is none, `_OTHER` where any piece of it is no word or
    number that names of models have. Of a path or an ARN the last part, of a tuned model the one that was tuned.
    `name_word`: a word as it may leave, or nothing."""
    if not text:
        return ""
    name = text.rpartition("/")[2] if _PATH_OR_ARN.match(text) else text
    if name.startswith("ft:"):
        name = ":".join(name.split(":")[:2])
    if not _NAME.match(name):
        return OTHER_MODEL
    publisher, _, last = name.rpartition("/")
    if publisher and not _may_leave(publisher, name_word):
        name = last
    return name if name in _KNOWN_NAMES or _may_leave(name, name_word) else OTHER_MODEL


def _may_leave(name: str, name_word: Callable[[str], str]) -> bool:
    pieces = [piece for piece in _PIECE.split(name) if piece]
    numbers = [piece for piece in pieces if piece.isdigit()]
    if len(numbers) > _NUMBERS_MAX or sum(len(one) == 2 for one in numbers) > _PAIRS_MAX:
        return False
    words = [one for one in pieces if not one.isdigit() and not _VERSION_PIECE.fullmatch(one)]
    others = [one for one in words if one.lower().rstrip("0123456789") not in _KNOWN_WORDS or _ends_long(one)]
    if not words or len(others) > _OTHER_WORDS_MAX or not all(map(_NUMBER.fullmatch, numbers)):
        return False
    if not all(map(name_word, others)):
        return False
    return not any(classify_field("model", one) for one in (name, " ".join(pieces), *pieces))


def _ends_long(word: str) -> bool:
    """Whether there are more digits at its end than a version has."""
    return len(word) - len(word.rstrip("0123456789")) > 3


class ModelUse(msgspec.Struct, frozen=True, kw_only=True):
    """Calls of one caller to one model, as they may be reported. `tokens` are those of `counted` calls; `data` and
    `authentication` are calls by code; times are unix seconds."""

    principal: int
    principal_kind: PrincipalKind
    credential: int
    client_address: str
    client_workload: str
    role: Role
    provider: str
    operation: ModelOperation
    request_model: str
    response_model: str
    samples: int
    calls: int
    errors: int
    streamed: int
    counted: int
    tokens: ModelUsage
    requests_read: int
    responses_read: int
    url_keys: int
    data: tuple[tuple[int, int], ...]
    authentication: tuple[tuple[int, int], ...]
    first_seen: int
    last_seen: int


_Key = tuple[Caller, Role, ModelOperation, str, str]
_NOBODY: Final[Caller] = (0, PrincipalKind.UNSPECIFIED, 0, "", "")


@dataclass(slots=True)
class _Use:
    """What is known of one."""

    counts: Counter[str] = field(default_factory=Counter)
    tokens: ModelUsage = field(default_factory=ModelUsage)
    data: Counter[int] = field(default_factory=Counter)
    authentication: Counter[int] = field(default_factory=Counter)
    first_ns: int = 0
    last_ns: int = 0


@dataclass(slots=True)
class ModelSample:
    """One sampled call, until it is known for how many it stands."""

    uses: "ModelUses"
    key: _Key
    call: ModelCall
    is_counted: bool = False  # As a sample.

    def add(self, sample: Sample, weight: int) -> None:
        """It stands for `weight` calls more."""
        self.uses.add(self.key, self.call, sample, weight, is_new=not self.is_counted)
        self.is_counted = True


@dataclass(slots=True)
class ModelUses(Uses):
    """Of one route. Not thread-safe."""

    left_out: int = 0  # Calls that no bound let in.
    provider: str = OTHER_PROVIDER  # By the clearest mark of all calls.
    _uses: dict[_Key, _Use] = field(default_factory=dict)
    _used: Counter[Caller] = field(default_factory=Counter)
    _names: set[str] = field(default_factory=set)
    # The model that was asked for first, by who got which one in the answer.
    _asked: dict[tuple[Caller, Role, ModelOperation, str], str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Pairs of a caller and a model."""
        return len(self._uses)

    @property
    def nodes(self) -> int:
        """What they take of a message."""
        return MODEL_USE_NODES * len(self._uses)

    def begin(
        self,
        call: ModelCall,
        caller: tuple[Credentials, NamedEnds],
        name_word: Callable[[str], str],
        *,
        is_served: bool,
    ) -> ModelSample:
        """A sampled call. `is_served`: the API knows the model, else only a name that it served before is one."""
        if call.provider != OTHER_PROVIDER:
            self.provider = call.provider
        names = [
            self._name(name_model(text, name_word), is_served=is_served)
            for text in (call.request_model, call.response_model)
        ]
        who = name_caller(*caller)
        if not is_served and not self._used[who]:
            # Whoever is refused has any credential or address: it takes no place from callers that are served.
            who = _NOBODY[:-1] + who[-1:]
        answered = who, caller[1].role, call.operation, names[1]
        if names[1] and not names[0]:  # Of a long request the model may stand behind what was copied.
            names[0] = self._asked.get(answered, "")
        key: _Key = *answered[:3], names[0], names[1]
        if key not in self._uses and self._used[who] >= MAX_USED_MODELS:
            key = *answered[:3], OTHER_MODEL, OTHER_MODEL
        if key not in self._uses and len(self._uses) < MAX_MODEL_USES:
            self._uses[key] = _Use()
            self._used[who] += 1
            if key[3] and key[4]:
                self._asked.setdefault((*key[:3], key[4]), key[3])
        return ModelSample(self, key, call)

    def _name(self, name: str, *, is_served: bool) -> str:
        if not name or name in self._names:
            return name
        if not is_served or len(self._names) >= MAX_MODEL_NAMES:
            return OTHER_MODEL
        self._names.add(name)
        return name

    def add(self, key: _Key, call: ModelCall, sample: Sample, weight: int, *, is_new: bool) -> None:
        """A call that stands for `weight` calls."""
        self.note_call()
        known = self._uses.get(key)
        if known is None:
            self.left_out += weight
            return
        known.counts.update(
            samples=int(is_new),
            calls=weight,
            errors=weight * call.has_failed,
            streamed=weight * call.is_streamed,
            counted=weight * (call.usage is not None),
            requests_read=weight * sample.is_request_read,
            responses_read=weight * sample.is_response_read,
            url_keys=weight * call.has_url_key,
        )
        if call.usage is not None:
            known.tokens = known.tokens.add(call.usage, weight)
        _count_codes(known.data, find_body_codes(sample.data), weight)
        _count_codes(known.authentication, (sample.authentication,), weight)
        known.first_ns = min(known.first_ns or sample.time_unix_ns, sample.time_unix_ns)
        known.last_ns = max(known.last_ns, sample.time_unix_ns)

    def write(self, now_ns: int) -> tuple[ModelUse, ...]:
        """As they may be reported now."""
        self.note_report(now_ns)
        return tuple(self._write(key, use) for key, use in self._uses.items() if use.counts["calls"])

    def _write(self, key: _Key, use: _Use) -> ModelUse:
        who, role, operation, request_model, response_model = key
        return ModelUse(
            principal=who[0],
            principal_kind=who[1],
            credential=who[2],
            client_address=who[3],
            client_workload=who[4],
            role=role,
            provider=self.provider,
            operation=operation,
            request_model=request_model,
            response_model=response_model,
            tokens=use.tokens,
            data=tuple(sorted(use.data.items())),
            authentication=tuple(sorted(use.authentication.items())),
            first_seen=use.first_ns // _SECOND_NS,
            last_seen=use.last_ns // _SECOND_NS,
            **{name: use.counts[name] for name in _COUNTS},
        )


_COUNTS: Final = ("samples", "calls", "errors", "streamed", "counted", "requests_read", "responses_read", "url_keys")


def find_body_codes(codes: Collection[int]) -> list[int]:
    """Those of kinds of data in bodies."""
    return [code for code in codes if code >> PLACE_SHIFT in _BODY_PLACES]


def has_data_of_requests(codes: Collection[int]) -> bool:
    """Whether any is of a request's body."""
    return any(code >> PLACE_SHIFT == DataPlace.REQUEST_BODY for code in codes)


def _count_codes(counts: Counter[int], codes: Collection[int], weight: int) -> None:
    for code in codes:
        if code in counts or len(counts) < MAX_USE_CODES:
            counts[code] += weight


class ModelRoutes:
    """Routes of model APIs, the one called last at the end. Not thread-safe."""

    def __init__(self, forget: Callable[[int], None]) -> None:
        """`forget`: drops the uses of a route."""
        self._forget = forget
        self._uses: BoundedDict[int, int] = BoundedDict(MAX_MODEL_ROUTES, lambda route_id, _: forget(route_id))

    def __contains__(self, route_id: int) -> bool:
        return route_id in self._uses

    def note(self, route_id: int, uses: int) -> None:
        """A call of a route, which has so many uses now."""
        self._uses.renew(route_id, uses)
        total = sum(self._uses.values())
        for other, count in list(self._uses.items()):
            if total <= MAX_ALL_USES or other == route_id:
                return
            if count:
                total -= count
                self._forget(other)

    def clear(self, route_id: int) -> None:
        """Its uses are gone; what it is, is still known."""
        if route_id in self._uses:
            self._uses[route_id] = 0
