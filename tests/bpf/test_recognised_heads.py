"""What counts in a head that the kernel was taught: path, query, field lines, and the hashes to teach others by."""

import base64
import random

import pytest

from sensor.core.addresses import pack_address
from sensor.ebpf.abi import NUMBER_NONE, Counter, NameKind, RecordFlag
from tests.bpf.recognised import Watch
from tests.bpf.test_capture import answering, rows
from tests.bpf.varying_fields import fold_actor
from tests.bpf.wire import connected, receive_exactly, request, response, serving, talk

pytestmark = pytest.mark.kernel
FINAL = int(RecordFlag.FINAL)
UUID = "6f1c2d3e-4a5b-6c7d-8e9f-0a1b2c3d4e5f"


def test_unknown_heads_carry_the_hashes_to_teach_them_by(watch: Watch) -> None:
    heads = [
        request("GET", "/a/1"),
        request("POST", "/b", "Authorization: Bearer abc\r\nUser-Agent: x\r\n", body=b"z" * 40),
        request("GET", "/b?x=1", "Cookie: " + "c" * 700 + "\r\nx-odd: 1\r\n", version="1.0"),
        b"GET /t HTTP/1.1\r\nHOST: \t other.example:8080\r\nAccept:*/*\r\nX:\r\nAa: b\r\n\r\n",
    ]
    sizes = [len(head) for head in heads]
    with serving(answering(sizes, *[(response(200),)] * len(heads))) as port, connected(port) as client:
        for head in heads:
            client.sendall(head)
            receive_exactly(client, len(response(200)))
        records, exchanges = watch.collect(port, 0, len(heads))
    assert len(records) == 0
    assert [(one.hashes.profile, one.hashes.host) for one in exchanges] == [
        watch.teacher.reference.profile_and_host(head) for head in heads
    ]
    assert watch.counted(Counter.HEADS) >= len(heads)


@pytest.mark.parametrize(
    ("target", "values", "is_exact"),
    [
        ("/", (), False),
        ("/users", (), False),
        ("/users/", (), False),
        ("/users/7", (1,), True),
        ("/a/users/123456789012345678", (2,), False),
        ("/v1/users/1234567", (2,), False),
        ("/v1/users/12345678/", (2,), False),
        (f"/users/{UUID}", (1,), False),
        (f"/users/{UUID.upper()}/orders", (1,), False),
        ("/blobs/507f1f77bcf86cd799439011", (1,), False),
        ("/blobs/507F1F77BCF86CD799439011", (1,), False),
        ("/u/01ARZ3NDEKTSV4RRFFQ69G5FAV", (1,), False),
        ("/tokens/abcdefghij-KLMNOPQR_12", (1,), False),
        ("/by-name/ada.lovelace@example.org", (1,), True),
        (f"/users/{UUID}/orders/991", (1, 3), False),
        ("/a/b/c/d/42", (4,), False),
        ("/" + "/".join(f"s{i}" for i in range(32)), (), False),
        ("/long/" + "w" * 150, (1,), True),
    ],
)
def test_paths(watch: Watch, target: str, values: tuple[int, ...], is_exact: bool) -> None:
    head, answer = request("GET", target), response(203, b"y" * 30)
    with serving(answering([2 * len(head)], (answer * 2,))) as port:
        profile = watch.teacher.profile(head)
        route = watch.teacher.path(head, cgroup_id=watch.cgroup_id, port=port, values=values, is_exact=is_exact)
        talk(port, (head, head), 2 * len(answer))
        records, exchanges = watch.collect(port, 2)
    assert rows(exchanges) == []
    segments = [part.encode() for part in target[1:].rstrip("/").split("/")]
    object_hash, number = watch.teacher.object_and_number([segments[index] for index in values])
    for record in records:
        assert (record["route"], record["profile"]) == (route, profile)
        assert (record["object"], record["number"]) == (object_hash, number)
        assert (record["status"], record["calls"], record["flags"]) == (203, 1, FINAL)
        assert (record["request_bytes"], record["response_bytes"]) == (len(head), len(answer))
        assert (record["role"], record["family"], record["local_port"]) == (1, 4, port)
        assert record["client_address"].tobytes() == bytes((127, 0, 0, 1)) + bytes(12)
        assert record["cgroup_id"] == record["peer_cgroup_id"] == watch.cgroup_id
        hashed, _ = watch.teacher.reference.profile_and_host(head)
        assert record["actor"] == fold_actor(hashed, 0, bytes((127, 0, 0, 1)), watch.cgroup_id)
        assert record["duration_us"] >= record["ttfb_us"] > 0
    assert len(records) == 2


