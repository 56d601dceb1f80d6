"""The network of a miniature cluster: nodes and Pods as network namespaces, both families, Services by DNAT.

As the ptp plugin of CNI: a Pod's interface is one end of a pair whose other end is in its node's namespace, which
routes; a fabric joins the nodes. As kube-proxy in its nftables mode: an address of a Service becomes that of a Pod in
the node's namespace, at prerouting for what comes from Pods and at output for the node's own. Nothing leaves these
namespaces, and the machine's own network is not touched.
"""

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FABRIC_PREFIX_4, FABRIC_PREFIX_6 = "10.0.0", "fd00:0:0:0"
OUTSIDE_HOST = 254  # Of the fabric: the way out of the cluster.
# A client of the internet, in a namespace of its own; no packet of it leaves the machine.
OUTSIDE_ADDRESS = "1.2.3.4"
_MASQUERADED = 1

End = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A namespace with its two addresses."""

    namespace: str
    address_4: str
    address_6: str

    @property
    def path(self) -> Path:
        """The namespace as a file, for setns(2)."""
        return Path("/run/netns") / self.namespace


class Network:
    """Made by the constructor; `close` removes every namespace, and with them all else."""

    def __init__(self, name: str, node_count: int) -> None:
        """`name` begins the names of all namespaces; at most eight characters, as interfaces have names too."""
        self._name = name
        self._namespaces: list[str] = []
        self._pods = 0
        self._pairs: dict[str, tuple[str, str]] = {}  # By a Pod's namespace: that of its node, and its interface there.
        self._fabric = self._add_namespace("fabric")
        _ip(self._fabric, "link add fabric type bridge", "link set fabric up")
        self.nodes = tuple(self._add_node(number) for number in range(1, node_count + 1))
        self.outside = self._add_outside()
        for node in (*self.nodes, self.outside):
            for number, other in enumerate(self.nodes, 1):
                if other != node:
                    _ip(
                        node.namespace,
                        f"route add 10.1.{number}.0/24 via {other.address_4}",
                        f"-6 route add fd00:1:{number}::/64 via {other.address_6}",
                    )

    def _add_namespace(self, name: str) -> str:
        full = f"{self._name}-{name}"
        subprocess.run(["ip", "netns", "add", full], check=True, capture_output=True)
        self._namespaces.append(full)
        _ip(full, "link set lo up")
        return full

    def _join_fabric(self, namespace: str, host: int) -> tuple[str, str]:
        address_4, address_6 = f"{FABRIC_PREFIX_4}.{host}", f"fd00::{host:x}"
        _ip(self._fabric, f"link add n{host} type veth peer name fabric0 netns {namespace}", f"link set n{host} up")
        _ip(self._fabric, f"link set n{host} master fabric")
        _ip(
            namespace,
            "link set fabric0 up",
            f"addr add {address_4}/24 dev fabric0",
            f"-6 addr add {address_6}/64 dev fabric0 nodad",
        )
        return address_4, address_6

    def _add_node(self, number: int) -> Interface:
        namespace = self._add_namespace(f"node{number}")
        address_4, address_6 = self._join_fabric(namespace, number)
        _run_in(namespace, ["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        _ip(namespace, f"route add default via {FABRIC_PREFIX_4}.{OUTSIDE_HOST}")
        return Interface(namespace=namespace, address_4=address_4, address_6=address_6)

    def _add_outside(self) -> Interface:
        namespace = self._add_namespace("outside")
        self._join_fabric(namespace, OUTSIDE_HOST)
        _ip(namespace, f"addr add {OUTSIDE_ADDRESS}/32 dev lo")
        return Interface(namespace=namespace, address_4=OUTSIDE_ADDRESS, address_6="")

    def add_pod(self, node: int, host: int) -> Interface:
        """The namespace of a Pod on node `node` (from 1), at 10.1.NODE.HOST and fd00:1:NODE::HOST."""
        self._pods += 1
        namespace = self._add_namespace(f"pod{self._pods}")
        home, pair = self.nodes[node - 1].namespace, f"p{self._pods}"
        self._pairs[namespace] = (home, pair)
        gateway_4, gateway_6 = f"10.1.{node}.1", f"fd00:1:{node}::1"
        address_4, address_6 = f"10.1.{node}.{host}", f"fd00:1:{node}::{host:x}"
        _ip(
            home,
            f"link add {pair} type veth peer name eth0 netns {namespace}",
            f"link set {pair} up",
            f"addr add {gateway_4}/32 dev {pair}",
            f"-6 addr add {gateway_6}/128 dev {pair} nodad",
            f"route add {address_4}/32 dev {pair}",
            f"-6 route add {address_6}/128 dev {pair}",
        )
        _ip(
            namespace,
            "link set eth0 up",
            f"addr add {address_4}/32 dev eth0",
            f"-6 addr add {address_6}/128 dev eth0 nodad",
            f"route add default via {gateway_4} dev eth0 onlink",
            f"-6 route add default via {gateway_6} dev eth0 onlink",
        )
        return Interface(namespace=namespace, address_4=address_4, address_6=address_6)

    def remove_pod(self, pod: Interface) -> None:
        """With its interface and its node's route to it, at once: with the namespace alone the kernel removes them when
        it comes to it, and until then nobody else can have the address."""
        home, pair = self._pairs.pop(pod.namespace)
        _ip(home, f"link delete {pair}")
        self._namespaces.remove(pod.namespace)
        subprocess.run(["ip", "netns", "delete", pod.namespace], check=True, capture_output=True)

    def serve(
        self, services: Mapping[End, Sequence[End]], *, host_ports: Mapping[tuple[int, int], End] | None = None
    ) -> None:
        """On every node, (address, port)s of Services to those of Pods in turn. An empty address is the node's own: a
        NodePort, whose calls leave with the node's address (externalTrafficPolicy Cluster). `host_ports`: (node, port)s
        that are a Pod's of that node."""
        for number, node in enumerate(self.nodes, 1):
            own = {4: node.address_4, 6: node.address_6}
            rules = {
                family: [
                    _dnat(family, address or own[family], port, targets, is_node_port=not address)
                    for (address, port), targets in services.items()
                    if (":" in (address or targets[0][0])) == (family == 6)
                ]
                for family in (4, 6)
            }
            rules[4] += [
                _dnat(4, node.address_4, port, [target])
                for (home, port), target in (host_ports or {}).items()
                if home == number
            ]
            tables = "".join(_table(family, lines) for family, lines in rules.items() if lines)
            _run_in(node.namespace, ["nft", "-f", "-"], tables)

    def close(self) -> None:
        """Remove everything. Safe to call again."""
        while self._namespaces:
            subprocess.run(["ip", "netns", "delete", self._namespaces.pop()], check=False, capture_output=True)


