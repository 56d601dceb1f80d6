"""Asks the Kubernetes API who a Pod's service account token belongs to (TokenReview, authentication.k8s.io/v1).

The token is a projected one of the sensor's Pod, made for the collector's audience and bound to the Pod. So it is
worthless elsewhere and ends with the Pod. From Kubernetes 1.30 on, the review names the Pod's node
(`authentication.kubernetes.io/node-name`). Before that the Pod is read for it, which needs the right to get Pods.

Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/ (bound tokens).
"""

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from collector.trust.enrollment import EnrollmentRefusedError

TIMEOUT_SECONDS: Final = 10.0
_NODE: Final = "authentication.kubernetes.io/node-name"
_POD: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_USER: Final = re.compile(r"system:serviceaccount:([a-z0-9.-]+):([a-z0-9.-]+)\Z")
# Names go into a path.
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")


class ReviewError(Exception):
    """The API could not be asked, or not be understood; one sentence for the log."""


# Where Kubernetes mounts a Pod's account, and the audience of the tokens that sensors show (deploy/helm).
ACCOUNT_DIRECTORY: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
AUDIENCE: Final = "apidae"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewSettings:
    """Where the API is, the directory of our own service account (`ca.crt`, `token`), and whose tokens let a sensor in
    (NAMESPACE/SERVICEACCOUNT)."""

    url: str
    account_dir: Path
    accounts: tuple[str, ...]


def find_api(environment: Mapping[str, str] = os.environ) -> str:
    """The API's address, as Kubernetes tells every Pod. Raises ReviewError outside a cluster."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ReviewError(
            "kubernetes_enrollment_accounts is set outside a cluster (there is no KUBERNETES_SERVICE_HOST); drop it."
        )
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


class TokenReviewer:
    """Asks for each token; nothing is kept but the settings, so that files that rotate are read again."""

    def __init__(self, settings: ReviewSettings) -> None:
        """See ReviewSettings."""
        self._settings = settings

    async def find_node(self, token: str) -> str:
        """The node of the Pod that has the token. Raises EnrollmentRefusedError, and ReviewError where the API does
        not answer."""
        try:
            context = ssl.create_default_context(cafile=str(self._settings.account_dir / "ca.crt"))
            own = (self._settings.account_dir / "token").read_text().strip()
        except OSError as error:  # ssl.SSLError is one.
            raise ReviewError(
                f"The Kubernetes API cannot be asked, for {self._settings.account_dir} has no token and ca.crt "
                f"({error.strerror or error}); mount the collector's service account."
            ) from None
        headers = {"authorization": f"Bearer {own}"}
        async with httpx.AsyncClient(
            base_url=self._settings.url, headers=headers, verify=context, timeout=TIMEOUT_SECONDS, trust_env=False
        ) as client:
            status = await self._review(client, token)
            namespace, extra = self._check(status)
            node = _first(extra, _NODE)
            return node or await self._read_pod(client, namespace, extra)

    async def _review(self, client: httpx.AsyncClient, token: str) -> Mapping[str, Any]:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        review = await _ask(client, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", body)
        status = review.get("status")
        if not isinstance(status, dict):
            raise ReviewError("The Kubernetes API answered a TokenReview without a status.")
        return status

    def _check(self, status: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """Namespace and extra facts of an account that may enrol."""
        if status.get("authenticated") is not True:
            raise EnrollmentRefusedError(
                "kubernetes_token", "The Kubernetes API does not know the service account token; is it of this cluster?"
            )
        # An API that knows nothing of audiences confirms a token that was made for somebody else.
        if AUDIENCE not in (status.get("audiences") or ()):
            raise EnrollmentRefusedError(
                "kubernetes_audience",
                f"The service account token is not for the audience {AUDIENCE}; project one that is.",
            )
        user = status.get("user") or {}
        found = _USER.match(str(user.get("username", "")))
        account = "/".join(found.groups()) if found else str(user.get("username", ""))
        if found is None or account not in self._settings.accounts:
            raise EnrollmentRefusedError(
                "kubernetes_account",
                f"The service account {account} may not enrol sensors; name it in kubernetes_enrollment_accounts.",
            )
        return found.group(1), user.get("extra") or {}

    async def _read_pod(self, client: httpx.AsyncClient, namespace: str, extra: Mapping[str, Any]) -> str:
        """The Pod's node, for Kubernetes before 1.30."""
        name, uid = _first(extra, _POD), _first(extra, _POD_UID)
        if not _NAME.match(name) or not _NAME.match(namespace):
            raise EnrollmentRefusedError(
                "kubernetes_unbound", "The service account token is bound to no Pod; use a projected one."
            )
        pod = await _ask(client, "GET", f"/api/v1/namespaces/{namespace}/pods/{name}", None)
        node = str((pod.get("spec") or {}).get("nodeName") or "")
        if str((pod.get("metadata") or {}).get("uid")) != uid or not node:
            raise EnrollmentRefusedError("kubernetes_pod", f"The Pod {namespace}/{name} of the token is gone.")
        return node


async def _ask(client: httpx.AsyncClient, method: str, path: str, body: object) -> Mapping[str, Any]:
    try:
        answer = await client.request(method, path, json=body)
        content = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise ReviewError(
            f"The Kubernetes API does not answer {method} {path} ({error or type(error).__name__})."
        ) from error
    if answer.status_code >= 300 or not isinstance(content, dict):
        raise ReviewError(f"The Kubernetes API answered {method} {path} with {answer.status_code}; grant that right.")
    return content


def _first(extra: Mapping[str, Any], name: str) -> str:
    values = extra.get(name)
    return str(values[0]) if isinstance(values, list) and values else ""
