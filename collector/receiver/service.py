"""The gRPC services for sensors: the stream of rows, acknowledgements, policy and questions, and the one for
certificates.

Messages arrive as bytes and are parsed by the stream (collector/receiver/stream.py). So a malformed one is refused and
counted, and its stream goes on, where gRPC's own parser would end the stream. For the same reason gRPC's size limit is
twice the collector's own.

`EnrollmentService` issues a sensor's first certificate and the next ones (proto/apidae/v1/enroll.proto). It exists only
where certificates admit sensors, and only through the TLS terminator, because a token without TLS could be read
on the way.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc
from apidae.v1 import enroll_pb2, stream_pb2

from collector.core.keys import InstallationKey, KeyFileError
from collector.receiver.columns import MESSAGE_LIMIT_BYTES, NAME_LIMIT_BYTES
from collector.receiver.convert import Refusal
from collector.receiver.own_traffic import OwnTraffic
from collector.receiver.policy import SensorPolicy
from collector.receiver.reports import PROTOCOL_VERSION, convert_hello
from collector.receiver.sensor_status import Greeting
from collector.receiver.stream import IngestContext, SensorStream, parse_request
from collector.trust.admission import Admission, Refused
from collector.trust.enroller import Application, Enroller
from collector.trust.enrollment import EnrollmentRefusedError
from collector.trust.files import Trust
from collector.trust.identity import SensorCertificate
from common.figures import Figure, list_figures, make_gauges, make_labelled, make_totals, total
from common.kubernetes.reflector import AccessError, ApiError

ENROLLMENT_SERVICE_NAME = "apidae.v1.EnrollmentService"
TOKEN_LIMIT = 16 * 1024

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class EnrollmentCounts:
    """Certificates that were issued; refusals are the admission's."""

    enrolled: int = total("First certificates that were issued to sensors.")
    renewed: int = total("Certificates of sensors that were renewed.")


class EnrollmentService:
    def __init__(self, enroller: Enroller, admission: Admission, trust: Trust) -> None:
        self._enroller = enroller
        self._admission = admission
        self._trust = trust
        self.counts = EnrollmentCounts()

    def build_handler(self) -> "grpc.GenericRpcHandler[Any, Any]":
        methods = {
            "Enroll": grpc.unary_unary_rpc_method_handler(
                self.enroll,
                request_deserializer=enroll_pb2.EnrollRequest.FromString,
                response_serializer=enroll_pb2.EnrollResponse.SerializeToString,
            ),
            "Renew": grpc.unary_unary_rpc_method_handler(
                self.renew,
                request_deserializer=enroll_pb2.RenewRequest.FromString,
                response_serializer=enroll_pb2.RenewResponse.SerializeToString,
            ),
        }
        return grpc.method_handlers_generic_handler(ENROLLMENT_SERVICE_NAME, methods)

    async def enroll(self, request: enroll_pb2.EnrollRequest, call: Any) -> enroll_pb2.EnrollResponse:
        peer = self._admission.find_peer(call.peer()) if self._admission.find_peer is not None else None
        if peer is None:
            await call.abort(grpc.StatusCode.UNAUTHENTICATED, "Dial the collector's own port.")
        assert peer is not None
        application = Application(
            host=peer.host,
            cluster=request.cluster,
            node=request.node,
            request=request.certificate_request,
            token=request.token[:TOKEN_LIMIT],
        )
        try:
            chain = await self._enroller.enroll(application)
        except EnrollmentRefusedError as error:
            await self._refuse(call, error, peer.host, str(peer))
        except (AccessError, ApiError, KeyFileError) as error:
            logger.error("The sensor at %s could not be enrolled: %s", peer, error)
            await call.abort(
                grpc.StatusCode.UNAVAILABLE, "The collector cannot enrol now; its log says why. Try again later."
            )
        self.counts.enrolled += 1
        logger.info("Enrolled node %s, which came from %s.", _shorten(request.node), peer.host)
        return enroll_pb2.EnrollResponse(certificate=self._write(chain))

    async def renew(self, request: enroll_pb2.RenewRequest, call: Any) -> enroll_pb2.RenewResponse:
        certificate = self._admission.admit(call)
        if isinstance(certificate, Refused):
            await call.abort(tell_status(certificate), certificate.sentence)
        if certificate is None or isinstance(certificate, Refused) or certificate.cluster is None:
            # The token, or a certificate of the operator's making, whose renewal is the operator's.
            await call.abort(grpc.StatusCode.FAILED_PRECONDITION, "Only a certificate of this collector is renewed.")
        assert certificate is not None and not isinstance(certificate, Refused)
        (node,) = certificate.nodes
        try:
            chain = await self._enroller.renew(
                certificate, request.certificate_request, cluster=certificate.cluster or "", node=node
            )
        except EnrollmentRefusedError as error:
            await self._refuse(call, error, node, f"node {node}")
        except KeyFileError as error:
            logger.error("The certificate of node %s could not be renewed: %s", _shorten(node), error)
            await call.abort(grpc.StatusCode.UNAVAILABLE, "The collector cannot renew now; its log says why.")
        self.counts.renewed += 1
        return enroll_pb2.RenewResponse(certificate=self._write(chain))

    async def _refuse(self, call: Any, error: EnrollmentRefusedError, host: str, name: str) -> None:
        self._admission.refusals.record(
            f"enrollment_{error.reason}", host, f"The enrolment of the sensor at {name} is refused: {error}"
        )
        is_busy = error.reason == "rate"
        code = grpc.StatusCode.RESOURCE_EXHAUSTED if is_busy else grpc.StatusCode.PERMISSION_DENIED
        await call.abort(code, str(error))

    def _write(self, chain: bytes) -> enroll_pb2.Certificate:
        return enroll_pb2.Certificate(chain=chain, authorities=self._trust.bundle)


