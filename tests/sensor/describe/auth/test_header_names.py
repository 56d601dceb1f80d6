"""Real header names, of public API descriptions, SDKs and RFCs: which are credentials and which are not."""

import pytest

from sensor.core.calls import AuthenticationKind as Kind
from sensor.core.keyed import KeyedHash
from sensor.describe.auth.principal import Principals
from sensor.describe.auth.schemes import split_name
from sensor.http.http1.head import RequestHead, parse_request_head
from tests.accuracy.node import Node

KEYED = KeyedHash(1, b"0123456789abcdef")
# What looks random: UUID, hex, base64url, a prefixed key, base64, base64 of JSON.
RANDOM = (
    "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    "2775cf09a8f24ce1a310c969ac0159dd2775cf09",
    "feI-F65XVxyGVK_nMm5lzsshz8ZHKkEDPdwZtR5d-co",
    "sk_live_X4UE2YsD0XIk0FW554hCvXWqa2xHj53oVKPk",
    "sha512-oGk7Ea1bQ2nJ4r8sT0vWyZ3xC5uB7dF9hK1mN3pQ5sU7wY9A==",
    "eyJvcyI6IkxpbnV4IiwiYnJvd3NlciI6IkZpcmVmb3gifQ==",
)


def _split(names: str) -> list[str]:
    return names.split()


CREDENTIALS = _split("""
    X-API-Key Api-Key apikey API_KEY x-apikey X-Goog-Api-Key Ocp-Apim-Subscription-Key DD-API-KEY DD-APPLICATION-KEY
    X-RapidAPI-Key X-Mashape-Key X-MBX-APIKEY X-CMC_PRO_API_KEY xi-api-key X-Redmine-API-Key X-Octopus-ApiKey
    X-Algolia-API-Key X-TYPESENSE-API-KEY X-Parse-REST-API-Key X-Parse-Session-Token X-N8N-API-KEY X-Insert-Key
    X-License-Key X-ELS-APIKey X-Aio-Key X-Appwrite-Key Fastly-Key X-Cisco-Meraki-API-Key Training-Key
    X-VTEX-API-AppKey X-VTEX-API-AppToken X-Killbill-ApiSecret X-ApiKeys X-CoinAPI-Key aeg-sas-key x-functions-key
    X-Auth-Token X-Auth-Key X-Subject-Token X-Access-Token X-Api-Token PRIVATE-TOKEN JOB-TOKEN Deploy-Token
    X-Gitlab-Token X-Shopify-Access-Token X-Shopify-Storefront-Access-Token X-Vault-Token X-Consul-Token
    X-Nomad-Token Circle-Token X-Figma-Token X-Plex-Token X-Emby-Token X-TrackerToken X-Postmark-Server-Token
    X-Postmark-Account-Token X-Rollbar-Access-Token X-Papertrail-Token X-Subscription-Token
    X-DreamFactory-Session-Token X-aws-ec2-metadata-token X-AgreementGrantToken X-AppSecretToken X-Session-Token
    accessToken X-Telegram-Bot-Api-Secret-Token PLAID-SECRET X-Hasura-Admin-Secret X-Client-Secret CB-ACCESS-KEY
    CB-ACCESS-PASSPHRASE KC-API-PASSPHRASE X-Auth X-Sentry-Auth X-Authorization X-Serverless-Authorization
    X-Authentication X-Goog-Firebase-Installations-Auth X-JWT X-Password
""")
# Documented as keys, but of names that others use for other things.
DOCUMENTED = _split("X-IBM-Client-Id PLAID-CLIENT-ID vmware-api-session-id X-Metabase-Session X-Honeycomb-Team")

