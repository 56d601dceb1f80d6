"""Any text that the kernel, a container, Kubernetes or a client gives goes the whole way: to the bytes that are sent,
and through the collector's checks. Nothing fails on the way, and what arrives is printable and bounded."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest
from apidae.v1 import stream_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.receiver.convert import convert_bytes
from collector.receiver.reports import convert_coverage
from collector.storage.columns import RowBatch
from sensor.agent.enforcement import Enforcement
from sensor.agent.node import Node
from sensor.agent.pipeline import CallProcessor, Pipeline, ProcessorState
from sensor.aggregate.aggregator import Aggregator
from sensor.core.calls import Exchange, RawBodies, Service
from sensor.core.clock import Clock
from sensor.core.config import SensorSettings
from sensor.core.health import Failures
from sensor.core.keyed import InstallationKey
from sensor.core.printable import NAME_BYTES_MAX
from sensor.coverage.row import PortCoverage, PortProtocol
from sensor.enrich.cgroup import CgroupOwner
from sensor.enrich.containers import ContainerTable, read_container
from sensor.enrich.hidden import list_unix_listeners
from sensor.enrich.kubernetes.pod import Pod, PodObject, list_workloads, read_pod
from sensor.enrich.program_files import ProgramFiles
from sensor.enrich.programs import name_program
from sensor.enrich.sockets import UnixSocket
from sensor.export.convert import BatchConverter, SerialisedBatch
from sensor.export.messages import write_coverage, write_schemas
from sensor.routes.shared_use import MIN_SPAN_NS
from tests.sensor.enrich.fakes import read_here
from tests.sensor.enrich.test_identity import Node as FakeNode
from tests.sensor.records import ROUTE, change_fields, make_exchange, make_record, make_service
from tests.sensor.scopes import watch_host
from tests.sensor.sensor_fakes import make_users_exchange

NOW = Clock().unix_ns() // 10**9
FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None
CONSUMERS = 3  # Who share a word for hours: then it may leave.
HOSTILE = (
    bytes(one for one in range(1, 128) if one != 0x2F),
    bytes(range(128, 256)),
    b"\xff\xfe\x80",
    b"\xed\xa0\x80\xed\xb0\x80",  # Halves of a pair, as UTF-8 may not have them.
    b"a" * 250,
    b"\xff" * 250,
    "\U0001f600".encode() * 60,
    b"<svg onload=alert(1)>",
    b"\x1b[31mred\x1b]0;title\x07",
    b"two\nlines\r\x0b\x0c\x1c\x85",
    b"=cmd|' /C calc'!A0",
    b" (deleted)",
    b"%s %(message)s {0}",
    "pay\u202efdp".encode(),
    b"a" * 64,
)
names = st.sampled_from(HOSTILE) | st.binary(min_size=1, max_size=240).map(
    lambda name: name.replace(b"/", b"-").replace(b"\0", b"-")
)


@contextmanager
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir=FAST))
    try:
        yield path
    finally:
        shutil.rmtree(os.fsencode(path))


def read_back(message: stream_pb2.ConnectRequest) -> stream_pb2.ConnectRequest:
    return stream_pb2.ConnectRequest.FromString(message.SerializeToString())


def take_batches(batches: Sequence[SerialisedBatch]) -> list[str]:
    """All texts of batches as the collector has them."""
    texts: list[str] = []
    for batch in batches:
        taken = convert_bytes(batch.payload, NOW)
        assert isinstance(taken, RowBatch), taken
        texts += taken.strings
        for route in taken.routes:
            texts += [route.service.workload, route.service.namespace, route.host, route.method]
    return texts


def send_names(services: Sequence[Service], clients: Sequence[str]) -> None:
    """Rows and a report of these services, called by these clients."""
    aggregator, converter = Aggregator(), BatchConverter(node="node-1", boot_id="c" * 32)
    pairs = [(service, client) for service in services for client in clients or ("",)]
    for number, (service, client) in enumerate(pairs):
        route = msgspec.structs.replace(ROUTE, route_id=number + 1, service=service)
        aggregator.add(make_record(time_unix_ns=NOW * 10**9, route=route, client_workload=client))
    batches = converter.convert(
        aggregator.flush(), key_id=1, policy_epoch=0, clock_segment=0, lost_calls_total=0, seen_calls_total=0
    )
    assert sum(batch.calls for batch in batches) == len(pairs)
    texts = take_batches(batches)
    assert {service.workload for service in services} <= set(texts) and {*clients, ""} <= {*texts, ""}
    ports = [
        PortCoverage(service=one, protocol=PortProtocol.UNIX, connections=1, bytes=0, address=one.workload, reason="r")
        for one in services
    ]
    coverage = read_back(write_coverage(ports, time_unix_ns=1)).coverage
    assert [port.service.workload for port in coverage.ports] == [service.workload for service in services]
    assert len(convert_coverage(coverage, node="node-1", boot_id="c" * 32, now_unix_seconds=NOW)) == len(services)
    for text in texts:
        assert text.isprintable() and len(text.encode()) <= 2 * NAME_BYTES_MAX + 1  # A namespace and a workload.


def make_cgroup(root: Path, path: bytes) -> int:
    """Its id. The kernel takes 255 bytes of each name."""
    whole = os.fsencode(root) + b"".join(b"/" + part[:255] for part in path.split(b"/"))
    os.makedirs(whole, exist_ok=True)  # noqa: PTH103 - of any bytes.
    return os.stat(whole).st_ino  # noqa: PTH116


@settings(max_examples=60, deadline=None)
@given(names)
def test_names_of_cgroups(name: bytes) -> None:
    """As a unit, in a user's slice, as a container of each runtime that names its own; of a server and of a client."""
    with directory() as root:
        node = FakeNode(root)
        ids = [
            make_cgroup(node.tree, path)
            for path in (
                name[:240] + b".service",
                b"user.slice/user-1000.slice/user@1000.service/" + name[:240] + b".service",
                b"machine.slice/machine-" + name[:240] + b".scope",
                b"lxc.payload." + name[:240],
                b"lxc/x" + name[:240],
            )
        ]
        services = [node.identity.server(cgroup_id, 80, "10.0.0.5")[0] for cgroup_id in ids]
        send_names(services, [node.identity.client_workload(cgroup_id, "10.0.0.5", 1) for cgroup_id in ids])


