"""Tries what the sensor needs of the kernel: `python -m sensor.preflight.trial CGROUP` prints one JSON object.

It is a short-lived child, because loading bcc keeps LLVM's 130 MB, and because whatever it attached ends with it. Each
answer is empty or the reason why not. The programs are the smallest that the verifier takes (`return 1`, which lets
every packet pass). They are attached by bpf_link and detached at once (bpf(2), perf_event_open(2)).
"""

import ctypes
import errno
import json
import os
import platform
import struct
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

_SYSCALLS = {"x86_64": (321, 298), "aarch64": (280, 241)}  # (bpf, perf_event_open) of the architecture.
_MAP_CREATE, _PROG_LOAD, _RAW_TRACEPOINT_OPEN, _LINK_CREATE = 0, 5, 17, 28
_RINGBUF = 27
_CGROUP_SKB, _RAW_TRACEPOINT = 8, 17
_INGRESS, _EGRESS = 0, 1
# r0 = 1; exit
_PASS = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)
PROGRAM_NAME = b"apidae_trial"
_ATTRIBUTE_BYTES = 128
_PERF_ATTRIBUTE_BYTES = 128  # PERF_ATTR_SIZE_VER7; what is past an older kernel's size is zero, which it accepts.
_TRACEPOINT = 2  # PERF_TYPE_TRACEPOINT
_DISABLED = 1
_PT_LOAD = 1
_KPROBE_SYMBOL = b"tcp_close"
_TRACEPOINT_EVENT = "sched/sched_process_exit"
# Of the fallback that captures by system calls (bpf/syscalls.c).
_RAW_TRACEPOINTS = (b"sys_exit", b"inet_sock_set_state")


def main(arguments: list[str]) -> None:
    """Prints the answers by name: what `sensor.preflight.checks` calls probes, and "bcc", "bcc_version", "bcc_path"."""
    cgroup = arguments[0] if arguments else ""
    answers = {
        "cgroup_skb": _try(lambda: _attach_cgroup_skb(cgroup)) if cgroup else "cgroup v2 is not mounted",
        "ring": _try(_create_ring),
        "raw_tracepoint": _try(_open_raw_tracepoints),
        "kprobe": _try(_open_kprobe),
        "uprobe": _try(_open_uprobe),
        "tracepoint": _try(_open_tracepoint),
        **_import_bcc(),
    }
    print(json.dumps(answers))


def _try(attempt: Callable[[], None]) -> str:
    try:
        attempt()
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "error")
        return f"{error.filename or 'attempt'}: {error.strerror} ({name})"
    return ""


def _attach_cgroup_skb(cgroup: str) -> None:
    """Loads, and attaches to both directions. The error's file name is the step that failed."""
    target = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    for direction in (_INGRESS, _EGRESS):
        program = _load_program(_CGROUP_SKB, direction)
        os.close(_bpf(_LINK_CREATE, struct.pack("=IIII", program, target, direction, 0), "attach"))
        os.close(program)
    os.close(target)


def _load_program(kind: int, attach_type: int) -> int:
    instructions = ctypes.create_string_buffer(_PASS, len(_PASS))
    license_text = ctypes.create_string_buffer(b"Dual BSD/GPL")
    attributes = struct.pack(
        "=IIQQ", kind, len(_PASS) // 8, ctypes.addressof(instructions), ctypes.addressof(license_text)
    )
    # The log and the flags are zero; then prog_name, prog_ifindex, expected_attach_type.
    attributes = attributes.ljust(48, b"\0") + struct.pack("=16sII", PROGRAM_NAME, 0, attach_type)
    return _bpf(_PROG_LOAD, attributes, "load")


def _open_raw_tracepoints() -> None:
    program = _load_program(_RAW_TRACEPOINT, 0)
    for tracepoint in _RAW_TRACEPOINTS:
        name = ctypes.create_string_buffer(tracepoint)
        attributes = struct.pack("=QII", ctypes.addressof(name), program, 0)
        os.close(_bpf(_RAW_TRACEPOINT_OPEN, attributes, f"attach to {tracepoint.decode()}"))
    os.close(program)


def _create_ring() -> None:
    os.close(_bpf(_MAP_CREATE, struct.pack("=IIII", _RINGBUF, 0, 0, os.sysconf("SC_PAGE_SIZE")), "create"))


