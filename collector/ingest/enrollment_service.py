"""The gRPC service by which a sensor gets its certificate and the next one (proto/apidae/v1/enroll.proto).

Only where certificates let sensors in, and only through the gate: without TLS a token would be read on the way.
"""

import logging
from dataclasses import dataclass
from typing import Any

import grpc
from apidae.v1 import enroll_pb2

from collector.ingest.limits import NAME_LIMIT_BYTES
from collector.keys import KeyFileError
from collector.trust.admission import Admission, Refused
from collector.trust.enroller import Application, Enroller
from collector.trust.enrollment import EnrollmentRefusedError
from collector.trust.keeper import Trust
from collector.trust.token_review import ReviewError
from common.figures import total

SERVICE_NAME = "apidae.v1.EnrollmentService"
TOKEN_LIMIT = 16 * 1024

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class EnrollmentCounts:
    """Certificates that were issued; refusals are the admission's."""

    enrolled: int = total("First certificates that were issued to sensors.")
    renewed: int = total("Certificates of sensors that were renewed.")


class EnrollmentService:
    """One for the server."""

    def __init__(self, enroller: Enroller, admission: Admission, trust: Trust) -> None:
        """All of one collector."""
        self._enroller = enroller
        self._admission = admission
        self._trust = trust
        self.counts = EnrollmentCounts()

    def build_handler(self) -> "grpc.GenericRpcHandler[Any, Any]":
        """For `grpc.aio.Server.add_generic_rpc_handlers`."""
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
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

    async def enroll(self, request: enroll_pb2.EnrollRequest, call: Any) -> enroll_pb2.EnrollResponse:
        """A first certificate, to a token."""
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
        except (ReviewError, KeyFileError) as error:
            logger.error("The sensor at %s could not be enrolled: %s", peer, error)
            await call.abort(
                grpc.StatusCode.UNAVAILABLE, "The collector cannot enrol now; its log says why. Try again later."
            )
        self.counts.enrolled += 1
        logger.info("Enrolled node %s, which came from %s.", _shorten(request.node), peer.host)
        return enroll_pb2.EnrollResponse(certificate=self._write(chain))

    async def renew(self, request: enroll_pb2.RenewRequest, call: Any) -> enroll_pb2.RenewResponse:
        """The next certificate, to the one in use."""
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
    """gRPC's word for a refusal."""
    return grpc.StatusCode.UNAUTHENTICATED if refused.is_unknown else grpc.StatusCode.PERMISSION_DENIED


def _shorten(text: str) -> str:
    return repr(text[:NAME_LIMIT_BYTES])
