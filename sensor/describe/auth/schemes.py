"""Tables of authentication: where credentials travel, by name of scheme, header, query parameter and cookie.

Each table names its sources. Names are in lower case. The flattened form drops `-`, `_` and `.` (X-Api-Key = xapikey),
because one scheme is spelled in many ways.

`classify_header_name` says what the name of a header says of credentials: a name in lower case in, a `HeaderRole` out.
A header is a credential in three cases: its carrier is standard, a vendor documents it as its key, or a word of its
name announces one. No value makes any other header a credential. Request ids, protocol sessions, byte ranges and
checksums look as random as keys do. A JWT is the exception, because its form identifies it. Cookies and query
parameters follow the same rule, and the word `session` announces a credential in a cookie.

Names are split at every character that is not a letter, and before a credential's word at the end of a word:
`appsecrettoken` is `app`, `secret`, `token`. Header names arrive in lower case, so capitals cannot split them.
"""

import re
from functools import lru_cache
from typing import Final

import msgspec

from sensor.core.calls import AuthenticationKind as Kind
from sensor.http.http1.head import UNREAD_NAMES

# `Authorization` schemes: IANA HTTP Authentication Scheme registry, plus the ones vendors document for their own APIs.
AUTHORIZATION_SCHEMES: Final = {
    b"basic": Kind.BASIC,  # RFC 7617
    b"digest": Kind.DIGEST,  # RFC 7616
    b"negotiate": Kind.NEGOTIATE,  # RFC 4559
    b"ntlm": Kind.NEGOTIATE,  # MS-NTHT
    b"kerberos": Kind.NEGOTIATE,
    b"oauth": Kind.OAUTH1,  # RFC 5849; some services send OAuth 2 tokens under it
    b"aws4-hmac-sha256": Kind.AWS_SIGV4,  # AWS Signature Version 4
    b"aws4-ecdsa-p256-sha256": Kind.AWS_SIGV4,  # Version 4a
    b"aws4-hmac-sha256-payload": Kind.AWS_SIGV4,
    b"aws": Kind.HMAC_SIGNATURE,  # AWS Signature Version 2 (S3)
    b"aws3-https": Kind.HMAC_SIGNATURE,
    b"sharedkey": Kind.HMAC_SIGNATURE,  # Azure Storage
    b"sharedkeylite": Kind.HMAC_SIGNATURE,
    b"hmac-sha256": Kind.HMAC_SIGNATURE,  # Azure App Configuration
    b"hmac": Kind.HMAC_SIGNATURE,
    b"hmac-sha1": Kind.HMAC_SIGNATURE,
    b"hmac-sha512": Kind.HMAC_SIGNATURE,
    b"hmacsha256": Kind.HMAC_SIGNATURE,
    b"hawk": Kind.HMAC_SIGNATURE,  # Mozilla Hawk
    b"mac": Kind.HMAC_SIGNATURE,  # draft-ietf-oauth-v2-http-mac
    b"acquia-http-hmac": Kind.HMAC_SIGNATURE,
    b"eg1-hmac-sha256": Kind.HMAC_SIGNATURE,  # Akamai EdgeGrid
    b"tc3-hmac-sha256": Kind.HMAC_SIGNATURE,  # Tencent Cloud
    b"acs3-hmac-sha256": Kind.HMAC_SIGNATURE,  # Alibaba Cloud
    b"sdk-hmac-sha256": Kind.HMAC_SIGNATURE,  # Huawei Cloud
    b"goog4-hmac-sha256": Kind.HMAC_SIGNATURE,
    b"bce-auth-v1": Kind.HMAC_SIGNATURE,
    b"cos": Kind.HMAC_SIGNATURE,
    b"sharedaccesssignature": Kind.HMAC_SIGNATURE,  # Azure Service Bus
    b"signature": Kind.HTTP_MESSAGE_SIGNATURE,  # draft-cavage-http-signatures
    b"apikey": Kind.API_KEY_HEADER,
    b"api-key": Kind.API_KEY_HEADER,
    b"api_key": Kind.API_KEY_HEADER,
    b"key": Kind.API_KEY_HEADER,
    b"genie-key": Kind.API_KEY_HEADER,
    b"sso-key": Kind.API_KEY_HEADER,
    b"client-id": Kind.API_KEY_HEADER,
    b"discogs": Kind.API_KEY_HEADER,
    b"deepl-auth-key": Kind.API_KEY_HEADER,
    b"ssws": Kind.API_KEY_HEADER,  # Okta API token
}
# Schemes whose parameter is one token: a JWT or an opaque one.
BEARER_SCHEMES: Final = frozenset(
    (b"bearer", b"token", b"jwt", b"dpop", b"gnap", b"bot", b"privatetoken", b"apitoken", b"accesstoken",
    b"zoho-oauthtoken", b"googlelogin")
)  # fmt: skip
# Of those, the ones under which a long-lived key of the API travels when it is no JWT (Django REST framework, Rails,
# GitHub, GitLab).
KEY_TOKEN_SCHEMES: Final = frozenset((b"token", b"privatetoken", b"apitoken"))

