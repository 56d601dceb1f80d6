"""The short-lived child that compiles and loads: `python -m sensor.kernel.compile FD RING_PAGES
RECORDS_PAGES LOOPBACK_IS_LOCAL`.

Takes the program from sensor/bpf, loads it with bcc, and passes the fds of programs and maps over the unix socket FD
(SCM_RIGHTS), after one JSON line. LLVM's 130 MB stay here and end with the process. The only importer of bcc.

The fd of the `programs` map must go along: the kernel empties a program array when its last user-space reference goes.
"""

import json
import os
import re
import socket
import sys
from pathlib import Path

from sensor.kernel.machine import build_machine, defines

BPF_DIRECTORY = Path(__file__).resolve().parent.parent / "bpf"
# Order of `enum program` in bpf/conn.h.
TAIL_CALLS = ("walk", "finish", "walk_deferred", "finish_deferred", "recognise", "recognise_deferred")
PROGRAMS = ("ingress", "egress", *TAIL_CALLS)
MAPS = (
    *("events", "records", "counters", "ports", "listening", "programs"),
    # What user space teaches (conn.h, learned.h).
    *("settings", "names", "roots", "edges", "leaves", "profiles", "overflow"),
)


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


def load(ring_pages: int, records_pages: int, is_loopback_local: bool) -> list[int]:
    """Compiles, loads and wires the programs; gives the fds of ingress, egress and MAPS, in order. Raises what bcc
    raises."""
    os.environ["BCC_KERNEL_SOURCE"] = str(BPF_DIRECTORY / "include")
    from bcc import BPF

    bpf = BPF(text=read_source(), cflags=compile_flags(ring_pages, records_pages, is_loopback_local))
    functions = {name: bpf.load_func(name, BPF.CGROUP_SKB) for name in PROGRAMS}
    machines = bpf["machines"]
    machines[machines.Key(0)] = machines.Leaf.from_buffer_copy(build_machine().packed())
    for number, name in enumerate(TAIL_CALLS):
        bpf["programs"][number] = functions[name]
    return [functions["ingress"].fd, functions["egress"].fd, *(bpf[name].map_fd for name in MAPS)]


def main() -> None:
    """Answers on the socket: `{"ok": true}` with the fds, or `{"ok": false, "error": ...}`."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    try:
        fds = load(int(sys.argv[2]), int(sys.argv[3]), bool(int(sys.argv[4])))
    except Exception as error:  # bcc raises bare Exception; the parent turns it into one sentence.
        channel.sendall(json.dumps({"ok": False, "error": str(error)}).encode())
    else:
        socket.send_fds(channel, [json.dumps({"ok": True}).encode()], fds)
    # Skips bcc's clean-up, which walks all kprobes.
    os._exit(0)


if __name__ == "__main__":
    main()
