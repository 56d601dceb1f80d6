"""Both ways of a call tell the same: a kernel in Python, taught by real descriptions, against the slow path alone."""

import random
from base64 import urlsafe_b64encode
from collections import Counter

import pytest

from sensor.core.calls import STATUS_NOT_READ, AuthenticationKind, CallFlag, CallKind, Role
from sensor.ebpf.abi import ESTIMATED_CLASS, OVERFLOW_KEY, SETTINGS, RecordFlag, Settings
from sensor.offload.installer import WORD_HEADS
from sensor.offload.kernel_cache import MapName
from sensor.routes.host_names import MAX_HOSTS
from tests.sensor.offload.conftest import SAMPLE_NS, Sensor, tell
from tests.sensor.offload.kernel import Call
from tests.sensor.rows import find_actor


def make(path: str = "/v1/orders/1717", *lines: str, method: str = "GET", host: str = "shop.example", **fields) -> Call:
    head = "\r\n".join((f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "", "")).encode()
    return Call(head=head, **fields)


def teach(sensor: Sensor, call: Call) -> None:
    """Until it is known: names first, then the path, and what has a hashed word goes up some times more."""
    for _ in range(WORD_HEADS + 4):
        if sensor.take(call) == "record":
            sensor.kernel.records.clear()
            return
    pytest.fail("the call is not recognised")


def test_a_path_for_which_probes_ask_comes_whole_from_then_on(sensor: Sensor) -> None:
    """A record does not say who asked."""
    health, orders = make("/health"), make("/v1/orders/1717")
    teach(sensor, health)
    teach(sensor, orders)
    service = sensor.describe(health).target.route.service
    sensor.probed.add((service, "/health"))
    sensor.matcher.forget_service(service)
    sensor.flush()
    assert [sensor.take(health) for _ in range(20)] == ["head"] * 20
    teach(sensor, orders)
    assert sensor.take(health) == "head"


def test_a_like_call_is_recognised_and_told_alike(sensor: Sensor) -> None:
    teach(sensor, make("/v1/orders/1717", "Authorization: Basic dTpw", "X-Request-Id: 1"))
    call = make("/v1/orders/4242", "X-Request-Id: 77", "Authorization: Basic dTpw", time_ns=2_000, status=404)
    assert sensor.take(call) == "record"
    (row,) = sensor.convert()
    assert sensor.told(row) == tell(sensor.describe(call))
    assert (int(row["calls"]), int(row["time_unix_ns"])) == (1, 2_000)
    assert sensor.figure("taught_routes") == 1


def test_random_calls_are_told_alike(sensor: Sensor) -> None:
    source = random.Random(7)
    told, expected = [], []
    ways = {"head": 0, "record": 0}
    for number in range(5_000):
        call = make_random_call(source, number)
        way = sensor.take(call)
        ways[way] += 1
        if way == "record":
            expected.append(tell(sensor.describe(call)))
            told += [sensor.told(row) for row in sensor.convert()]
    assert told == expected
    assert ways["record"] > 1_200