# Headers that a TLS terminator sets from the client's certificate, and what shows that one was presented.
# Sources: RFC 9440, Envoy XFCC, Linkerd (l5d-client-id), AWS ALB mutual TLS, and guides of nginx, Apache, HAProxy,
# Traefik, Azure, Google Cloud and F5.
CERTIFICATE_HEADERS: Final = frozenset(
    (
        b"client-cert", b"x-forwarded-client-cert", b"x-amzn-mtls-clientcert", b"x-amzn-mtls-clientcert-serial-number",
        b"x-amzn-mtls-clientcert-leaf", b"x-amzn-mtls-clientcert-subject", b"x-amzn-mtls-clientcert-issuer",
        b"x-ssl-client-cert", b"x-ssl-client-s-dn", b"x-ssl-client-dn", b"x-ssl-client-subject",
        b"x-ssl-client-subject-dn", b"x-ssl-client-serial", b"x-ssl-client-sha1", b"x-ssl-client-fingerprint",
        b"ssl-client-cert", b"ssl-client-subject-dn", b"x-client-cert", b"x-client-certificate", b"x-client-dn",
        b"x-client-subject-dn", b"x-forwarded-tls-client-cert", b"x-forwarded-tls-client-cert-info",
        b"x-forwarded-tls-client-cert-infos", b"x-forwarded-ssl-client-cert", b"x-arr-clientcert",
        b"x-client-cert-subject-dn", b"x-client-cert-leaf", b"x-client-cert-serial-number", b"x-client-cert-hash",
        b"x-tls-client-cert", b"x-forwarded-client-cert-subject", b"x-clientcert-subject", b"x-ssl-cert",
        b"l5d-client-id",
    )
)  # fmt: skip
# Where one of these says that verification failed, the headers above prove nothing.
CERTIFICATE_VERDICTS: Final = frozenset(
    (
        b"x-ssl-client-verify",
        b"ssl-client-verify",
        b"x-client-verify",
        b"x-client-cert-chain-verified",
        b"x-ssl-client-verified",
    )
)
CERTIFICATE_VERIFIED: Final = frozenset((b"success", b"0", b"true", b"ok"))

