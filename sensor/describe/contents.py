"""Reads the contents of one call: kinds of data, records returned, and payloads of attacks.

`sensor.describe.describer` calls it and knows whose call it is. The readers themselves are `sensor.describe.bodies` and
`sensor.describe.attacks`.
"""

from functools import partial

from sensor.core.calls import NOBODY, BodyFacts, Contents, Credentials, Exchange, NamedEnds, Origin, Role
from sensor.describe.attacks.reader import Answer, AttackedRequest, AttackReader
from sensor.describe.bodies.decoding import Payload, decode
from sensor.describe.bodies.reader import BodyCall, BodyReader, find_payload
from sensor.describe.bodies.sampling import Estimate
from sensor.describe.schemas.descriptions import names_description
from sensor.describe.schemas.model_calls import names_model_api
from sensor.http.bodies import StreamBodies
from sensor.http.http1.head import RequestHead
from sensor.http.http2.heads import UNKNOWN_METHOD, UNKNOWN_PATH, StreamRequest
from sensor.http.http2.streams import StreamCall


class ContentReader:
    """Without `bodies` nothing is reported of bodies, without `attacks` nothing of attacks."""

    def __init__(self, bodies: BodyReader | None, attacks: AttackReader | None) -> None:
        self._bodies = bodies
        self._attacks = attacks

    def find_estimate(self, route_id: int) -> Estimate | None:
        """How the records of a route's responses follow from their size, where bodies of it were read."""
        return self._bodies.estimates.find(route_id) if self._bodies is not None else None

    def read(
        self,
        exchange: Exchange,
        head: RequestHead,
        stream: StreamCall | None,
        route_id: int,
        origin: Origin,
        caller: tuple[Credentials, NamedEnds],
        response_content_type: str,
    ) -> Contents:
        """What a call carried. Its head is read at the server only, because there it is read once."""
        figures = exchange.figures
        call = _make_body_call(exchange, head, stream, route_id, origin, caller)
        body: BodyFacts | None = None
        payload = 0
        if self._bodies is not None and figures.is_final:
            if call is None:
                body = self._bodies.estimate(route_id, figures.status_code, figures.response_bytes)
            else:
                body = self._bodies.read(call)
            if exchange.ends.role is Role.SERVER:
                body = self._bodies.read_head(body, head, route_id, exchange)
        elif self._bodies is not None and call is not None:
            self._bodies.read_beginning(call)
        if self._attacks is not None and exchange.ends.role is Role.SERVER:
            answer = Answer(
                route_id,
                figures.status_code,
                figures.response_bytes,
                figures.duration_ns,
                figures.is_final,
                response_content_type,
            )
            payload = self._attacks.read(
                AttackedRequest(
                    origin.consumer,
                    "" if head.method == UNKNOWN_METHOD else head.method,
                    "" if head.path == UNKNOWN_PATH else head.path,
                    head.query,
                    exchange.request_head,
                    head.free_fields,
                    head.content_type,
                    figures.time_unix_ns,
                    answer,
                    partial(_decode_body, call) if call is not None else None,
                    head.host,
                    (exchange.ends.local_address, exchange.ends.local_port),
                )
            )
        return Contents(head.content_type, response_content_type, body, payload)

    @staticmethod
    def read_request(exchange: Exchange, head: RequestHead, stream: StreamCall | None) -> str:
        """Query and body of a request, as they came."""
        if exchange.bodies is None and (stream is None or stream.bodies is None):
            return head.query
        call = _make_body_call(exchange, head, stream, 0, NOBODY, None)
        body = _decode_body(call, True) if call is not None else b""
        return f"{head.query}\n{body.decode('utf-8', 'replace')}"


def _make_body_call(
    exchange: Exchange,
    head: RequestHead,
    stream: StreamCall | None,
    route_id: int,
    origin: Origin,
    caller: tuple[Credentials, NamedEnds] | None,
) -> BodyCall | None:
    """What the readers of bodies take; None where no bodies came."""
    payloads, head_bytes = None, 0
    if stream is not None and stream.bodies is not None:
        payloads, head_bytes = _read_payloads(stream, stream.bodies), stream.bodies.head_bytes
    elif exchange.bodies is None:
        return None
    figures = exchange.figures
    return BodyCall(
        route_id=route_id,
        status_code=figures.status_code,
        request_head=b"" if payloads else exchange.request_head,
        response_head=b"" if payloads else exchange.response_head,
        request_bytes=figures.request_bytes,
        response_bytes=figures.response_bytes,
        time_ns=figures.time_unix_ns,
        bodies=None if payloads else exchange.bodies,
        payloads=payloads,
        head_bytes=head_bytes,
        origin=origin,
        authentication=caller[0].authentication if caller is not None else 0,
        caller=caller,
        path=head.path,
        is_description=names_description(head.path),
        method=head.method,
        query=head.query,
        mcp_version=head.get(b"mcp-protocol-version"),
        mcp_session=head.get(b"mcp-session-id"),
        host=head.host,
        is_of_model=head.method == "POST" and names_model_api(head.path),
    )


def _read_payloads(stream: StreamCall, bodies: StreamBodies) -> tuple[Payload, Payload]:
    """The bodies of a stream, with what its heads say of them."""
    request = stream.request
    head = request.head if isinstance(request, StreamRequest) else None
    request_body = Payload(
        bodies.request,
        bodies.is_request_whole,
        head.content_type.encode() if head is not None else b"",
        head.get(b"content-encoding") if head is not None else b"",
    )
    response_body = Payload(
        bodies.response,
        bodies.is_response_whole,
        stream.response_content_type.encode(),
        bodies.response_coding,
        bodies.response_last,
    )
    return request_body, response_body


def _decode_body(call: BodyCall, is_request: bool) -> bytes:
    """The beginning of a body without its framing and codings; empty where none came or it cannot be decoded."""
    payload = find_payload(call, is_request=is_request)
    if payload is None or not payload.data:
        return b""
    return decode(payload.data, payload.content_encoding, is_complete=payload.is_complete).data
