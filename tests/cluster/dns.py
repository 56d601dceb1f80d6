"""The DNS of a real cluster, for its Services and the Pods of headless ones: `python -m tests.cluster.dns ADDRESS
KUBECONFIG`.

Answers A queries over UDP (RFC 1035) by what `kubectl` lists, at most a second old: SERVICE.NAMESPACE.svc.cluster.local
and POD.SERVICE.NAMESPACE.svc.cluster.local. Every other name does not exist, for nothing is asked elsewhere.
"""

import json
import socket
import struct
import subprocess
import sys
import time
from collections import defaultdict
from typing import Final

from tests.cluster.control_plane import need_binary

_SUFFIX: Final = ".svc.cluster.local"
_A, _IN = 1, 1
_ANSWER, _NO_SUCH_NAME = 0x8580, 0x8583  # Authoritative, recursion offered; the code in the last four bits.
_FRESH_SECONDS: Final = 1.0


def list_names(kubeconfig: str) -> dict[str, list[str]]:
    """Addresses by name."""
    listed = subprocess.run(
        [need_binary("kubectl"), f"--kubeconfig={kubeconfig}", "get", "-A", "-o", "json", "services,endpointslices"],
        capture_output=True,
        check=False,
        timeout=10,
    ).stdout
    names: dict[str, list[str]] = defaultdict(list)
    for item in json.loads(listed or b'{"items": []}')["items"]:
        metadata = item["metadata"]
        place = f"{metadata['namespace']}{_SUFFIX}"
        if item["kind"] == "Service":
            address = item["spec"].get("clusterIP", "None")
            if address != "None":
                names[f"{metadata['name']}.{place}"] = [address]
            continue
        service = metadata.get("labels", {}).get("kubernetes.io/service-name", "")
        is_headless = "service.kubernetes.io/headless" in metadata.get("labels", {})
        for endpoint in item.get("endpoints") or ():
            if endpoint.get("hostname"):
                names[f"{endpoint['hostname']}.{service}.{place}"] = endpoint["addresses"]
            if is_headless and endpoint.get("conditions", {}).get("ready", True):
                names[f"{service}.{place}"] += endpoint["addresses"]
    return names


def read_question(query: bytes) -> tuple[str, int, int]:
    """(name, type, where it ends) of the first question."""
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode(errors="replace"))
        at += 1 + length
    (kind,) = struct.unpack_from("!H", query, at + 1)
    return ".".join(labels).lower(), int(kind), at + 5


def answer_query(query: bytes, names: dict[str, list[str]]) -> bytes:
    """The response to one query."""
    name, kind, end = read_question(query)
    found = names.get(name)
    addresses = found if found is not None and kind == _A else []
    flags = _NO_SUCH_NAME if found is None else _ANSWER
    head = struct.pack("!2sHHHHH", query[:2], flags, 1, len(addresses), 0, 0)
    records = (struct.pack("!HHHIH4s", 0xC00C, _A, _IN, 1, 4, socket.inet_aton(address)) for address in addresses)
    return head + query[12:end] + b"".join(records)


def main(address: str, kubeconfig: str) -> None:
    """Until it is ended."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))
    print(json.dumps({"event": "ready"}), flush=True)
    names: dict[str, list[str]] = {}
    listed = 0.0
    while True:
        query, client = server.recvfrom(4096)
        if time.monotonic() - listed > _FRESH_SECONDS:
            names = list_names(kubeconfig) or names
            listed = time.monotonic()
        try:
            server.sendto(answer_query(query, names), client)
        except (IndexError, struct.error):
            continue


if __name__ == "__main__":
    main(*sys.argv[1:])
