"""The names that the collector's own certificate bears: those of this machine, and those that a setting adds."""

import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

# A documentation address (RFC 5737, RFC 3849): what is "connected" to it tells the way out and sends nothing.
_SOMEWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


def list_own_names(listens: Sequence[str], extra: Sequence[str]) -> tuple[str, ...]:
    """`extra` first, then the hosts that are listened on, the host's names and its address on the way out."""
    names = [*extra, *(host for host in listens if not _is_wildcard(host))]
    names += [socket.gethostname(), socket.getfqdn(), *list_outgoing_addresses()]
    return tuple(dict.fromkeys(name for name in (*names, *_LOCAL) if is_name(name)))


def list_outgoing_addresses() -> list[str]:
    """This host's addresses on the way out, IPv4 and IPv6, as far as it has a route."""
    addresses: list[str] = []
    for family, somewhere in _SOMEWHERE:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as way:
            way.connect((somewhere, 9))
            addresses.append(str(way.getsockname()[0]))
    return addresses


def is_name(name: str) -> bool:
    """Whether a certificate can bear it: an address, or a host name of ASCII letters, digits, dots and dashes."""
    try:
        ipaddress.ip_address(name)
        return True
    except ValueError:
        plain = name.removeprefix("*.").replace(".", "").replace("-", "").replace("_", "")
        return name.isascii() and plain.isalnum() and len(name) <= 253


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
