"""Authorities and certificates that are wrong in one way each, made by the collector's own code."""

import time
from dataclasses import dataclass
from pathlib import Path

from collector.trust.authority import Authority, issue_sensor_certificate, make_authority
from sensor.export.certificates import make_key_request

DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """PEM files of a client."""

    certificate: Path
    key: Path


def make_pair(
    directory: Path,
    authority: Authority | None = None,
    *,
    node: str = "node-1",
    cluster: str = "test",
    starts: float = 0.0,
    seconds: float = DAY,
) -> Pair:
    """A sensor's certificate that starts so many seconds from now; of an authority nobody knows unless given."""
    fresh = make_key_request()
    now = time.time() + starts
    if authority is None:
        authority = make_authority(time.time())
    chain = issue_sensor_certificate(authority, fresh.request, cluster=cluster, node=node, now=now, seconds=seconds)
    pair = Pair(certificate=directory / "client.crt", key=directory / "client.key")
    pair.key.write_bytes(fresh.key)
    pair.certificate.write_bytes(chain)
    return pair
