"""One-time enrolment tokens: one file each, named by the token's number, with the hash of its secret, never the secret.

A token is `apidae1.NUMBER.SECRET.FINGERPRINT`: 256 random bits, and the SHA-256 of the public key by which the sensor
knows the collector before it sends anything. `-` means that the sensor must know its authority already. To use a token
renames its file, which only one process can do. So it is used once, also with two at a time and after a crash.

In Kubernetes a sensor enrols with the service account token of its Pod instead. It is a projected one, made for the
collector's audience and bound to the Pod. So it is worthless elsewhere and ends with the Pod. `TokenReviewer` asks the
API whose it is. From Kubernetes 1.30 on, the review names the Pod's node. Before that the Pod is read for it, which
needs the right to get Pods.

Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/ (bound tokens).
"""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from collector.core.keys import KeyFileError, read_private, write_private
from common.durable import parse_json
from common.kubernetes.objects import Metadata, Part
from common.kubernetes.reflector import ask, open_client

ENROLLMENTS_DIRECTORY: Final = "enrollments"
TOKEN_PREFIX: Final = "apidae1"
SECRET_BYTES: Final = 32
NUMBER_BYTES: Final = 8
# How long used and expired ones are kept, so that a second use gets the reason.
KEPT_SECONDS: Final = 7 * 86_400
ENROLLMENTS_LIMIT: Final = 10_000
_NUMBER: Final = re.compile(r"[0-9a-f]{16}\Z")
_USED: Final = ".used"


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


def make_enrollment(
    directory: Path, *, now: float, ttl_seconds: float, node: str, cluster: str, pin: str
) -> tuple[Enrollment, str]:
    """Make a token; it is in the second value and nowhere else. Raises KeyFileError."""
    _forget_old(directory, now)
    if len(list_enrollments(directory)) >= ENROLLMENTS_LIMIT:
        raise KeyFileError(f"There are {ENROLLMENTS_LIMIT} enrolment tokens in {directory}; use or remove some first.")
    number, secret = secrets.token_hex(NUMBER_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    enrollment = Enrollment(number=number, node=node, cluster=cluster, made_at=now, expires_at=now + ttl_seconds)
    write_private(directory / f"{number}.json", _write(enrollment, _hash(secret)))
    return enrollment, f"{TOKEN_PREFIX}.{number}.{secret}.{pin}"


def take_enrollment(
    directory: Path, token: str, *, now: float, node: str, cluster: str, is_taken: bool = False
) -> Enrollment:
    """Use up a token for a node; `is_taken`: there is a valid certificate of this name, so that the token must name the
    node. Raises EnrollmentRefusedError, KeyFileError."""
    parts = token.split(".")
    if len(parts) != 4 or parts[0] != TOKEN_PREFIX or not _NUMBER.match(parts[1]):
        raise EnrollmentRefusedError("unknown", "The enrolment token is none of this collector's; make one there.")
    path = directory / f"{parts[1]}.json"
    found = _read(path)
    if found is None:
        used = _read(path.with_suffix(_USED))
        if used is not None and hmac.compare_digest(used[1], _hash(parts[2])):
            raise EnrollmentRefusedError(
                "used", f"The enrolment token was used already, by {used[0].used_by}; make another one."
            )
    if found is None or not hmac.compare_digest(found[1], _hash(parts[2])):
        raise EnrollmentRefusedError("unknown", "The enrolment token is none of this collector's; make one there.")
    enrollment = found[0]
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
    try:
        path.rename(path.with_suffix(_USED))
    except FileNotFoundError:
        raise EnrollmentRefusedError("used", "The enrolment token was used already; make another one.") from None
    used_by = f"node {node}" if not cluster else f"node {node} of cluster {cluster}"
    taken = replace(enrollment, node=node, cluster=cluster, used_at=now, used_by=used_by)
    write_private(path.with_suffix(_USED), _write(taken, found[1]))
    return taken


def list_enrollments(directory: Path) -> list[Enrollment]:
    """All that are remembered, used ones too, the newest first. Raises KeyFileError."""
    found = [_read(path) for path in _list_files(directory)]
    return sorted((item[0] for item in found if item is not None), key=lambda item: item.made_at, reverse=True)


def _list_files(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if path.suffix in (".json", _USED) and _NUMBER.match(path.stem)]
    except FileNotFoundError:
        return []


def _forget_old(directory: Path, now: float) -> None:
    for path in _list_files(directory):
        found = _read(path)
        if found is not None and now > found[0].expires_at + KEPT_SECONDS:
            path.unlink(missing_ok=True)


def _hash(secret: str) -> str:
    # Plain SHA-256: the secret is 256 random bits, so there is nothing to guess.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _write(enrollment: Enrollment, secret_hash: str) -> bytes:
    content = {**asdict(enrollment), "secret_sha256": secret_hash}
    del content["number"]  # It is the file's name.
    return (json.dumps(content) + "\n").encode()


def _read(path: Path) -> tuple[Enrollment, str] | None:
    """A token's file; None where there is none."""
    content = read_private(path)
    if content is None:
        return None
    damaged = KeyFileError(f"The enrolment token in {path} is damaged; remove the file.")
    return parse_json(content, lambda found: (_parse(path.stem, found), str(found["secret_sha256"])), damaged)


def _parse(number: str, found: Mapping[str, Any]) -> Enrollment:
    return Enrollment(
        number=number,
        node=str(found["node"]),
        cluster=str(found["cluster"]),
        made_at=float(found["made_at"]),
        expires_at=float(found["expires_at"]),
        used_at=float(found["used_at"]),
        used_by=str(found["used_by"]),
    )


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