def make_random_call(source: random.Random, number: int) -> Call:
    """Of a few services, some dozen paths, thirty credentials, clients near and far."""
    uuid = f"{source.getrandbits(32):08x}-1234-4abc-8abc-{source.getrandbits(48):012x}"
    path = source.choice(
        [f"/v1/orders/{source.randrange(10**6)}", f"/v1/orders/{source.randrange(10**6)}/items/{number % 90}",
         f"/api/users/{uuid}", "/health", "/", f"/v1/orders/{source.randrange(12)}", f"/zorbax{number % 5}/list/",
         f"/files/{source.getrandbits(64):016x}", f"/files/{source.getrandbits(64):016X}/raw?page={number}",
         f"/search?q=x{number}&api_key=key{number % 7}a1b2c3d4", "/2.0/users/42", f"/8/orders/{number % 3}",
         f"/v1/reports?report_id={source.randrange(10**4)}&page=1", f"/v1/orders/{number}?email=a{number % 9}@b.test",
         f"/v1/find?userId=u{number % 40}&order_number={number}%20", f"/v1/find?userId=&page={number}",
         f"/v1/reports/2024-01-{1 + number % 28:02d}", f"/v1/orders/{number}.json", "/a%20b"]
    )  # fmt: skip
    lines = [f"X-Request-Id: {number}", "Accept: */*"]
    if credential := source.randrange(30):
        lines.insert(source.randrange(3), make_credential(source, credential))
    lines.append(f"User-Agent: {'My-Long-Product-Name' if number % 8 == 0 else 'curl'}/8.{number % 90}")
    if source.random() < 0.1:
        lines.insert(source.randrange(3), f"X-Hub-Signature: sha1={source.getrandbits(64):016x}")
    if source.random() < 0.3:
        lines.append("Content-Type: application/json; charset=utf-8")
    role = Role.CLIENT if source.random() < 0.2 else Role.SERVER
    return make(
        path,
        *lines,
        method=source.choice(["GET", "POST"]),
        host=source.choice(["shop.example", "SHOP.example:80", "b.example"]),
        status=source.choice([200, 200, 200, 201, 404, 500]),
        time_ns=1_000 + number * 1_000_000,
        peer_cgroup_id=source.choice([0, 7, 100]) if role is Role.SERVER else 0,
        local_port=source.choice([80, 8080]) if role is Role.SERVER else 50_001,
        remote_port=source.randrange(50_000, 50_003) if role is Role.SERVER else 80,
        local_address=source.choice(["192.0.2.1", "2001:db8::1"]),
        remote_address=source.choice(["198.51.100.7", "198.51.100.8"]),
        role=role,
    )


def make_credential(source: random.Random, number: int) -> str:
    """One of a caller: tokens and keys are told, of signed ones the key counts, all else is part of the profile."""
    claims = urlsafe_b64encode(f'{{"sub":"user{number}"}}'.encode()).decode().rstrip("=")
    once = f"{source.getrandbits(128):032x}"
    return (
        f"Authorization: Bearer token{number}abcdefgh",
        f"Authorization: bearer token{number}abcdefgh",
        f"authorization: Bearer eyJhbGciOiJIUzI1NiJ9.{claims}.c2ln",
        f"Authorization: Basic dXNlcj{number:02}",
        f"X-Api-Key: key{number:03}",
        f"X-API-Key: {number:03}",  # Too short for a key.
        f"X-Api-Key:  key{number:03}  ",
        f"X-Api-Key: two words {number}",
        f"X-Api-Key: Bearer key{number:03}",
        f"X-Api-Key: eyJhbGciOiJIUzI1NiJ9.{claims}.c2ln",
        f"Authorization: AWS4-HMAC-SHA256 Credential=AKIA{number:04}/d/r/s/aws4_request, Signature={once}",
        f"Authorization: AWS4-HMAC-SHA256 SignedHeaders=host, Credential=AKIA{number:04}/d/r/s, Signature={once}",
        f'Authorization: Digest username="user{number}", nonce="{once}"',
        f'Authorization: Digest realm="x", username="user{number}", nonce="n"',
        f'Authorization: Signature keyId="key{number}",signature="{once}"',
        f"Authorization: Bearer {once}",
    )[source.randrange(16)]


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("Authorization: Bearer {once}", None),
        ("X-Api-Key: {once}", None),
        ("Authorization: AWS4-HMAC-SHA256 Credential={key}/d/r/s/aws4_request, Signature={once}", True),
        ('Authorization: Digest username="{key}", nonce="{once}"', True),
        ('Authorization: Signature keyId="{key}",signature="{once}"', True),
        ("X-Hub-Signature: {once}", None),
        ("Authorization: Bearer token1abcdefgh\r\nX-Signature: {once}", None),
    ],
)
def test_what_changes_with_each_request_needs_no_head(sensor: Sensor, line: str, other: bool | None) -> None:
    source = random.Random(5)

    def call(number: int, key: str = "AKIA1") -> Call:
        once = f"a{source.getrandbits(120):030x}"
        return make(f"/v1/orders/{1_000 + number}", *line.format(key=key, once=once).split("\r\n"))

    teach(sensor, call(0))
    for number in range(1, 40):
        made = call(number)
        assert sensor.take(made) == "record"
        (row,) = sensor.convert()
        assert sensor.told(row) == tell(sensor.describe(made))
    assert other is None or sensor.take(call(99, key="AKIA2")) == "head"  # Another key is somebody else.