# Signatures over the request, in a header of their own: webhooks and signed APIs. Sources: the vendors' verification
# guides.
SIGNATURE_HEADERS: Final = frozenset(
    (
        "stripesignature", "xslacksignature", "xhubsignature", "xhubsignature256", "xshopifyhmacsha256", "xsignature",
        "xtwiliosignature", "xgitlabsignature", "xpaypaltransmissionsig", "paypaltransmissionsig", "xlinesignature",
        "xsquaresignature", "xsquarehmacsha256signature", "xzmsignature", "xsignatureed25519",
        "xtwilioemaileventwebhooksignature", "svixsignature", "webhooksignature", "xrazorpaysignature",
        "xpaystacksignature", "xdocusignsignature1", "xintercomsignature", "typeformsignature",
        "calendlywebhooksignature", "xhmac", "xhmacsignature", "xhmacsha256", "xsignaturesha256", "xapisignature",
        "xrequestsignature", "requestsignature", "hmac", "signaturehmac", "hmacsignature", "xmessagesignature",
        "xpaddlesignature", "paddlesignature", "xhubspotsignature", "xhubspotsignaturev3", "xadyenhmacsignature",
        "adyenhmacsignature", "xwebhooksignature", "xmailgunsignature", "xcontentsignature", "xbodysignature",
        "xpayloadsignature", "xeventsignature", "xbtccsignature", "cbaccesssign", "okaccesssign", "xbapisign",
        "kcapisign", "apisign", "xsign", "xauthsignature", "xcallbacksignature", "xdropboxsignature",
        "xsentrysignature", "sentryhooksignature", "xcontentfulsignature", "xlinearsignature", "linearsignature",
        "xwcwebhooksignature", "xbchmac", "xtrellowebhook", "xcircleci", "circlecisignature", "xpagerdutysignature",
        "xzendeskwebhooksignature", "xfigmasignature", "xopensignature", "xasignature", "xhooksignature",
    )
)  # fmt: skip

# Headers that carry a JWT set by an access proxy or a convention other than Authorization.
JWT_HEADERS: Final = frozenset(
    (
        "cfaccessjwtassertion", "xgoogiapjwtassertion", "xamznoidcdata", "xamznoidcaccesstoken", "xmstokenaadidtoken",
        "xmstokenaadaccesstoken", "xjwtassertion", "xendpointapiuserinfo", "xapigatewayauth", "xforwardedaccesstoken",
        "xidtoken", "xpomeriumjwtassertion",
    )
)  # fmt: skip

# Query parameters that carry a key: RFC 6750 section 2.3 and vendors' documentation, flattened. No ids of sessions:
# protocols have them too (Engine.IO, MCP), and a session that logs somebody in is a cookie.
QUERY_KEYS: Final = frozenset(
    (
        "apikey", "key", "token", "accesstoken", "apitoken", "authtoken", "auth", "authkey", "appkey", "appid",
        "appsecret", "apisecret", "clientid", "clientkey", "clientsecret", "secret", "secretkey", "accesskey",
        "accesskeyid", "subscriptionkey", "userkey", "usertoken", "apiuserkey", "hapikey", "licensekey", "password",
        "jwt", "bearertoken", "authorization", "idtoken", "sessiontoken", "sessionkey", "sastoken", "xapikey",
        "xrapidapikey", "oauthtoken", "authenticationtoken", "devkey", "developerkey", "publickey", "privatekey",
        "apiauthkey", "applicationkey", "applicationid", "securitytoken", "servicekey", "usersecret", "customerkey",
        "consumerkey", "consumersecret", "partnerkey", "privatetoken", "pat", "wskey", "wstoken", "passkey", "ticket",
        "credential", "credentials", "mashapekey", "webapikey", "serverkey", "ocpapimsubscriptionkey", "deploykey",
        "mapkey", "projectkey", "projecttoken", "readkey", "writekey", "readtoken", "writetoken",
    )
)  # fmt: skip
# A flattened query name that ends so is a key too (vendors put their own name before it), unless it also ends in one of
# the second.
QUERY_KEY_ENDINGS: Final = (
    "apikey", "apitoken", "accesstoken", "authtoken", "subscriptionkey", "secretkey", "apisecret", "authkey", "appkey",
    "licensekey",
)  # fmt: skip
QUERY_NO_KEYS: Final = frozenset(
    (
        "pagetoken", "nextpagetoken", "nexttoken", "continuationtoken", "synctoken", "csrftoken", "sortkey", "startkey",
        "endkey", "nexttokenkey", "cursor", "code", "state", "nonce", "captchatoken", "recaptchatoken", "partitionkey",
        "signature",
    )
)  # fmt: skip

