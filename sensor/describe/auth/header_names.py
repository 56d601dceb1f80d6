"""Classifies the name of a header by what it says of credentials: a name in lower case in, a `HeaderRole` out.

A header is a credential in three cases: its carrier is standard, a vendor documents it as its key, or a word of its
name announces one. No value makes any other header a credential. Request ids, protocol sessions, byte ranges and
checksums look as random as keys do. A JWT is the exception, because its form identifies it.

Names are split at every character that is not a letter, and before a credential's word at the end of a word:
`appsecrettoken` is `app`, `secret`, `token`. Header names arrive in lower case, so capitals cannot split them.
"""

import re
from typing import Final

import msgspec

from sensor.core.calls import AuthenticationKind as Kind
from sensor.describe.auth import schemes

_NOT_ALPHANUMERIC = re.compile(r"[^A-Za-z0-9]+")
_NOT_LETTERS = re.compile(r"[^a-z]+")

# Words that announce a credential, each with headers that are documented so.
CREDENTIAL_WORDS: Final = frozenset(
    (
        "key",  # Google Cloud X-Goog-Api-Key, Azure Ocp-Apim-Subscription-Key, Datadog DD-APPLICATION-KEY
        "token",  # GitLab PRIVATE-TOKEN, HashiCorp X-Vault-Token, OpenStack X-Auth-Token, X-Figma-Token
        "secret",  # Plaid PLAID-SECRET, Cashfree X-Client-Secret
        "auth",  # HPE OneView Auth, Firebase X-Goog-Firebase-Installations-Auth, Sentry X-Sentry-Auth
        "authorization",  # Google Cloud Run X-Serverless-Authorization
        "authentication",  # Betfair X-Authentication
        "jwt",  # Traefik, Kong: X-Jwt
        "bearer",  # As `Authorization: Bearer`, RFC 6750, in a header of its own
        "keys",  # Tenable X-ApiKeys
        "credential", "credentials",  # X-Credentials
        "password", "passwd",  # X-Password, beside X-Username
        "passphrase",  # Coinbase CB-ACCESS-PASSPHRASE, KuCoin KC-API-PASSPHRASE
        "pat",  # Personal access token, as GitHub, GitLab and Azure DevOps name it
    )
)  # fmt: skip
# Those that names run together with the word before: `xapikey`, `accesstoken`; the longer ones first.
_CREDENTIAL_ENDINGS: Final = (
    "authentication", "authorization", "credentials", "password", "secret", "token", "auth", "keys", "jwt", "key",
)  # fmt: skip
# English words that end so.
_ENGLISH_ENDINGS: Final = ("monkey", "turkey", "donkey", "hockey", "jockey", "whiskey")

# Words beside which a `key` finds data.
_OTHER_KEYS: Final = frozenset(
    (
        "idempotency", "idempotent", "deduplication", "dedup",  # IETF draft Idempotency-Key; Stripe, Adyen
        "partition", "shard", "routing", "hash", "ordering",  # Azure Cosmos DB, Kinesis, Elasticsearch, Pub/Sub
        "sort", "range", "row", "column", "start", "end", "lookup",  # DynamoDB, HBase
        "cache", "surrogate",  # Fastly Surrogate-Key
        "encryption", "decryption",  # S3 and Google Cloud Storage with the customer's key
        "object", "blob", "file", "folder", "asset",  # S3 and its like
        "message", "event", "topic", "stream", "queue",  # Kafka; Bitbucket X-Event-Key
        "entity", "item", "issue", "record", "document", "resource", "property",  # App Engine, Jira
        "feature", "flag", "config", "locale", "translation", "tenant",
        "request", "operation", "transaction", "job", "task",
        "websocket",  # RFC 6455
    )
)  # fmt: skip
# Words beside which a `token` stands for a place, a version, a form or a device.
_OTHER_TOKENS: Final = frozenset(
    (
        "csrf", "xsrf", "antiforgery", "requestverification",  # Django, Angular, ASP.NET Core
        "page", "nextpage", "next", "continuation", "sync", "cursor", "resume", "scroll",  # Google, Azure, AWS
        "lock", "lease", "fencing", "consistency",  # WebDAV Lock-Token (RFC 4918); SpiceDB
        "push", "fcm", "apns", "device", "registration",  # Firebase, Apple
        "captcha", "recaptcha", "hcaptcha", "turnstile",  # Google, hCaptcha, Cloudflare
        "idempotency", "request", "cancel", "cancellation", "upload",
    )
)  # fmt: skip
_OTHER_MEANINGS: Final = {"key": _OTHER_KEYS, "token": _OTHER_TOKENS}
_NO_WORDS: Final = frozenset[str]()

