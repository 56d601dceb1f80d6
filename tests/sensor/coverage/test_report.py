"""The report of listening ports: what is read, what is not and why, and that its totals are the kernel's."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.calls import Service, WorkloadKind
from sensor.coverage.report import (
    MAX_HANDSHAKE_ROWS,
    MAX_ROWS,
    NO_LIBRARY,
    NOTHING_HIDDEN,
    Hidden,
    PortMemory,
    UnixPort,
    cover_ports,
    note_limitation,
)
from sensor.coverage.row import CoverageRole, Handshakes, PortCount, PortCoverage, PortProtocol
from sensor.enrich.listeners import Listener
from sensor.enrich.processes import Process

UNKNOWN = Service(
    cluster="", namespace="", workload="unknown", workload_kind=WorkloadKind.UNSPECIFIED, host_name="host-1", port=0
)


def make_listener(port: int, *, address: str = "0.0.0.0", cgroup_id: int = 1, inode: int = 1) -> Listener:
    return Listener(
        address=address,
        port=port,
        inode=inode,
        cookie=inode,
        cgroup_id=cgroup_id,
        namespace=1,
        process=None,
        holder_count=1,
    )


def name_service(listener: Listener) -> Service:
    """One service a cgroup."""
    return msgspec.structs.replace(UNKNOWN, workload=f"service-{listener.cgroup_id}", port=listener.port)


def cover(
    counts: list[PortCount],
    listeners: list[Listener],
    hidden: Hidden = NOTHING_HIDDEN,
    memory: PortMemory | None = None,
    own: frozenset[int] = frozenset(),
) -> list[PortCoverage]:
    """`own`: inodes of listeners of Apidae's own."""
    return cover_ports(
        counts,
        listeners,
        name_service=name_service,
        name_client=lambda cgroup_id: msgspec.structs.replace(UNKNOWN, workload=f"client-{cgroup_id}"),
        unknown_service=UNKNOWN,
        hidden=hidden,
        memory=memory,
        is_own=lambda listener: listener.inode in own,
    )


def count(port: int, kind: PortProtocol = PortProtocol.HTTP, *, cgroup_id: int = 0, connections: int = 3) -> PortCount:
    return PortCount(port=port, kind=kind, connections=connections, bytes=connections * 100, cgroup_id=cgroup_id)


def brief(rows: list[PortCoverage]) -> list[tuple[str, int, PortProtocol, int]]:
    return [(row.service.workload, row.service.port, row.protocol, row.connections) for row in rows]


READ = (PortProtocol.HTTP, PortProtocol.HTTP2)


@pytest.mark.parametrize("protocol", READ)
def test_what_is_read_needs_no_reason(protocol: PortProtocol) -> None:
    (row,) = cover([count(80, protocol)], [make_listener(80)])
    assert row == PortCoverage(
        service=name_service(make_listener(80)),
        protocol=protocol,
        connections=3,
        bytes=300,
        address="0.0.0.0",
        reason="",
        is_http_like=True,
    )


def test_what_a_way_of_capture_misses_is_said_of_ports_that_are_read() -> None:
    rows = cover([count(80), count(443, PortProtocol.ENCRYPTED)], [make_listener(80), make_listener(443)])
    assert note_limitation(rows, "") is rows
    assert [row.reason for row in note_limitation(rows, "Not all.")] == ["Not all.", rows[1].reason]


def test_every_other_protocol_says_why() -> None:
    rows = cover([count(80, kind) for kind in PortProtocol if kind not in READ], [make_listener(80)])
    assert all(row.reason for row in rows)
    assert len({row.reason for row in rows}) == len(PortProtocol) - len(READ)


def test_silent_port_is_listed() -> None:
    rows = cover([count(80)], [make_listener(80), make_listener(5432, inode=2)])
    assert brief(rows) == [
        ("service-1", 80, PortProtocol.HTTP, 3),
        ("service-1", 5432, PortProtocol.SILENT, 0),
    ]


def test_both_families_and_shared_sockets_are_one_row() -> None:
    listeners = [make_listener(80), make_listener(80, address="::", inode=2), make_listener(80, inode=3)]
    (row,) = cover([count(80)], listeners)
    assert row.address == "0.0.0.0, ::"


def test_two_protocols_of_one_port_are_two_rows() -> None:
    rows = cover([count(80), count(80, PortProtocol.ENCRYPTED, connections=2)], [make_listener(80)])
    assert brief(rows) == [
        ("service-1", 80, PortProtocol.HTTP, 3),
        ("service-1", 80, PortProtocol.ENCRYPTED, 2),
    ]


def test_count_of_a_closed_port_stays_in_the_report() -> None:
    (row,) = cover([count(80)], [])
    assert brief([row]) == [("unknown", 80, PortProtocol.HTTP, 3)]
    assert "Nothing listens here any more" in row.reason


def test_count_that_two_services_share_is_not_split() -> None:
    (row,) = cover([count(80)], [make_listener(80), make_listener(80, cgroup_id=2, inode=2)])
    assert brief([row]) == [("unknown", 80, PortProtocol.HTTP, 3)]
    assert "2 services listen on this port" in row.reason


