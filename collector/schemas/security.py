"""Reads where calls carried their credentials, and writes OpenAPI's security schemes. Pure.

`list_alternatives` takes carriers as sensors report them (proto Rows.carriers) with bits of AuthenticationKind, and
gives the sets of carriers that were enough. `build_scheme` describes one carrier.

OpenAPI has `http` for schemes that a client fills in from a name and a password or a token alone (Basic, Bearer,
Digest). Any other value of a header is `apiKey`, whose description says what stands before the key:
`Authorization: Token KEY`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from collector.core.kinds import POSSIBLE_CREDENTIAL
from collector.schemas.json_schema import Json

_BEARER_JWT: Final = 1 << 3
_MTLS_FORWARDED: Final = 1 << 16
_HTTP: Final = frozenset(("basic", "bearer", "digest", "negotiate", "dpop", "hawk", "gnap"))
# How clients spell what they compare by its letters.
_SPELLINGS: Final = {"token": "Token", "apikey": "ApiKey", "jwt": "JWT", "ssws": "SSWS", "bot": "Bot", "key": "Key"}
_SIGNED: Final = re.compile(r"hmac|aws|sharedkey|signature|acs3|oauth\Z|mac\Z|cos\Z|bce-auth")
_NOT_NAME: Final = re.compile(r"[^A-Za-z0-9]+")
_PATTERN: Final = re.compile(r"\{(?:word:)?[0-9a-z]+\}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """Where a credential is: `place` is header, query or cookie. `name` of a header is in lower case; a name that
    looked like a value is its pattern. `scheme` is that of an Authorization header, empty where there is none."""

    place: str
    name: str
    scheme: str
    is_jwt: bool
    is_certificate: bool

    @property
    def key(self) -> tuple[str, str]:
        """As parameters are compared with it."""
        return self.place, self.name.lower()

    @property
    def is_named(self) -> bool:
        """Whether a client can send it: its name was reported."""
        return not _PATTERN.match(self.name)

    @property
    def scheme_name(self) -> str:
        """Its name among the schemes of a document."""
        if self.is_certificate:
            return "mutual_tls"
        if self.name == "authorization":
            return self.scheme.replace("-", "_") or "authorization"
        return _NOT_NAME.sub("_", f"{self.place}_{self.name}").strip("_").lower()


def list_alternatives(credentials: Iterable[tuple[str, int]]) -> list[tuple[Carrier, ...]]:
    """The sets of carriers of which each was enough, smallest first. A set that holds a smaller one says nothing more.
    A possible credential is in none."""
    found: dict[frozenset[tuple[str, str]], dict[str, Carrier]] = {}
    for text, bits in sorted(credentials):
        if not text or not bits & ~POSSIBLE_CREDENTIAL:
            continue
        carriers = {name: _read(name, bits) for name in text.split(",")}
        keys = frozenset((one.scheme_name, one.name) for one in carriers.values())
        known = found.get(keys)
        if known is None or any(one.is_jwt for one in carriers.values()) < any(one.is_jwt for one in known.values()):
            found[keys] = carriers
    least = [keys for keys in found if not any(other < keys for other in found)]
    return [tuple(found[keys].values()) for keys in sorted(least, key=lambda keys: (len(keys), sorted(keys)))]


def _read(text: str, bits: int) -> Carrier:
    place, _, rest = text.partition(" ")
    name, _, scheme = rest.partition(" ")
    is_certificate = bool(bits & _MTLS_FORWARDED) and place == "header" and ("cert" in name or "ssl" in name)
    return Carrier(
        place=place,
        name=name,
        scheme=scheme,
        is_jwt=bool(bits & _BEARER_JWT) and scheme == "bearer",
        is_certificate=is_certificate,
    )


def build_scheme(carrier: Carrier) -> Json:
    """The security scheme of a carrier, as OpenAPI 3.1 has it."""
    if carrier.is_certificate:
        return {"type": "mutualTLS", "description": f"The proxy in front forwards the certificate in {carrier.name}."}
    if carrier.scheme in _HTTP:
        bearer = {"bearerFormat": "JWT"} if carrier.is_jwt else {}
        return {"type": "http", "scheme": carrier.scheme, **bearer}
    described: Json = {"type": "apiKey", "in": carrier.place, "name": _spell(carrier)}
    if carrier.scheme:
        scheme = _SPELLINGS.get(carrier.scheme, carrier.scheme)
        what = "a signature of the request" if _SIGNED.search(carrier.scheme) else "the key"
        described["description"] = f"The value is `{scheme}`, a space and {what}."
        described["x-apidae-scheme"] = scheme
    elif not carrier.is_named:
        described["description"] = "The name looks like a value, so sensors report its pattern only."
    return described


def _spell(carrier: Carrier) -> str:
    """Names of headers as people write them; others are compared letter by letter."""
    if carrier.place != "header" or not carrier.is_named:
        return carrier.name
    return "-".join(part.capitalize() for part in carrier.name.split("-"))
