"""Ports for servers that do not choose theirs: of benches, demos and tests."""

import contextlib
import random
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST: Final = 10_000
_ATTEMPTS: Final = 100


class PortError(Exception):
    """No port is free."""


def take_port(addresses: Sequence[str] = ("127.0.0.1",)) -> int:
    """A port that is free on all the addresses, given back at once. It is below those that the kernel gives to clients
    and to servers without one: between here and the server's start no connection of another program can take it.
    Raises PortError."""
    lowest_of_clients = int(_RANGE.read_text().split()[0])
    for _ in range(_ATTEMPTS):
        port = random.randrange(min(_LOWEST, lowest_of_clients // 2), lowest_of_clients)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for address in addresses:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                stack.enter_context(socket.create_server((address, port), family=family))
            return port
    raise PortError(
        f"{_ATTEMPTS} ports below {lowest_of_clients} are all taken on {', '.join(addresses)}; end a server"
    )
