"""Networks of partners: callers from them are neither strangers nor our own. CIDR texts in, a condition of SQL out.

The addresses are those of calls, of which `isIPAddressInRange` takes none that is empty or no address.
"""

from collections.abc import Iterable
from ipaddress import ip_network


class PartnerNetworks:
    """Some networks; made once."""

    __slots__ = ("condition", "networks")

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Raises ValueError on a text that is no network."""
        self.networks = tuple(str(ip_network(text)) for text in networks)
        # Of our own making: digits, letters, dots, colons and a slash.
        tests = " OR ".join(f"isIPAddressInRange(toString(r.client_address), '{one}')" for one in self.networks)
        is_address = "(isIPv4String(toString(r.client_address)) OR isIPv6String(toString(r.client_address)))"
        self.condition = f"({is_address} AND ({tests}))" if tests else "false"


NO_PARTNERS = PartnerNetworks()