def _dnat(family: int, address: str, port: int, targets: Sequence[End], *, is_node_port: bool = False) -> str:
    ip = "ip6" if family == 6 else "ip"
    to = ", ".join(f"{number} : {one} . {target}" for number, (one, target) in enumerate(targets))
    choice = f"numgen inc mod {len(targets)} map {{ {to} }}"
    mark = f"ct mark set {_MASQUERADED} " if is_node_port else ""
    return f"{ip} daddr {address} tcp dport {port} {mark}dnat {ip} addr . port to {choice}"


def _table(family: int, rules: Iterable[str]) -> str:
    lines = "\n".join(rules)
    name = "ip6" if family == 6 else "ip"
    chains = "".join(
        f"chain {hook} {{ type nat hook {hook} priority {priority}; \n{lines}\n }}\n"
        for hook, priority in (("prerouting", "dstnat"), ("output", "-100"))
    )
    chains += (
        f"chain postrouting {{ type nat hook postrouting priority srcnat; ct mark {_MASQUERADED} masquerade\n }}\n"
    )
    return f"table {name} services {{\n{chains}}}\n"


def _ip(namespace: str, *commands: str) -> None:
    """`ip` once a family, for -6 is no command of a batch."""
    for is_6 in (False, True):
        lines = [command.removeprefix("-6 ") for command in commands if command.startswith("-6 ") == is_6]
        if lines:
            words = ["ip", *(["-6"] if is_6 else []), "-n", namespace, "-batch", "-"]
            done = subprocess.run(words, input="\n".join(lines), text=True, capture_output=True, check=False)
            assert done.returncode == 0, f"{namespace}: {lines}: {done.stderr}"


def _run_in(namespace: str, command: Sequence[str], text: str = "") -> None:
    words = ["ip", "netns", "exec", namespace, *command]
    done = subprocess.run(words, input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{namespace}: {' '.join(command)}: {done.stderr}\n{text}"
