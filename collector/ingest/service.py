"""The gRPC service that sensors talk to: one stream a sensor, rows up, acknowledgements, policy and questions down.

Messages arrive as bytes and are parsed by the stream (collector/ingest/stream.py), so that a malformed one is refused
and counted and its stream goes on; gRPC's own parser would end the stream. The same for size: gRPC's limit is twice
ours.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import grpc
from apidae.v1 import stream_pb2

from collector.ingest.convert import Refusal
from collector.ingest.enrollment_service import tell_status
from collector.ingest.limits import MESSAGE_LIMIT_BYTES
from collector.ingest.policy import TriggerPolicy
from collector.ingest.reports import PROTOCOL_VERSION, Greeting, convert_hello
from collector.ingest.stream import IngestContext, IngestCounts, SensorStream, Shared, parse_request
from collector.keys import InstallationKey
from collector.own_traffic import OwnTraffic
from collector.trust.admission import Refused
from collector.trust.identity import SensorCertificate
from common.figures import Figure, list_figures, make_gauges

SERVICE_NAME = "apidae.v1.CollectorService"
METHOD_NAME = "Connect"
GRPC_LIMIT_BYTES = 2 * MESSAGE_LIMIT_BYTES
FEATURES = ("blocks", "reveal", "triggers")
HELLO_TIMEOUT_SECONDS = 10.0


class IngestService:
    """One for the server."""

    def __init__(self, context: IngestContext) -> None:
        """See IngestContext."""
        self._shared = Shared(context=context, keys=tuple(context.keys), policy=context.policy)
        self._context = context
        self._streams: set[SensorStream] = set()

    @property
    def counts(self) -> IngestCounts:
        """What came, by what became of it."""
        return self._shared.counts

    @property
    def policy(self) -> TriggerPolicy:
        """The one in force."""
        return self._shared.policy

    @property
    def keys(self) -> tuple[InstallationKey, ...]:
        """The installation keys in force, newest first."""
        return self._shared.keys

    @property
    def streams(self) -> int:
        """Sensors connected."""
        return len(self._streams)

    def figures(self) -> tuple[Figure, ...]:
        """For metrics; of certificates nothing where no connected sensor came with one. Any thread."""
        ends = [one.not_after for stream in tuple(self._streams) if (one := stream.certificate) is not None]
        text = "Seconds until the first certificate of a connected sensor expires."
        left = [("sensor_certificate_left_seconds", text, min(ends) - self._context.clock())] if ends else []
        streams = ("streams", "Sensors that are connected.", self.streams)
        return (*list_figures(self.counts, "ingest_"), *make_gauges([streams, *left]))

    def change_policy(self, policy: TriggerPolicy) -> None:
        """Another policy from now on: connected sensors are sent it. Called in the event loop."""
        self._shared.policy = policy
        for stream in self._streams:
            stream.tell_policy()

    def change_keys(self, keys: Sequence[InstallationKey]) -> None:
        """Other installation keys from now on. Keys come with the welcome only, so where the newest one is another
        every stream ends and its sensor dials again. Called in the event loop."""
        is_rotated = keys[0] != self._shared.keys[0]
        self._shared.keys = tuple(keys)
        for stream in tuple(self._streams) if is_rotated else ():
            stream.end()

    def end_streams(self) -> None:
        """Have all sensors dial again: there is something new for them in the welcome. Called in the event loop."""
        for stream in tuple(self._streams):
            stream.end()

    def check_certificates(self) -> None:
        """End the streams whose certificate is revoked or has expired. Called in the event loop, every second."""
        for stream in tuple(self._streams):
            stream.check_certificate()

    def build_handler(self) -> "grpc.GenericRpcHandler[Any, Any]":
        """For `grpc.aio.Server.add_generic_rpc_handlers`."""
        method = grpc.stream_stream_rpc_method_handler(
            self.connect,
            request_deserializer=None,
            response_serializer=stream_pb2.ConnectResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE_NAME, {METHOD_NAME: method})

    async def connect(self, requests: Any, call: Any) -> None:
        """One stream, from Hello to its end."""
        admitted = self._context.admission.admit(call)
        if isinstance(admitted, Refused):
            self.counts.unauthenticated += 1
            await call.abort(tell_status(admitted), admitted.sentence)
        assert not isinstance(admitted, Refused)
        greeting = await self._greet(call, admitted)
        stream = SensorStream(self._shared, call, greeting, admitted)
        self._streams.add(stream)
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)

    async def _greet(self, call: Any, certificate: SensorCertificate | None) -> Greeting:
        try:
            first = await asyncio.wait_for(call.read(), HELLO_TIMEOUT_SECONDS)
        except TimeoutError:
            first = None
        request = parse_request(first) if isinstance(first, bytes) else None
        if request is None or request.WhichOneof("message") != "hello":
            await call.abort(grpc.StatusCode.INVALID_ARGUMENT, "The first message must be Hello.")
        assert request is not None
        greeting = convert_hello(request.hello)
        if isinstance(greeting, Refusal):
            self.counts.hello_refused += 1
            await call.abort(grpc.StatusCode.FAILED_PRECONDITION, greeting.reason)
        assert isinstance(greeting, Greeting)
        context = self._context
        refused = context.admission.check_node(call, certificate, cluster=greeting.cluster, node=greeting.node)
        if refused is not None:
            self.counts.hello_refused += 1
            await call.abort(tell_status(refused), refused.sentence)
        greeting = replace(greeting, name=context.sensors.find_name(greeting.node, greeting.cluster))
        context.sensors.record_hello(
            greeting.name,
            cluster=greeting.cluster,
            boot_id=greeting.boot_id,
            version=greeting.version,
            kernel_release=greeting.kernel_release,
            key_id=greeting.key_id,
            policy_epoch=greeting.policy_epoch,
            certificate_not_after=certificate.not_after if certificate is not None else 0.0,
        )
        await call.write(
            stream_pb2.ConnectResponse(
                welcome=stream_pb2.Welcome(
                    protocol=PROTOCOL_VERSION,
                    features=FEATURES,
                    policy_epoch=self.policy.epoch,
                    server_time_unix_ns=int(context.clock() * 1e9),
                    keys=[
                        stream_pb2.InstallationKey(key_id=key.key_id, secret=key.secret) for key in self._shared.keys
                    ],
                    authorities=context.authorities(),
                    own_traffic=_write_own_traffic(context.own_traffic()),
                )
            )
        )
        return greeting


def _write_own_traffic(own: OwnTraffic) -> stream_pb2.OwnTraffic:
    return stream_pb2.OwnTraffic(
        boot_id=own.boot_id,
        process_mark=own.process_mark,
        ends=[stream_pb2.OwnEnd(address=end.address, port=end.port) for end in own.ends],
    )
