"""The addresses and the certificate of the collector's listeners, checked before anything starts.

Whatever is wrong with them is a `StartError` of one sentence.
"""

import errno
import resource
import socket
import ssl
from typing import Final

from collector.core.config import CollectorSettings, is_loopback, join_address
from collector.trust.identity import list_outgoing_addresses
from common.settings import split_address

# A sensor's connection takes four descriptors, a person's one, and the store some thousand.
OPEN_FILES: Final = 131_072


class StartError(Exception):
    """The collector cannot start; one sentence."""


def allow_open_files() -> None:
    """Let this process have as many descriptors as its connections may need, as far as the system lets it. Many
    systems give 1,024 unless asked, and the log could not be written once clients hold these."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def find_own_url(settings: CollectorSettings, listener: socket.socket) -> str:
    """Where other collectors reach this one's API."""
    host, port = split_address(settings.http_listen)[0], listener.getsockname()[1]
    if host in ("0.0.0.0", "::"):
        host = next(iter(list_outgoing_addresses()), host)
    return f"{'https' if settings.is_http_secure else 'http'}://{join_address(host, port)}"


def check_certificate(settings: CollectorSettings) -> None:
    """That both listeners will take the pair of files; gRPC would only say that it cannot listen. Raises StartError."""
    certificate, key = settings.tls_cert_file, settings.tls_key_file
    if certificate is None or key is None:
        return
    for name, path in (("tls_cert_file", certificate), ("tls_key_file", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise StartError(
                f"{name} {path} cannot be read ({error.strerror}); correct it or give this user the right."
            ) from error
    try:
        # An encrypted key would ask the terminal for its password; the empty one is wrong, and says so.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise StartError(
            f"tls_cert_file {certificate} and tls_key_file {key} are no certificate in PEM and its unencrypted key "
            f"({getattr(error, 'reason', None) or 'they cannot be parsed'}); correct them."
        ) from error


def bind(listen: str, name: str) -> socket.socket:
    """A listening address of ours. Raises StartError."""
    host, port = split_address(listen)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise StartError(f"{name} {listen} cannot be listened on ({error.strerror}); {_advise(error)}") from error
    # A name like `localhost` was taken on trust; what it resolved to must be what was allowed.
    if is_loopback(host) and not is_loopback(bound.getsockname()[0]):
        bound.close()
        raise StartError(f"{name} {listen} is not this machine's loopback; use 127.0.0.1.")
    return bound


def _advise(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "use an address of this machine, as 127.0.0.1."
    if error.errno == errno.EACCES:
        return "use a port from 1024 on, or give this user the right."
    return "is the port in use? Choose another, or 0 for a free one."
