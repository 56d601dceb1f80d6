"""Numbers as a person reads them: counts, rates, sizes, durations and ages in a few characters. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from collector.inventory.endpoints.bodies import PERSONAL, DataClass, DataFound
from collector.inventory.endpoints.predicates import EXACT_MAX

_COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_SIZES = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_AGES = ((86_400, "d"), (3_600, "h"), (60, "min"))
HIDDEN = "\ufffd"
LABELS: dict[str, str] = {
    "basic": "Basic",
    "bearer_opaque": "Bearer token",
    "bearer_jwt": "JWT",
    "jwt_custom_header": "JWT in own header",
    "api_key_header": "API key",
    "api_key_query": "API key in query",
    "api_key_cookie": "API key in cookie",
    "cookie_session": "Session cookie",
    "aws_sigv4": "AWS signature",
    "aws_sigv4_query": "AWS signature in query",
    "digest": "Digest",
    "hmac_signature": "HMAC signature",
    "http_message_signature": "Message signature",
    "oauth1": "OAuth 1",
    "negotiate": "Negotiate",
    "mtls_forwarded": "Client certificate",
    "other": "Other scheme",
    "possible_credential": "Unknown value, no credential",
    "none": "No credentials",
}

PROTOCOLS: dict[str, tuple[str, str]] = {
    "http/1.0": ("HTTP/1.0", "Plain HTTP/1.0"),
    "http/1.1": ("HTTP/1.1", "Plain HTTP/1.1"),
    "http/2": ("HTTP/2", "Plain HTTP/2"),
    "grpc": ("gRPC", "A method of gRPC; errors are by its own status"),
    "grpc-web": ("gRPC-Web", "A method of gRPC, called from a browser"),
    "connect": ("Connect", "A method of a Connect RPC"),
    "websocket": ("WebSocket", "Connections with messages both ways; how long they are open is no latency"),
    "server-sent events": ("SSE", "Answers that last as long as somebody listens; how long is no latency"),
    "graphql": ("GraphQL", "An operation of GraphQL; its calls are estimated from samples"),
    "json-rpc": ("JSON-RPC", "A method of JSON-RPC; its calls are estimated from samples"),
    "mcp": ("MCP", "A tool, prompt or method of the Model Context Protocol; its calls are estimated from samples"),
    "soap": ("SOAP", "An action of SOAP; its calls are estimated from samples"),
    "action": ("Action", "An action that a header or parameter names; its calls are estimated from samples"),
}


# Where the wire's name with blanks would not do.
DATA_KINDS: dict[str, str] = {
    "email": "E-mail address",
    "phone": "Phone number",
    "person_name": "Person's name",
    "ssn": "US social security number",
    "aadhaar": "Aadhaar number",
    "cpf": "CPF number",
    "iban": "IBAN",
    "credit_card": "Card number",
    "ip_address": "IP address",
    "jwt": "JWT",
    "aws_key": "AWS key",
    "google_api_key": "Google API key",
    "github_token": "GitHub token",
    "slack_token": "Slack token",
    "stripe_key": "Stripe key",
}


def word_data_kind(kind: str) -> str:
    """A kind of data in words."""
    return DATA_KINDS.get(kind, kind.replace("_", " ").capitalize())


def group_data(found: Sequence[DataFound]) -> list[tuple[str, list[str], str]]:
    """What was found in few words, with its kinds and the style of its badge: personal data, secrets, other data."""
    groups = (
        ("personal data", PERSONAL, "warn"),
        ("secrets", frozenset({DataClass.SECRET}), "bad"),
        ("technical data", frozenset({DataClass.TECHNICAL}), ""),
        ("custom data", frozenset({DataClass.CUSTOM}), "warn"),
    )
    return [
        (
            name,
            sorted({f"{word_data_kind(one.kind)} in {one.side}s" for one in found if one.data_class in classes}),
            style,
        )
        for name, classes, style in groups
        if any(one.data_class in classes for one in found)
    ]


def word_protocol(protocol: str) -> str:
    """A protocol in a few characters."""
    return PROTOCOLS.get(protocol, (protocol, ""))[0]


def word_protocol_meaning(protocol: str) -> str:
    """What it is, in one line."""
    return PROTOCOLS.get(protocol, ("", protocol))[1]


def word_count(count: float) -> str:
    """`999`, `1.2k`, `34M`."""
    for unit, suffix in _COUNTS:
        # What would round up to 1,000 of the smaller unit is 1 of this one.
        if count >= unit * 0.9995:
            return _trim(count / unit, suffix)
    return f"{count:.0f}"


def word_cost(cost: float) -> str:
    """An amount of money: two digits behind the point, or as many as show the first of a small one."""
    if cost and cost < 0.01:
        return f"{cost:.2g}" if cost >= 0.0001 else "< 0.0001"
    return f"{cost:,.2f}"


def word_distinct(count: int) -> str:
    """How many different ones there are; `≈ 1.2k` where that is an estimate."""
    return f"≈ {word_count(count)}" if count > EXACT_MAX else word_count(count)


def word_size(size: float) -> str:
    """`512 B`, `1.5 KiB`."""
    for unit, suffix in _SIZES:
        if size >= unit:
            return _trim(size / unit, f" {suffix}")
    return f"{size:.0f} B"


def word_milliseconds(milliseconds: float | None) -> str:
    """`0.4 ms`, `12 ms`, `1.5 s`; a dash where nothing was measured."""
    if milliseconds is None:
        return "–"
    if milliseconds >= 1_000:
        return _trim(milliseconds / 1_000, " s")
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"


def word_age(seconds: float) -> str:
    """`now`, `40 s`, `3 min`, `5 h`, `2 d` ago."""
    return "now" if seconds < 10 else f"{word_span(seconds)} ago"


def word_span(seconds: float) -> str:
    """`40 s`, `3 min`, `5 h`, `2 d`."""
    for unit, suffix in _AGES:
        if seconds >= unit:
            return f"{seconds / unit:.0f} {suffix}"
    return f"{max(seconds, 0):.0f} s"


def word_left_days(days: float | None) -> str:
    """`29 d left`, `0.4 d left`, `expired`; of a sensor without a certificate `–`."""
    if days is None:
        return "–"
    return f"{days:.{0 if days >= 10 else 1}f} d left" if days > 0 else "expired"


def word_percent(ratio: float | None) -> str:
    """`0 %`, `0.4 %`, `37 %`; neither 0 nor 100 unless it is exactly that."""
    if ratio is None:
        return "–"
    percent = ratio * 100
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f} %" if 0 < percent < 1 or 99 < percent < 100 else f"{percent:.0f} %"


# What is no credential.
_NO_KINDS = ("none", "possible_credential")


def word_kinds(kinds: Iterable[str]) -> str:
    """Kinds of credentials in words, in the order given; calls without are not one."""
    return ", ".join(LABELS.get(kind, kind) for kind in kinds if kind not in _NO_KINDS)


def word_main_kind(kinds: Iterable[str]) -> str:
    """The first kind, and how many others there are: `JWT`, `JWT +2`."""
    named = [kind for kind in kinds if kind not in _NO_KINDS]
    if not named:
        return "Credentials"
    return f"{word_kinds(named[:1])} +{len(named) - 1}" if len(named) > 1 else word_kinds(named)


def word_kind_shares(calls_by_kind: Mapping[str, int], total: int) -> str:
    """Kinds with the share of `total` calls that carried each: `JWT 91 %, API key 9 %`; one alone has no share."""
    named = {kind: calls for kind, calls in calls_by_kind.items() if kind not in _NO_KINDS}
    if len(named) <= 1:
        return word_kinds(named)
    return ", ".join(f"{word_kinds([kind])} {word_percent(calls / total)}" for kind, calls in named.items())


def show_text(text: str) -> str:
    """Text whose every character shows: control characters, and those that turn the direction of what follows, would
    let a caller write one host or path and have another one read."""
    return text if text.isprintable() else "".join(c if c.isprintable() else HIDDEN for c in text)


def _trim(value: float, suffix: str) -> str:
    """Three significant digits at most."""
    return f"{value:.0f}{suffix}" if value >= 9.95 else f"{value:.1f}{suffix}"