@pytest.mark.parametrize(
    "target",
    [
        "/users/1",
        "/users/12",
        "/users/12345678a",
        "/users//1234",
        "/users/1234/",
        "/users/1234/x",
        "/users",
        "/user/1234",
        "/users/%31234",
        "/users/1234;x=1",
        "/users/..",
        "/users/1234?q=1",
        "/users/1234?key=1#f",
        "/users/1234567890123456789",
        "/Users/1234",
        "//users/1234",
        "/users/1234 x",
    ],
)
def test_other_paths_are_not_that_path(watch: Watch, target: str) -> None:
    taught, head = request("GET", "/users/1234"), request("GET", target)
    watch.teacher.profile(taught)
    with serving(answering([len(head), len(taught)], (response(200),), (response(200),))) as port:
        watch.teacher.path(taught, cgroup_id=watch.cgroup_id, port=port, values=(1,))
        with connected(port) as client:
            client.sendall(head)
            receive_exactly(client, len(response(200)))
            client.sendall(taught)
            receive_exactly(client, len(response(200)))
            records, exchanges = watch.collect(port, 1, 1)
    assert [one.request_head for one in exchanges] == [head]
    assert records["calls"].tolist() == [1]


@pytest.mark.parametrize("change", ["method", "host", "version", "header"])
def test_each_part_of_the_head_counts(watch: Watch, change: str) -> None:
    taught = request("GET", "/x", "Authorization: Basic abc\r\n")
    head = {
        "method": taught.replace(b"GET", b"PUT"),
        "host": taught.replace(b"Host: h", b"Host: i"),
        "version": taught.replace(b"1.1", b"1.0"),
        "header": taught.replace(b"abc", b"abd"),
    }[change]
    watch.teacher.profile(taught)
    with serving(answering([len(head)], (response(200),))) as port:
        watch.teacher.path(taught, cgroup_id=watch.cgroup_id, port=port)
        talk(port, (head,), len(response(200)))
        records, exchanges = watch.collect(port, 0, 1)
    assert (len(records), len(exchanges)) == (0, 1)
    assert (exchanges[0].hashes.profile, exchanges[0].hashes.host) == watch.teacher.reference.profile_and_host(head)


def test_principals_are_told_apart(watch: Watch) -> None:
    """Tokens that differ in their last byte, users with one password, long cookies; header names in any case."""
    token = "eyJhbGciOiJSUzI1NiJ9." + "a" * 900 + "."
    lines = [f"Authorization: Bearer {token}{end}\r\n" for end in "xy"]
    lines += [f"Authorization: Basic {base64.b64encode(user + b':same').decode()}\r\n" for user in (b"ann", b"bob")]
    lines += [f"Cookie: a={'c' * 1_200}; session={end}\r\n" for end in "12"]
    lines += ["USER-AGENT: a\r\nX-Api-Key: k\r\n", "user-agent: another one\r\nX-Api-Key: k\r\n"]
    heads = [request("GET", "/who", line) for line in lines]
    profiles = [watch.teacher.profile(head) for head in heads]
    assert len(set(profiles)) == len(heads) - 1
    with serving(answering([len(head) for head in heads], *[(response(200),)] * len(heads))) as port:
        watch.teacher.path(heads[0], cgroup_id=watch.cgroup_id, port=port)
        with connected(port) as client:
            for head in heads:
                client.sendall(head)
                receive_exactly(client, len(response(200)))
            records, exchanges = watch.collect(port, len(heads))
    assert exchanges == []
    assert records["profile"].tolist() == profiles
    assert len(set(records["actor"].tolist())) == len(heads) - 1


