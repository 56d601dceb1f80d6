"""Build constants of bpf/syscalls.c: where the kernel keeps what leads from a descriptor to a socket, and the numbers
of system calls. Read in the parent, so the compiler's child gets text only."""

import platform
from typing import Final

from sensor.kernel.btf import Btf, BtfError

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

# arch/x86/entry/syscalls/syscall_64.tbl; MSG_PEEK of include/linux/socket.h; the code segment of 32-bit programs,
# arch/x86/include/asm/segment.h.
_X86_64: Final = {
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
    "MSG_PEEK": 2,
    "COMPAT_CS": 0x23,
}


def syscall_flags(btf: Btf) -> list[str]:
    """-D flags for this kernel. Raises BtfError, which names what it lacks."""
    if platform.machine() != "x86_64":
        raise BtfError(f"capture by system calls is written for x86_64 only, and this is {platform.machine()}")
    places = {name: btf.find(*field) for name, field in _FIELDS.items()}
    begin = places["O_SOCK_BEGIN"][0]
    for field, expected in _BEGIN.items():
        offset = btf.find("sock", f"__sk_common.{field}")[0] - begin
        if offset != expected:
            raise BtfError(f"this kernel's struct sock_common has {field} at {offset} instead of {expected}")
    constants = {name: offset for name, (offset, _) in places.items()}
    # A bit field of 8 bits before 5.6.
    constants["PROTOCOL_IS_BYTE"] = int(places["O_SOCK_PROTOCOL"][1] != 2)
    # A cgroup's ancestors by level, itself the last: their addresses since 6.1, before it their ids.
    try:
        constants["O_CGROUP_ANCESTORS"], constants["ANCESTORS_ARE_IDS"] = btf.find("cgroup", "ancestors")[0], 0
    except BtfError:
        constants["O_CGROUP_ANCESTORS"], constants["ANCESTORS_ARE_IDS"] = btf.find("cgroup", "ancestor_ids")[0], 1
    constants |= _X86_64
    return [f"-D{name}={value}" for name, value in sorted(constants.items())]
