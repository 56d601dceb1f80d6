"""Login at an OpenID provider: authorization code flow with PKCE, by Authlib.

Authlib reads the provider's metadata (OpenID Connect Discovery), makes state, nonce and verifier, exchanges the code,
and checks the ID token: signature by the provider's keys, which it reads again for an unknown one, issuer, audience,
expiry and nonce. Here is what is the collector's: which algorithms a signature may have, which claims name the user and
the groups, and the ticket.

The ticket is what a browser keeps between leaving for the provider and coming back, so that any collector of the state
can end what another began. It is encrypted and dated (Fernet) with a key of the state, and lives ten minutes.

Sources: OpenID Connect Core 1.0; RFC 7636 (PKCE); RFC 9700, OAuth 2.0 Security Best Current Practice.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.fernet import Fernet, InvalidToken

from collector.core.config import OidcSettings
from collector.core.keys import KeyFileError, read_private

TICKET_SECONDS: Final = 600
KEY_NAME: Final = "oidc.ticket"  # Of the ticket's key among the secrets of the state.
GROUPS_MAX: Final = 1_000
NAME_CHARACTERS_MAX: Final = 300
# Signatures by a key pair. Never `none`, and none that a client secret makes.
_ALGORITHMS: Final = frozenset(
    {*("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"), *("EdDSA", "Ed25519")}
)
_TIMEOUT_SECONDS: Final = 10.0

logger = logging.getLogger(__name__)


class LoginError(Exception):
    """Why a login failed, in one sentence for the person who tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    """Who logged in, as the provider says."""

    name: str
    groups: tuple[str, ...]
    destination: str


class OidcLogin:
    """Used in the event loop."""

    def __init__(
        self, settings: OidcSettings, *, public_url: str, ticket_key: bytes, secret: str | None = None
    ) -> None:
        """`public_url`: where people reach the collector. `ticket_key`: of `make_ticket_key`, one for each state."""
        self._settings = settings
        self.issuer = settings.issuer
        self._redirect_uri = f"{public_url.rstrip('/')}/login/callback"
        self._tickets = Fernet(ticket_key)
        self._secret = secret
        self._client: Any = None

    async def begin(self, destination: str) -> tuple[str, str]:
        """The provider's address to send a browser to, and the ticket to keep meanwhile. Raises LoginError."""
        client = await self._open()
        try:
            begun = await client.create_authorization_url(self._redirect_uri)
        except Exception as error:
            raise self._fail(error) from None
        kept = {name: begun[name] for name in ("state", "nonce", "code_verifier")} | {"destination": destination}
        return str(begun["url"]), self._tickets.encrypt(json.dumps(kept).encode()).decode()

    async def end(self, query: Mapping[str, str], ticket: str) -> LoggedIn:
        """Who came back, by what the provider sent along and the ticket. Raises LoginError."""
        try:
            kept = json.loads(self._tickets.decrypt(ticket.encode(), ttl=TICKET_SECONDS))
        except (InvalidToken, UnicodeError):
            sentence = "The login took longer than ten minutes or began in another browser; log in again."
            raise LoginError(sentence) from None
        if query.get("state") != kept["state"]:
            raise LoginError("The answer of the provider is not to this login; log in again.")
        if "error" in query:
            raise LoginError(f"The provider refused the login ({query['error'][:80]!r}); ask who runs it.")
        if not query.get("code"):
            raise LoginError("The provider sent no code; log in again.")
        client = await self._open()
        try:
            token = await client.fetch_access_token(
                self._redirect_uri, code=query["code"], state=kept["state"], code_verifier=kept["code_verifier"]
            )
            claims = await client.parse_id_token(
                token,
                nonce=kept["nonce"],
                claims_options={
                    "iss": {"essential": True, "value": self._settings.issuer},
                    "aud": {"essential": True, "value": self._settings.client_id},
                },
            )
        except Exception as error:
            raise self._fail(error) from None
        if claims is None:
            raise LoginError("The provider sent no ID token; let the client have the scope openid.")
        return LoggedIn(name=self._find_name(claims), groups=self._find_groups(claims), destination=kept["destination"])

    async def _open(self) -> Any:
        """The client, with what the provider says of itself."""
        client = self._client or self._make_client()
        try:
            metadata = await client.load_server_metadata()
        except Exception as error:
            raise self._fail(error) from None
        if metadata.get("issuer") != self._settings.issuer:
            raise LoginError(
                f"The provider calls itself {str(metadata.get('issuer'))[:200]!r} and not {self._settings.issuer!r}; "
                "correct oidc.issuer."
            )
        offered = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
        metadata["id_token_signing_alg_values_supported"] = [one for one in offered if one in _ALGORITHMS] or ["RS256"]
        self._client = client
        return client

    def _make_client(self) -> Any:
        # 8 MB that only a collector with a provider needs.
        from authlib.integrations.base_client import BaseApp
        from authlib.integrations.base_client.async_app import AsyncOAuth2Mixin
        from authlib.integrations.base_client.async_openid import AsyncOpenIDMixin
        from authlib.integrations.httpx_client import AsyncOAuth2Client

        logging.getLogger("authlib").setLevel(logging.WARNING)  # It writes verifiers at DEBUG.

        class ProviderClient(AsyncOAuth2Mixin, AsyncOpenIDMixin, BaseApp):  # type: ignore[misc]
            client_cls = AsyncOAuth2Client

        return ProviderClient(
            None,
            client_id=self._settings.client_id,
            client_secret=self._secret,
            server_metadata_url=f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={
                "scope": " ".join(("openid", *self._settings.scopes)),
                "code_challenge_method": "S256",
                "timeout": _TIMEOUT_SECONDS,
                **({} if self._secret else {"token_endpoint_auth_method": "none"}),
            },
        )

    def _find_name(self, claims: Mapping[str, Any]) -> str:
        claim = self._settings.user_claim
        name = claims.get(claim)
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= NAME_CHARACTERS_MAX:
            raise LoginError(f"The provider's ID token has no usable claim {claim!r}; correct oidc.user_claim.")
        # Where users may choose it themselves, it names whoever they like.
        if claim == "email" and claims.get("email_verified") not in (True, "true"):
            raise LoginError(
                "The provider does not say that it verified your mail address; ask an admin to set oidc.user_claim to "
                "another claim, such as sub."
            )
        return name

    def _find_groups(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        given = claims.get(self._settings.groups_claim)
        groups = [given] if isinstance(given, str) else given if isinstance(given, list) else []
        return tuple(one[:NAME_CHARACTERS_MAX] for one in groups if isinstance(one, str))[:GROUPS_MAX]

    def _fail(self, error: Exception) -> LoginError:
        """The class alone reaches the log and the person: texts of errors may hold codes and tokens."""
        reason = type(error).__name__
        logger.warning("A login at %s failed (%s).", self._settings.issuer, reason)
        return LoginError(f"The login at the provider failed ({reason}); try again, and then ask an admin.")


def make_ticket_key() -> bytes:
    """A new key for tickets."""
    return Fernet.generate_key()


def read_client_secret(settings: OidcSettings) -> str | None:
    """From its file; None for a public client. Raises KeyFileError."""
    path = settings.client_secret_file
    if path is None:
        return None
    content = read_private(path, forbidden_mode=0o007)
    if not content or not content.strip():
        raise KeyFileError(f"There is no client secret in {path}; write what the provider gave into it.")
    return content.decode("utf-8", "replace").strip()
