"""A name may be skipped only where Python reads nothing of it, whatever its value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.calls import AuthenticationKind
from sensor.describe.auth.authentication import Authenticator
from sensor.ebpf import hashes
from sensor.ebpf.abi import NAME_BUCKET, NAME_WAYS, NameKind
from sensor.http.http1.head import RequestHead, parse_request_head
from sensor.offload.kernel_cache import KernelCache, MapName
from sensor.offload.name_table import NameClassifier, NamesKnown, NameTable, classify_parameter
from tests.sensor.describe.auth.test_header_names import NAMES
from tests.sensor.offload.conftest import SEED, Sensor
from tests.sensor.offload.kernel import Kernel
from tests.sensor.offload.test_matcher import make

IGNORED, HOST, QUOTED = NameKind.HEADER_IGNORED, NameKind.HEADER_HOST, NameKind.HEADER_QUOTED
SHAPE, AGENT = NameKind.HEADER_SHAPE, NameKind.HEADER_AGENT
JWT = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
VALUES = [
    JWT,
    b"Bearer " + JWT,
    b"a1b2c3d4e5f6a7b8c9d0",
    b"Basic dTpw",
    b"sessionid=0123456789abcdef",
    b"x",
    b"SUCCESS",
]


REAL_NAMES = [real.name.lower().encode() for real in NAMES]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"host", HOST), (b"content-length", QUOTED), (b"user-agent", AGENT), (b"x-request-id", IGNORED),
        (b"proxy-authorization", QUOTED), (b"x-b3-traceid", IGNORED), (b"sec-websocket-key", QUOTED),
        (b"accept", SHAPE), (b"accept-language", SHAPE), (b"connection", SHAPE), (b"accept-charset", QUOTED),
        (b"referer", IGNORED), (b"x-forwarded-for", IGNORED), (b"if-none-match", QUOTED),
        (b"authorization", NameKind.HEADER_AUTHORIZATION), (b"cookie", NameKind.HEADER_COOKIE),
        (b"content-type", None),
        (b"signature-input", None), (b"signature", None), (b"x-api-key", NameKind.HEADER_KEY), (b"x-unknown", None),
        (b"x-hub-signature", NameKind.HEADER_PRESENT), (b"x-ssl-client-verify", None),
        (b"x-forwarded-client-cert", None),
    ],
)  # fmt: skip
def test_headers(name: bytes, kind: NameKind | None) -> None:
    assert NameClassifier(is_forwarding_read=False).classify_header(name) is kind


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"forwarded", b"x-real-ip"])
def test_forwarding_headers_are_read_where_networks_are_trusted(name: bytes) -> None:
    assert NameClassifier(is_forwarding_read=False).classify_header(name) is IGNORED
    assert NameClassifier(is_forwarding_read=True).classify_header(name) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("page", NameKind.QUERY_IGNORED), ("api_key", NameKind.QUERY_CREDENTIAL), ("KEY", NameKind.QUERY_CREDENTIAL),
        ("X-Amz-Date", None), ("sig", None), ("expires", None), ("page_token", NameKind.QUERY_IGNORED),
        ("report_id", NameKind.QUERY_OBJECT), ("Email", NameKind.QUERY_OBJECT), ("page_id", NameKind.QUERY_IGNORED),
    ],
)  # fmt: skip
def test_parameters(name: str, kind: NameKind | None) -> None:
    assert classify_parameter(name) is kind


@given(
    name=st.one_of(
        st.sampled_from([name for name, kind in NameClassifier(is_forwarding_read=False).initial_headers()]),
        st.sampled_from(REAL_NAMES),
        st.from_regex(rb"[a-z]{1,8}(-[a-z0-9]{1,8}){0,3}", fullmatch=True),
    ),
    value=st.sampled_from(VALUES),
)
def test_an_ignored_header_never_changes_what_is_found(name: bytes, value: bytes) -> None:
    if NameClassifier(is_forwarding_read=False).classify_header(name) not in (IGNORED, QUOTED):
        return
    line = name + b": " + value + b"\r\n"
    lines = [b"Authorization: Bearer abcdefgh\r\nSignature: keyId=1\r\nX-Ssl-Client-S-Dn: CN=a\r\n", line]
    found = [read(b"".join(lines[:count])) for count in (1, 2)]
    assert found[0] == found[1]


@pytest.mark.parametrize("name", REAL_NAMES, ids=bytes.decode)
def test_the_kernel_takes_for_a_key_what_user_space_takes_for_one(name: bytes) -> None:
    is_key = NameClassifier(is_forwarding_read=False).classify_header(name) is NameKind.HEADER_KEY
    for value in (b"abcdef", b"customers", b"a1b2c3d4e5f6a7b8c9d0") if is_key else (b"abcdef", b"customers"):
        kinds = [kind for kind, found, _ in read(name + b": " + value + b"\r\n") if found != b"authorization"]
        assert (kinds == [AuthenticationKind.API_KEY_HEADER]) == is_key
    assert not (is_key and read(name + b": short\r\n"))


@given(name=st.text("abcdefghijklmnopqrstuvwxyz-_XK", max_size=12), value=st.sampled_from(VALUES))
def test_an_ignored_parameter_never_changes_what_is_found(name: str, value: bytes) -> None:
    if classify_parameter(name) is not NameKind.QUERY_IGNORED:
        return
    query = b"api_key=a1b2c3d4"
    added = query + b"&" + name.encode() + b"=" + value.replace(b" ", b"+")
    assert read(b"", query) == read(b"", added)


def read(lines: bytes, query: bytes = b"") -> list[tuple[object, bytes, bytes]]:
    head = parse_request_head(b"GET /?" + query + b" HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n", False)
    assert isinstance(head, RequestHead)
    return [(evidence.kind, evidence.name, evidence.value) for evidence in Authenticator().find(head)]


def test_a_full_bucket_gives_way_but_for_the_first_names(sensor: Sensor) -> None:
    cache, kernel = KernelCache(), Kernel()
    table = NameTable(cache, NameClassifier(is_forwarding_read=False), seed=SEED)
    cache.flush(kernel)
    fixed = len(table)
    bucket = hashes.find_bucket(hashes.hash_header_name(SEED, b"accept"))
    names = find_names(bucket, 6)
    for name in names:
        head = read_names(make("/?" + name.decode() + "=1").head)
        assert table.install_names(head) is NamesKnown.NEW
        assert table.install_names(head) is NamesKnown.KNOWN
    cache.flush(kernel)
    entries = NAME_BUCKET.unpack(kernel.maps[MapName.NAMES][bucket.to_bytes(4, "little")])
    assert hashes.hash_header_name(SEED, b"accept") & ~0xFF | SHAPE in entries
    last = hashes.hash_parameter_name(SEED, names[-1]) & ~0xFF | NameKind.QUERY_IGNORED
    assert last in entries and all(entries)
    assert table.evicted_count == 6 - (len(table) - fixed)
    assert len(entries) == NAME_WAYS


@pytest.mark.parametrize("query", ["sig=1", "a=1&expires=2", "&".join(["a=1"] * 201), "n" * 65])
def test_some_queries_say_nothing_by_themselves(query: str) -> None:
    table = NameTable(KernelCache(), NameClassifier(is_forwarding_read=False), seed=SEED)
    head = read_names(make("/?" + query).head)
    assert [table.install_names(head) for _ in range(3)] == [NamesKnown.OPEN] * 3


def find_names(bucket: int, count: int) -> list[bytes]:
    """Names of parameters that share a bucket."""
    found = []
    for number in range(200_000):
        name = f"p{number}".encode()
        if hashes.find_bucket(hashes.hash_parameter_name(SEED, name)) == bucket:
            found.append(name)
            if len(found) == count:
                return found
    raise AssertionError("too few names")


def read_names(data: bytes):
    from sensor.offload.name_table import read_plain_head

    head = read_plain_head(data)
    assert head is not None
    return head
