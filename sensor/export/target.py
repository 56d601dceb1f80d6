"""The address of a collector, and a gRPC channel to it: in clear text on loopback, otherwise over TLS."""

import ipaddress
from dataclasses import dataclass, field
from typing import Final

import grpc
import grpc.aio

from common.settings import split_address


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_target(text: str) -> Target:
    """HOST:PORT, an IPv6 address in brackets. Raises ValueError with a sentence."""
    host, port = split_address(text)
    if not port:
        raise ValueError(f"{text!r} has port 0; give the port on which the collector listens")
    return Target(host=host, port=port)


@dataclass(frozen=True, slots=True, kw_only=True)
class DialCredentials:
    """What a dial shows and trusts; PEM."""

    authorities: bytes | None = None  # None: the system's.
    server_name: str = ""  # Name in the collector's certificate where it is not the target's host.
    chain: bytes | None = None
    key: bytes | None = field(default=None, repr=False)

    def is_secure(self, target: Target) -> bool:
        """Whether TLS is spoken: always off loopback, on it where the collector's authority is known."""
        return not target.is_loopback or self.authorities is not None


_OPTIONS: Final = (
    # A half-open connection is found within 15 s, before a minute of rows waits for nothing. The second is for a peer
    # whose kernel is silent, the third for one that stands still while its kernel takes all (a minute by default).
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_send_message_length", -1),
    # Without it, channels to one address share a connection and its backoff, and ours would come on top.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    # Acknowledgements and policies need no window that grows with the way; a ping for each that comes is a third of
    # what a second with one batch costs.
    ("grpc.http2.bdp_probe", 0),
)


def open_channel(target: Target, credentials: DialCredentials) -> grpc.aio.Channel:
    """Not dialled yet."""
    options: list[tuple[str, int | str]] = list(_OPTIONS)
    if target.is_loopback:
        options.append(("grpc.enable_http_proxy", 0))
    if not credentials.is_secure(target):
        return grpc.aio.insecure_channel(str(target), options=options)
    if credentials.server_name:
        options.append(("grpc.ssl_target_name_override", credentials.server_name))
    secure = grpc.ssl_channel_credentials(credentials.authorities, credentials.key, credentials.chain)
    return grpc.aio.secure_channel(str(target), secure, options=options)