@pytest.mark.parametrize("status", [301, 404, 500, 0])
def test_only_served_calls_teach(sensor: Sensor, status: int) -> None:
    assert [sensor.take(make(status=status)) for _ in range(4)] == ["head"] * 4
    assert sensor.cache.root_count == 0


def test_a_service_without_a_name_teaches_nothing(sensor: Sensor) -> None:
    sensor.node.workloads[80] = ""
    assert [sensor.take(make()) for _ in range(4)] == ["head"] * 4


def test_principals_are_neither_merged_nor_split(sensor: Sensor) -> None:
    lines = [f"Authorization: Bearer token{number}abcdefgh" for number in range(50)]
    for line in lines:
        teach(sensor, make("/v1/orders/1001", line))
    for number in range(500):
        assert sensor.take(make(f"/v1/orders/{number + 100}", lines[number % 50])) == "record"
    rows = sensor.convert()
    principals = {find_actor(sensor.facts, int(row["actor"])).principal for row in rows}
    assert len(principals) == 50 == len(set(rows["actor"].tolist()))


def test_processes_of_a_shared_cgroup_are_told_apart(sensor: Sensor) -> None:
    for port in (50_001, 50_002):
        teach(sensor, make(peer_cgroup_id=100, remote_port=port))
    for port in (50_001, 50_002, 50_001):
        sensor.take(make(peer_cgroup_id=100, remote_port=port))
    actors = [find_actor(sensor.facts, int(row["actor"])).client_workload for row in sensor.convert()]
    assert actors == ["process50001", "process50002", "process50001"]


def test_clients_without_a_cgroup_are_named_by_who_held_their_address(sensor: Sensor) -> None:
    sensor.node.holders = {"10.244.1.7": "shop/cart", "198.51.100.7": "shop/held"}
    calls = [("10.244.1.7", 0), ("10.244.1.8", 0), ("10.244.1.7", 0), ("198.51.100.7", 7)]
    for address, cgroup_id in calls:
        teach(sensor, make(remote_address=address, peer_cgroup_id=cgroup_id))
    sensor.node.asked_spans.clear()
    for number, (address, cgroup_id) in enumerate(calls):
        call = make(remote_address=address, peer_cgroup_id=cgroup_id, time_ns=5_000 + number)
        assert sensor.take(call) == "record"
    actors = [find_actor(sensor.facts, int(row["actor"])).client_workload for row in sensor.convert()]
    assert actors == ["shop/cart", "", "shop/cart", "client7"]
    # Each address once, for all the time of its calls; of those whose cgroup is known, nobody asks.
    assert sorted(sensor.node.asked_spans) == [("10.244.1.7", 2), ("10.244.1.8", 0)]


def test_forwarded_addresses_count_from_trusted_hops_only() -> None:
    sensor = Sensor(trusted_networks=("198.51.100.0/24",))
    for address in ("203.0.113.1", "203.0.113.2"):
        call = make("/v1/orders/1001", f"X-Forwarded-For: {address}")
        teach(sensor, call)
        assert sensor.take(call) == "record"
        stranger = make("/v1/orders/1001", f"X-Forwarded-For: {address}", remote_address="192.0.2.99")
        assert sensor.take(stranger) == "record"
        rows = [find_actor(sensor.facts, int(row["actor"])).client_address for row in sensor.convert()]
        assert rows == [address, "192.0.2.99"]


def test_a_sample_goes_up_after_its_time(sensor: Sensor) -> None:
    teach(sensor, make())
    assert sensor.take(make(time_ns=SAMPLE_NS)) == "record"
    assert sensor.take(make(time_ns=SAMPLE_NS + 2_000)) == "head"
    assert sensor.take(make(time_ns=SAMPLE_NS + 3_000)) == "record"


