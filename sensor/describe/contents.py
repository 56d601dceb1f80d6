"""Reads the contents of one call: kinds of data, records returned, and payloads of attacks.

`sensor.describe.describer` calls it and knows whose call it is. The readers themselves are `sensor.describe.bodies` and
`sensor.describe.attacks`.
"""

from functools import partial

from sensor.core.calls import BodyFacts, Exchange, Role
from sensor.describe.attacks.reader import Answer, AttackedRequest, AttackReader
from sensor.describe.bodies.decoding import Payload, decode
from sensor.describe.bodies.reader import BodyCall, BodyReader, find_payload
from sensor.describe.bodies.sampling import Estimate
from sensor.describe.schemas.descriptions import names_description
from sensor.http.bodies import StreamBodies
from sensor.http.http1.head import RequestHead
from sensor.http.http2.heads import StreamRequest
from sensor.http.http2.streams import StreamCall


class ContentReader:
    """Without `bodies` nothing is told of bodies, without `attacks` nothing of attacks."""

    __slots__ = ("_attacks", "_bodies")

    def __init__(self, bodies: BodyReader | None, attacks: AttackReader | None) -> None:
        self._bodies = bodies
        self._attacks = attacks

    def find_estimate(self, route_id: int) -> Estimate | None:
        """How the records of a route's responses follow from their size, where bodies of it were read."""
        return self._bodies.estimates.find(route_id) if self._bodies is not None else None

    def read_data(self, exchange: Exchange, head: RequestHead, call: BodyCall) -> BodyFacts | None:
        """What bodies and head of a call hold; of a head at the server only, for there it is read once."""
        facts = self._read_bodies(exchange, call)
        if self._bodies is None or exchange.role is not Role.SERVER or not exchange.is_final:
            return facts
        return self._bodies.read_head(facts, head, call.route_id, exchange)

    def _read_bodies(self, exchange: Exchange, call: BodyCall) -> BodyFacts | None:
        """What the bodies of a call tell, or those of others of its route."""
        reader = self._bodies
        if reader is None or not exchange.is_final:
            return None
        if call.payloads is None and call.bodies is None:
            return reader.estimate(call.route_id, call.status_code, call.response_bytes)
        return reader.read(call)

    def read_attack(
        self, exchange: Exchange, head: RequestHead, call: BodyCall, consumer: int, response_content_type: str
    ) -> int:
        """The payload of a request as it is told; 0 where there is none."""
        if self._attacks is None or exchange.role is not Role.SERVER:
            return 0
        has_bodies = call.payloads is not None or call.bodies is not None
        return self._attacks.read(
            AttackedRequest(
                consumer,
                head.method,
                head.path,
                head.query,
                exchange.request_head,
                head.free_fields,
                head.content_type,
                exchange.time_unix_ns,
                Answer(
                    call.route_id,
                    call.status_code,
                    call.response_bytes,
                    exchange.duration_ns,
                    exchange.is_final,
                    response_content_type,
                ),
                partial(_decode_body, call) if has_bodies else None,
            )
        )


def make_body_call(
    exchange: Exchange, stream: StreamCall | None, route_id: int, consumer: int, authentication: int, path: str
) -> BodyCall:
    """What the readers of bodies take; without bodies where none came."""
    payloads, head_bytes = None, 0
    if stream is not None and stream.bodies is not None:
        payloads, head_bytes = _read_payloads(stream, stream.bodies), stream.bodies.head_bytes
    return BodyCall(
        route_id,
        exchange.status_code,
        b"" if payloads else exchange.request_head,
        b"" if payloads else exchange.response_head,
        exchange.request_bytes,
        exchange.response_bytes,
        exchange.time_unix_ns,
        None if payloads else exchange.bodies,
        payloads,
        head_bytes,
        consumer,
        authentication,
        (payloads is not None or exchange.bodies is not None) and names_description(path),
    )


def _read_payloads(stream: StreamCall, bodies: StreamBodies) -> tuple[Payload, Payload]:
    """The bodies of a stream, with what its heads say of them."""
    request = stream.request
    head = request.head if isinstance(request, StreamRequest) else None
    asked = Payload(
        bodies.request,
        bodies.is_request_whole,
        head.content_type.encode() if head is not None else b"",
        head.get(b"content-encoding") if head is not None else b"",
    )
    told = Payload(
        bodies.response, bodies.is_response_whole, stream.response_content_type.encode(), bodies.response_coding
    )
    return asked, told


def _decode_body(call: BodyCall, is_request: bool) -> bytes:
    """The beginning of a body without its framing and codings; empty where none came or it cannot be decoded."""
    payload = find_payload(call, is_request=is_request)
    if payload is None or not payload.data:
        return b""
    return decode(payload.data, payload.content_encoding, is_complete=payload.is_complete).data