def test_count_by_cgroup_tells_two_services_apart() -> None:
    listeners = [make_listener(80), make_listener(80, cgroup_id=2, inode=2)]
    assert brief(cover([count(80, cgroup_id=2)], listeners)) == [
        ("service-1", 80, PortProtocol.SILENT, 0),
        ("service-2", 80, PortProtocol.HTTP, 3),
    ]


def test_report_is_bounded_and_keeps_its_totals() -> None:
    counts = [count(port, connections=port) for port in range(1, MAX_ROWS + 1_000)]
    rows = cover(counts, [])
    assert len(rows) <= MAX_ROWS
    assert sum(row.connections for row in rows) == sum(c.connections for c in counts)


def test_service_that_came_back_in_another_cgroup_is_one_row() -> None:
    memory = PortMemory()
    cover([count(80, cgroup_id=7)], [make_listener(80, cgroup_id=7)], memory=memory)
    restarted = msgspec.structs.replace(name_service(make_listener(80, cgroup_id=7)))
    rows = cover_ports(
        [count(80, cgroup_id=7), count(80, cgroup_id=8)],
        [make_listener(80, cgroup_id=8)],
        name_service=lambda _: restarted,
        name_client=lambda _: UNKNOWN,
        unknown_service=UNKNOWN,
        memory=memory,
    )
    assert brief(rows) == [("service-7", 80, PortProtocol.HTTP, 6)]
    assert rows[0].reason == ""


def test_service_that_has_gone_keeps_its_name() -> None:
    memory = PortMemory()
    cover([count(80, cgroup_id=7)], [make_listener(80, cgroup_id=7)], memory=memory)
    (row,) = cover([count(80, cgroup_id=7)], [], memory=memory)
    assert row.service.workload == "service-7"
    assert "Nothing listens here any more" in row.reason


def test_encrypted_says_what_was_heard_and_what_may_be_http() -> None:
    heard = Handshakes(count=2, protocols=(("h2", 2),), versions=(("TLS 1.3", 2),))
    other = Handshakes(count=1, protocols=(("mqtt", 1),))
    counts = [
        PortCount(port=9000, kind=PortProtocol.ENCRYPTED, connections=2, bytes=9, exchanges=5, handshakes=heard),
        PortCount(port=443, kind=PortProtocol.ENCRYPTED, connections=2, bytes=9, handshakes=other),
        count(8443, PortProtocol.ENCRYPTED),
        count(9999, PortProtocol.ENCRYPTED),
    ]
    rows = {row.service.port: row for row in cover(counts, [])}
    assert {port: row.is_http_like for port, row in rows.items()} == {9000: True, 443: False, 8443: True, 9999: False}
    assert "Mostly TLS 1.3, h2." in rows[9000].reason
    assert (rows[9000].estimated_calls, rows[9000].handshakes) == (5, heard)


def test_hellos_that_no_server_answered_are_no_tls() -> None:
    tried = Handshakes(count=1, protocols=(("h2", 1),))
    often = Handshakes(count=3, protocols=(("h2", 3),))
    counts = [
        count(5000, connections=4),
        PortCount(port=5000, kind=PortProtocol.ENCRYPTED, connections=9, bytes=9, exchanges=9, handshakes=tried),
        PortCount(port=9000, kind=PortProtocol.ENCRYPTED, connections=3, bytes=9, handshakes=often),
        PortCount(port=9001, kind=PortProtocol.ENCRYPTED, connections=1, bytes=9, handshakes=tried),
    ]
    rows = {(row.service.port, row.protocol): row for row in cover(counts, [])}
    assert set(rows) == {
        (5000, PortProtocol.HTTP), (5000, PortProtocol.OTHER), (9000, PortProtocol.OTHER),
        (9001, PortProtocol.ENCRYPTED),
    }  # fmt: skip
    refused = rows[5000, PortProtocol.OTHER]
    assert (refused.connections, refused.estimated_calls, refused.is_http_like) == (9, 0, False)
    assert "no server answered" in refused.reason


def test_called_hosts_are_rows_of_their_own() -> None:
    called = PortCount(
        port=443,
        kind=PortProtocol.ENCRYPTED,
        connections=2,
        bytes=9,
        cgroup_id=5,
        role=CoverageRole.OUTBOUND,
        address="192.0.2.1",
    )
    rows = cover([called, count(443, PortProtocol.ENCRYPTED, cgroup_id=1)], [make_listener(443)])
    assert [(row.role, row.service.workload, row.address) for row in rows] == [
        (CoverageRole.LISTENING, "service-1", "0.0.0.0"),
        (CoverageRole.OUTBOUND, "client-5", "192.0.2.1"),
    ]


