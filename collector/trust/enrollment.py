"""One-time enrolment tokens: one row of the state each, with the hash of its secret, never the secret.

A token is `apidae1.NUMBER.SECRET.FINGERPRINT`: 256 random bits, and the SHA-256 of the public key by which the sensor
knows the collector before it sends anything. `-` means that the sensor must know its authority already. To use a token
marks its row where it is not marked yet. So it is used once, also with two at a time and after a crash.

In Kubernetes a sensor enrols with the service account token of its Pod instead. It is a projected one, made for the
collector's audience and bound to the Pod. So it is worthless elsewhere and ends with the Pod. `TokenReviewer` asks the
API whose it is. From Kubernetes 1.30 on, the review names the Pod's node. Before that the Pod is read for it, which
needs the right to get Pods.

Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/ (bound tokens).
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import delete, func, insert, select, update

from collector.core.keys import KeyFileError
from collector.storage.state.store import StateStore, read_row
from collector.storage.state.tables.trust import ENROLLMENTS
from collector.trust.audit import add_entries, make_entry
from collector.trust.principal import HOST
from common.kubernetes.objects import Metadata, Part
from common.kubernetes.reflector import ask, open_client

TOKEN_PREFIX: Final = "apidae1"
SECRET_BYTES: Final = 32
NUMBER_BYTES: Final = 8
# How long used and expired ones are kept, so that a second use gets the reason.
KEPT_SECONDS: Final = 7 * 86_400
ENROLLMENTS_LIMIT: Final = 10_000
_NUMBER: Final = re.compile(r"[0-9a-f]{16}\Z")


class EnrollmentRefusedError(Exception):
    """The token lets nobody in; a sentence for the sensor, `reason` for the counter."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrollment:
    """A token without its secret; times are unix seconds. An empty node or cluster is left to the sensor."""

    number: str
    node: str
    cluster: str
    made_at: float
    expires_at: float
    used_at: float = 0.0
    used_by: str = ""


class EnrollmentTable:
    """Methods raise StoreError."""

    def __init__(self, state: StateStore) -> None:
        self._state = state

    def make(
        self, *, now: float, ttl_seconds: float, node: str, cluster: str, pin: str, by: str = HOST
    ) -> tuple[Enrollment, str]:
        """Make a token; it is in the second value and nowhere else. Raises KeyFileError where there are too many."""
        number, secret = secrets.token_hex(NUMBER_BYTES), secrets.token_urlsafe(SECRET_BYTES)
        made = Enrollment(number=number, node=node, cluster=cluster, made_at=now, expires_at=now + ttl_seconds)
        with self._state.write() as connection:
            connection.execute(delete(ENROLLMENTS).where(ENROLLMENTS.c.expires_at < now - KEPT_SECONDS))
            if connection.execute(select(func.count()).select_from(ENROLLMENTS)).scalar_one() >= ENROLLMENTS_LIMIT:
                raise KeyFileError(
                    f"There are {ENROLLMENTS_LIMIT} enrolment tokens in {self._state.place}; use some first, or wait "
                    "until some expire."
                )
            connection.execute(insert(ENROLLMENTS), {**asdict(made), "secret_sha256": _hash(secret)})
            after = {"node": node, "cluster": cluster, "expires_at": made.expires_at}
            add_entries(connection, [make_entry(now, by, "enrollment.created", number, after=after)])
        return made, f"{TOKEN_PREFIX}.{number}.{secret}.{pin}"

    def take(self, token: str, *, now: float, node: str, cluster: str, is_taken: bool = False) -> Enrollment:
        """Use up a token for a node; `is_taken`: there is a valid certificate of this name, so that the token must name
        the node. Raises EnrollmentRefusedError."""
        parts = token.split(".")
        if len(parts) != 4 or parts[0] != TOKEN_PREFIX or not _NUMBER.match(parts[1]):
            raise EnrollmentRefusedError("unknown", _UNKNOWN)
        own = ENROLLMENTS.c.number == parts[1]
        with self._state.write() as connection:
            row = connection.execute(select(ENROLLMENTS).where(own)).first()
            if row is None or not hmac.compare_digest(row.secret_sha256, _hash(parts[2])):
                raise EnrollmentRefusedError("unknown", _UNKNOWN)
            enrollment = read_row(Enrollment, row)
            _check(enrollment, now=now, node=node, cluster=cluster, is_taken=is_taken)
            used_by = f"node {node}" if not cluster else f"node {node} of cluster {cluster}"
            used = {"node": node, "cluster": cluster, "used_at": now, "used_by": used_by}
            # Another process may have taken it since it was read.
            marked = update(ENROLLMENTS).where(own, ENROLLMENTS.c.used_at == 0).values(used)
            if connection.execute(marked).rowcount != 1:
                raise EnrollmentRefusedError("used", "The enrolment token was used already; make another one.")
        return replace(enrollment, node=node, cluster=cluster, used_at=now, used_by=used_by)

    def list_all(self) -> list[Enrollment]:
        """All that are remembered, used ones too, the newest first."""
        with self._state.read() as connection:
            rows = connection.execute(select(ENROLLMENTS).order_by(ENROLLMENTS.c.made_at.desc()))
            return [read_row(Enrollment, row) for row in rows]


