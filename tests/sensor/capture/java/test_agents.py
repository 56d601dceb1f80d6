"""Processes that hold memory like the Java agent's, also hostile ones: what is taken of them, and how it ends."""

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from sensor.capture.java import agents as module
from sensor.capture.java import search
from sensor.capture.java.agents import (
    CONSENT_SECONDS,
    IDLE_SECONDS,
    NODE_SHARE,
    NOT_SEARCHED,
    PROOFS_PER_SECOND,
    SEARCHING,
    TOO_MANY,
    JavaAgents,
)
from sensor.capture.java.attachments import ATTACHING, WITHDRAWN, Attachments, Child
from sensor.capture.java.connections import ProcessConnections
from sensor.capture.java.consent import FILE_NAME, Consent
from sensor.capture.java.ring import (
    CAME_ATTACHED,
    CAME_WITH_JVM,
    COMMAND_READ,
    COMMAND_WAIT,
    RECORDS_PER_REQUEST,
    SPENT_NS,
    STATE_READING,
    STATE_WAITING,
    UNKNOWN_ENDS,
    AgentRing,
    Ends,
)
from sensor.capture.java.search import Found, find_ring, read_cgroup
from sensor.ebpf.abi import SyscallEvent, SyscallKind
from tests.sensor.capture.java.test_ring import NOW, Agent, set_counts

COMMAND_AT, HEARTBEAT_AT, BUDGET_AT = 208, 200, 224
SECOND_NS = 1_000_000_000
MEMORY = Path("/dev/shm")
CGROUP_ID = 7


class Holder(Agent):
    """A process that holds such memory, and this one that writes into it."""

    def __init__(self, *, way: int = CAME_WITH_JVM, shared: "Holder | None" = None, directory: Path = MEMORY) -> None:
        super().__init__(way=way)
        if shared is None:
            path = directory / f"apidae-java-{secrets.token_hex(8)}"
            path.touch()
            named = os.open(path, os.O_RDWR)
            path.unlink()
            os.write(named, os.pread(self.fd, 1 << 20, 0))
            os.close(self.fd)
            self.fd = named
        else:
            os.close(self.fd)
            self.fd = os.dup(shared.fd)
        self.program = subprocess.Popen(["sleep", "600"], pass_fds=(self.fd,))
        self.directory = os.open(f"/proc/{self.program.pid}", os.O_RDONLY)

    @property
    def pid(self) -> int:
        return self.program.pid

    def end(self) -> None:
        self.program.kill()
        self.program.wait()

    def close(self) -> None:
        self.end()
        os.close(self.fd)
        os.close(self.directory)


class Host:
    """A sensor's side, with a clock of its own."""

    def __init__(self, attachments: Attachments | None = None, requests_per_second: int = 10_000) -> None:
        self.now = NOW
        self.holders: list[Holder] = []
        self.attachments, self.requests_per_second = attachments, requests_per_second
        self.make()

    def make(self) -> None:
        self.agents = JavaAgents(
            "/proc",
            find_cgroup_id=lambda _: CGROUP_ID,
            monotonic_ns=lambda: self.now,
            requests_per_second=self.requests_per_second,
            attachments=self.attachments,
        )

    def add(self, *, way: int = CAME_WITH_JVM, shared: Holder | None = None) -> Holder:
        self.holders.append(Holder(way=way, shared=shared))
        return self.holders[-1]

    def look(self) -> dict[int, str]:
        """A second later."""
        self.now += SECOND_NS
        return dict(self.agents.look({one.pid for one in self.holders}))

    def read(self, limit: int = 1_000) -> list[tuple[SyscallEvent, bytes]]:
        return self.agents.read(limit)


@contextmanager
def run_host(attachments: Attachments | None = None, requests_per_second: int = 10_000) -> Iterator[Host]:
    host = Host(attachments, requests_per_second)
    try:
        yield host
    finally:
        host.agents.stop()
        host.agents.close()
        for holder in host.holders:
            holder.close()


@pytest.fixture
def host() -> Iterator[Host]:
    with run_host() as one:
        yield one


def test_forged_counters_end_the_reading_of_their_process_alone(host: Host) -> None:
    forger, other = host.add(), host.add()
    assert set(host.look().values()) == {""}
    host.read()
    set_counts(forger, 2**64 - 1, 2**64 - 1, 1, 2**60, 2**60, 2**60)
    set_counts(other, 6, 600, 1, 0, 0, 2)
    host.now += SECOND_NS
    host.read()
    assert (host.agents.lost_calls, dict(host.agents.lost_by_cgroup)) == (4, {CGROUP_ID: 4})
    reasons = host.look()
    assert "not read any more" in reasons[forger.pid] and reasons[other.pid] == ""
    other.put(b"GET / HTTP/1.1\r\n\r\n")
    assert [event.process for event, _ in host.read()] == [other.pid]