def test_sessions_beside_cookies_that_change(watch: Watch) -> None:
    """On one connection: sessions are reported by hash; a cookie with a sign of an attack is part of the profile."""
    watch.teacher.name(False, b"cookie", NameKind.HEADER_COOKIE)
    watch.teacher.cookie(b"session", NameKind.COOKIE_TOLD)
    watch.teacher.cookie(b"_ga", NameKind.COOKIE_IGNORED)
    jars = [f"session=s{number % 3}; _ga=GA1.2.{number * 7919}.{number}" for number in range(12)]
    odd = ["session=s1'; _ga=1", "session=s1; _ga=1'", "session=s1; _ga=1; lang=de", "Session=s1; _ga=1"]
    heads = [request("GET", "/find", f"Cookie: {jar}\r\n") for jar in jars + odd]
    with serving(answering([len(head) for head in heads], *[(response(200),)] * len(heads))) as port:
        watch.teacher.path(heads[0], cgroup_id=watch.cgroup_id, port=port)
        profile = watch.teacher.profile(heads[0])
        with connected(port) as client:
            for head in heads:
                client.sendall(head)
                receive_exactly(client, len(response(200)))
            records, exchanges = watch.collect(port, len(jars), len(odd))
    assert records["profile"].tolist() == [profile] * len(jars)
    hash_value = watch.teacher.reference.hash_segment
    assert records["credential"].tolist() == [hash_value(b"s%d" % (number % 3)) for number in range(12)]
    assert len(set(records["actor"].tolist())) == 3
    assert [one.request_head for one in exchanges] == heads[len(jars) :]
    by_reference = [watch.teacher.reference.read(head) for head in heads[len(jars) :]]
    by_kernel = [(one.hashes.profile, one.hashes.host, one.hashes.credential) for one in exchanges]
    assert by_kernel == by_reference


def test_queries(watch: Watch) -> None:
    teacher = watch.teacher
    teacher.name(True, b"page", NameKind.QUERY_IGNORED)
    teacher.name(True, b"q", NameKind.QUERY_IGNORED)
    teacher.name(True, b"api_key", NameKind.QUERY_CREDENTIAL)
    plain = request("GET", "/find")
    known = ["/find?page=1", "/find?page=2&q=a%20b", "/find?PAGE=&q", "/find?", "/find?q=" + "longer-" * 12]
    known += ["/find?q=https://h1/a//b", "/find?q=(a)+(b)", "/find?q=https%3A%2F%2Fh1%2f"]
    keyed = ["/find?api_key=one&page=1", "/find?page=1&api_key=one", "/find?api_key=two"]
    unknown = ["/find?page=1&debug=1", "/find?=1", "/find?api_key=three"]
    suspicious = [
        "/find?q=%27%20or%201",
        "/find?q='",
        "/find?page=1&q=a%3Cb",
        "/find?q=../../etc",
        "/find?q=$(x)",
        "/find?q={{7}}",
        "/find?q=a%0d%0ab",
        "/find?page=1&q=http://169.254.169.254/",
        "/find?q=https%3A%2f%2F10.0.0.1",
        "/find?q=*)(uid=*",
        "/find?q=%2A%29%28uid",
    ]
    targets = known + keyed + unknown + suspicious
    heads = [request("GET", target) for target in targets]
    numbers = [teacher.profile(head) for head in [plain, *heads[len(known) : len(known) + len(keyed)]]]
    assert len(set(numbers)) == 3
    with serving(answering([len(head) for head in heads], *[(response(200),)] * len(heads))) as port:
        teacher.path(plain, cgroup_id=watch.cgroup_id, port=port)
        with connected(port) as client:
            for head in heads:
                client.sendall(head)
                receive_exactly(client, len(response(200)))
            records, exchanges = watch.collect(port, len(known) + len(keyed), len(unknown) + len(suspicious))
    assert records["profile"].tolist() == [numbers[0]] * len(known) + numbers[1:]
    assert [one.request_head for one in exchanges] == heads[len(known) + len(keyed) :]
    by_reference = [teacher.reference.profile_and_host(head) for head in heads[len(known) + len(keyed) :]]
    assert [(one.hashes.profile, one.hashes.host) for one in exchanges] == by_reference


def test_objects_in_queries(watch: Watch) -> None:
    """Values of the path and of the query are one object, in order; what is odd goes up."""
    watch.teacher.name(True, b"report_id", NameKind.QUERY_OBJECT)
    targets = ["/find?report_id=27173", "/find?REPORT_ID=27174", "/find?report_id=a-b", "/find?report_id=", "/find"]
    odd = ["/find?report_id=a%20b", "/find?report_id=a=b"]
    heads = [request("GET", target) for target in targets + odd]
    with serving(answering([len(head) for head in heads], *[(response(200),)] * len(heads))) as port:
        watch.teacher.path(heads[-1], cgroup_id=watch.cgroup_id, port=port)
        watch.teacher.profile(heads[-1])
        with connected(port) as client:
            for head in heads:
                client.sendall(head)
                receive_exactly(client, len(response(200)))
            records, exchanges = watch.collect(port, len(targets), len(odd))
    hashed = watch.teacher.reference.hash_segment
    assert records["object"].tolist() == [hashed(b"27173"), hashed(b"27174"), hashed(b"a-b"), 0, 0]
    assert records["number"].tolist() == [27_173, 27_174, *[NUMBER_NONE] * 3]
    assert [one.request_head for one in exchanges] == heads[len(targets) :]