def test_another_service_at_the_end_is_found_when_the_node_is_read_anew(sensor: Sensor) -> None:
    teach(sensor, make())
    sensor.node.workloads[80] = "other-shop"
    sensor.matcher.check_services(sensor.node.server)
    sensor.flush()
    assert sensor.take(make()) == "head"
    assert sensor.take(make()) == "record"
    (row,) = sensor.convert()
    assert sensor.facts.find_route(int(row["route"])).service.workload == "other-shop"


def test_what_turns_out_to_be_excluded_is_forgotten_when_the_node_is_read_anew(sensor: Sensor) -> None:
    teach(sensor, make())
    sensor.matcher.check_services(lambda cgroup_id, port, address: None)
    sensor.flush()
    assert sensor.cache.root_count == 0
    assert sensor.take(make()) == "head"


def test_a_sample_that_contradicts_forgets_the_root(sensor: Sensor) -> None:
    teach(sensor, make())
    sensor.node.workloads[80] = "other-shop"
    assert sensor.take(make(time_ns=2 * SAMPLE_NS)) == "head"
    assert sensor.cache.root_count == 0
    assert sensor.figure("contradictions") == 1
    assert sensor.take(make()) == "head"
    assert sensor.take(make()) == "record"


def test_a_call_that_ends_after_its_route_was_forgotten_is_still_told(sensor: Sensor) -> None:
    teach(sensor, make())
    assert sensor.take(make()) == "record"
    for root in sensor.cache.all_roots():
        sensor.cache.forget_root(root)
    (row,) = sensor.convert()
    assert sensor.told(row) == tell(sensor.describe(make()))


def test_what_is_beyond_the_budget_goes_to_the_other_route(sensor: Sensor) -> None:
    teach(sensor, make())
    sensor.kernel.heads_left = 0
    call = make("/never/seen", local_port=8080, local_address="2001:db8::5", remote_address="2001:db8::6")
    assert sensor.take(call) == "unlearned"
    (row,) = sensor.convert()
    route, actor = sensor.facts.find_route(int(row["route"])), find_actor(sensor.facts, int(row["actor"]))
    assert (route.service.workload, route.host, route.method) == ("shop8080", "other", "_OTHER")
    assert (actor.client_address, actor.principal) == ("2001:db8::6", 0)
    assert actor.authentication is AuthenticationKind.UNKNOWN
    assert (int(row["flags"]) & 1, int(row["object"]), int(row["number"])) == (1, 0, -1)
    assert sensor.figure("unlearned_calls") == 1


def test_an_ambiguous_request_beyond_the_budget_is_flagged(sensor: Sensor) -> None:
    teach(sensor, make())
    sensor.kernel.heads_left = 0
    for path in ("/never/seen", "/never/met"):
        assert sensor.take(make(path)) == "unlearned"
    _, records = sensor.kernel.drain()
    records["flags"][0] |= RecordFlag.AMBIGUOUS
    rows = sensor.matcher.converter.convert(records, offset_ns=0)
    assert [bool(flags & CallFlag.AMBIGUOUS) for flags in rows["flags"]] == [True, False]


