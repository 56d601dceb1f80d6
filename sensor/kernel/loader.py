"""Loads the kernel side in a child and attaches it to a cgroup by bpf_link.

Gives `LoadedProgram`: the fds of the two entry programs and of the maps. Nothing is pinned: when the sensor ends, by
whatever means, the kernel takes everything down.
"""

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sensor.kernel.compile import MAPS
from sensor.kernel.syscalls import CGROUP_INET_EGRESS, CGROUP_INET_INGRESS, create_link

# A busy machine compiles in some 5 s; past this the child hangs.
COMPILE_TIMEOUT_SECONDS = 60.0
_ANSWER_BYTES = 1 << 16
# The ring of records: 61,000 calls, half a second of a busy node.
RECORDS_BYTES: Final = 8 << 20


class LoadError(RuntimeError):
    """The kernel side could not be loaded or attached; the message names the cause and the fix."""


@dataclass(slots=True, kw_only=True)
class LoadedProgram:
    """Open fds of what was loaded. `links` is empty while detached."""

    ingress: int
    egress: int
    maps: dict[str, int]
    cgroup: int
    links: list[int]

    def attach(self) -> None:
        """Starts capture. Raises LoadError where another owner holds the cgroup exclusively."""
        if self.links:
            return
        try:
            self.links.append(create_link(self.ingress, self.cgroup, CGROUP_INET_INGRESS))
            self.links.append(create_link(self.egress, self.cgroup, CGROUP_INET_EGRESS))
        except OSError as error:
            self.detach()
            raise LoadError(
                f"attaching to the cgroup failed: {error.strerror}; another program may hold it exclusively "
                "(`bpftool cgroup tree` shows it), or CAP_BPF and CAP_NET_ADMIN are missing"
            ) from error

    def detach(self) -> None:
        """Stops capture at once; attach() starts it again."""
        while self.links:
            os.close(self.links.pop())

    def close(self) -> None:
        """Detaches and frees everything."""
        self.detach()
        for fd in (self.ingress, self.egress, self.cgroup, *self.maps.values()):
            os.close(fd)
        self.maps.clear()


def _explain(error: str, stderr: str) -> str:
    if "No module named 'bcc'" in error:
        return (
            "the module bcc is missing: install the operating system's package python3-bpfcc "
            "(the index's package named bcc is another thing)"
        )
    if "Operation not permitted" in error or "Permission denied" in error:
        return f"the kernel refused the program ({error}): run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
    last = stderr.strip().splitlines()[-1] if stderr.strip() else ""
    return f"{error} {last}".strip()


def load_program(
    cgroup_path: Path, ring_bytes: int, is_root_cgroup: bool, records_bytes: int = RECORDS_BYTES
) -> LoadedProgram:
    """Compiles and loads (1-2 s, in a child); attaches nothing yet.

    `ring_bytes` (heads) and `records_bytes` are powers of two of at least a page. With `is_root_cgroup` every local
    server is seen, so the client end of a loopback connection is left out from the start. Raises LoadError.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "sensor.kernel.compile",
                str(theirs.fileno()),
                str(ring_bytes // os.sysconf("SC_PAGE_SIZE")),
                str(records_bytes // os.sysconf("SC_PAGE_SIZE")),
                str(int(is_root_cgroup)),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        ours.settimeout(COMPILE_TIMEOUT_SECONDS)
        try:
            answer, fds, _, _ = socket.recv_fds(ours, _ANSWER_BYTES, len(MAPS) + 2)
            _, stderr = child.communicate(timeout=COMPILE_TIMEOUT_SECONDS)
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            child.kill()
            child.communicate()
            raise LoadError(
                f"compiling the kernel side took over {COMPILE_TIMEOUT_SECONDS:.0f} s: "
                "the machine is too busy, try again"
            ) from error
    told = json.loads(answer) if answer else {"ok": False, "error": f"the compiler ended with {child.returncode}"}
    if not told["ok"] or len(fds) != len(MAPS) + 2:
        raise LoadError(f"loading the kernel side failed: {_explain(str(told.get('error', 'no fds')), stderr)}")
    try:
        cgroup = os.open(cgroup_path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        for fd in fds:
            os.close(fd)
        raise LoadError(
            f"cgroup_path {cgroup_path} cannot be opened: {error.strerror}; name the cgroup v2 mount"
        ) from error
    return LoadedProgram(
        ingress=fds[0], egress=fds[1], maps=dict(zip(MAPS, fds[2:], strict=True)), cgroup=cgroup, links=[]
    )