def test_what_no_hook_sees_is_listed() -> None:
    hidden = Hidden(
        unix_ports=(UnixPort(service=UNKNOWN, path="/run/app.sock", open_connections=3),),
        datagram_listeners=(make_listener(443), make_listener(53, inode=2)),
        kernel_tls={(1, 443): 4},
        sockmap_programs=2,
    )
    rows = cover([count(443, PortProtocol.ENCRYPTED, cgroup_id=1)], [make_listener(443)], hidden)
    assert brief(rows) == [
        ("unknown", 0, PortProtocol.UNIX, 3),
        ("service-1", 443, PortProtocol.ENCRYPTED, 3),
        ("service-1", 443, PortProtocol.QUIC, 0),
        ("node", 0, PortProtocol.SOCKMAP, 0),
        ("node", 0, PortProtocol.KERNEL_TLS, 4),
    ]
    assert "4 open connections are encrypted by the kernel" in rows[1].reason


def test_datagrams_are_of_the_socket_that_is_bound() -> None:
    hidden = Hidden(datagram_listeners=(make_listener(4433, cgroup_id=2),))
    rows = cover([count(4433, PortProtocol.QUIC, cgroup_id=2)], [make_listener(4433)], hidden)
    assert brief(rows) == [
        ("service-1", 4433, PortProtocol.SILENT, 0),
        ("service-2", 4433, PortProtocol.QUIC, 3),
    ]


def test_a_report_of_many_handshakes_is_bounded() -> None:
    heard = Handshakes(count=1, versions=(("TLS 1.3", 1),))
    counts = [
        PortCount(port=port, kind=PortProtocol.ENCRYPTED, connections=port, bytes=1, handshakes=heard)
        for port in range(1, MAX_HANDSHAKE_ROWS + 50)
    ]
    rows = cover(counts, [])
    told = [row.connections for row in rows if row.handshakes.count]
    assert len(rows) == len(counts)
    assert (len(told), min(told)) == (MAX_HANDSHAKE_ROWS, 50)


COUNTS = st.builds(
    PortCount,
    port=st.integers(1, 4),
    kind=st.sampled_from(PortProtocol),
    connections=st.integers(0, 9),
    bytes=st.integers(0, 9),
    cgroup_id=st.integers(0, 3),
)
LISTENERS = st.builds(
    make_listener,
    st.integers(1, 4),
    address=st.sampled_from(["0.0.0.0", "::"]),
    cgroup_id=st.integers(0, 3),
    inode=st.integers(1, 9),
)


@given(st.lists(COUNTS, max_size=12), st.lists(LISTENERS, max_size=8))
def test_totals_are_the_kernels_and_every_listener_is_listed(
    counts: list[PortCount], listeners: list[Listener]
) -> None:
    rows = cover(counts, listeners)
    assert sum(row.connections for row in rows) == sum(c.connections for c in counts)
    assert sum(row.bytes for row in rows) == sum(c.bytes for c in counts)
    assert {listener.port for listener in listeners} <= {row.service.port for row in rows}


def test_an_encrypted_port_says_why_its_process_is_not_read() -> None:
    process = Process(pid=7, start_ticks=1, name="app", executable="app", cgroup_path="/", cgroup_v1_paths=())
    listener = replace(make_listener(443), process=process)
    rows = cover_ports(
        [count(443, PortProtocol.ENCRYPTED), count(443, PortProtocol.HTTPS)],
        [listener],
        name_service=name_service,
        name_client=lambda cgroup_id: UNKNOWN,
        unknown_service=UNKNOWN,
        why_unread=lambda pid: f"Process {pid} is written in Java.",
    )
    reasons = {row.protocol: row.reason for row in rows}
    assert "Process 7 is written in Java." in reasons[PortProtocol.ENCRYPTED]
    assert "Process 7" not in reasons[PortProtocol.HTTPS]


def test_the_reason_of_a_process_that_was_seen_counts_more_than_none() -> None:
    process = Process(pid=7, start_ticks=1, name="app", executable="app", cgroup_path="/", cgroup_v1_paths=())
    reasons = {7: NO_LIBRARY, 8: "Java encrypts in code."}
    (row,) = cover_ports(
        [count(443, PortProtocol.ENCRYPTED)],
        [replace(make_listener(443, inode=pid), process=replace(process, pid=pid)) for pid in reasons],
        name_service=name_service,
        name_client=lambda cgroup_id: UNKNOWN,
        unknown_service=UNKNOWN,
        why_unread=reasons.__getitem__,
    )
    assert "Java" in row.reason and NO_LIBRARY not in row.reason


def test_ports_of_apidae_are_listed_and_in_no_share() -> None:
    listeners = [make_listener(80, inode=1), make_listener(8080, inode=2, cgroup_id=2)]
    memory = PortMemory()
    for is_open in (True, False):
        present = listeners if is_open else []
        rows = cover([count(80, cgroup_id=1), count(8080, cgroup_id=2)], present, memory=memory, own=frozenset({2}))
        theirs, own = rows
        assert (theirs.is_http_like, own.is_http_like) == (True, False)
        assert (own.service.port, own.protocol, own.connections) == (8080, PortProtocol.HTTP, 3)
        assert "Apidae's own" in own.reason and "Apidae" not in theirs.reason


def test_a_port_that_others_share_with_apidae_is_theirs() -> None:
    listeners = [make_listener(80, inode=1), make_listener(80, inode=2, cgroup_id=2)]
    (row,) = cover([count(80)], listeners, own=frozenset({2}))
    assert row.is_http_like and "Apidae" not in row.reason