_UNKNOWN: Final = "The enrolment token is not one of this collector's; make one there."


def _check(enrollment: Enrollment, *, now: float, node: str, cluster: str, is_taken: bool) -> None:
    """Raises EnrollmentRefusedError."""
    if enrollment.used_at:
        raise EnrollmentRefusedError(
            "used", f"The enrolment token was used already, by {enrollment.used_by}; make another one."
        )
    if now >= enrollment.expires_at:
        late = now - enrollment.expires_at
        raise EnrollmentRefusedError("expired", f"The enrolment token expired {late:.0f} s ago; make another one.")
    for what, wanted, said in (("node", enrollment.node, node), ("cluster", enrollment.cluster, cluster)):
        if wanted and wanted != said:
            raise EnrollmentRefusedError(
                "other_node", f"The enrolment token is for {what} {wanted}, not for {said or 'none'}; correct --{what}."
            )
    if is_taken and not enrollment.node:
        raise EnrollmentRefusedError(
            "taken", f"Node {node} has a certificate already; make a token for it with --node {node}."
        )


def _hash(secret: str) -> str:
    # Plain SHA-256: the secret is 256 random bits, so there is nothing to guess.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


_NODE: Final = "authentication.kubernetes.io/node-name"
_POD: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_USER: Final = re.compile(r"system:serviceaccount:([a-z0-9.-]+):([a-z0-9.-]+)\Z")
# Names go into a path.
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")


class _User(Part, frozen=True, kw_only=True):
    username: str = ""
    extra: dict[str, list[str]] | None = None

    def find_extra(self, name: str) -> str:
        """The first value of a name; empty where there is none."""
        return next(iter((self.extra or {}).get(name) or ()), "")


class _ReviewStatus(Part, frozen=True, kw_only=True):
    authenticated: bool = False
    audiences: list[str] | None = None
    user: _User = _User()


class _Review(Part, frozen=True, kw_only=True):
    status: _ReviewStatus


class _PodSpec(Part, frozen=True, kw_only=True):
    node_name: str = ""


class _Pod(Part, frozen=True, kw_only=True):
    metadata: Metadata
    spec: _PodSpec = _PodSpec()


class TokenReviewer:
    """Asks for each token; nothing is kept but the settings, so that files that rotate are read again."""

    def __init__(self, *, account_dir: Path, audience: str, accounts: Sequence[str]) -> None:
        """`account_dir`: of our own service account; `accounts`: whose tokens let a sensor in
        (NAMESPACE/SERVICEACCOUNT)."""
        self._open_client = partial(open_client, None, account_dir)
        self._audience = audience
        self._accounts = accounts

    async def find_node(self, token: str) -> str:
        """The node of the Pod that has the token. Raises EnrollmentRefusedError; AccessError and ApiError where the API
        does not answer."""
        spec = {"token": token, "audiences": [self._audience]}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        review = await ask(self._open_client, "/apis/authentication.k8s.io/v1/tokenreviews", _Review, body)
        namespace = self._check(review.status)
        user = review.status.user
        return user.find_extra(_NODE) or await self._read_node(namespace, user)

    def _check(self, status: _ReviewStatus) -> str:
        """The namespace of an account that may enrol."""
        if not status.authenticated:
            raise EnrollmentRefusedError(
                "kubernetes_token", "The Kubernetes API does not know the service account token; is it of this cluster?"
            )
        # An API that knows nothing of audiences confirms a token that was made for somebody else.
        if self._audience not in (status.audiences or ()):
            raise EnrollmentRefusedError(
                "kubernetes_audience",
                f"The service account token is not for the audience {self._audience}; project one that is.",
            )
        found = _USER.match(status.user.username)
        account = "/".join(found.groups()) if found else status.user.username
        if found is None or account not in self._accounts:
            raise EnrollmentRefusedError(
                "kubernetes_account",
                f"The service account {account} may not enrol sensors; name it in kubernetes_enrollment_accounts.",
            )
        return found[1]

    async def _read_node(self, namespace: str, user: _User) -> str:
        """The Pod's node, for Kubernetes before 1.30."""
        name = user.find_extra(_POD)
        if not _NAME.match(name) or not _NAME.match(namespace):
            raise EnrollmentRefusedError(
                "kubernetes_unbound", "The service account token is bound to no Pod; use a projected one."
            )
        pod = await ask(self._open_client, f"/api/v1/namespaces/{namespace}/pods/{name}", _Pod)
        if pod.metadata.uid != user.find_extra(_POD_UID) or not pod.spec.node_name:
            raise EnrollmentRefusedError("kubernetes_pod", f"The Pod {namespace}/{name} of the token is gone.")
        return pod.spec.node_name