def _open_kprobe() -> None:
    name = ctypes.create_string_buffer(_KPROBE_SYMBOL)
    _open_perf(_read_pmu("kprobe"), 0, ctypes.addressof(name), 0)


def _open_uprobe() -> None:
    """On the entry point of this interpreter's file, which a process passes once, at its start."""
    program = Path(sys.executable).resolve()
    path = ctypes.create_string_buffer(os.fsencode(program))
    with program.open("rb") as file:
        offset = find_entry_offset(file.read(4_096))
    _open_perf(_read_pmu("uprobe"), 0, ctypes.addressof(path), offset)


def find_entry_offset(head: bytes) -> int:
    """Where in an ELF file (elf(5), 64 bits) its entry point is. Raises OSError where the head is of another kind."""
    if head[:5] == b"\x7fELF\x02" and len(head) >= 64:
        entry, headers = struct.unpack_from("=QQ", head, 24)
        size, count = struct.unpack_from("=HH", head, 54)
        for at in range(headers, min(headers + size * count, len(head) - 55), size or len(head)):
            kind, _, offset, address, _, file_bytes = struct.unpack_from("=IIQQQQ", head, at)
            if kind == _PT_LOAD and address <= entry < address + file_bytes:
                return int(entry - address + offset)
    raise OSError(errno.ENOEXEC, "the interpreter is no 64-bit ELF file", sys.executable)


def _open_tracepoint() -> None:
    for root in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing"):
        path = Path(root) / "events" / _TRACEPOINT_EVENT / "id"
        if path.exists():
            _open_perf(_TRACEPOINT, int(path.read_text()), 0, 0)
            return
    raise OSError(errno.ENOENT, "tracefs is not mounted or has no events", "/sys/kernel/tracing")


def _read_pmu(name: str) -> int:
    return int(Path(f"/sys/bus/event_source/devices/{name}/type").read_text())


def _open_perf(kind: int, config: int, config1: int, config2: int) -> None:
    """perf_event_open(2), disabled, for this process; closed at once."""
    # struct perf_event_attr: type, size, config, period, sample_type, read_format, flags, wakeup, bp_type, config1,
    # config2.
    attributes = struct.pack(
        "=IIQQQQQIIQQ", kind, _PERF_ATTRIBUTE_BYTES, config, 0, 0, 0, _DISABLED, 0, 0, config1, config2
    ).ljust(_PERF_ATTRIBUTE_BYTES, b"\0")
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    os.close(_call(1, "open", ctypes.addressof(buffer), 0, -1, -1, 0))


def _bpf(command: int, attributes: bytes, step: str) -> int:
    padded = attributes.ljust(_ATTRIBUTE_BYTES, b"\0")
    buffer = ctypes.create_string_buffer(padded, len(padded))
    return _call(0, step, command, ctypes.addressof(buffer), len(padded))


def _call(index: int, step: str, *arguments: int) -> int:
    """System call `index` of the architecture's table. Raises OSError with the step as its file name."""
    numbers = _SYSCALLS.get(platform.machine())
    if numbers is None:
        raise OSError(errno.ENOSYS, f"no system call numbers for {platform.machine()}", step)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(ctypes.c_long(numbers[index]), *(ctypes.c_long(argument) for argument in arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), step)
    return int(result)


def _import_bcc() -> dict[str, str]:
    """Whether the operating system's bcc is the one that Python finds; the index's package of that name is another
    thing.
    """
    try:
        import bcc
    except ImportError as error:
        return {"bcc": f"absent: {error}", "bcc_version": "", "bcc_path": ""}
    except Exception as error:  # A broken native library raises what it likes (OSError, AttributeError).
        return {"bcc": f"broken: {error}", "bcc_version": "", "bcc_path": ""}
    path = str(getattr(bcc, "__file__", "") or "")
    if not hasattr(bcc, "BPF"):
        is_in_venv = path.startswith(sysconfig.get_path("purelib"))
        return {"bcc": f"unrelated{': in this environment' if is_in_venv else ''}", "bcc_version": "", "bcc_path": path}
    return {"bcc": "", "bcc_version": str(getattr(bcc, "__version__", "")), "bcc_path": path}


if __name__ == "__main__":
    main(sys.argv[1:])
