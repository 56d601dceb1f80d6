"""How the API server is reached: a kubeconfig or the Pod's service account in, an HTTP client out. Edge.

lightkube reads both kinds of configuration and keeps tokens fresh (a service account's is read anew after a 401).
"""

import os
from pathlib import Path

import httpx2
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ConfigError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT_SECONDS = 30.0


class AccessError(Exception):
    """The API server cannot be asked; one sentence that names the file and the fix."""


def is_in_cluster() -> bool:
    """Whether this process is a Pod with a service account's token."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT / "token").is_file()


def open_client(kubeconfig: Path | None) -> httpx2.AsyncClient:
    """A client of the kubeconfig's current context, or of the service account without one. Raises AccessError."""
    try:
        if kubeconfig is None:
            config = KubeConfig.from_service_account(SERVICE_ACCOUNT).get()
        else:
            config = KubeConfig.from_file(kubeconfig).get()
        if config is None:
            raise ConfigError("it has no current context")
        # The node's proxy variables are for other servers; as client-go, only those in the configuration count.
        parameters = ConnectionParams(timeout=httpx2.Timeout(_TIMEOUT_SECONDS), trust_env=False)
        return AsyncClient(config, parameters)
    except KeyError as error:
        raise AccessError(f"{_name(kubeconfig)} has no {error}; correct it") from None
    except (ConfigError, OSError, ValueError, TypeError, AssertionError) as error:
        raise AccessError(f"{_name(kubeconfig)} cannot be used ({error}); correct it") from None


def _name(kubeconfig: Path | None) -> str:
    return f"The service account in {SERVICE_ACCOUNT}" if kubeconfig is None else f"The kubeconfig {kubeconfig}"