def test_a_known_path_beyond_the_budget_keeps_its_route(sensor: Sensor) -> None:
    teach(sensor, make())
    sensor.kernel.heads_left = 0
    for number in range(3):
        call = make("/v1/orders/7007", f"Authorization: Bearer once{number}abcdefgh", peer_cgroup_id=7 + number // 2)
        assert sensor.take(call) == "record"
    rows = sensor.convert()
    expected = sensor.describe(call)
    for row, workload in zip(rows, ("client7", "client7", "client8"), strict=True):
        route, actor = sensor.facts.find_route(int(row["route"])), find_actor(sensor.facts, int(row["actor"]))
        assert (route, int(row["object"])) == (expected.target.route, expected.target.object_hash)
        assert (actor.principal, actor.client_address, actor.client_workload) == (0, "198.51.100.7", workload)
        assert actor.authentication is AuthenticationKind.UNKNOWN
        assert int(row["flags"]) & 1
    assert (sensor.figure("nameless_calls"), sensor.figure("unlearned_calls")) == (3, 0)


def test_a_revealed_word_is_told_at_once(sensor: Sensor) -> None:
    teach(sensor, make("/aardvark"))
    sensor.take(make("/aardvark"))
    (row,) = sensor.convert()
    hashed = sensor.facts.find_route(int(row["route"])).segments[0].hash
    assert sensor.templater.apply_reveal([hashed]) == {hashed: "aardvark"}
    sensor.take(make("/aardvark"))
    (row,) = sensor.convert()
    assert sensor.facts.find_route(int(row["route"])).segments[0].text == "aardvark"


def test_callers_share_a_word_though_the_kernel_matches_their_calls(sensor: Sensor) -> None:
    """Of calls that are alike the kernel copies samples, and these show who calls and for how long."""
    ways = Counter[str]()
    for second in range(0, 3_700, 5):
        sensor.now_ns = 1_000 + second * 10**9
        call = make("/zorbax", time_ns=sensor.now_ns, remote_address=f"198.51.100.{second // 5 % 7}")
        ways[sensor.take(call)] += 1
    assert ways["record"] > 300
    hashed = sensor.describe(make("/zorbax")).target.route.segments[0].hash
    assert sensor.templater.apply_reveal([hashed]) == {hashed: "zorbax"}


def test_the_kernel_forgets_a_host_that_lost_its_place(sensor: Sensor) -> None:
    lost = make(host="lost.example")
    teach(sensor, lost)
    for number in range(2 * MAX_HOSTS):  # Each stronger than the one that was called by one address.
        for address in ("198.51.100.8", "198.51.100.9"):
            for _ in range(20):
                sensor.describe(make(host=f"h{number % (MAX_HOSTS + 40)}.example", remote_address=address))
    assert sensor.templater.folded_calls > 0
    roots = sensor.figure("taught_roots")
    assert sensor.describe(lost).target.route.host == "other"
    later = make(host="lost.example", time_ns=10 * SAMPLE_NS)
    assert sensor.take(later) == "head"  # A sample.
    assert sensor.figure("taught_roots") == roots - 1
    assert sensor.take(later) == "head"


def test_media_types_are_those_of_the_last_slow_answer(sensor: Sensor) -> None:
    teach(sensor, make())
    problem = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\n\r\n"
    sensor.take(make("/v1/orders/2002", "Cookie: sessionid=a1", status=404, response=problem))
    for status in (200, 404, 500):
        assert sensor.take(make(status=status)) == "record"
    types = [sensor.facts.find_media_type(int(row["response_type"])) for row in sensor.convert()]
    assert types == ["application/json", "application/problem+json", ""]


def test_an_event_stream_by_records_is_a_stream(sensor: Sensor) -> None:
    events = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    call = make("/v1/events", "Accept: text/event-stream", response=events)
    teach(sensor, call)
    teach(sensor, make())
    for one in (call, make()):
        assert sensor.take(one) == "record"
    assert [bool(row["flags"] & CallFlag.STREAM) for row in sensor.convert()] == [True, False]


def test_a_call_of_connect_is_recognised_as_one(sensor: Sensor) -> None:
    """The field that says so belongs to the profile, so that none without it is taken for one."""
    lines = ("Content-Type: application/json", "Connect-Protocol-Version: 1")
    for given in (lines, lines[:1]):
        call = make("/shop.v1.Orders/Lookup", *given, method="POST")
        teach(sensor, call)
        assert sensor.take(call) == "record"
        (row,) = sensor.convert()
        assert sensor.told(row) == tell(sensor.describe(call))
        actor = find_actor(sensor.facts, int(row["actor"]))
        assert actor.kind is (CallKind.CONNECT if given is lines else CallKind.HTTP)


def test_heads_are_limited_by_the_governors_word(sensor: Sensor) -> None:
    sensor.matcher.limit(heads_per_second=123, body_bytes_per_second=456)
    sensor.flush()
    settings = Settings(*SETTINGS.unpack(sensor.kernel.maps[MapName.SETTINGS][bytes(4)]))
    assert (settings.heads_per_second, settings.node_heads_per_second, settings.is_recognising) == (123, 246, 1)


def test_nothing_is_left_in_the_kernel_after_another_key(sensor: Sensor) -> None:
    teach(sensor, make())
    sensor.matcher.cache.clear()
    sensor.flush()
    for name in (MapName.ROOTS, MapName.EDGES, MapName.LEAVES, MapName.PROFILES):
        assert not sensor.kernel.maps[name]
    assert sensor.cache.edge_count == 0


@pytest.mark.parametrize(
    "lines",
    [("Host: b.example",), ("X-A: 1\r\n folded",)],
)
def test_heads_that_two_readers_read_differently_teach_nothing(sensor: Sensor, lines: tuple[str, ...]) -> None:
    for _ in range(3):
        sensor.take(make("/v1/orders/1001", *lines))
    assert sensor.cache.root_count == 0


def test_signed_queries_are_never_recognised(sensor: Sensor) -> None:
    for _ in range(4):
        assert sensor.take(make("/v1/orders/1001?X-Amz-Signature=abc&X-Amz-Date=1")) == "head"
    call = make("/v1/orders/1001")
    teach(sensor, call)
    assert sensor.take(call) == "record"
    (row,) = sensor.convert()
    assert sensor.told(row) == tell(sensor.describe(call))


def test_estimated_calls_have_no_status_and_no_abort(sensor: Sensor) -> None:
    key = OVERFLOW_KEY.pack(3, 80, int(Role.SERVER), ESTIMATED_CLASS)
    rows = sensor.matcher.converter.convert_overflow({key: (700, 0, 0, 0)}, time_unix_ns=77)
    assert int(rows["calls"].sum()) == 700
    assert set(rows["status"].tolist()) == {STATUS_NOT_READ}
    assert set(rows["flags"].tolist()) == {int(CallFlag.LOSSY | CallFlag.ESTIMATED | CallFlag.ENCRYPTED)}


@pytest.mark.parametrize(
    ("flags", "status", "told"),
    [
        (
            RecordFlag.LOSSY | RecordFlag.ABORTED | RecordFlag.FINAL,
            0,
            (STATUS_NOT_READ, CallFlag.LOSSY | CallFlag.FINAL),
        ),
        (RecordFlag.ABORTED, 0, (0, CallFlag.ABORTED)),
        (RecordFlag.LOSSY, 200, (200, CallFlag.LOSSY)),
    ],
)
def test_a_record_whose_answer_the_kernel_lost_has_no_status(
    sensor: Sensor, flags: RecordFlag, status: int, told: tuple[int, CallFlag]
) -> None:
    call = make("/v1/orders/1001")
    teach(sensor, call)
    assert sensor.take(call) == "record"
    sensor.kernel.records[-1]["flags"], sensor.kernel.records[-1]["status"] = int(flags), status
    (row,) = sensor.convert()
    assert (int(row["status"]), int(row["flags"])) == (told[0], int(told[1]))


def test_sums_of_a_full_ring_are_told_once_and_whole(sensor: Sensor) -> None:
    sensor.kernel.heads_left = 0
    sensor.take(make(local_address="192.0.2.5"))
    sensor.convert()
    key = OVERFLOW_KEY.pack(3, 80, int(Role.SERVER), 2)
    for total, expected in (((700, 7_000, 70_000, 5), (700, 7_000, 70_000)), ((701, 7_010, 70_100, 6), (1, 10, 100))):
        rows = sensor.matcher.converter.convert_overflow({key: total}, time_unix_ns=77)
        sums = tuple(int(rows[name].sum()) for name in ("calls", "request_bytes", "response_bytes"))
        assert sums == expected
        assert set(rows["status"].tolist()) == {200}
        assert all(rows["flags"] == 1)
        assert sensor.facts.find_route(int(rows[0]["route"])).service.workload == "shop80"
    assert len(sensor.matcher.converter.convert_overflow({key: total}, time_unix_ns=78)) == 0
    assert sensor.figure("overflow_calls") == 701
