"""The contract between finding and attaching: places in a file, as plain data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One place for a probe."""

    offset: int  # In the file.
    program: str  # Of bpf/tls.c.
    is_emulated: bool  # The kernel emulates the instruction there; others it steps over, at some 15 times the cost.


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """Where a file is probed. Without `sites` it is not, and `reason` says why in a sentence."""

    library: str  # `OpenSSL`, `GnuTLS`, `Go crypto/tls`; empty where the file has none of TLS.
    sites: tuple[Site, ...] = ()
    reason: str = ""


NO_TLS = Sites(library="")
