"""Loads bpf/syscalls.c with constants of the running kernel, and attaches it to raw tracepoints.

Raw tracepoints (BPF_RAW_TRACEPOINT_OPEN, Linux 4.17) need neither a cgroup nor tracefs. Nothing is pinned: when the
sensor ends, by whatever means, the kernel detaches everything.

The programs follow the kernel's tables from a descriptor to a socket. The offsets of these fields come from the
kernel's own type information (Documentation/bpf/btf.rst), so no kernel headers are needed. The file has 5 MB and is
walked once, in some 50 ms.
"""

import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sensor.ebpf.bpf_syscall import open_raw_tracepoint, update_map
from sensor.ebpf.compile import PROG_TYPE_RAW_TRACEPOINT, Build
from sensor.ebpf.loader import KernelPrograms, LoadError, load_build

BTF_PATH: Final = Path("/sys/kernel/btf/vmlinux")
_MAGIC: Final = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MEMBER = struct.Struct("<III")
_STRUCT, _UNION = 4, 5
_MODIFIERS: Final = frozenset((8, 9, 10, 11, 18))  # typedef, volatile, const, restrict, type tag.
# Bytes after the type's own 12, by kind; and for each of its members.
_EXTRA: Final = {1: 4, 3: 12, 14: 4, 17: 4}
_PER_MEMBER: Final = {_STRUCT: 12, _UNION: 12, 6: 8, 13: 8, 15: 12, 19: 12}


class BtfError(RuntimeError):
    """The kernel tells no such field; the message names it."""


class Btf:
    """The types of one kernel."""

    def __init__(self, blob: bytes) -> None:
        """Raises BtfError where the bytes are no BTF."""
        try:
            magic, _, _, header, types_at, types_size, strings_at, _ = _HEADER.unpack_from(blob)
        except struct.error as error:
            raise BtfError("the kernel's BTF is cut off") from error
        if magic != _MAGIC:
            raise BtfError(f"the kernel's BTF begins with {magic:#x} instead of {_MAGIC:#x}")
        self._blob = blob
        self._strings = header + strings_at
        self._places = [0]
        self._named: dict[int, int] = {}
        at, end = header + types_at, header + types_at + types_size
        unpack = struct.Struct("<II").unpack_from
        while at < end:
            name, information = unpack(blob, at)
            kind = (information >> 24) & 31
            if name and kind == _STRUCT:
                self._named.setdefault(name, len(self._places))
            self._places.append(at)
            at += 12 + _EXTRA.get(kind, 0) + (information & 0xFFFF) * _PER_MEMBER.get(kind, 0)
        self._structs = {self._read_name(name): number for name, number in self._named.items()}

    @classmethod
    def read(cls, path: Path = BTF_PATH) -> "Btf":
        """The running kernel's. Raises BtfError where it has none."""
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise BtfError(f"{path} cannot be read: {error.strerror} (CONFIG_DEBUG_INFO_BTF)") from error

    def find_field(self, name: str, path: str) -> tuple[int, int]:
        """Offset and size in bytes of a field, `a.b` of a field within one. Raises BtfError."""
        number, offset = self._structs.get(name, 0), 0
        for part in path.split("."):
            found = self._find_member(number, part) if number else None
            if found is None:
                raise BtfError(f"this kernel's struct {name} has no field {path}")
            offset += found[0]
            number = self._resolve(found[1])
        return offset, self._size(number)

    def _find_member(self, number: int, wanted: str) -> tuple[int, int] | None:
        """Offset and type of a member, those of unnamed structs and unions inside included."""
        at = self._places[number]
        _, information, _ = _TYPE.unpack_from(self._blob, at)
        if (information >> 24) & 31 not in (_STRUCT, _UNION):
            return None
        for index in range(information & 0xFFFF):
            name, kind, bits = _MEMBER.unpack_from(self._blob, at + 12 + 12 * index)
            if information >> 31:  # Bit fields have their size in the upper byte.
                bits &= 0xFFFFFF
            if name and self._read_name(name) == wanted:
                return bits // 8, kind
            if not name:
                inner = self._find_member(self._resolve(kind), wanted)
                if inner is not None:
                    return bits // 8 + inner[0], inner[1]
        return None

    def _resolve(self, number: int) -> int:
        """The type behind typedefs and qualifiers."""
        while number:
            _, information, target = _TYPE.unpack_from(self._blob, self._places[number])
            if (information >> 24) & 31 not in _MODIFIERS:
                break
            number = target
        return number

    def _size(self, number: int) -> int:
        _, information, size = _TYPE.unpack_from(self._blob, self._places[number])
        return 8 if (information >> 24) & 31 == 2 else size  # A pointer has a type in that place.

    def _read_name(self, offset: int) -> str:
        start = self._strings + offset
        return self._blob[start : self._blob.index(b"\0", start)].decode()


