"""Login at an OpenID provider: authorization code flow with PKCE, by Authlib.

Authlib reads the provider's metadata (OpenID Connect Discovery), makes state, nonce and verifier, exchanges the code,
and checks the ID token: signature by the provider's keys, which it reads again for an unknown one, issuer, audience,
expiry and nonce. Here is what is the collector's: which algorithms a signature may have, which claims name the user and
the groups, and the ticket.

The provider may be away, and anybody can have the collector ask it. So it is asked for a bounded time, by a bounded
number of logins at once, and not again for some seconds after it did not answer as a provider. What it says of itself
and its keys are read again every ten minutes, and where a signature does not fit them: providers change their keys.

The ticket is what a browser keeps between leaving for the provider and coming back, so that any collector of the state
can end what another began. It is encrypted and dated (Fernet) with a key of the state, and lives ten minutes.

Sources: OpenID Connect Core 1.0; RFC 7636 (PKCE); RFC 9700, OAuth 2.0 Security Best Current Practice.
"""

import asyncio
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
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
ASK_SECONDS: Final = 10.0  # For all requests of one step of a login together.
ASKING_MAX: Final = 8  # Steps that ask at once.
DOWN_SECONDS: Final = 10.0  # After a failure nobody asks.
METADATA_SECONDS: Final = 600.0

logger = logging.getLogger(__name__)


class LoginError(Exception):
    """Why a login failed, in one sentence for the person who tried."""


class _AwayError(Exception):
    """The provider did not answer, or not as one; the text says how, as what it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    """Who logged in, as the provider says."""

    name: str
    groups: tuple[str, ...]
    destination: str


class OidcLogin:
    """Used in the event loop."""

    def __init__(
        self,
        settings: OidcSettings,
        *,
        public_url: str,
        ticket_key: bytes,
        secret: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`public_url`: where people reach the collector. `ticket_key`: of `make_ticket_key`, one for each state."""
        self._settings = settings
        self.issuer = settings.issuer
        self._redirect_uri = f"{public_url}/login/callback"
        self._tickets = Fernet(ticket_key)
        self._secret = secret
        self._monotonic = monotonic
        self._client: Any = None
        self._opened_at = self._down_until = float("-inf")
        self._down_reason, self._asking_count = "", 0

    async def begin(self, destination: str) -> tuple[str, str]:
        """The provider's address to send a browser to, and the ticket to keep meanwhile. Raises LoginError."""
        async with self._ask():
            client = await self._open()
            begun = await client.create_authorization_url(self._redirect_uri)
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
        async with self._ask():
            client = await self._open()
            token = await client.fetch_access_token(
                self._redirect_uri, code=query["code"], state=kept["state"], code_verifier=kept["code_verifier"]
            )
            claims = await self._read_claims(client, token, kept["nonce"])
        if claims is None:
            raise LoginError("The provider sent no ID token; let the client have the scope openid.")
        return LoggedIn(name=self._find_name(claims), groups=self._find_groups(claims), destination=kept["destination"])

    @asynccontextmanager
    async def _ask(self) -> AsyncIterator[None]:
        """Bounds what is asked of the provider. Whatever fails within becomes a LoginError."""
        if (left := self._down_until - self._monotonic()) > 0:
            raise self._word_down(left)
        if self._asking_count >= ASKING_MAX:
            raise LoginError(
                f"{ASKING_MAX} logins wait for the provider at {self.issuer} already; try again in some seconds."
            )
        self._asking_count += 1
        try:
            async with asyncio.timeout(ASK_SECONDS):
                yield
        except LoginError:
            raise
        except (_AwayError, TimeoutError) as error:
            self._down_until = self._monotonic() + DOWN_SECONDS
            self._down_reason = str(error) or f"is away (no answer in {ASK_SECONDS:g} s)"
            self._log(f"it {self._down_reason}")
            raise self._word_down(DOWN_SECONDS) from None
        except Exception as error:
            # The class alone reaches the log and the person: texts of errors may hold codes and tokens.
            reason = type(error).__name__
            self._log(reason)
            sentence = f"The login at the provider failed ({reason}); try again, and then ask an admin."
            raise LoginError(sentence) from None
        finally:
            self._asking_count -= 1

    def _word_down(self, seconds: float) -> LoginError:
        return LoginError(
            f"The provider at {self.issuer} {self._down_reason}; try again in {math.ceil(seconds)} s, or sign in with "
            "an API token."
        )

    async def _open(self) -> Any:
        """The client, with what the provider says of itself."""
        now = self._monotonic()
        if self._client is not None and now - self._opened_at < METADATA_SECONDS:
            return self._client
        client = self._make_client()
        try:
            metadata = await client.load_server_metadata()
            own, offered = metadata.get("issuer"), metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
            known = [one for one in offered if one in _ALGORITHMS] or ["RS256"]
        except _AwayError:
            raise
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", 0)
            reason = f"status {status}" if status else type(error).__name__
            raise _AwayError(f"does not say how it is asked ({reason}), so oidc.issuer may be wrong") from None
        if own != self._settings.issuer:
            raise _AwayError(f"calls itself {str(own)[:200]!r}, so oidc.issuer is to be corrected")
        metadata["id_token_signing_alg_values_supported"] = known
        self._client, self._opened_at = client, now
        return client

    async def _read_claims(self, client: Any, token: Mapping[str, Any], nonce: str) -> Mapping[str, Any] | None:
        """Of the ID token, checked; None where there is none."""
        from joserfc.errors import BadSignatureError

        options = {
            "iss": {"essential": True, "value": self._settings.issuer},
            "aud": {"essential": True, "value": self._settings.client_id},
        }
        try:
            found = await client.parse_id_token(token, nonce=nonce, claims_options=options)
        except BadSignatureError:  # Of a new key, where keys have no names. Authlib looks itself for a new name.
            await client.fetch_jwk_set(force=True)
            found = await client.parse_id_token(token, nonce=nonce, claims_options=options)
        return found if found is None else dict(found)

    def _make_client(self) -> Any:
        # 8 MB that only a collector with a provider needs.
        from authlib.integrations.base_client import BaseApp
        from authlib.integrations.base_client.async_app import AsyncOAuth2Mixin
        from authlib.integrations.base_client.async_openid import AsyncOpenIDMixin
        from authlib.integrations.httpx_client import AsyncOAuth2Client

        logging.getLogger("authlib").setLevel(logging.WARNING)  # It writes verifiers at DEBUG.

        class Asker(AsyncOAuth2Client):  # type: ignore[misc]
            async def send(self, *given: Any, **more: Any) -> Any:
                """Where no answer comes, its class alone is kept."""
                try:
                    answer = await super().send(*given, **more)
                except Exception as error:
                    raise _AwayError(f"is away ({type(error).__name__})") from None
                if answer.status_code >= 500:
                    raise _AwayError(f"is away (status {answer.status_code})")
                return answer

        class ProviderClient(AsyncOAuth2Mixin, AsyncOpenIDMixin, BaseApp):  # type: ignore[misc]
            client_cls = Asker

        return ProviderClient(
            None,
            client_id=self._settings.client_id,
            client_secret=self._secret,
            server_metadata_url=f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={
                "scope": " ".join(("openid", *self._settings.scopes)),
                "code_challenge_method": "S256",
                "timeout": ASK_SECONDS,
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

    def _log(self, reason: str) -> None:
        logger.warning("A login at %s failed (%s).", self._settings.issuer, reason)


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
