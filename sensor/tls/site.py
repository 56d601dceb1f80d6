"""The contract between finding and attaching: places in a file, as plain data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One place for a probe."""

    offset: int  # In the file.
    program: str  # Of bpf/tls.c.
    cookie: int = 0  # What the program is told of this place.
    is_emulated: bool  # The kernel emulates the instruction there; others it steps over, at some 15 times the cost.
    code: bytes  # The instruction there, as it was read.

    @property
    def probe(self) -> tuple[int, str, int]:
        """What is attached: offset, program, cookie."""
        return self.offset, self.program, self.cookie


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """Where a file is probed. Without `sites` it is not, and `reason` says why in a sentence."""

    library: str  # `OpenSSL`, `GnuTLS`, `Go crypto/tls`; empty where the file has none of TLS.
    sites: tuple[Site, ...] = ()
    reason: str = ""
    plain: tuple[Site, ...] = ()  # Instead of `sites` where the kernel hands no cookies to programs; empty: the same.

    def choose(self, *, has_cookies: bool) -> tuple[Site, ...]:
        """Those for a kernel with or without cookies."""
        return self.sites if has_cookies or not self.plain else self.plain


NO_TLS = Sites(library="")