# Cookies that hold a session, by framework. Sources: the frameworks' documentation; OWASP Session Management Cheat
# Sheet.
SESSION_COOKIES: Final = frozenset(
    (
        "jsessionid", "phpsessid", "aspnetsessionid", "aspnetcorecookies", "aspnetcoresession", "aspxauth",
        "aspnetapplicationcookie", "connectsid", "session", "sessionid", "sid", "sess", "sessid", "sessiontoken",
        "usersession", "laravelsession", "cisession", "cakephp", "symfony", "railssession", "racksession",
        "playsession", "flasksession", "sailssid", "koasess", "expresssid", "expresssession", "expresssess",
        "authtoken", "rememberusertoken", "rememberme", "remembertoken", "cfid", "cftoken", "mojolicious",
        "springsecurityrememberme", "authsession", "userid_session", "loginsession", "nextauthsessiontoken",
        "securenextauthsessiontoken", "hostnextauthsessiontoken", "authjssessiontoken", "secureauthjssessiontoken",
        "supabaseauthtoken", "sbaccesstoken", "sbrefreshtoken", "awselbauthsessioncookie", "awselbauthsessioncookie0",
        "awselbauthsessioncookie1", "oauth2proxy", "gitlabsession", "ghsess", "usersessionid", "hostusersession",
        "grafanasession", "djangosession", "jenkinssession", "twisted_session", "beakersessionid", "beakersession",
        "pyramidsession", "zopesession", "umsessionid", "vsession", "appsession", "ssotoken", "iplanetdirectorypro",
        "lwsso", "mrhsession", "dsid", "svpnsessionid", "samlsession", "shibsession", "ltpatoken", "ltpatoken2",
        "smsession", "obssocookie", "fedauth", "edgeauth", "metabasesession", "supersetsession", "discourse_t",
        "t_session", "phpbb3sid", "mediawikisession", "moodlesession", "magentosession", "frontend", "prestashop",
        "woosession", "wpsettings_session", "cfauthorization", "gcpiaap", "seraphconfluence", "seraphrememberme",
        "jiraseraph", "tenantsessiontoken", "cloudsessiontoken", "storefrontsession", "authid", "accesstokencookie",
        "logintoken", "usertoken", "sessionkey", "ssid", "hsid", "sapisid", "osid",
    )
)  # fmt: skip
# The same by how the flattened name starts or ends (WordPress adds a hash of its address, Rails and others the
# application's name). Endings decide before the trackers below, of which few are sessions of a login.
SESSION_COOKIE_STARTS: Final = (
    "wordpressloggedin", "wordpresssec", "aspnetcoreidentity", "aspnetcorecookies", "shibsession", "ssess",
    "aspsessionid", "ory",
)  # fmt: skip
SESSION_COOKIE_ENDINGS: Final = ("sessionid", "sessid", "session", "sess", "sessiontoken")
# Cookies that hold a key or token of an API rather than a session of a framework: `in: cookie` of OpenAPI documents.
KEY_COOKIES: Final = frozenset(
    (
        "token", "apikey", "apitoken", "accesstoken", "jwt", "authorization", "auth", "idtoken", "bearer", "xapikey",
        "bearertoken", "jwttoken", "accesstoken",
    )
)  # fmt: skip
# Never a session: analytics, consent, load balancers, bot managers, CSRF. Sources: the vendors' cookie declarations.
NO_SESSION_COOKIE_STARTS: Final = (
    "amplitude", "ajs", "optimizely", "cfbm",
    "cfduid", "cfuvid", "cfclearance", "awsalb", "awselb", "arraffinity", "bigip", "incapses", "visid", "nlbi", "akbm",
    "bmsz", "abck", "akavpau", "route", "serverid", "xsrf", "csrf", "antiforgery", "requestverification",
    "aspnetcoreantiforgery", "cookieconsent", "optanon", "euconsent", "intercom", "zendesk", "drift", "driftt",
    "datadog", "dds", "ddcookie", "newrelic", "nreum", "plausible", "matomo", "clarity", "clck", "clsk", "uet", "muid",
)  # fmt: skip
# The same by the first word, as few letters begin many names: `_hjSession_3`, `_ga_ABC`, `li_gc`, `_pk_id.1`.
NO_SESSION_COOKIE_WORDS: Final = frozenset(
    ("ga", "gid", "gat", "gcl", "fbp", "fbc", "utm", "hj", "hs", "mp", "nr", "pk", "scs", "tt", "li", "dd", "uet")
)
# Query parameters that may hold the session of a login, as those of a protocol do (Engine.IO, MCP). Flattened.
SESSION_PARAMETERS: Final = frozenset(("sid", "sess", "sessid", "session", "sessionid", "usersession", "phpsessid"))

