"""The short-lived child that compiles: `python -m sensor.kernel.compile`.

Reads a `Build` from standard input, compiles that source of sensor/bpf with bcc and writes its image
(sensor.kernel.image) to standard output. LLVM's 130 MB stay here and end with the process. The only importer of bcc.
"""

import ctypes
import os
import re
import sys
from pathlib import Path

import msgspec

from sensor.kernel.image import PROG_TYPE_CGROUP_SKB, Image, describe_map, describe_program
from sensor.kernel.machine import defines

BPF_DIRECTORY = Path(__file__).resolve().parent.parent / "bpf"
# Order of `enum program` in bpf/conn.h.
TAIL_CALLS = (
    *("walk", "finish", "walk_deferred", "recognise", "answer", "follow_frames", "copy_frames"),
    *("encrypted", "datagram", "body", "upgraded", "route", "guard", "guard_streams", "ingress", "match_streams"),
)
PROGRAMS = ("egress", *TAIL_CALLS)
MAPS = (
    *("events", "records", "frames", "stream_records", "counters", "programs"),
    *("ports", "peers", "websockets", "listening"),
    # What user space teaches (conn.h, learned.h).
    *("settings", "names", "roots", "edges", "edge_signs", "leaves", "profiles", "overflow", "blocks", "clients"),
    # What is blocked (enforce.h).
    *("enforcement", "blocked_addresses", "blocked_networks", "spared_networks", "blocked_credentials"),
    *("verdicts", "verdict_scopes", "stop_counts", "stops"),
    "leases",
)


class Build(msgspec.Struct, frozen=True):
    """All that decides what the compiler makes."""

    source: str  # A file of sensor/bpf.
    flags: list[str]
    programs: dict[str, int]  # Type by name (`enum bpf_prog_type`).
    tail_calls: list[str] = []  # Of them, in the order of the program array.


def read_source(name: str = "http1.c", seen: set[str] | None = None) -> str:
    """The program with its own headers put in: bcc rewrites map accesses in the main file only."""
    seen = set() if seen is None else seen
    lines = []
    for line in (BPF_DIRECTORY / name).read_text().splitlines(keepends=True):
        match = re.match(r'#include "(.+)"', line)
        if not match:
            lines.append(line)
        elif match[1] not in seen:
            seen.add(match[1])
            lines.append(read_source(match[1], seen))
    return "".join(lines)


def compile_flags(ring_pages: int, records_pages: int, is_loopback_local: bool) -> list[str]:
    """Build constants; nothing is replaced in the text."""
    return [
        *defines(),
        f"-DRING_PAGES={ring_pages}",
        f"-DRECORDS_PAGES={records_pages}",
        f"-DLOOPBACK_IS_LOCAL={int(is_loopback_local)}",
        f"-DPAGE_SIZE={os.sysconf('SC_PAGE_SIZE')}",
        "-Wno-everything",
    ]


def build_http1(ring_pages: int, records_pages: int, is_loopback_local: bool) -> Build:
    """The programs on a cgroup's packets."""
    return Build(
        source="http1.c",
        flags=compile_flags(ring_pages, records_pages, is_loopback_local),
        programs=dict.fromkeys(PROGRAMS, PROG_TYPE_CGROUP_SKB),
        tail_calls=list(TAIL_CALLS),
    )


def compile_image(build: Build) -> Image:
    """The whole kernel side. Raises what bcc raises."""
    # From its environment libbcc takes another machine, another kernel version and other headers than these.
    for name in [name for name in os.environ if name == "ARCH" or name.startswith("BCC_")]:
        del os.environ[name]
    os.environ["BCC_KERNEL_SOURCE"] = str(BPF_DIRECTORY / "include")
    from bcc import BPF, lib

    bpf = BPF(text=read_source(build.source), cflags=build.flags)
    lib.bpf_table_name.restype = ctypes.c_char_p
    lib.bpf_table_name.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    lib.bpf_num_tables.argtypes = [ctypes.c_void_p]
    names = [lib.bpf_table_name(bpf.module, number) for number in range(lib.bpf_num_tables(bpf.module))]
    fds = [lib.bpf_table_fd(bpf.module, name) for name in names]
    numbers = {fd: number for number, fd in enumerate(fds)}
    return Image(
        maps=[describe_map(name.decode(), fd) for name, fd in zip(names, fds, strict=True)],
        programs=[describe_program(name, bpf.dump_func(name), numbers, kind) for name, kind in build.programs.items()],
        tail_calls=build.tail_calls,
    )


def main() -> int:
    """Writes the image; where compiling fails, says why on standard error."""
    try:
        image = compile_image(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Build))
    except Exception as error:  # bcc raises bare Exception; the parent turns it into one sentence.
        print(error, file=sys.stderr, flush=True)
        return 1
    sys.stdout.buffer.write(msgspec.msgpack.encode(image))
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    # Skips bcc's clean-up, which walks all kprobes.
    os._exit(main())
