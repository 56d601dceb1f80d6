"""Every field of a record comes from where it should: records are made by position."""

import pytest

from sensor.core.calls import (
    STATUS_NOT_READ,
    AuthenticationKind,
    CallKind,
    CallRecord,
    Exchange,
    Hop,
    PrincipalKind,
    Role,
    Service,
    WorkloadKind,
)
from sensor.core.keyed import KeyedHash
from sensor.describe.describer import Describer, DescribeSettings, Undescribed
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import load_vocabulary
from tests.sensor.records import make_exchange, make_record

SERVICE = Service(cluster="", namespace="", workload="w", workload_kind=WorkloadKind.PROCESS, host_name="n", port=80)
REQUEST = (
    b"POST /v1/users/42?page=2 HTTP/1.1\r\nHost: api.example\r\nContent-Type: application/json; charset=utf-8\r\n"
    b"User-Agent: Curl/8.1 (x)\r\n"
    b"X-Forwarded-For: 203.0.113.9\r\nAuthorization: Basic dTpw\r\nX-Api-Key: abcdef0123456789\r\n\r\n"
)
MARKS = b"software\nuser-agent Curl"
RESPONSE = b"HTTP/1.1 201 Created\r\nContent-Type: text/plain\r\n\r\n"


class _Identity:
    def server(self, cgroup_id, local_port, local_address):
        assert (cgroup_id, local_port, local_address) == (3, 80, "192.0.2.1")
        return SERVICE, Hop.PROXY

    def client_workload(self, peer_cgroup_id, remote_address, remote_port, server_cgroup_id=0):
        assert (peer_cgroup_id, remote_address, remote_port) in ((4, "10.0.0.1", 5000), (3, "192.0.2.1", 80))
        return "shop"

    def address_workload(self, address, first_ns, last_ns):
        assert (address, first_ns, last_ns) == ("10.0.0.1", 11, 11)
        return "shop/cart"


def _describer(**settings) -> Describer:
    keyed_hash = KeyedHash(1, b"0123456789abcdef")
    return Describer(Templater(load_vocabulary(), keyed_hash), _Identity(), keyed_hash, DescribeSettings(**settings))


def _exchange(**fields) -> Exchange:
    values = {
        "time_unix_ns": 11, "connection": 1, "call": 2, "role": Role.SERVER, "cgroup_id": 3, "peer_cgroup_id": 4,
        "local_address": "192.0.2.1", "local_port": 80, "remote_address": "10.0.0.1", "remote_port": 5000,
        "request_head": REQUEST, "is_request_head_truncated": False, "response_head": RESPONSE, "status_code": 201,
        "request_bytes": 12, "response_bytes": 13, "time_to_first_byte_ns": 14, "duration_ns": 15, "calls": 1,
        "is_final": True, "is_aborted": False, "is_lossy": True, "is_ambiguous": True,
    }  # fmt: skip
    return make_exchange(**{**values, **fields})


def test_every_field_of_a_record():
    record = _describer(trusted_networks=("10.0.0.0/8",)).describe(_exchange(is_encrypted=True))
    assert isinstance(record, CallRecord)
    keyed_hash = KeyedHash(1, b"0123456789abcdef")
    assert record == make_record(
        time_unix_ns=11, role=Role.SERVER, hop=Hop.PROXY, status_code=201, protocol_version="1.1",
        principal=keyed_hash(b"basic\0u"), principal_kind=PrincipalKind.BASIC_USER,
        credential=keyed_hash(b"Basic dTpw"), is_truncated=False, client_address="203.0.113.9",
        client_workload="shop", authentication=AuthenticationKind.BASIC | AuthenticationKind.API_KEY_HEADER,
        request_content_type="application/json", response_content_type="text/plain", request_bytes=12,
        response_bytes=13, time_to_first_byte_ns=14, duration_ns=15, calls=1, is_final=True,
        is_aborted=False, is_lossy=True, object_hash=keyed_hash(b"42"), object_number=42, is_ambiguous=True,
        kind=CallKind.HTTP, rpc_status=None, request_messages=None, response_messages=None,
        is_stream=False, has_unknown_fields=False, is_inferred=False, body=None,
        payload=0, client_software=f"curl {keyed_hash(MARKS) >> 32:08x}", is_encrypted=True,
        carriers="header authorization basic,header x-api-key", route=record.target.route,
    )  # fmt: skip
    assert (record.target.route.service, record.target.route.host, record.target.route.method) == (
        SERVICE,
        "api.example",
        "POST",
    )
    assert [segment.text for segment in record.target.route.segments] == ["v1", "users", ""]


@pytest.mark.parametrize(
    ("fields", "status_code", "is_aborted"),
    [
        ({"is_lossy": True, "is_aborted": True}, STATUS_NOT_READ, False),
        ({"is_lossy": True, "is_aborted": False}, STATUS_NOT_READ, False),
        ({"is_lossy": False, "is_aborted": True}, 0, True),
        ({"is_lossy": True, "is_aborted": True, "status_code": 200}, 200, True),
    ],
)
def test_an_answer_that_was_lost_to_us_is_not_read_and_aborts_nothing(fields, status_code, is_aborted):
    record = _describer().describe(_exchange(**{"status_code": 0, "response_head": b"", **fields}))
    assert isinstance(record, CallRecord)
    assert (record.figures.status_code, record.figures.is_aborted) == (status_code, is_aborted)


def test_a_client_names_the_remote_end():
    record = _describer().describe(_exchange(role=Role.CLIENT))
    assert isinstance(record, CallRecord)
    service = record.target.route.service
    assert (service.workload, service.port, record.ends.hop) == ("10.0.0.1", 5000, Hop.UNSPECIFIED)
    assert (record.ends.client_address, record.ends.client_workload) == ("192.0.2.1", "shop")


def test_a_client_without_a_cgroup_is_named_by_its_address():
    record = _describer().describe(_exchange(peer_cgroup_id=0))
    assert isinstance(record, CallRecord)
    assert (record.ends.client_address, record.ends.client_workload) == ("10.0.0.1", "shop/cart")


@pytest.mark.parametrize("is_truncated", [False, True])
def test_what_is_no_http_has_a_reason(is_truncated):
    described = _describer().describe(_exchange(request_head=b"\x16\x03\x01", is_request_head_truncated=is_truncated))
    assert described == Undescribed("request_request_line_truncated" if is_truncated else "request_request_line")


def test_custom_methods_are_capped():
    describer = _describer()
    methods = set()
    for number in range(80):
        record = describer.describe(_exchange(request_head=b"M%d /a HTTP/1.1\r\n\r\n" % number))
        assert isinstance(record, CallRecord)
        methods.add(record.target.route.method)
    assert len(methods) == 51
    assert "_OTHER" in methods


def test_a_line_met_again_is_read_alike():
    """The second head comes from kept lines, also where the copy limit cut it at a known line."""
    describer = _describer()
    first, second = describer.describe(_exchange()), describer.describe(_exchange())
    assert first == second
    head = REQUEST[: REQUEST.index(b"\r\nX-Api-Key")]
    cut = describer.describe(_exchange(request_head=head, is_request_head_truncated=True))
    assert isinstance(cut, CallRecord)
    assert (cut.credentials.is_truncated, cut.credentials.credential) == (True, 0)
    assert describer.describe(_exchange()) == first