_NOT_ALPHANUMERIC = re.compile(r"[^A-Za-z0-9]+")
_NOT_LETTERS = re.compile(r"[^a-z]+")
_FIRST_WORD = re.compile(rb"[^A-Za-z]*([A-Z]?[a-z]+|[A-Z]+)")
_NAMES_KEPT: Final = 4_096  # Of cookies and parameters; what is past them is classified anew.

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
        "primary", "foreign", "secondary", "composite", "group", "bucket", "batch", "segment", "index", "order",
        "dedupe", "metric", "menu", "map", "lock", "ratelimit", "limit",
        "sse",  # S3: x-amz-copy-source-sse-customer-key
        "form", "xrf",  # Splunk X-Splunk-Form-Key and Qlik X-Qlik-Xrfkey: against forged requests
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
        "idempotency", "request", "cancel", "cancellation", "upload", "delta", "skip", "change", "snapshot", "causal",
        "watermark", "forgery", "form", "concurrency", "version", "sequence",
    )
)  # fmt: skip
_OTHER_MEANINGS: Final = {"key": _OTHER_KEYS, "keys": _OTHER_KEYS, "token": _OTHER_TOKENS}
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
        "prefix", "suffix", "alias", "label", "usage", "policy", "path", "at", "in", "by",
        "url", "uri", "host", "ip", "region", "zone", "language", "encoding", "serial",
        # Who or what is meant, without proof: oauth2-proxy X-Auth-Request-User, OpenAI-Organization, Stripe-Account.
        "user", "users", "group", "groups", "role", "roles", "login", "account", "org", "organization", "organisation",
        "project", "workspace", "tenant", "client",
    )
)  # fmt: skip
# Words that say the same anywhere in a name. Sources: the IANA field name registry, W3C Trace Context, B3, Jaeger, and
# the vendors of content networks and analytics.
OTHER_WORDS: Final = frozenset(
    (
        "trace", "traceparent", "tracestate", "span", "correlation", "invocation", "baggage",
        "csrf", "xsrf", "antiforgery", "nonce", "timestamp", "idempotency", "idempotent",
        "etag", "checksum", "digest", "fingerprint", "content", "cache", "referer", "referrer", "forwarded",
        "anonymous", "visitor", "tracking", "analytics", "experiment", "device", "crumb", "meta", "upload",
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
        b"x-amz-security-token", b"x-amz-target",  # Beside a signature of AWS; the operation
        b"x-ms-session-token",  # Azure Cosmos DB: how new what is read must be
        b"mcp-session-id", b"x-transmission-session-id", b"x-plex-session-identifier",  # Sessions of protocols
        b"zotero-write-token", b"x-algolia-usertoken",  # Against repeated writes; a pseudonym for statistics
        b"sec-token-binding",  # RFC 8473: binds a token that is elsewhere
        b"b3", b"x-datadog-tags", b"newrelic", b"x-newrelic-transaction",
        b"x-goog-api-client", b"x-goog-user-project", b"x-goog-request-params",
        b"cf-ray", b"cf-ipcountry", b"cdn-loop", b"x-varnish", b"x-azure-ref", b"x-azure-fdid", b"x-azure-socketip",
        b"x-envoy-original-path", b"x-envoy-external-address", b"x-envoy-decorator-operation", b"x-envoy-peer-metadata",
        b"x-heroku-dynos-in-use",
    )
)  # fmt: skip
# Without a credential's word: names that browsers reserve (Fetch standard, section 2.2.2), and those of AWS.
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
        "xjfrogartapi",  # JFrog Artifactory
        "xovhapplication", "xovhconsumer",  # OVHcloud
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


