"""Real header names, of public API descriptions, SDKs and RFCs: which are credentials and which are not."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from sensor.core.calls import AuthenticationKind as Kind
from sensor.core.calls import Credentials
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


class RealName(NamedTuple):
    """One line of the table beside this file: a name that an API, an SDK or a standard has, with a made-up value."""

    name: str
    meaning: str  # credential or other.
    value: str
    source: str


def _read_table() -> list[RealName]:
    lines = Path(__file__).with_name("header_names.tsv").read_text().split("\n")[1:-1]
    return [RealName(*line.split("\t")) for line in lines]


NAMES = _read_table()
CREDENTIALS = [one for one in NAMES if one.meaning == "credential"]
OTHERS = [one for one in NAMES if one.meaning == "other"]
# By their form of value alone, or by a value that looks random: what else stands under these names is something else.
FORMS = ("authorization", "stripe-signature", "x-hub-signature-256", "x-sentry-auth")
AMBIGUOUS = ("x-ibm-client-id", "vmware-api-session-id", "x-metabase-session", "x-honeycomb-team", "x-jfrog-art-api")
# Others whose names no rule knows: their values are shown as possible credentials.
POSSIBLE = (
    "x-ms-continuation", "npm-session", "x-scope-orgid", "x-splunk-request-channel", "x-super-properties",
    "x-client-data", "x-session-id", "tpp-signature-certificate", "anthropic-beta", "x-request-start",
)  # fmt: skip


def find(*lines: str, target: str = "/") -> Credentials:
    head = parse_request_head("\r\n".join((f"GET {target} HTTP/1.1", "Host: a", *lines, "", "")).encode(), False)
    assert isinstance(head, RequestHead)
    return Principals(KEYED).read(head)


def read(*lines: str, target: str = "/") -> tuple[Kind, int]:
    credentials = find(*lines, target=target)
    return credentials.authentication, credentials.principal


def test_the_table_has_hundreds_of_names_and_their_sources() -> None:
    assert len(CREDENTIALS) >= 100 and len(OTHERS) >= 100
    assert all(one.source and one.value for one in NAMES)
    assert len({one.name.lower() for one in NAMES}) == len(NAMES)


@pytest.mark.parametrize("real", CREDENTIALS, ids=lambda one: one.name)
def test_a_credential_is_found_by_its_name_and_its_carrier_is_reported(real: RealName) -> None:
    found = find(f"{real.name}: {real.value}")
    assert found.authentication & ~Kind.POSSIBLE_CREDENTIAL
    assert found.carriers.startswith(f"header {real.name.lower()}")
    if real.name.lower() in FORMS:
        return
    read_values = [read(f"{real.name}: {value}") for value in RANDOM[:4]]
    assert {kinds & ~Kind.POSSIBLE_CREDENTIAL for kinds, _ in read_values} == {Kind.API_KEY_HEADER}
    principals = {principal for _, principal in read_values}
    assert len(principals) == 4 and 0 not in principals


@pytest.mark.parametrize("real", OTHERS, ids=lambda one: one.name)
def test_any_other_name_is_not_a_credential_however_random_its_value(real: RealName) -> None:
    is_possible = real.name.lower() in POSSIBLE
    for value in (real.value, *RANDOM):
        kinds, principal = read(f"{real.name}: {value}")
        assert (principal, kinds & ~Kind.POSSIBLE_CREDENTIAL) == (0, Kind.NONE)
        assert is_possible or not kinds


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_name_needs_a_value_that_looks_random(name: str) -> None:
    assert read(f"{name}: customers") == (Kind.NONE, 0)


@pytest.mark.parametrize("value", RANDOM[:4])
def test_the_session_of_a_protocol_in_the_query_is_at_most_a_possible_credential(value: str) -> None:
    assert read(target=f"/socket.io/?EIO=4&transport=polling&sid={value}") == (Kind.NONE, 0)
    assert read(target=f"/messages/?session_id={value}") == (Kind.POSSIBLE_CREDENTIAL, 0)


@pytest.mark.parametrize(
    ("cookie", "kind", "carrier"),
    [
        ("17=IjE3Ig.Zk3Nvw.9sQ2d0JvYkxw7aQbT3u1s8r0Xyz", Kind.COOKIE_SESSION, "cookie {integer}"),
        ("17=IjE3Ig:Zk3Nvw:9sQ2d0JvYkxw7aQbT3u1s8r0Xyz", Kind.COOKIE_SESSION, "cookie {integer}"),
        (f"17=s%3A8f3kD92kd0sLq83h.{'aZ3+' * 10}aZ3", Kind.COOKIE_SESSION, "cookie {integer}"),
        (f"17=QmFzZTY0IHNlc3Npb24=--{'0f' * 20}", Kind.COOKIE_SESSION, "cookie {integer}"),
        ("17=IjE3Ig.Zk3Nvw.9sQ2d0JvYkxw7aQbT3u1s8r0XyzAB4", Kind.POSSIBLE_CREDENTIAL, "cookie {integer}"),
        ("license_session=abc", Kind.COOKIE_SESSION, "cookie license_session"),
        ("JSESSIONID=8F3C", Kind.COOKIE_SESSION, "cookie JSESSIONID"),
        ("refresh_token=8f3kD92kd0sLq83hf7a2", Kind.API_KEY_COOKIE, "cookie refresh_token"),
        ("_hjSession_3=8f3kD92kd0sLq83hf7a2; li_gc=8f3kD92kd0sLq83hf7a2; csrftoken=8f3kD92kd0sLq83h", Kind.NONE, ""),
        ("theme=dark; lang=en-GB", Kind.NONE, ""),
    ],
)
def test_cookies_follow_the_same_rule(cookie: str, kind: Kind, carrier: str) -> None:
    found = find(f"Cookie: {cookie}")
    assert (found.authentication, found.carriers) == (kind, carrier)


@pytest.mark.parametrize(
    ("lines", "target", "carriers"),
    [
        (["Authorization: Token 9944b09199c6"], "/", "header authorization token"),
        (["Authorization: Bearer 9944b09199c6", "Cookie: sid=1"], "/", "header authorization bearer,cookie sid"),
        (["Authorization: 9944b09199c6"], "/", "header authorization"),
        (["Authorization: Q7x2Kd9 9944b09199c6"], "/", "header authorization"),
        ([], "/?API_Key=9944b09199c62bcf", "query API_Key"),
        (["X-4f3c2b1a9d8e-Token: 9944b09199c6"], "/", "header {hash}"),
        (["Cookie: token_anna_meier=9944b09199c62bcf"], "/", "cookie {hash}"),
    ],
)  # fmt: skip
def test_carriers_have_names_and_schemes_and_no_values(lines: list[str], target: str, carriers: str) -> None:
    found = find(*lines, target=target).carriers
    assert re.sub(r"{(word:[0-9a-f]{8}|token)}", "{hash}", found) == carriers


def test_possible_carriers_of_one_word_are_one_and_of_two_words_are_two() -> None:
    value = RANDOM[1]
    names = [find(f"{name}: {value}").carriers for name in ("X-Zorbl", "x-zorbl", "X-Quuxel")]
    assert names[0] == names[1] != names[2]
    assert all(re.fullmatch(r"header {word:[0-9a-f]{8}}", name) for name in names)


def test_a_jwt_is_a_credential_under_a_name_that_says_nothing() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
    kinds, principal = read(f"X-Vendor-Thing: {token}")
    assert kinds & Kind.JWT_CUSTOM_HEADER and principal


@pytest.mark.parametrize("name", ["X-Tenant-Id", "Mcp-Session-Id", "x-ms-range", "X-Vendor-Thing"])
def test_rows_of_calls_with_such_a_header_say_no_authentication_and_name_nobody(name: str) -> None:
    is_possible = name == "X-Vendor-Thing"
    node = Node("service")
    batches = []
    for number in range(60):
        value = f"3f2504e0-4f89-41d3-9a0c-{number:012x}"
        batches += node.see(f"GET /patients/{number} HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\n\r\n".encode(), 200, 1)
    batches += node.flush()
    assert sum(sum(batch.calls) for batch in batches) == 60
    found = {int(value) for batch in batches for value in batch.authentication}
    assert found == {int(Kind.POSSIBLE_CREDENTIAL if is_possible else Kind.NONE)}
    names = {batch.strings[index] for batch in batches for index in batch.carriers.tolist()}
    assert names == ({"header x-vendor-thing"} if is_possible else {""})
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
