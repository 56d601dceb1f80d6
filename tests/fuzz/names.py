"""What is fuzzed of the names that others choose: of processes, cgroups, containers and Pods, up to the collector."""

import contextlib
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, get_type_hints

import msgspec
from apidae.v1 import stream_pb2

from collector.receiver.reports import convert_coverage
from common.kubernetes.objects import Part
from sensor.core.printable import NAME_BYTES_MAX, make_printable
from sensor.coverage.row import PortCoverage, PortProtocol
from sensor.enrich.cgroup import own_path
from sensor.enrich.cgroup_tree import list_mounts
from sensor.enrich.containers import SHORT_ID_CHARACTERS, read_container
from sensor.enrich.file_contents import TASKS
from sensor.enrich.identity import NodeIdentity
from sensor.enrich.kubernetes.pod import PodObject, list_workloads, read_pod
from sensor.enrich.processes import ProcessTable
from sensor.enrich.program_files import ProgramFiles
from sensor.export.messages import write_coverage
from tests.sensor.enrich.fakes import FakeClock, FakeSockets, read_here

_FAST: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None
_CONTAINER: Final = "c" * 64
_NOW: Final = 1_800_000_000


def check_texts(*texts: str) -> None:
    """Printable, bounded, and on the wire as they are."""
    for text in texts:
        assert text.isprintable() and len(text.encode()) <= 2 * NAME_BYTES_MAX + 1, text


def fuzz_file_contents(data: bytes) -> None:
    """A file, read by each task of the sandbox: an answer of its type, within its bounds, or an exception, which the
    sandbox counts."""
    descriptor = os.memfd_create("file")
    try:
        os.write(descriptor, data)
        for task in TASKS:
            try:
                answer = task(descriptor, _CONTAINER)
            except Exception:
                continue
            kind: Any = get_type_hints(task, include_extras=True)["return"]
            assert msgspec.msgpack.decode(msgspec.msgpack.encode(answer), type=kind) == answer, task
    finally:
        os.close(descriptor)


def fuzz_container_files(data: bytes) -> None:
    """A user's file says what it likes: a name by the runtimes' rule, or the short id."""
    with TemporaryDirectory(dir=_FAST) as name:
        root = Path(name)
        for path in (
            f"var/lib/docker/containers/{_CONTAINER}/config.v2.json", "var/lib/docker/image/overlay2/repositories.json",
            "var/lib/containers/storage/overlay-containers/containers.json",
            "var/lib/containers/storage/overlay-images/images.json", "etc/docker/daemon.json",
            "etc/containers/storage.conf",
        ):  # fmt: skip
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        found = read_container(_CONTAINER, read=read_here, root=root)
    assert found.name.isascii() and 0 < len(found.name) <= 128
    assert found.name == _CONTAINER[:SHORT_ID_CHARACTERS] or found.name.isprintable()
    check_texts(*(text for pair in (found.image.attributes() if found.image else ()) for text in pair))


def fuzz_process_texts(data: bytes) -> None:
    """The texts of /proc of one process, cut at line ends: its service's name comes to the collector as it left."""
    stat, command_line, cgroup, executable, mounts = (*data.split(b"\n", 4), b"", b"", b"", b"")[:5]
    with TemporaryDirectory(dir=_FAST) as name:
        process = Path(name) / "7"
        (process / "root").mkdir(parents=True)
        (process / "stat").write_bytes(b"7 (" + stat + b") S 1 " + b"0 " * 17 + b"100 0\n")
        (process / "cmdline").write_bytes(command_line)
        (process / "cgroup").write_bytes(b"0::/" + cgroup + b"\n" + mounts)
        (process / "mountinfo").write_bytes(mounts)
        with contextlib.suppress(OSError, ValueError):
            os.symlink(executable or b"/usr/bin/node", os.fsencode(process / "exe"))  # noqa: PTH211 - of any bytes.
        table = ProcessTable(Path(name), partial(ProgramFiles, read_here))
        found = table.process(7)
        assert found is not None
        sockets = FakeSockets()
        identity = NodeIdentity(
            cluster="", node="n", cgroups=None, listeners=None, sockets=sockets, processes=table,  # type: ignore[arg-type]
            name_container=lambda container, uid: container, clock=FakeClock(),
        )  # fmt: skip
        service = identity.process_service(found)
        shutil.rmtree(process)
    check_texts(found.name, found.executable, service.workload, identity.name_process(found))
    for path in (found.cgroup_path, *found.cgroup_v1_paths):
        assert path.isprintable()
        check_texts(own_path(path).name)
    row = PortCoverage(service=service, protocol=PortProtocol.UNIX, connections=1, bytes=0, address="", reason="")
    told = stream_pb2.ConnectRequest.FromString(write_coverage([row], time_unix_ns=1).SerializeToString()).coverage
    (record,) = convert_coverage(told, node="n", boot_id="c" * 32, now_unix_seconds=_NOW)
    assert record.workload == service.workload
    for mount, _ in list_mounts(os.fsdecode(mounts)):
        os.fsencode(mount)


class _Pods(Part, frozen=True, kw_only=True):
    items: tuple[msgspec.Raw, ...] = ()


def fuzz_pods(data: bytes) -> None:
    """A list of Pods of any fields: those that can be read are workloads, whose texts come to the collector."""
    pods = []
    try:
        listed = msgspec.json.decode(data, type=_Pods).items
    except (ValueError, RecursionError):
        return
    for raw in listed:
        try:
            found = msgspec.json.decode(raw, type=PodObject)
        except (ValueError, RecursionError):
            continue
        with contextlib.suppress(OverflowError, ValueError):  # A time before all others: the reflector skips it.
            pods.append(read_pod(found, label_keys=["team", "a"]))
    for pod in pods:
        check_texts(pod.namespace, pod.name, pod.workload, pod.workload_kind, pod.watch)
        check_texts(*(name for _, name in pod.containers), *(value for _, value in pod.labels))
    facts = list_workloads(pods, cluster="", zone=make_printable(data[:300]))
    told = stream_pb2.ConnectRequest.FromString(write_coverage([], facts, time_unix_ns=1).SerializeToString()).coverage
    assert [(one.namespace, one.workload) for one in told.workloads] == [(one.namespace, one.workload) for one in facts]
    for one in told.workloads:
        check_texts(one.namespace, one.workload, one.kind, one.zone, *one.labels)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "file_contents": fuzz_file_contents,
    "container_files": fuzz_container_files,
    "process_texts": fuzz_process_texts,
    "pods": fuzz_pods,
}