@lru_cache(maxsize=_NAMES_KEPT)
def classify_cookie_name(name: bytes) -> Kind | None:
    """Kind of a cookie by its name as it is sent; NONE: never a credential; None: the name decides nothing."""
    flat = flatten_name(name)
    if flat in SESSION_COOKIES:
        return Kind.COOKIE_SESSION
    if flat in KEY_COOKIES:
        return Kind.API_KEY_COOKIE
    first = _FIRST_WORD.match(name)
    is_tracker = first is not None and first[1].decode().lower() in NO_SESSION_COOKIE_WORDS
    if is_tracker or "csrf" in flat or "xsrf" in flat:
        return Kind.NONE
    if flat.startswith(SESSION_COOKIE_STARTS) or flat.endswith(SESSION_COOKIE_ENDINGS):
        return Kind.COOKIE_SESSION
    if flat.startswith(NO_SESSION_COOKIE_STARTS):
        return Kind.NONE
    if name.lower().endswith((b".sid", b"_sid", b"-sid")):
        return Kind.COOKIE_SESSION
    words = split_name(name)
    if _says_credential(words):
        return Kind.NONE if _says_other(words) else Kind.API_KEY_COOKIE
    return Kind.NONE if not OTHER_WORDS.isdisjoint(words) else None


@lru_cache(maxsize=_NAMES_KEPT)
def is_key_parameter(name: str) -> bool:
    """Whether the name of a query parameter announces a key."""
    flat = flatten_name(name.encode("latin-1"))
    return flat not in QUERY_NO_KEYS and (flat in QUERY_KEYS or flat.endswith(QUERY_KEY_ENDINGS))


@lru_cache(maxsize=_NAMES_KEPT)
def is_session_parameter(name: str) -> bool:
    """Whether a query parameter is the id of a session, of a login or of a protocol."""
    return flatten_name(name.encode("latin-1")) in SESSION_PARAMETERS


def classify_header_name(name: bytes) -> HeaderRole:
    """Role of a header by its name in lower case. Some microseconds: callers keep the answer."""
    flat = flatten_name(name)
    if name in CERTIFICATE_HEADERS:
        return HeaderRole(Kind.MTLS_FORWARDED)
    if flat in SIGNATURE_HEADERS or (flat.endswith(("signature", "hmac", "hmacsha256")) and name != b"signature"):
        return HeaderRole(Kind.HMAC_SIGNATURE)
    if flat in JWT_HEADERS:
        return HeaderRole(Kind.JWT_CUSTOM_HEADER, is_key=True)
    if flat in DOCUMENTED_KEYS:
        return HeaderRole(Kind.NONE, is_documented=True)
    words = split_name(name)
    is_key = _says_credential(words)
    if name in OTHER_HEADERS or name in UNREAD_NAMES or _says_other(words):
        return HeaderRole(Kind.NONE, is_ignored=True)
    if not is_key and (name.startswith(_OTHER_STARTS) or not CREDENTIAL_WORDS.isdisjoint(words)):
        return HeaderRole(Kind.NONE, is_ignored=True)  # The key or token of something else.
    return HeaderRole(Kind.NONE, is_key=is_key)


def _says_other(words: list[str]) -> bool:
    """The id of a session says nothing: behaviour shows whether it is that of a login."""
    if not OTHER_WORDS.isdisjoint(words):
        return True
    is_session = words[-1:] == ["sessionid"] or words[-2:] == ["session", "id"]
    return bool(words) and words[-1] in OTHER_ENDINGS and not is_session


def _says_credential(words: list[str]) -> bool:
    return any(word in CREDENTIAL_WORDS and _OTHER_MEANINGS.get(word, _NO_WORDS).isdisjoint(words) for word in words)
