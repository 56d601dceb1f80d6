"""Tables of authentication: where credentials travel, by name of scheme, header, query parameter and cookie.

`sensor.describe.auth.header_names` has the words in names of headers. Each table names its sources. Names are in lower
case. The flattened form drops `-`, `_` and `.` (X-Api-Key = xapikey), because one scheme is spelled in many ways.
"""

from typing import Final

from sensor.core.calls import AuthenticationKind as Kind

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
# Sources: RFC 9440, Envoy XFCC, AWS ALB mutual TLS, nginx/Apache/HAProxy/Traefik/Azure/Google Cloud/F5 guides.
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
# application's name).
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
    "ga", "gid", "gat", "gcl", "fbp", "fbc", "utm", "hj", "hs", "mp", "amplitude", "ajs", "optimizely", "cfbm",
    "cfduid", "cfuvid", "cfclearance", "awsalb", "awselb", "arraffinity", "bigip", "incapses", "visid", "nlbi", "akbm",
    "bmsz", "abck", "akavpau", "route", "serverid", "xsrf", "csrf", "antiforgery", "requestverification",
    "aspnetcoreantiforgery", "cookieconsent", "optanon", "euconsent", "intercom", "zendesk", "drift", "driftt",
    "datadog", "dds", "ddcookie", "newrelic", "nr", "plausible", "matomo", "pk", "clarity", "clck", "clsk", "uet",
    "muid", "scs", "tt", "li",
)  # fmt: skip
