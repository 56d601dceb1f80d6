"""The parameters of a request's head that are an API's own: query, headers and cookies by name."""

from typing import Final
from urllib.parse import parse_qsl

from sensor.bodies.text import Text
from sensor.protocols.http1 import RequestHead

Parameters = dict[str, object]
_PAIRS_MAX: Final = 64  # Of one query or cookie header.
# Read by everybody between client and server, or told elsewhere (authentication, address, media type).
_COMMON_HEADERS: Final = frozenset(
    (
        *(b"host", b"cookie", b"authorization", b"proxy-authorization", b"content-type", b"transfer-encoding"),
        *(b"forwarded", b"via", b"upgrade", b"http2-settings", b"proxy-connection", b"sec-websocket-key", b"baggage"),
        *(b"sec-websocket-version", b"sec-websocket-extensions", b"grpc-timeout", b"grpc-accept-encoding", b"b3"),
        *(b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip", b"x-cluster-client-ip", b"soapaction"),
    )
)
_COMMON_PREFIXES: Final = (b"x-forwarded-", b"x-envoy-", b"x-b3-", b"x-amzn-trace", b"sec-", b":", b"cf-")


def read_parameters(head: RequestHead) -> tuple[Parameters, Parameters | None, Parameters | None]:
    """Query, headers and cookies; of a head that was cut these are not known whole: None."""
    query = _read_pairs(head.query)
    if head.is_last_header_cut:
        return query, None, None
    headers: Parameters = {}
    cookies: Parameters = {}
    for header in head.headers:
        if header.name == b"cookie":
            cookies.update(_read_cookie(header.value))
        elif header.name not in _COMMON_HEADERS and not header.name.startswith(_COMMON_PREFIXES):
            headers[header.name.decode("latin-1")] = Text(header.value.decode("latin-1"))
    return query, headers, cookies


def _read_pairs(query: str) -> dict[str, object]:
    """Names of a query with their first values; a name that comes twice is a list."""
    if not query:
        return {}
    found: dict[str, list[Text]] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_PAIRS_MAX)
    except ValueError:
        return {}
    for name, value in pairs:
        found.setdefault(name, []).append(Text(value))
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _read_cookie(value: bytes) -> dict[str, object]:
    pairs = (part.partition("=") for part in value.decode("latin-1").split(";")[:_PAIRS_MAX])
    return {name.strip(): Text(text) for name, mark, text in pairs if mark}
