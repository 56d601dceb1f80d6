"""The health check of the collector's image: `python -m collector.server.probe`.

It reads the collector's settings, from the environment and the file named there. Exit 0 where `/healthz` answers,
otherwise 1 with one sentence on standard error.
"""

import http.client
import ipaddress
import os
import ssl
import sys
from collections.abc import Mapping
from typing import Final

from collector.core.config import load_settings
from common.settings import ConfigError, split_address

TIMEOUT_SECONDS: Final = 5.0


def main(environment: Mapping[str, str]) -> int:
    """The exit status."""
    try:
        settings = load_settings({}, environment=environment)
        host, port = split_address(settings.http_listen)
        status = _ask(_reach(host), port, is_tls=settings.is_http_secure)
    except (ConfigError, OSError, http.client.HTTPException) as error:
        print(f"The collector does not answer: {error}", file=sys.stderr)
        return 1
    if status != http.HTTPStatus.OK:
        print(f"The collector is not healthy: /healthz answers {status}.", file=sys.stderr)
        return 1
    return 0


def _reach(host: str) -> str:
    """The address by which a listener on `host` is reached from here: one on all addresses, on loopback."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


def _ask(host: str, port: int, *, is_tls: bool) -> int:
    # The certificate is for the names that others use; that this is our own listener, its address says.
    connection = (
        http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=ssl._create_unverified_context())
        if is_tls
        else http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    )
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(os.environ))