@settings(max_examples=60, deadline=None)
@given(names, names)
def test_names_of_processes(name: bytes, other: bytes) -> None:
    """Executable, command, command line, and a cgroup that only /proc names."""
    with directory() as root:
        node = FakeNode(root)
        for pid, executable in (
            (70, b"/usr/bin/" + name),
            (71, b"/usr/bin/python3"),
            (72, b"/" + name + b" (deleted)"),
        ):
            node.proc.add(pid, sockets=(pid,))
            process = node.proc.root / str(pid)
            (process / "exe").unlink()
            os.symlink(executable, os.fsencode(process / "exe"))  # noqa: PTH211 - of any bytes.
            (process / "stat").write_bytes(b"%d (%s) S 1 %s100 0\n" % (pid, name, b"0 " * 17))
            (process / "cmdline").write_bytes(b"python3\0" + name + b"\0--key\0" + other + b"\0")
        (node.proc.root / "72" / "cgroup").write_bytes(b"0::/" + other.replace(b"\n", b"-") + b".service\n")
        for pid in (70, 71, 72):
            node.listen(8_000 + pid, pid)
        node.identity.refresh()
        listeners = node.listeners.all()
        assert [listener.process is not None for listener in listeners] == [True] * 3
        services = [node.identity.listener_service(listener) for listener in listeners]
        send_names(services, [node.identity.name_process(one.process) for one in listeners if one.process])


CONTAINER = "c" * 64


