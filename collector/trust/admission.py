"""Decides who may open a stream, and as which node: by certificate, by the sensors' token, or on loopback without
either.

A refusal has one sentence for the sensor, which prints it, and one for the collector's log with the sensor's address.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from collector.core.keys import Token
from collector.trust.identity import SensorCertificate
from collector.trust.revocation import Revocations
from collector.trust.tls_terminator import Peer, RefusalLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Not let in; `is_unknown`: who it is was not shown, else it may not do what it wants."""

    reason: str
    sentence: str
    is_unknown: bool


class Visit(Protocol):
    """What of a gRPC call is looked at (grpc.aio.ServicerContext)."""

    def peer(self) -> str: ...

    def invocation_metadata(self) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The rules of one collector."""

    token: Token | None  # The sensors' one, where it is taken.
    takes_certificates: bool
    # Who is behind a connection by gRPC's name for it; None without a TLS terminator, on loopback in the clear.
    find_peer: Callable[[str], Peer | None] | None
    on_admitted: Callable[[str], None]  # Gets gRPC's name of a connection on which somebody was let in.
    find_revocations: Callable[[], Revocations]
    refusals: RefusalLog
    clock: Callable[[], float]

    def admit(self, visit: Visit) -> SensorCertificate | Refused | None:
        """The certificate by which a visitor is let in, None by token or without both, or why not."""
        host, name, certificate = self._look(visit)
        decision = self._decide(visit, host, certificate)
        if isinstance(decision, Refused):
            self.refuse(decision, host, name)
        else:
            self.on_admitted(visit.peer())
        return decision

    def check_node(
        self, visit: Visit, certificate: SensorCertificate | None, *, cluster: str, node: str
    ) -> Refused | None:
        """Why a visitor may not speak for a node; None where it may. Without a certificate it may for any."""
        if certificate is None or certificate.covers(cluster=cluster, node=node):
            return None
        said = f"node {node} of cluster {cluster}" if cluster else f"node {node}"
        refused = Refused(
            reason="wrong_node",
            sentence=f"The certificate is for {certificate.describe_subject()}, and the sensor says it is {said}; "
            "correct --node and --cluster, or enrol it again.",
            is_unknown=False,
        )
        host, name, _ = self._look(visit)
        self.refuse(refused, host, name)
        return refused

    def find_end(self, certificate: SensorCertificate) -> str:
        """Why a stream that was let in by a certificate must end now; empty where it may go on."""
        if self.clock() >= certificate.not_after:
            return "its certificate has expired"
        return self.find_revocations().find_reason(certificate)

    def refuse(self, refused: Refused, host: str, name: str) -> None:
        """Count one and log it."""
        self.refusals.record(refused.reason, host, f"The sensor at {name} is refused: {refused.sentence}")

    def _look(self, visit: Visit) -> tuple[str, str, SensorCertificate | None]:
        if self.find_peer is None:
            return visit.peer(), visit.peer(), None
        peer = self.find_peer(visit.peer())
        return (peer.host, str(peer), peer.certificate) if peer is not None else ("", "this machine", None)

    def _decide(
        self, visit: Visit, host: str, certificate: SensorCertificate | None
    ) -> SensorCertificate | Refused | None:
        if self.find_peer is not None and not host:
            return Refused(reason="beside_the_gate", sentence="Dial the collector's own port.", is_unknown=True)
        if certificate is not None and self.takes_certificates:
            return self._check_certificate(certificate)
        if self.token is not None:
            return None if self._has_token(visit) else _TOKEN_MISSING
        return _CERTIFICATE_MISSING if self.takes_certificates else None

    def _check_certificate(self, certificate: SensorCertificate) -> SensorCertificate | Refused:
        reason = self.find_end(certificate)
        if reason:
            sentence = f"{reason[:1].upper()}{reason[1:]}; enrol this sensor again."
            return Refused(reason="revoked", sentence=sentence, is_unknown=False)
        if not certificate.nodes:
            sentence = "The certificate names no node; enrol this sensor."
            return Refused(reason="wrong_node", sentence=sentence, is_unknown=False)
        return certificate

    def _has_token(self, visit: Visit) -> bool:
        assert self.token is not None
        metadata = visit.invocation_metadata()
        header = next((value for key, value in metadata or () if key == "authorization"), "")
        scheme, _, candidate = str(header).partition(" ")
        return scheme.lower() == "bearer" and self.token.accepts(candidate.strip())


_TOKEN_MISSING = Refused(
    reason="unauthenticated",
    sentence="The sensor's token is wrong or missing; set token_file.",
    is_unknown=True,
)
_CERTIFICATE_MISSING = Refused(
    reason="no_certificate",
    sentence="The sensor has no certificate; enrol it.",
    is_unknown=True,
)