def test_suspicious_calls_beyond_the_budget_are_marked(watch: Watch) -> None:
    watch.teacher.name(True, b"q", NameKind.QUERY_IGNORED)
    watch.teacher.set(heads_per_second=1, heads_burst=0)
    head = request("GET", "/find?q='")
    with serving(answering([len(head)], (response(200),))) as port:
        route = watch.teacher.path(head, cgroup_id=watch.cgroup_id, port=port)
        watch.teacher.profile(head)
        talk(port, (head,), len(response(200)))
        records, exchanges = watch.collect(port, 1)
    assert exchanges == []
    assert (records["route"].tolist(), records["flags"].tolist()) == ([route], [FINAL | RecordFlag.SUSPICIOUS])


def test_odd_values_of_fields_that_are_passed_over(watch: Watch) -> None:
    """Head by head on one connection: ordinary ones go by records, one with a sign of an attack goes up until it was
    taught, and what follows it is known as before. Beyond the budget it is marked."""
    fields = ["Mozilla/5.0 (X11; Linux x86_64)", "curl/8.5.0", "${jndi:ldap://h/a}", "curl/8.5.0", "Jamie's/1.0", "x"]
    heads = [request("GET", "/find", f"User-Agent: {value}\r\n") for value in fields]
    late = [heads[2], heads[5]]
    with serving(answering([len(head) for head in heads[:5] + late], *[(response(200),)] * 7)) as port:
        route = watch.teacher.path(heads[0], cgroup_id=watch.cgroup_id, port=port)
        plain, taught = watch.teacher.profile(heads[0]), watch.teacher.profile(heads[4])
        with connected(port) as client:
            for head in heads[:5]:
                client.sendall(head)
                receive_exactly(client, len(response(200)))
            records, exchanges = watch.collect(port, 4, 1)
            assert [(one.request_head, one.hashes.profile) for one in exchanges] == [
                (heads[2], watch.teacher.reference.profile_and_host(heads[2])[0])
            ]
            assert records["profile"].tolist() == [plain, plain, plain, taught]
            assert set(records["flags"].tolist()) == {FINAL}
            watch.teacher.set(heads_per_second=1, heads_burst=0)
            for head in late:
                client.sendall(head)
                receive_exactly(client, len(response(200)))
            records, exchanges = watch.collect(port, 2)
    assert exchanges == []
    assert records["route"].tolist() == [route, route]
    assert records["profile"].tolist() == [0, plain]
    assert records["flags"].tolist() == [FINAL | RecordFlag.SUSPICIOUS, FINAL]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_families(watch: Watch, host: str) -> None:
    head, answer = request("GET", "/six"), response(200)
    with serving(answering([len(head)], (answer,)), host=host) as port:
        watch.teacher.profile(head)
        route = watch.teacher.path(head, cgroup_id=watch.cgroup_id, port=port, address=host)
        talk(port, (head,), len(answer), host)
        records, exchanges = watch.collect(port, 1)
    packed = pack_address(host)
    assert exchanges == []
    (record,) = records
    assert (record["route"], record["family"]) == (route, 4 if len(packed) == 4 else 6)
    assert record["client_address"].tobytes() == packed.ljust(16, b"\0")
    hashed, _ = watch.teacher.reference.profile_and_host(head)
    assert record["actor"] == fold_actor(hashed, 0, packed, watch.cgroup_id)


def test_numbers_are_the_last_values(watch: Watch) -> None:
    teacher = watch.teacher
    assert teacher.object_and_number([])[1] == NUMBER_NONE
    sent, answer = request("GET", f"/m/1234/n/{UUID}"), response(200)
    teacher.profile(sent)
    with serving(answering([len(sent)], (answer,))) as port:
        teacher.path(sent, cgroup_id=watch.cgroup_id, port=port, values=(1, 3))
        talk(port, (sent,), len(answer))
        records, _ = watch.collect(port, 1)
    assert records["number"].tolist() == [NUMBER_NONE]
    assert records["object"].tolist() == [teacher.object_and_number([b"1234", UUID.encode()])[0]]