@settings(max_examples=60, deadline=None)
@given(names, names)
def test_texts_of_containers_and_packages(name: bytes, other: bytes) -> None:
    """What a runtime keeps of a container and its image, and the package of a program."""
    text, image = name.decode(errors="replace"), other.decode(errors="replace")
    with directory() as root:
        for file_name, content in (
            (f"var/lib/docker/containers/{CONTAINER}/config.v2.json",
             {"Name": text, "Image": image, "Driver": text, "Config": {"Image": image}}),
            ("var/lib/containers/storage/overlay-containers/containers.json",
             [{"id": CONTAINER, "names": [text, image], "image": image, "metadata": json.dumps({"image-name": text})}]),
            ("proc/70/root/srv/package.json", {"name": text}),
        ):  # fmt: skip
            (root / file_name).parent.mkdir(parents=True, exist_ok=True)
            (root / file_name).write_text(json.dumps(content))
        (root / "proc/70/mountinfo").symlink_to("/proc/self/mountinfo")
        table = ContainerTable(partial(read_container, read=read_here, root=root))
        workload = table.name(CONTAINER)
        files = ProgramFiles(read_here, root / "proc/70", "/")
        program = name_program(
            executable="/usr/bin/node", command_line=["node", "/srv/server.js"], command="node", files=files
        )
        send_names([make_service(workload=workload), make_service(workload=program)], [workload])
        facts = table.workloads(cluster="", zone="")
        for sent in read_back(write_coverage([], facts, time_unix_ns=1)).coverage.workloads:
            for one in (sent.workload, *sent.labels):
                assert one.isprintable() and len(one.encode()) <= 1_024


@settings(max_examples=60, deadline=None)
@given(names)
def test_paths_of_unix_sockets(name: bytes) -> None:
    path = UnixSocket(name=b"/run/" + name[:100], kind=1, state=10, inode=7, uid=0)
    abstract = UnixSocket(name=b"\0" + name[:100], kind=1, state=10, inode=8, uid=0)
    listeners = list_unix_listeners([path, abstract])
    assert len(listeners) == 2
    ports = [
        PortCoverage(
            service=make_service(), protocol=PortProtocol.UNIX, connections=1, bytes=0, address=one.path, reason=""
        )
        for one in listeners
    ]
    coverage = read_back(write_coverage(ports, time_unix_ns=1)).coverage
    assert all(port.address.isprintable() and len(port.address.encode()) <= NAME_BYTES_MAX for port in coverage.ports)


def make_pod(name: str) -> Pod:
    pod = {
        "metadata": {
            "name": name, "namespace": name, "uid": "u", "labels": {"team": name},
            "annotations": {"apidae.io/watch": name}, "ownerReferences": [{"kind": name, "name": name}],
        },
        "status": {"containerStatuses": [{"name": name, "containerID": "x://c"}]},
    }  # fmt: skip
    return read_pod(msgspec.json.decode(json.dumps(pod), type=PodObject), label_keys=["team"])


class Pods:
    """One Pod, in whatever cgroup."""

    generation, node_addresses = 0, frozenset[str]()

    def __init__(self, pod: Pod) -> None:
        self.namespace, self.workload = pod.namespace, pod.workload
        self.is_hop, self.is_proxy, self.left_out = False, False, ""

    def name(self, owner: CgroupOwner) -> "Pods":
        return self

    def address_workload(self, address: str, first_ns: int, last_ns: int) -> str:
        return f"{self.namespace}/{self.workload}"


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=300)
    | st.sampled_from(HOSTILE).map(lambda name: name.decode(errors="replace"))
    | st.just("\U0001f600" * 253)
)
def test_names_of_pods_and_their_owners(name: str) -> None:
    pod = make_pod(name)
    with directory() as root:
        node = FakeNode(root, Pods(pod))
        cgroup_id = make_cgroup(node.tree, b"a" * 64)
        send_names(
            [node.identity.server(cgroup_id, 80, "10.0.0.5")[0]],
            [node.identity.client_workload(cgroup_id, "10.0.0.5", 1), node.identity.address_workload("10.0.0.5", 1, 1)],
        )
    workloads = list_workloads([pod], cluster="", zone="")
    (told,) = read_back(write_coverage([], workloads, time_unix_ns=1)).coverage.workloads
    for text in (told.namespace, told.workload, told.kind, *told.labels):
        assert text.isprintable() and len(text.encode()) <= NAME_BYTES_MAX + len("team=")