OTHERS = _split("""
    x-ms-range x-ms-lease-id x-ms-client-request-id x-ms-blob-content-md5 x-ms-encryption-key
    x-ms-documentdb-partitionkey x-ms-continuation Mcp-Session-Id Mcp-Protocol-Version pacote-integrity
    pacote-version npm-session npm-command npm-scope X-Tenant-Id X-Tenant-Key X-Scope-OrgID Xero-tenant-id
    X-Client-Id Client-Id Portal X-Organization-Id Docker-Upload-Uuid Docker-Content-Digest
    X-Shard-Key X-Partition-Key X-Routing-Key
    Surrogate-Key X-Kafka-Message-Key X-Event-Key X-Request-Id Request-Id X-Correlation-Id traceparent tracestate
    baggage b3 X-B3-TraceId X-B3-ParentSpanId uber-trace-id sentry-trace X-Amzn-Trace-Id X-Cloud-Trace-Context
    X-Datadog-Trace-Id X-Datadog-Parent-Id CF-Ray Fly-Request-Id X-Vercel-Id Idempotency-Key X-Idempotency-Key
    PayPal-Request-Id If-Match If-None-Match If-Range ETag Range Content-Range Content-MD5 Digest Last-Event-ID
    Lock-Token Sec-WebSocket-Key X-CSRF-Token X-CSRFToken X-XSRF-TOKEN RequestVerificationToken X-WP-Nonce
    Jenkins-Crumb X-Atlassian-Token X-Transmission-Session-Id X-Plex-Client-Identifier X-Plex-Session-Identifier
    X-Opaque-Id X-GitHub-Delivery X-Gitlab-Event-UUID X-Shopify-Webhook-Id Stripe-Account Stripe-Version
    Upload-Offset Upload-Metadata Upload-Checksum X-Goog-Encryption-Key X-Goog-Hash X-Goog-Upload-Session
    x-amz-content-sha256 x-amz-server-side-encryption-customer-key x-amz-request-id X-Amz-Cf-Id X-Amz-Security-Token
    X-Super-Properties X-Firebase-Client X-Device-Id X-Device-Token X-Push-Token X-Recaptcha-Token X-Page-Token
    X-Next-Page-Token X-Session-Id X-Visitor-Id X-Fapi-Interaction-Id Consent-ID PSU-Device-ID OpenAI-Organization
    X-Parse-Application-Id X-Parse-Installation-Id X-Algolia-Application-Id X-Api-Key-Id X-Auth-Token-Type
    X-Auth-Email X-Key-Version X-SurveyMonkey-Survey X-Forwarded-For User-Agent X-Vendor-Thing X-Upload-Session
""")


def read(*lines: str, target: str = "/") -> tuple[Kind, int]:
    head = parse_request_head("\r\n".join((f"GET {target} HTTP/1.1", "Host: a", *lines, "", "")).encode(), False)
    assert isinstance(head, RequestHead)
    credentials = Principals(KEYED).read(head)
    return credentials.authentication, credentials.principal


@pytest.mark.parametrize("name", [*CREDENTIALS, *DOCUMENTED])
def test_a_name_that_says_so_or_is_documented_is_a_credential_and_names_the_caller(name: str) -> None:
    read_values = [read(f"{name}: {value}") for value in RANDOM[:4]]
    assert {kinds for kinds, _ in read_values} == {Kind.API_KEY_HEADER}
    principals = {principal for _, principal in read_values}
    assert len(principals) == 4 and 0 not in principals


@pytest.mark.parametrize("value", RANDOM)
@pytest.mark.parametrize("name", OTHERS)
def test_any_other_name_is_not_a_credential_however_random_its_value(name: str, value: str) -> None:
    assert read(f"{name}: {value}") == (Kind.NONE, 0)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_an_ambiguous_name_needs_a_value_that_looks_random(name: str) -> None:
    assert read(f"{name}: customers") == (Kind.NONE, 0)


@pytest.mark.parametrize("target", ["/socket.io/?EIO=4&transport=polling&sid={}", "/messages/?session_id={}"])
@pytest.mark.parametrize("value", RANDOM[:4])
def test_the_session_of_a_protocol_in_the_query_is_not_a_credential(target: str, value: str) -> None:
    assert read(target=target.format(value)) == (Kind.NONE, 0)


def test_a_jwt_is_a_credential_under_a_name_that_says_nothing() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
    kinds, principal = read(f"X-Vendor-Thing: {token}")
    assert kinds & Kind.JWT_CUSTOM_HEADER and principal


@pytest.mark.parametrize("name", ["X-Tenant-Id", "Mcp-Session-Id", "x-ms-range", "pacote-integrity", "X-Vendor-Thing"])
def test_rows_of_calls_with_such_a_header_say_no_authentication_and_name_nobody(name: str) -> None:
    node = Node("service")
    batches = []
    for number in range(60):
        value = f"3f2504e0-4f89-41d3-9a0c-{number:012x}"
        batches += node.see(f"GET /patients/{number} HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\n\r\n".encode(), 200, 1)
    batches += node.flush()
    assert sum(sum(batch.calls) for batch in batches) == 60
    assert {int(value) for batch in batches for value in batch.authentication} == {0}
    assert {value for batch in batches for value in batch.principal} == {0}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"x-api-key", ["x", "api", "key"]),
        (b"x-appsecrettoken", ["x", "app", "secret", "token"]),
        (b"x_cmc_pro_apikey2", ["x", "cmc", "pro", "api", "key"]),
        (b"x-surveymonkey-survey", ["x", "surveymonkey", "survey"]),
        (b"x-csrftoken", ["x", "csrf", "token"]),
        (b"--", []),
    ],
)
def test_names_are_split_into_words(name: bytes, words: list[str]) -> None:
    assert split_name(name) == words