def test_memory_that_two_processes_share_is_read_once(host: Host) -> None:
    first = host.add()
    host.look()
    second = host.add(shared=first)
    assert host.look() == {first.pid: ""} and host.agents.found_total == 1
    first.put(b"GET")
    assert [event.process for event, _ in host.read()] == [first.pid]
    assert second.pid not in host.look()


def test_all_are_read_by_turns_within_one_limit(host: Host) -> None:
    holders = [host.add() for _ in range(3)]
    host.look()
    for holder in holders:
        for _ in range(40):
            holder.put(b"GET")
    processes = [event.process for _ in range(4) for event, _ in host.read(6)]
    assert len(processes) == 24 and {processes.count(one.pid) for one in holders} == {8}


def test_all_have_one_budget_beside_their_own() -> None:
    with run_host(requests_per_second=2) as host:
        holders = [host.add() for _ in range(3)]
        host.look()
        for holder in holders:
            for _ in range(2 * RECORDS_PER_REQUEST):
                holder.put(b"GET")
        most = NODE_SHARE * 2 * RECORDS_PER_REQUEST
        assert len(host.read()) == most
        host.now += SPENT_NS - 1
        assert host.agents.pending_bytes() == 0
        host.now += 1
        assert host.agents.pending_bytes() > 0
        host.now += SECOND_NS
        assert len(host.read()) == 3 * 2 * RECORDS_PER_REQUEST - most


def test_records_that_are_joined_spend_the_budget_of_all_too() -> None:
    with run_host(requests_per_second=2) as host:
        holders = [host.add() for _ in range(3)]
        host.look()
        for holder in holders:
            for number in range(2 * RECORDS_PER_REQUEST):
                holder.put(b"x", kind=SyscallKind.WRITE, sequence=number)
        most = NODE_SHARE * 2 * RECORDS_PER_REQUEST
        found = host.read()
        assert sum(len(data) for _, data in found) == most and len(found) < most
        assert host.agents.events == most
        assert host.agents.pending_bytes() == 0