class Way:
    """From exchanges to what the collector makes of them, with every room between as a sensor has it."""

    def __init__(self, root: Path) -> None:
        (root / "cgroup").mkdir()
        (root / "proc").mkdir()
        chosen = SensorSettings(collector="127.0.0.1:1", kubernetes="off", state_dir=root, proc_path=root / "proc")
        self.clock, aggregator = Clock(), Aggregator()
        node = Node(chosen, watch_host(root / "cgroup"), self.clock, Failures())
        self.knowledge = ProcessorState(chosen, self.clock, aggregator, node)
        enforcement = Enforcement(
            chosen, self.clock, list_servers=node.servers, list_namespaces=dict, proc=root / "proc"
        )
        key = InstallationKey(key_id=7, secret=b"0123456789abcdef")
        self.pipeline = Pipeline(
            processor=CallProcessor(chosen, node, self.knowledge, enforcement, key),
            aggregator=aggregator,
            converter=BatchConverter(node="node-1", boot_id="c" * 32),
            clock=self.clock,
            key_id=7,
        )

    def send(self, exchanges: Sequence[Exchange]) -> list[str]:
        """All texts that the collector gets of them."""
        self.pipeline.take(exchanges)
        texts = take_batches(self.pipeline.flush())
        self.knowledge.schemas.offer_all()
        for schemas in self.knowledge.schemas.take(self.clock.monotonic_ns()):
            told = read_back(write_schemas(schemas)).schemas.schemas
            assert len(told) == len(schemas)
            for schema in told:
                texts += [schema.media_type, schema.operation, *(one.name for one in schema.operations)]
                texts += [text for field in schema.fields for text in (field.path, *field.values)]
                texts += [claim.value for claim in schema.tokens]
        for count in self.pipeline.counts():
            assert not {"failed", "unwritable"} & {reason for reason, _ in count.dropped}, count
        return texts


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Way:
    return Way(tmp_path_factory.mktemp("way"))


texts = st.sampled_from([*HOSTILE, b"\\ud800\\udfff", b"\\u0000\\u001b"]) | st.binary(max_size=300)


@settings(max_examples=60, deadline=None)
@given(texts, texts)
def test_texts_of_clients_and_servers(way: Way, text: bytes, other: bytes) -> None:
    """In each part of a head and of a body, sent by so many consumers that words may be told."""
    line = text.translate(None, b"\r\n ") or b"x"
    exchanges: list[Exchange] = []
    for consumer in range(CONSUMERS):
        time_ns = way.clock.unix_ns() - (CONSUMERS - 1 - consumer) * MIN_SPAN_NS
        head = (
            b"POST /" + line + b"?" + line + b"=" + line + b" HTTP/1.1\r\nHost: " + line + b"\r\nUser-Agent: " + line
            + b"\r\nContent-Type: application/json; a=" + line + b"\r\nCookie: " + line + b"=1\r\n" + line
            + b": 1\r\nX-Api-Key: key%d\r\nSOAPAction: " % consumer + line + b"\r\n\r\n"
        )  # fmt: skip
        document = b'{"' + text.replace(b'"', b"") + b'": "' + other.replace(b'"', b"") + b'"}'
        form = json.dumps({text.decode("utf-8", "surrogateescape"): [other.decode("utf-8", "surrogateescape")] * 9})
        query = json.dumps({"query": "query " + text.decode("latin-1") + " { " + other.decode("latin-1") + " }"})
        for kind, body in (
            (b"application/json", document),
            (b"application/json", form.encode()),
            (line, query.encode()),
        ):
            response = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind, len(body))
            request = head.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % len(body))
            exchanges.append(
                change_fields(
                    make_users_exchange(),
                    time_unix_ns=time_ns,
                    remote_address=f"10.0.0.{consumer + 1}",
                    request_head=request,
                    response_head=response,
                    bodies=RawBodies(body, body),
                )
            )
        request_head = line[:40] + b" /a HTTP/1.1\r\n\r\n"
        exchanges.append(make_exchange(time_unix_ns=way.clock.unix_ns(), request_head=request_head))
    for told in way.send(exchanges):
        assert told.isprintable() and len(told.encode()) <= 1_024, told