def test_repeated_field_lines_are_remembered_exactly(watch: Watch) -> None:
    """On one connection: the same lines again, one byte changed at either end or between, other sizes, versions,
    bodies, and back."""
    api = "X-Api-Key: " + "k" * 40
    lines = [f"{api}1\r\n", f"{api}1\r\n", f"{api}1\r\n", f"{api}2\r\n", f"{api}2\r\n", f"{api}22\r\n", f"{api}1\r\n"]
    heads = [request("GET", f"/m/{1000 + i}", line) for i, line in enumerate(lines)]
    heads += [request("GET", "/m/2000", f"{api}1\r\n", version="1.0"), request("GET", "/m/2001", f"{api}1\r\n")]
    heads += [request("PUT", "/m/3000", f"{api}1\r\n", b"x" * n) for n in (10, 10, 11, 2_000)]
    heads += [request("GET", "/m/4000", f"{api}1\r\n"), request("GET", "/m/4001", f"{api}1\r\nX-More: z\r\n")]
    heads += [request("GET", f"/m/{5000 + i}", f"X-Api-Key: {i:040d}\r\n") for i in range(12)]
    heads += [request("GET", "/m/6000", f"X-Api-Key: {11:040d}\r\n")] * 2
    profiles = [watch.teacher.profile(head) for head in heads]
    with serving(answering([len(head) for head in heads], *[(response(200),)] * len(heads))) as port:
        for head in (heads[0], heads[9]):
            watch.teacher.path(head, cgroup_id=watch.cgroup_id, port=port, values=(1,))
        with connected(port) as client:
            for head in heads:
                client.sendall(head)
                receive_exactly(client, len(response(200)))
            records, exchanges = watch.collect(port, len(heads))
    assert exchanges == []
    assert records["profile"].tolist() == profiles
    assert records["request_bytes"].tolist() == [len(head) for head in heads]
    assert len(set(profiles)) >= 17


def test_random_heads_have_the_profile_of_the_reference(watch: Watch) -> None:
    """Names, values and sizes at random, many alike: what the kernel made of each on one connection."""
    dice = random.Random(20261124)
    watch.teacher.name(False, b"jar", NameKind.HEADER_COOKIE)
    watch.teacher.cookie(b"a", NameKind.COOKIE_TOLD)
    watch.teacher.cookie(b"bb", NameKind.COOKIE_IGNORED)
    names = ["X-Api-Key", "Cookie", "Authorization", "User-Agent", "Accept", "X-Request-Id", "x-odd", "If-None-Match"]
    heads: list[bytes] = []
    for number in range(300):
        if heads and dice.random() < 0.4:
            old = dice.choice(heads)
            heads.append(old.replace(b"/r/", b"/r/%d-" % number, 1))
            continue
        fields = "".join(
            f"{name}:{' ' * dice.randrange(3)}{dice.choice('abz') * dice.choice((0, 1, 7, 8, 9, 15, 16, 40, 300))}\r\n"
            for name in dice.sample(names, dice.randrange(len(names)))
        )
        jar = (
            f"{dice.choice(('a', 'bb', 'c'))}={dice.choice('x.~') * dice.choice((0, 1, 7, 8, 9, 16, 300))}"
            for _ in range(dice.randrange(4))
        )
        fields += f"Jar: {'; '.join(jar)}\r\n" * dice.randrange(2)
        heads.append(
            request(dice.choice(("GET", "DELETE")), f"/r/{number}", fields, version=dice.choice(("1.1", "1.0")))
        )
    sizes = [len(head) for head in heads]
    with serving(answering(sizes, *[(response(200),)] * len(heads))) as port, connected(port) as client:
        for head in heads:
            client.sendall(head)
            receive_exactly(client, len(response(200)))
        records, exchanges = watch.collect(port, 0, len(heads))
    assert (len(records), len(exchanges)) == (0, len(heads))
    reference = watch.teacher.reference
    for head, exchange in zip(heads, exchanges, strict=True):
        assert exchange.request_head == head
        assert (exchange.hashes.profile, exchange.hashes.host) == reference.profile_and_host(head), head
    assert len({one.hashes.profile for one in exchanges}) > 100
