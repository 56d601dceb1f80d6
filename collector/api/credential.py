"""Who may ask: the bearer token of the API, and the session a browser gets for it. Pure: bytes and the time in, yes
or no out.

A session is `EXPIRY.MAC`, where MAC is HMAC-SHA256 of the expiry under the token: it needs no store, dies with the
token, and does not
give the token back to whoever reads the cookie jar.
"""

import hashlib
import hmac

SESSION_SECONDS = 12 * 3600  # A working day.
COOKIE_NAME = "apidae_session"
_LABEL = b"apidae session v1 "


def is_token(candidate: str, token: str) -> bool:
    """Whether `candidate` is the token, in time that does not depend on where they differ."""
    return hmac.compare_digest(candidate.encode("utf-8", "surrogatepass"), token.encode())


def read_bearer(header: str) -> str | None:
    """The token of an `Authorization: Bearer TOKEN` header, or None where it is none."""
    scheme, _, value = header.partition(" ")
    return value.strip() if scheme.lower() == "bearer" and value.strip() else None


def make_session(token: str, now: float) -> str:
    """A session that starts now."""
    expiry = str(int(now) + SESSION_SECONDS)
    return f"{expiry}.{_sign(expiry, token)}"


def is_session(candidate: str, token: str, now: float) -> bool:
    """Whether `candidate` is a session of this token that has not expired. Never raises: it comes from the client."""
    expiry, _, mac = candidate.partition(".")
    if not hmac.compare_digest(mac.encode("utf-8", "surrogatepass"), _sign(expiry, token).encode()):
        return False
    return int(expiry) > now  # Signed by us, so it is a number.


def _sign(expiry: str, token: str) -> str:
    message = _LABEL + expiry.encode("utf-8", "surrogatepass")
    return hmac.new(token.encode(), message, hashlib.sha256).hexdigest()
