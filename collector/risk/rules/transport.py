"""Rules on TLS: deprecated versions, and cipher suites that keep no secret or not for long.

Both hold for the endpoints of a service that is read. Where nobody can read it, they hold for the service itself.

Sources: RFC 8996 (versions), RFC 9325 4.1, RFC 7465 and RFC 5246 F.1.1.1 (cipher suites). IANA's registry of TLS cipher
suites recommends none of these suites.
"""

from collections.abc import Iterable
from typing import Final

from collector.inventory.coverage.coverage import WeakChoice
from collector.risk.circumstances import Circumstances
from collector.risk.finding import Evidence, Rule, Severity, list_words

_VERSIONS: Final = {
    "SSL 2.0": Severity.HIGH,
    "SSL 3.0": Severity.HIGH,
    "TLS 1.0": Severity.MEDIUM,
    "TLS 1.1": Severity.MEDIUM,
}
# By a part of the suite's name: what is wrong, and how bad that is; the first that fits. CBC with forward secrecy is
# discouraged and no finding.
_SUITES: Final = (
    ("_NULL_", "encrypts nothing (RFC 9325)", Severity.HIGH),
    ("_anon_", "shows nobody who the server is (RFC 5246)", Severity.HIGH),
    ("_EXPORT_", "has keys of 40 bits (RFC 9325)", Severity.HIGH),
    ("_DES_", "has keys of 56 bits (RFC 9325)", Severity.HIGH),
    ("_RC4_", "is RC4, which is broken (RFC 7465)", Severity.HIGH),
    ("_3DES_", "is 3DES, with blocks of 64 bits (RFC 9325)", Severity.MEDIUM),
    ("TLS_RSA_", "has no forward secrecy (RFC 9325)", Severity.LOW),
)
_ORDER: Final = list(Severity)


def judge_version(choices: Iterable[WeakChoice]) -> Evidence | None:
    """Of what a service's servers chose."""
    found = [choice for choice in choices if choice.version in _VERSIONS]
    if not found:
        return None
    versions = {choice.version for choice in found}
    return Evidence(
        why=f"{_count(found)} chose {list_words(versions)}, deprecated by RFC 8996 or before.",
        signs=tuple(versions),
        severity=min((_VERSIONS[version] for version in versions), key=_ORDER.index),
    )


def judge_cipher(choices: Iterable[WeakChoice]) -> Evidence | None:
    """The same of cipher suites."""
    found: list[WeakChoice] = []
    suites: dict[str, tuple[str, Severity]] = {}
    for choice in choices:
        for part, what, severity in _SUITES:
            if part in choice.cipher_suite:
                found.append(choice)
                suites[choice.cipher_suite] = (what, severity)
                break
    if not found:
        return None
    told = "; ".join(f"{suite} {what}" for suite, (what, _) in sorted(suites.items()))
    return Evidence(
        why=f"{_count(found)} chose a weak cipher suite: {told}.",
        signs=tuple(suites),
        severity=min((severity for _, severity in suites.values()), key=_ORDER.index),
    )


def _count(choices: Iterable[WeakChoice]) -> str:
    count = sum(choice.count for choice in choices)
    return f"{count:,} of the handshakes looked at (at most one a second)"


def _find_weak_version(seen: Circumstances) -> Evidence | None:
    return judge_version(seen.weak_tls) if seen.is_ours else None


def _find_weak_cipher(seen: Circumstances) -> Evidence | None:
    return judge_cipher(seen.weak_tls) if seen.is_ours else None


WEAK_VERSION: Final = Rule(
    id="weak_tls_version",
    title="Weak TLS version",
    severity=Severity.MEDIUM,
    owasp="API8:2023",
    advice="Refuse versions before TLS 1.2; the coverage names clients that still ask.",
    find=_find_weak_version,
)
WEAK_CIPHER: Final = Rule(
    id="weak_tls_cipher",
    title="Weak TLS cipher",
    severity=Severity.MEDIUM,
    owasp="API8:2023",
    advice="Offer suites with ECDHE and AES-GCM or ChaCha20 alone; the coverage names clients that ask for others.",
    find=_find_weak_cipher,
)
TRANSPORT_RULES: Final = (WEAK_VERSION, WEAK_CIPHER)