# Last words of names whose value is an id, a measure, a kind or a place: `X-Auth-Token-Type` does not hold a token.
OTHER_ENDINGS: Final = frozenset(
    (
        "id", "ids", "uuid", "guid", "identifier", "number", "name", "username", "email",  # MCP: Mcp-Session-Id
        "requestid", "traceid", "spanid", "parentspanid", "correlationid", "sessionid", "deviceid", "clientid",
        "tenantid", "userid", "appid", "keyid", "tokenid",
        "range", "offset", "length", "size", "count", "limit", "remaining", "index",  # Azure x-ms-range
        "integrity", "hash", "sha", "md", "crc",  # npm pacote-integrity
        "type", "version", "method", "mode", "scheme", "algorithm", "alg", "format", "scope", "scopes", "level",
        "realm", "status", "state", "result", "error", "required", "enabled", "provider", "source", "agent",
        "delivery",  # X-GitHub-Delivery
        "time", "ms", "date", "age", "ttl", "expires", "expiry", "expiration", "duration", "timeout",
        "url", "uri", "host", "ip", "region", "zone", "language", "encoding",
    )
)  # fmt: skip
# Words that say the same anywhere in a name. Sources: the IANA field name registry, W3C Trace Context, B3, Jaeger, and
# the vendors of content networks and analytics.
OTHER_WORDS: Final = frozenset(
    (
        "trace", "traceparent", "tracestate", "span", "correlation", "invocation", "baggage",
        "csrf", "xsrf", "antiforgery", "nonce", "timestamp", "idempotency", "idempotent",
        "etag", "checksum", "digest", "fingerprint", "content", "cache", "referer", "referrer", "forwarded",
        "anonymous", "visitor", "tracking", "analytics", "experiment", "device",
    )
)  # fmt: skip
# Names without such a word. Sources as above, and the networks and meshes that add them.
OTHER_HEADERS: Final = frozenset(
    (
        b"accept", b"te", b"upgrade", b"via", b"origin", b"cookie", b"if-none-match", b"if-match", b"last-modified",
        b"prefer", b"expect", b"max-forwards", b"from", b"link", b"location", b"warning", b"pragma", b"priority",
        b"keep-alive", b"connection", b"http2-settings", b"alpn", b"early-data", b"signature-input",
        b"depth", b"destination", b"overwrite",  # WebDAV, RFC 4918
        b"dnt", b"save-data", b"downlink", b"rtt", b"ect", b"service-worker", b"purpose", b"x-purpose",  # Browsers
        b"x-requested-with", b"x-http-method-override",  # Frameworks
        b"x-atlassian-token",  # `no-check`: against forged requests
        b"b3", b"x-datadog-tags", b"newrelic", b"x-newrelic-transaction",
        b"x-goog-api-client", b"x-goog-user-project", b"x-goog-request-params",
        b"cf-ray", b"cf-ipcountry", b"cdn-loop", b"x-varnish", b"x-azure-ref", b"x-azure-fdid", b"x-azure-socketip",
        b"x-envoy-original-path", b"x-envoy-external-address", b"x-envoy-decorator-operation", b"x-envoy-peer-metadata",
        b"x-heroku-dynos-in-use",
    )
)  # fmt: skip
# Names that browsers reserve (Fetch standard, section 2.2.2), and those that go with a signature of AWS.
_OTHER_STARTS: Final = (b"sec-", b"x-amz-", b"amz-")

# Headers that a vendor's API description or guide declares as its key, though no word of the name says so. Others use
# some of these names for other things, so the value must look random too. Flattened.
DOCUMENTED_KEYS: Final = frozenset(
    (
        "xibmclientid",  # IBM API Connect
        "plaidclientid",  # Plaid
        "xapideckappid", "xapideckconsumerid",  # Apideck
        "vmwareapisessionid",  # vSphere Automation API
        "xmetabasesession",  # Metabase API
        "xhoneycombteam",  # Honeycomb
        "xrhidentity",  # Red Hat Hybrid Cloud Console
    )
)  # fmt: skip


class HeaderRole(msgspec.Struct, frozen=True):
    """What a header's name alone says."""

    kind: Kind  # NONE where the name decides nothing.
    is_key: bool = False  # The name announces a key or token.
    is_documented: bool = False  # A key where the value looks random.
    is_ignored: bool = False  # Never a credential.


def flatten_name(name: bytes) -> str:
    """`X-Api-Key`, `x_api_key` and `xApiKey` alike as `xapikey`."""
    return _NOT_ALPHANUMERIC.sub("", name.decode("latin-1")).lower()


def split_name(name: bytes) -> list[str]:
    """The words of a name, in order, in lower case."""
    words: list[str] = []
    for word in _NOT_LETTERS.split(name.decode("latin-1").lower()):
        ends: list[str] = []
        while word and not word.endswith(_ENGLISH_ENDINGS):
            end = next((end for end in _CREDENTIAL_ENDINGS if word.endswith(end)), "")
            if not end:
                break
            word = word.removesuffix(end)
            ends.insert(0, end)
        words += [word, *ends] if word else ends
    return words


def classify_header_name(name: bytes) -> HeaderRole:
    """Role of a header by its name in lower case. Some microseconds: callers keep the answer."""
    flat = flatten_name(name)
    if name in schemes.CERTIFICATE_HEADERS:
        return HeaderRole(Kind.MTLS_FORWARDED)
    if flat in schemes.SIGNATURE_HEADERS or (
        flat.endswith(("signature", "hmac", "hmacsha256")) and name != b"signature"
    ):
        return HeaderRole(Kind.HMAC_SIGNATURE)
    if flat in schemes.JWT_HEADERS:
        return HeaderRole(Kind.JWT_CUSTOM_HEADER, is_key=True)
    if flat in DOCUMENTED_KEYS:
        return HeaderRole(Kind.NONE, is_documented=True)
    words = split_name(name)
    if name in OTHER_HEADERS or name.startswith(_OTHER_STARTS) or _says_other(words):
        return HeaderRole(Kind.NONE, is_ignored=True)
    return HeaderRole(Kind.NONE, is_key=_says_credential(words))


def _says_other(words: list[str]) -> bool:
    return bool(words) and (words[-1] in OTHER_ENDINGS or not OTHER_WORDS.isdisjoint(words))


def _says_credential(words: list[str]) -> bool:
    return any(word in CREDENTIAL_WORDS and _OTHER_MEANINGS.get(word, _NO_WORDS).isdisjoint(words) for word in words)