# Constant: (struct, field). Asked of the running kernel, not of headers.
_FIELDS: Final = {
    "O_TASK_FILES": ("task_struct", "files"),
    "O_FILES_TABLE": ("files_struct", "fdt"),
    "O_TABLE_MAX": ("fdtable", "max_fds"),
    "O_TABLE_FILES": ("fdtable", "fd"),
    "O_FILE_PRIVATE": ("file", "private_data"),
    "O_SOCKET_FILE": ("socket", "file"),
    "O_SOCKET_TYPE": ("socket", "type"),
    "O_SOCKET_SOCK": ("socket", "sk"),
    "O_SOCK_BEGIN": ("sock", "__sk_common.skc_daddr"),
    "O_SOCK_LOCAL6": ("sock", "__sk_common.skc_v6_rcv_saddr"),
    "O_SOCK_REMOTE6": ("sock", "__sk_common.skc_v6_daddr"),
    "O_SOCK_PROTOCOL": ("sock", "sk_protocol"),
    "O_SOCK_CGROUP": ("sock", "sk_cgrp_data"),
    "O_SOCK_COOKIE": ("sock", "__sk_common.skc_cookie"),
    "O_TCP_COPIED": ("tcp_sock", "copied_seq"),
    "O_TCP_WRITTEN": ("tcp_sock", "write_seq"),
    "O_CGROUP_NODE": ("cgroup", "kn"),
    "O_CGROUP_LEVEL": ("cgroup", "level"),
    "O_NODE_ID": ("kernfs_node", "id"),
    "O_TASK_CGROUPS": ("task_struct", "cgroups"),
    "O_SET_CGROUP": ("css_set", "dfl_cgrp"),
}
# struct sock_begin in bpf/syscall_socket.h: these fields must follow each other at these places.
_BEGIN: Final = {"skc_daddr": 0, "skc_rcv_saddr": 4, "skc_hash": 8, "skc_dport": 12, "skc_num": 14, "skc_family": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Registers:
    """How system calls of one architecture are read at their end, when their result has replaced a register."""

    numbers: Mapping[str, int]  # Of the system calls, those above the highest but splice are not looked at.
    fields: Mapping[str, tuple[str, int]]  # Constant: (field of struct pt_regs, bytes behind its beginning).
    mode_mask: int  # Bits of O_MODE that say whether a program is one of 32 bits,
    mode_compat: int  # and what they are then.


# Sources: arch/x86/entry/syscalls/syscall_64.tbl, arch/x86/include/asm/segment.h (code segment of 32-bit programs);
# include/uapi/asm-generic/unistd.h, arch/arm64/include/uapi/asm/ptrace.h (PSR_MODE32_BIT).
_REGISTERS: Final = {
    "x86_64": _Registers(
        numbers={
            "NR_READ": 0,
            "NR_WRITE": 1,
            "NR_READV": 19,
            "NR_WRITEV": 20,
            "NR_SENDFILE": 40,
            "NR_SENDTO": 44,
            "NR_RECVFROM": 45,
            "NR_SENDMSG": 46,
            "NR_RECVMSG": 47,
            "NR_SPLICE": 275,
        },
        fields={
            "O_CALL_NUMBER": ("orig_ax", 0),
            "O_ARGUMENT_0": ("di", 0),
            "O_ARGUMENT_1": ("si", 0),
            "O_ARGUMENT_2": ("dx", 0),
            "O_ARGUMENT_3": ("r10", 0),
            "O_MODE": ("cs", 0),
        },
        mode_mask=0xFFFF,
        mode_compat=0x23,
    ),
    "aarch64": _Registers(
        numbers={
            "NR_READ": 63,
            "NR_WRITE": 64,
            "NR_READV": 65,
            "NR_WRITEV": 66,
            "NR_SENDFILE": 71,
            "NR_SPLICE": 76,
            "NR_SENDTO": 206,
            "NR_RECVFROM": 207,
            "NR_SENDMSG": 211,
            "NR_RECVMSG": 212,
        },
        fields={
            "O_CALL_NUMBER": ("syscallno", 0),
            "O_ARGUMENT_0": ("orig_x0", 0),
            "O_ARGUMENT_1": ("regs", 8),
            "O_ARGUMENT_2": ("regs", 16),
            "O_ARGUMENT_3": ("regs", 24),
            "O_MODE": ("pstate", 0),
        },
        mode_mask=0x10,
        mode_compat=0x10,
    ),
}
_MSG_PEEK: Final = 2  # include/linux/socket.h


def find_constants(btf: Btf) -> dict[str, int]:
    """What the programs have to know of this kernel. Raises BtfError, which names what it lacks."""
    registers = _REGISTERS.get(platform.machine())
    if registers is None:
        known = " and ".join(_REGISTERS)
        raise BtfError(f"capture by system calls is written for {known}, and this is {platform.machine()}")
    places = {name: btf.find_field(*field) for name, field in _FIELDS.items()}
    begin = places["O_SOCK_BEGIN"][0]
    for field, expected in _BEGIN.items():
        offset = btf.find_field("sock", f"__sk_common.{field}")[0] - begin
        if offset != expected:
            raise BtfError(f"this kernel's struct sock_common has {field} at {offset} instead of {expected}")
    constants = {name: offset for name, (offset, _) in places.items()}
    # A bit field of 8 bits before 5.6.
    constants["PROTOCOL_IS_BYTE"] = int(places["O_SOCK_PROTOCOL"][1] != 2)
    # A cgroup's ancestors by level, itself the last: their addresses since 6.1, before it their ids.
    try:
        constants["O_CGROUP_ANCESTORS"], constants["ANCESTORS_ARE_IDS"] = btf.find_field("cgroup", "ancestors")[0], 0
    except BtfError:
        constants["O_CGROUP_ANCESTORS"], constants["ANCESTORS_ARE_IDS"] = btf.find_field("cgroup", "ancestor_ids")[0], 1
    constants |= {
        name: btf.find_field("pt_regs", field)[0] + offset for name, (field, offset) in registers.fields.items()
    }
    constants |= registers.numbers
    constants |= {"MODE_MASK": registers.mode_mask, "MODE_COMPAT": registers.mode_compat, "MSG_PEEK": _MSG_PEEK}
    return constants


# Programs of bpf/syscalls.c, named as the tracepoints they are for.
TRACEPOINTS: Final = ("inet_sock_set_state", "sys_exit")


@dataclass(slots=True, kw_only=True)
class TracepointProgram(KernelPrograms):
    """The programs on system calls."""

    def attach(self) -> None:
        """Starts capture. Raises LoadError where the kernel refuses."""
        if self.links:
            return
        try:
            for name in TRACEPOINTS:
                self.links.append(open_raw_tracepoint(name, self.programs[name]))
        except OSError as error:
            self.detach()
            raise LoadError(
                f"attaching to the tracepoint {name} failed: {error.strerror}; it needs CONFIG_FTRACE_SYSCALLS, "
                "CAP_BPF and CAP_PERFMON"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """What is built into programs that look at processes."""

    ring_bytes: int  # A power of two of at least a page.
    scope_id: int = 0  # Of the cgroup that is watched with all below it; 0: all are.
    calls_per_second: int = 2_000  # Of each process that are copied; of the node twice as many.
    calls_burst: int = 5_000

    def build(self, source: str, programs: Mapping[str, int], constants: Mapping[str, int]) -> Build:
        """Programs of one source with these settings, the running kernel's types, and constants of their own. Raises
        LoadError where the kernel has no types."""
        try:
            found = find_constants(Btf.read())
        except BtfError as error:
            raise LoadError(f"system calls and TLS cannot be read here: {error}") from error
        found |= {
            "IS_SCOPED": int(bool(self.scope_id)),
            "CALLS_PER_SECOND": self.calls_per_second,
            "CALLS_BURST": self.calls_burst,
        }
        return Build(
            source=source,
            flags=["-Wno-everything"],
            programs=dict(programs),
            constants={**found, **constants},
            rings={"events": self.ring_bytes},
        )


def build_syscalls(settings: ProbeSettings) -> Build:
    """The programs on system calls, for the running kernel. Raises LoadError."""
    # The client end of a loopback connection is left to its server end, which is watched too.
    constants = {"LOOPBACK_IS_LOCAL": int(not settings.scope_id)}
    return settings.build("syscalls.c", dict.fromkeys(TRACEPOINTS, PROG_TYPE_RAW_TRACEPOINT), constants)


def set_scope(maps: Mapping[str, int], scope_id: int) -> None:
    """Sets which cgroup programs look for that check cgroups themselves (bpf/scope.h), before they are attached."""
    if scope_id:  # Else they check none.
        update_map(maps["scope"], bytes(4), scope_id.to_bytes(8, "little"))


def load_tracepoints(settings: ProbeSettings, cache_directory: Path | None = None) -> TracepointProgram:
    """Compiles (or finds in the cache) and loads; attaches nothing. Raises LoadError."""
    loaded = load_build(build_syscalls(settings), cache_directory)
    set_scope(loaded.maps, settings.scope_id)
    return TracepointProgram(programs=loaded.programs, maps=loaded.maps)