def tell_status(refused: Refused) -> grpc.StatusCode:
    return grpc.StatusCode.UNAUTHENTICATED if refused.is_unknown else grpc.StatusCode.PERMISSION_DENIED


def _shorten(text: str) -> str:
    return repr(text[:NAME_LIMIT_BYTES])


SERVICE_NAME = "apidae.v1.CollectorService"
METHOD_NAME = "Connect"
# Of one node at once: a sensor has one, and its successor another.
STREAMS_OF_NODE_LIMIT = 4
GRPC_LIMIT_BYTES = 2 * MESSAGE_LIMIT_BYTES
FEATURES = ("blocks", "report_difference", "reveal", "schema_offer", "triggers")
HELLO_TIMEOUT_SECONDS = 10.0


class CollectorService:
    def __init__(self, context: IngestContext) -> None:
        self.context = context
        self._streams: dict[SensorStream, None] = {}  # The oldest first.

    @property
    def streams(self) -> int:
        return len(self._streams)

    def figures(self) -> tuple[Figure, ...]:
        """For metrics; of certificates nothing where no connected sensor came with one. Any thread."""
        ends = [one.not_after for stream in tuple(self._streams) if (one := stream.certificate) is not None]
        text = "Seconds until the first certificate of a connected sensor expires."
        left = [("sensor_certificate_left_seconds", text, min(ends) - self.context.clock())] if ends else []
        streams = ("streams", "Sensors that are connected.", self.streams)
        text = "Messages of sensors that could not be processed, by kind; each was dropped."
        failed = make_labelled("ingest_messages_failed", text, "kind", self.context.failures.items())
        text = "Values of enums in batches that this version does not know: their sensor is newer."
        unknown = make_totals([("ingest_unknown_values", text, self.context.commit.unknown_values)])
        return (*list_figures(self.context.counts, "ingest_"), *unknown, *make_gauges([streams, *left]), *failed)

    def change_policy(self, policy: SensorPolicy) -> None:
        """Another policy from now on: connected sensors are sent it. Called in the event loop."""
        self.context.policy = policy
        for stream in self._streams:
            stream.tell_policy()

    def change_keys(self, keys: Sequence[InstallationKey]) -> None:
        """Other installation keys from now on. Keys come with the welcome only, so where the newest one is another
        every stream ends and its sensor dials again. Called in the event loop."""
        is_rotated = keys[0] != self.context.keys[0]
        self.context.keys = tuple(keys)
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
        method = grpc.stream_stream_rpc_method_handler(
            self.connect,
            request_deserializer=None,
            response_serializer=stream_pb2.ConnectResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE_NAME, {METHOD_NAME: method})

    async def connect(self, requests: Any, call: Any) -> None:
        """One stream, from Hello to its end."""
        admitted = self.context.admission.admit(call)
        if isinstance(admitted, Refused):
            self.context.counts.unauthenticated += 1
            await call.abort(tell_status(admitted), admitted.sentence)
        assert not isinstance(admitted, Refused)
        greeting = await self._greet(call, admitted)
        stream = SensorStream(self.context, call, greeting, admitted)
        self.context.clocks.record(stream.node, stream, greeting.time_unix_ns)
        self._make_room(stream.node)
        self._streams[stream] = None
        try:
            await stream.run()
        finally:
            self._streams.pop(stream, None)
            self.context.clocks.forget(stream.node, stream)

    def _make_room(self, node: str) -> None:
        """End the oldest stream of a node that has as many as one may have."""
        own = [stream for stream in self._streams if stream.node == node]
        for stream in own[: len(own) - STREAMS_OF_NODE_LIMIT + 1] if len(own) >= STREAMS_OF_NODE_LIMIT else ():
            self.context.counts.streams_displaced += 1
            del self._streams[stream]
            stream.end("The node opened another stream, and had as many as one node may have.")

    async def _name(self, greeting: Greeting) -> str:
        sensors = self.context.sensors
        if sensors.is_settled(greeting.node, greeting.cluster):
            return sensors.find_name(greeting.node, greeting.cluster)
        return await asyncio.to_thread(sensors.claim_name, greeting.node, greeting.cluster)

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
            self.context.counts.hello_refused += 1
            await call.abort(grpc.StatusCode.FAILED_PRECONDITION, greeting.reason)
        assert isinstance(greeting, Greeting)
        context = self.context
        refused = context.admission.check_node(call, certificate, cluster=greeting.cluster, node=greeting.node)
        if refused is not None:
            self.context.counts.hello_refused += 1
            await call.abort(tell_status(refused), refused.sentence)
        greeting = replace(greeting, name=await self._name(greeting))
        context.sensors.record_hello(greeting, certificate.not_after if certificate is not None else 0.0)
        await call.write(
            stream_pb2.ConnectResponse(
                welcome=stream_pb2.Welcome(
                    protocol=PROTOCOL_VERSION,
                    features=FEATURES,
                    policy_epoch=context.policy.epoch,
                    server_time_unix_ns=int(context.clock() * 1e9),
                    keys=[stream_pb2.InstallationKey(key_id=key.key_id, secret=key.secret) for key in context.keys],
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