def test_a_new_limit_reaches_agents_that_are_opened_meanwhile(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = host.add(), host.add()
    opened = JavaAgents._open

    def open_late(agents: JavaAgents, found: Found, directory: int, *rest: Any) -> Any:
        reading = opened(agents, found, directory, *rest)
        agents.limit(7)  # By another thread.
        return reading

    monkeypatch.setattr(JavaAgents, "_open", open_late)
    host.look()
    host.read()
    assert [one.read_word(BUDGET_AT) for one in (first, second)] == [7, 7]


def test_the_kernel_is_asked_for_so_many_connections_a_second(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the others no address is known."""
    asked: list[Ends] = []

    def prove(connections: ProcessConnections, ends: Ends, cgroup_id: int) -> Ends:
        asked.append(ends)
        return ends

    monkeypatch.setattr(ProcessConnections, "prove", prove)
    monkeypatch.setattr(module, "NODE_PROOFS_PER_SECOND", PROOFS_PER_SECOND + 10)
    host.make()
    for holder in (host.add(), host.add()):
        host.look()
        for number in range(PROOFS_PER_SECOND + 50):
            holder.put(b"GET", connection=number)
    families = [event.family for event, _ in host.read()]
    assert len(asked) == families.count(4) == PROOFS_PER_SECOND + 10
    assert families.count(0) == PROOFS_PER_SECOND + 90


def test_a_ring_that_never_ends_does_not_keep_the_sensor(host: Host) -> None:
    """It moves its head on, with records that never are complete, and with complete ones."""
    holders = [host.add(), host.add()]
    host.look()
    for holder in holders:
        holder.put(b"GET / HTTP/1.1\r\n\r\n")
    host.agents.stop()
    holders[0].put(b"more")
    events, turns = [], 0
    while host.agents.pending_bytes() and turns < 10:
        events += host.read()
        holders[0].put(b"more")
        holders[1].put(b"never done", is_complete=False)
        turns += 1
    assert turns < 10
    kinds = [SyscallKind.READ, SyscallKind.CUT, SyscallKind.CLOSED]
    for holder in holders:
        assert [event.kind for event, _ in events if event.process == holder.pid] == kinds


def test_connections_of_a_process_that_ended_end_after_its_last_record(host: Host) -> None:
    holder = host.add()
    host.look()
    holder.put(b"GET", connection=1)
    host.read()
    holder.put(b"last", connection=1)
    holder.end()
    host.holders.clear()
    assert host.look() == {}
    events = host.read() + host.read()
    assert [(event.kind, data) for event, data in events] == [(SyscallKind.READ, b"last"), (SyscallKind.CLOSED, b"")]
    assert host.agents.pending_bytes() == 0 and not host.agents.is_reading
    holder.close()


def test_nothing_of_a_process_is_held_between_two_readings(host: Host) -> None:
    """Its network namespace would outlive it."""
    holder = host.add()
    before = set(Path("/proc/self/fd").iterdir())
    host.look()
    holder.put(b"GET")
    host.agents.stop()
    kinds = [event.kind for _ in range(2) for event, _ in host.read()]
    assert kinds == [SyscallKind.READ, SyscallKind.CUT, SyscallKind.CLOSED]
    assert set(Path("/proc/self/fd").iterdir()) == before and not host.agents.is_reading
    holder.put(b"meanwhile")
    host.agents.start()
    assert host.look() == {holder.pid: ""}
    holder.put(b"again")
    assert [data for _, data in host.read()] == [b"again"]


def test_ends_of_many_connections_are_made_as_they_are_read(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 processes may have 4,096 each."""
    holder = host.add()
    host.look()
    for number in range(5):
        holder.put(b"GET", connection=number)
    host.read()
    holder.end()
    host.agents.look(())
    host.read()
    made: list[int] = []
    original = AgentRing._make_event

    def make_event(ring: AgentRing, number: int, *rest: Any) -> SyscallEvent:
        made.append(number)
        return original(ring, number, *rest)

    monkeypatch.setattr(AgentRing, "_make_event", make_event)
    sizes = []
    while host.agents.pending_bytes():
        found = host.read(2)
        assert {event.kind for event, _ in found} == {SyscallKind.CLOSED}
        sizes.append((len(found), len(made)))
    assert sizes == [(2, 2), (2, 4), (1, 5)]


def test_connections_of_an_agent_that_stops_reading_are_left(host: Host) -> None:
    """What it reads again has other numbers."""
    holder = host.add()
    set_counts(holder, 0, 0, STATE_READING, 0, 0, 0)
    host.look()
    holder.put(b"GET")
    set_counts(holder, 0, 0, STATE_WAITING, 0, 0, 0)
    host.now += SECOND_NS
    assert [event.kind for event, _ in host.read()] == [SyscallKind.READ]
    assert [event.kind for event, _ in host.read()] == [SyscallKind.CUT, SyscallKind.CLOSED]
    assert host.agents.is_reading


def test_whoever_reads_gives_the_heartbeat(host: Host) -> None:
    """A look may take a minute, and patches would come out meanwhile."""
    holder = host.add()
    host.look()
    beats = []
    for _ in range(3):
        host.now += SECOND_NS
        host.read()
        beats.append(holder.read_word(HEARTBEAT_AT))
        assert holder.read_word(COMMAND_AT) == COMMAND_READ
    assert len(set(beats)) == 3
    host.agents.stop()
    assert holder.read_word(COMMAND_AT) == COMMAND_WAIT


def test_an_agent_that_an_earlier_sensor_attached_needs_consent_at_each_look(tmp_path: Path) -> None:
    consent = tmp_path / FILE_NAME
    with run_host(Attachments(Consent(tmp_path), time.monotonic)) as host:
        holder = host.add(way=CAME_ATTACHED)
        own = read_cgroup(holder.directory)
        for text, reason, command in (
            ("", WITHDRAWN, COMMAND_WAIT),
            (f"{own}\n", "", COMMAND_READ),
            ("# no more\n", WITHDRAWN, COMMAND_WAIT),
        ):
            consent.write_text(text)
            consent.chmod(0o600)
            host.look()
            assert host.look() == {holder.pid: reason}
            host.read()
            assert holder.read_word(COMMAND_AT) == command


def test_a_program_that_attached_ends_for_the_sensor_whatever_its_process_holds(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(f"{read_cgroup(os.open('/proc/self', os.O_RDONLY))}\n")
    (tmp_path / FILE_NAME).chmod(0o600)
    children: list[Child] = []

    def start(pid: int, directory: int, cgroup: str, jar: Path) -> Child:
        children.append(subprocess.Popen(["true"], stderr=subprocess.PIPE))
        return children[-1]

    attachments = Attachments(Consent(tmp_path), time.monotonic, start=start, jar=tmp_path)
    with run_host(attachments) as host:
        holder = host.add(way=CAME_ATTACHED)
        os.pwrite(holder.fd, b"9", 8)  # Its version.
        assert [attachments.reread(), attachments.reread()] == [False, True]
        attachments.step(holder.pid, holder.directory)
        children[0].wait()
        assert attachments.is_busy(holder.pid)
        assert "cannot be read" in host.look()[holder.pid]
        assert not attachments.is_busy(holder.pid) and attachments.attached_total == 1


def test_consent_that_nobody_asked_for_of_late_lapses(tmp_path: Path) -> None:
    """A look that waits for one process keeps no agent that was attached."""
    consent = tmp_path / FILE_NAME
    with run_host(Attachments(Consent(tmp_path), time.monotonic)) as host:
        attached, own = host.add(way=CAME_ATTACHED), host.add()
        consent.write_text(f"{read_cgroup(attached.directory)}\n")
        consent.chmod(0o600)
        host.look()
        host.look()
        for seconds, command in ((CONSENT_SECONDS, COMMAND_READ), (1, COMMAND_WAIT)):
            host.now += seconds * SECOND_NS
            host.read()
            assert attached.read_word(COMMAND_AT) == command
        assert own.read_word(COMMAND_AT) == COMMAND_READ
        host.look()
        host.now += SECOND_NS
        host.read()
        assert attached.read_word(COMMAND_AT) == COMMAND_READ


def test_a_process_beyond_the_places_has_the_reason(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RINGS", 1)
    first = host.add()
    assert host.look() == {first.pid: ""}
    second = host.add()
    assert host.look() == {first.pid: "", second.pid: TOO_MANY}


def test_processes_of_one_cgroup_do_not_keep_those_of_others_waiting(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEARCHES_MAX", 1)
    cgroups: dict[int, str] = {}

    def read_cgroup_of(directory: int) -> str:
        return cgroups[int(Path(f"/proc/self/fd/{directory}").readlink().name)]

    monkeypatch.setattr(module, "read_cgroup", read_cgroup_of)
    many = [host.add() for _ in range(4)]
    cgroups |= {holder.pid: "/many/own" for holder in many}
    alone = host.add()
    cgroups[alone.pid] = "/alone"
    found = [host.look() for _ in range(5)]
    assert [list(one.values()).count("") for one in found] == [1, 2, 3, 4, 5]
    assert found[1][alone.pid] == ""


def test_an_agent_behind_many_descriptors_is_found_in_later_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is attached meanwhile."""
    monkeypatch.setattr(search, "DESCRIPTORS_MAX", 1)
    with run_host(Attachments(Consent(tmp_path), time.monotonic)) as host:
        monkeypatch.setattr(host.attachments, "step", lambda *_: pytest.fail("it is attached"))
        holder = host.add()
        # It may have opened files of its own as it started.
        reasons = list(takewhile(bool, (host.look()[holder.pid] for _ in range(10))))
        assert len(reasons) >= 3 and set(reasons) == {SEARCHING}
        assert host.look() == {holder.pid: ""}


def test_a_process_that_was_not_searched_yet_has_the_reason(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEARCHES_MAX", 0)
    holder = host.add()
    assert host.look() == {holder.pid: NOT_SEARCHED}
    program = subprocess.Popen(["sleep", "600"])
    monkeypatch.setattr(module, "SEARCHES_MAX", 2)
    host.now += SECOND_NS
    assert host.agents.look((holder.pid, program.pid)) == {holder.pid: ""}
    program.kill()
    program.wait()


def test_agents_of_which_nothing_is_read_give_their_places_first(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may hold memory that only looks like an agent's."""
    monkeypatch.setattr(module, "MAX_RINGS", 2)
    read, fake = host.add(), host.add()
    set_counts(read, 0, 0, STATE_READING, 0, 0, 0)
    host.look()
    host.now += IDLE_SECONDS * SECOND_NS
    host.read()
    broken = host.add()
    os.pwrite(broken.fd, b"9", 8)  # Its version.
    reasons = host.look()
    assert (reasons[read.pid], reasons[fake.pid]) == ("", "") and "cannot be read" in reasons[broken.pid]
    new = host.add()
    reasons = host.look()
    assert (reasons[read.pid], reasons[fake.pid], reasons[new.pid]) == ("", TOO_MANY, "")


def test_agents_that_are_read_no_more_keep_nobody_from_being_attached_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_RINGS", 1)
    program = subprocess.Popen(["sleep", "600"])
    children: list[Child] = []

    def start(pid: int, directory: int, cgroup: str, jar: Path) -> Child:
        children.append(subprocess.Popen(["sleep", "600"], stderr=subprocess.PIPE))
        return children[-1]

    attachments = Attachments(Consent(tmp_path), time.monotonic, start=start, jar=tmp_path)
    with run_host(attachments) as host:
        fake = host.add()
        host.look()
        host.read()
        (tmp_path / FILE_NAME).write_text(f"{read_cgroup(fake.directory)}\n")
        (tmp_path / FILE_NAME).chmod(0o600)
        host.look()
        for seconds, reason in ((1, TOO_MANY), (IDLE_SECONDS, ATTACHING)):
            host.now += seconds * SECOND_NS
            assert host.agents.look((fake.pid, program.pid)) == {fake.pid: "", program.pid: reason}
    for one in (children[0], program):
        one.kill()
        one.wait()
    attachments.reread()


def test_a_file_that_is_no_memory_is_not_opened(tmp_path: Path) -> None:
    with open("/proc/mounts") as mounts:  # noqa: PTH123
        kinds = dict(line.split()[1:3] for line in mounts)
    place = next(str(one) for one in (tmp_path, *tmp_path.parents) if str(one) in kinds)
    if kinds[place] == "tmpfs":
        pytest.skip("the temporary directory is in memory itself")
    holder = Holder(directory=tmp_path)
    try:
        assert find_ring(holder.directory, ()) == Found()
    finally:
        holder.close()


def test_a_file_is_asked_nothing_before_it_is_known_to_lie_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system of a user may never answer. Here is one that the process has not mounted, as if it had left it."""
    file = os.memfd_create("made/apidae-java-1")
    program = subprocess.Popen(["sleep", "600"], pass_fds=(file,))
    directory = os.open(f"/proc/{program.pid}", os.O_RDONLY)
    asked: list[int] = []
    original = os.fstat

    def note(handle: int) -> os.stat_result:
        asked.append(handle)
        return original(handle)

    monkeypatch.setattr(os, "fstat", note)
    try:
        assert os.readlink(f"fd/{file}", dir_fd=directory).endswith("/apidae-java-1 (deleted)")
        assert (find_ring(directory, ()), asked) == (Found(), [])
    finally:
        program.kill()
        program.wait()
        os.close(file)
        os.close(directory)


def test_what_a_process_changes_meanwhile_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handle that was checked is opened, whatever the descriptor's number leads to by then."""
    holder = Holder()
    opened: list[str] = []
    original = os.open

    def note(path: str | bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_RDWR:
            opened.append(os.fsdecode(path))
        return original(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", note)
    try:
        found = find_ring(holder.directory, ())
        assert found.fd >= 0 and not found.reason
        os.close(found.fd)
        assert [path.rpartition("/")[0] for path in opened] == ["/proc/self/fd"]
    finally:
        holder.close()


def get_ends(connection: socket.socket) -> Ends:
    (local, local_port), (remote, remote_port) = connection.getsockname(), connection.getpeername()
    return Ends(
        family=4,
        local_port=local_port,
        remote_port=remote_port,
        local_address=socket.inet_aton(local) + bytes(12),
        remote_address=socket.inet_aton(remote) + bytes(12),
    )


def test_only_a_connection_of_the_process_itself_is_proven() -> None:
    """Here is one; another process, of the same user, host and cgroup, has it not."""
    other = subprocess.Popen(["sleep", "600"])
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    ends = get_ends(accepted)
    made_up = Ends(
        family=4,
        local_port=ends.local_port,
        remote_port=9,
        local_address=ends.local_address,
        remote_address=socket.inet_aton("192.0.2.1") + bytes(12),
    )
    proofs = []
    for pid in (os.getpid(), other.pid):
        directory = os.open(f"/proc/{pid}", os.O_RDONLY)
        connections = ProcessConnections(directory, time.monotonic)
        os.close(directory)
        # Of no cgroup, so by its descriptors; then of a cgroup that none of these sockets has.
        proofs.append([connections.prove(one, 0) for one in (ends, made_up, get_ends(client))])
        assert connections.prove(ends, 1 << 40) == UNKNOWN_ENDS
        connections.close()
    mapped = bytes(10) + b"\xff\xff" + socket.inet_aton("127.0.0.1")
    own = Ends(family=6, local_port=ends.local_port, local_address=mapped)
    # Where it listens, it may have been called; else it can only have called.
    assert proofs[0] == [ends, own, replace(get_ends(client), is_client=True)]
    assert proofs[1] == [UNKNOWN_ENDS] * 3
    for end in (accepted, client, server):
        end.close()
    other.kill()
    other.wait()
