"""Rules on credentials: in URLs, in clear text, and weak JWTs. They use bits that the sensor reported, no values."""

from collections.abc import Callable
from typing import Final

from collector.inventory.endpoints.bodies import BodySide, DataClass
from collector.inventory.endpoints.endpoint import FULL_COVERAGE
from collector.risk.circumstances import Circumstances
from collector.risk.finding import Evidence, Rule, Severity, list_words

# Of the authenticated calls; fewer are one odd client.
_SHARE_MIN: Final = 0.05
_HEADS_MIN: Final = 3
# Signed URLs are made to be handed on; these are not.
_IN_URL: Final = frozenset(("api_key_query",))
# What a thief may use again. Signatures are made anew for each call.
_REUSABLE: Final = frozenset(
    ("basic", "bearer_opaque", "bearer_jwt", "jwt_custom_header", "api_key_header", "api_key_query", "api_key_cookie",
     "cookie_session")
)  # fmt: skip


def _find_in_url(seen: Circumstances) -> Evidence | None:
    if not seen.is_ours:
        return None
    kinds = seen.endpoint.authentication.kinds
    carried = _IN_URL.intersection(kinds)
    secrets = {
        one.kind
        for one in seen.data
        if one.side in (BodySide.QUERY, BodySide.PATH) and one.data_class is DataClass.SECRET
    }
    if not carried and not secrets:
        return None
    calls = sum(kinds[name] for name in carried)
    what = list_words(carried | secrets)
    counted = f" in {calls:,} 2xx calls" if calls else ""
    return Evidence(
        why=f"The URL holds {what}{counted}; logs, histories and Referer keep it.", signs=(*carried, *secrets)
    )


def _find_in_clear(seen: Circumstances) -> Evidence | None:
    endpoint, bodies = seen.endpoint, seen.endpoint.bodies
    used = _REUSABLE.intersection(endpoint.authentication.kinds)
    if not used or not seen.is_external or bodies is None or bodies.heads_read < _HEADS_MIN:
        return None
    # Ingresses that facts say speak TLS end it in front, whether or not their headers say so.
    is_encrypted = any(fact.is_tls and fact.is_external for fact in endpoint.exposure.facts)
    clear = bodies.heads_read - bodies.encrypted_heads - bodies.loopback_heads
    if is_encrypted or clear < max(_HEADS_MIN, (1 - FULL_COVERAGE) * bodies.heads_read):
        return None
    return Evidence(
        why=f"Of {bodies.heads_read:,} heads read, {clear:,} came in clear text and none of the proxies in front says "
        f"that it ended TLS; they carried {list_words(used)}.",
        signs=tuple(used),
    )


def _weak(weakness: str, sentence: str) -> Callable[[Circumstances], Evidence | None]:
    """A rule on one weakness of JWTs."""

    def find(seen: Circumstances) -> Evidence | None:
        authentication = seen.endpoint.authentication
        weak = authentication.weaknesses.get(weakness, 0)
        judged = seen.endpoint.status.success - authentication.unseen_calls
        if not seen.is_ours or not weak or weak < _SHARE_MIN * judged:
            return None
        return Evidence(
            why=f"{weak:,} of {judged:,} 2xx calls were let in by a JWT that {sentence}.", signs=(weakness,)
        )

    return find


CREDENTIAL_RULES: Final = (
    Rule(
        id="credentials_in_url",
        title="Credentials in the URL",
        severity=Severity.MEDIUM,
        owasp="API2:2023",
        advice="Take credentials from the Authorization header only, and change those that were used.",
        find=_find_in_url,
    ),
    Rule(
        id="credentials_in_clear",
        title="Credentials over clear HTTP",
        severity=Severity.HIGH,
        owasp="API8:2023",
        advice="Serve it by TLS only, and change the credentials that were used.",
        find=_find_in_clear,
    ),
    Rule(
        id="jwt_unsigned",
        title="Unsigned JWTs are accepted",
        severity=Severity.CRITICAL,
        owasp="API2:2023",
        advice="Verify signatures, and accept the algorithm you sign with alone.",
        find=_weak("jwt_unsigned", "is not signed"),
    ),
    Rule(
        id="jwt_known_key",
        title="JWTs signed with a well-known key",
        severity=Severity.CRITICAL,
        owasp="API2:2023",
        advice="Sign with a random key of 256 bits, or with a key pair.",
        find=_weak("jwt_known_key", "is signed with a key out of tutorials"),
    ),
    Rule(
        id="jwt_no_expiry",
        title="JWTs never expire",
        severity=Severity.MEDIUM,
        owasp="API2:2023",
        advice="Issue tokens with `exp`, and refuse those without.",
        find=_weak("jwt_no_expiry", "never expires"),
    ),
    Rule(
        id="jwt_long_lived",
        title="JWTs live for more than a day",
        severity=Severity.LOW,
        owasp="API2:2023",
        advice="Issue tokens for minutes, and refresh them.",
        find=_weak("jwt_long_lived", "is good for more than a day"),
    ),
)
