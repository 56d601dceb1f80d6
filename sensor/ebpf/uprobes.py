"""Loads bpf/tls.c and attaches its programs as uprobes, which hold for every process that maps the file, now or later.

Since Linux 6.6 one link holds all places of a program (bpf_uprobe_multi_link_attach in kernel/trace/bpf_trace.c). The
kernel then waits only once until no processor runs any of them. Older kernels take one event per place, by
perf_event_open(2) (kernel, trace/uprobetracer).

Nothing is pinned. The kernel removes probes from all processes when their descriptor is closed, kill -9 of the sensor
included.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import re
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from sensor.ebpf.abi import ACCOUNT, ACCOUNTS_SIZE, LOOKS_SIZE
from sensor.ebpf.bpf_syscall import (
    TRACE_UPROBE_MULTI,
    delete_elements,
    link_uprobes,
    open_raw_tracepoint,
    read_batch,
    update_batch,
    update_map,
)
from sensor.ebpf.compile import PROG_TYPE_KPROBE, PROG_TYPE_RAW_TRACEPOINT, Build, load_image
from sensor.ebpf.loader import KernelPrograms, load_build
from sensor.ebpf.tracepoints import ProbeSettings, set_scope

# Programs of bpf/tls.c for places in files; sensor/capture/tls/finder.py names them.
UPROBES: Final = (
    *("openssl_read", "openssl_read_ex", "openssl_write", "openssl_write_ex", "openssl_write_ex2"),
    *("openssl_handshake", "openssl_read_inner", "boring_read", "boring_write", "gnutls_read", "gnutls_write"),
    *("call_return", "handshake", "session_shutdown", "session_free"),
    *("go_read", "go_write", "go_return", "go_copy", "go_close"),
    *("rust_read", "rust_write", "rust_return", "rust_drop"),
    *("openssl_read_data", "openssl_read_end", "openssl_write_bytes", "openssl_write_done"),
)
# Programs where a call ends. They go in first: a call whose beginning alone is seen would never end.
RETURNS: Final = ("call_return", "go_return", "go_copy", "rust_return")
# Named as the tracepoints they are for. Before Linux 6.3 there are none: sessions are then bound by data alone.
SOCKET_TRACEPOINTS: Final = ("sock_recv_length", "sock_send_length")
UPROBE_TYPE_PATH: Final = Path("/sys/bus/event_source/devices/uprobe/type")

# Threads that take probes out together: 160 links of 20 files are gone in 0.2 s, and with 16 threads in 0.6 s.
CLOSERS: Final = 64

# Since when a link may be of one process: before, it saw that process's first thread alone (commit 46ba0e49b642).
FIRST_CHOOSING: Final = (6, 10)
PID_NAMESPACE: Final = "/proc/self/ns/pid"
HOST_PID_NAMESPACE: Final = "pid:[4026531836]"  # PROC_PID_INIT_INO in include/uapi/linux/nsfs.h.
# Since when there are links for uprobes, which tell a program a number for each place.
FIRST_LINKING: Final = (6, 6)
# Of such a number: the kernel steps over the instruction there, so it counts as several breakpoints (bpf/tls.c).
STEPPED: Final = 1 << 62
# Of such a number: the probe is in one process alone (bpf/tls.c).
OWN_PROBES: Final = 1 << 63
# What a kernel before 6.6 says of a link that it does not know.
_NO_LINKS: Final = (errno.EINVAL, errno.EOPNOTSUPP)
_T = TypeVar("_T")

_libc = ctypes.CDLL(None, use_errno=True)
_PERF_EVENT_OPEN: Final = {"x86_64": 298}
_ATTRIBUTE_BYTES: Final = 128  # PERF_ATTR_SIZE_VER7; what is zero there, older kernels take too.
_FLAG_FD_CLOEXEC: Final = 8
# By which the price of a breakpoint is measured: the best round counts, for others had an interruption within.
TRIAL_CALLS: Final = 200
TRIAL_ROUNDS: Final = 5
_OWN_MAPPING: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-xp ([0-9a-f]+) \S+ \d+ +(/.*)")
_IOC_ENABLE: Final = 0x2400
# What is missing where no probe can be put into one process; each completes "needs ..".
NEEDS_RELEASE: Final = "Linux 6.10"
NEEDS_NAMESPACE: Final = "the sensor in the host's PID namespace (hostPID)"
NEEDS_LEAVE: Final = "probes in single processes, which the kernel refused ({refusal})"
# And where none can be taken out and put in again soon, be it of all processes of a file.
NEEDS_LINKS: Final = "Linux 6.6"
_IOC_SET_BPF: Final = 0x40042408


@dataclass(frozen=True, slots=True)
class ProcessAccount:
    """What a process did so far where it has probes."""

    calls: int  # Those refused too.
    breakpoints: int
    refused: int = 0  # Calls beyond its budget.


@dataclass(slots=True, kw_only=True)
class TlsProgram(KernelPrograms):
    """The programs on libraries of TLS. `links` hold the tracepoints; probes are their owner's."""

    is_linking: bool = True  # Until the kernel says that it has no links for uprobes.
    looks: dict[int, int] = field(default_factory=dict)  # As in the map `looks`.
    refusals: int = 0  # As in the map `refusal_count`.
    prices: dict[int, int] = field(default_factory=dict)  # As in the map `own_prices`.
    is_choosing: bool = False  # Whether probes can be put into one process, as `try_choosing` found.

    @property
    def has_cookies(self) -> bool:
        """Whether programs are told the cookies of places."""
        return self.is_linking and _read_release() >= FIRST_LINKING

    def attach(self) -> None:
        """Follows sockets, as far as this kernel lets it: without, sessions are bound by the libraries' data."""
        if self.links:
            return
        with contextlib.suppress(OSError):
            for name in SOCKET_TRACEPOINTS:
                self.links.append(open_raw_tracepoint(name, self.programs[name]))

    def open_probes(self, path: str, sites: Iterable[tuple[int, str, int]], pid: int = 0) -> list[int]:
        """Puts programs at (offset in the file, program, cookie) of the file at `path`, in every process or in one;
        gives the fds that hold them there. Raises OSError, and then holds none."""
        wanted = sorted(sites, key=lambda site: site[1] not in RETURNS)
        if self.is_linking:
            try:
                return self._link_probes(path, wanted, pid)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self.is_linking = self.is_choosing = False
        if pid:
            raise OSError(errno.EOPNOTSUPP, "this kernel puts probes into all processes of a file or into none")
        if any(cookie for _, _, cookie in wanted):
            raise OSError(errno.EOPNOTSUPP, "this kernel tells programs nothing of the place where they run")
        return _open_all(lambda site: _open_uprobe(path, site[0], self.programs[site[1]]), wanted)

    def try_choosing(self, proc: Path) -> str:
        """What is missing to put probes into one process by its number in a proc tree (`NEEDS_..`), empty where it can
        be done. Tries it with this process."""
        self.is_choosing = False
        if not self.is_linking or _read_release() < FIRST_CHOOSING:
            return NEEDS_RELEASE
        # From a lower namespace the kernel lets nobody enter a higher one (pidns_install), not even for a moment.
        numbers = _read_own_numbers(proc)
        if len(numbers) != 1 or not has_host_pids():
            return NEEDS_NAMESPACE
        try:
            path, offset = _find_place(_find_address())
            probes = self.open_probes(path, [(offset, "session_shutdown", 0)], numbers[0])
        except OSError as error:
            return NEEDS_LEAVE.format(refusal=error.strerror) if self.is_linking else NEEDS_RELEASE
        close_probes(probes)
        self.is_choosing = True
        return ""

    def try_linking(self) -> str:
        """What is missing to put probes into all processes of a file and take them out within a moment (`NEEDS_..`),
        empty where it can be done. Tries it with this process alone."""
        if not self.has_cookies:
            return NEEDS_LINKS
        try:
            path, offset = _find_place(_find_address())
            probes = self.open_probes(path, [(offset, "session_shutdown", 0)], os.getpid())
        except OSError as error:
            return NEEDS_LEAVE.format(refusal=error.strerror) if self.is_linking else NEEDS_LINKS
        close_probes(probes)
        return ""

    def look_away(self, pid: int) -> None:
        """The probes of a process were taken out: what is known of its calls under way is not true any more."""
        place = pid % LOOKS_SIZE
        self.looks[place] = self.looks.get(place, 0) + 1
        update_map(self.maps["looks"], place.to_bytes(4, "little"), self.looks[place].to_bytes(4, "little"))

    def refuse(self, session: int, kind: int) -> None:
        """This session is not, or no longer, HTTP, but of a kind of `ConnectionKind`."""
        update_map(self.maps["refused"], session.to_bytes(8, "little"), bytes([kind]))
        self.refusals = (self.refusals + 1) & 0xFFFFFFFF
        update_map(self.maps["refusal_count"], bytes(4), self.refusals.to_bytes(4, "little"))

    def read_accounts(self) -> Mapping[int, ProcessAccount]:
        """By process, of the latest `ACCOUNTS_SIZE`."""
        rows = read_batch(self.maps["accounts"], 4, ACCOUNT.size, ACCOUNTS_SIZE)
        return {int.from_bytes(key, "little"): ProcessAccount(*ACCOUNT.unpack(value)[2:]) for key, value in rows}

    def forget_accounts(self, pids: Iterable[int]) -> None:
        """Of processes that have ended: their numbers may be used again."""
        delete_elements(self.maps["accounts"], [pid.to_bytes(4, "little") for pid in pids])

    def measure_breakpoint(self) -> int:
        """Nanoseconds of the processor that a breakpoint takes here with the least of programs, by one in this process
        alone; 0 where that cannot be known. Takes some 5 ms. The account that it leaves is this process's."""
        address = _find_address()
        # The kernel emulates the push of a register, as the instructions that are probed. 0x41 is before registers from
        # r8 on; 0x50 to 0x57 push.
        if not self.is_choosing or re.match(rb"A?[P-W]", ctypes.string_at(address, 2)) is None:
            return 0
        try:
            path, offset = _find_place(address)
            without = _time_calls()
            probes = self.open_probes(path, [(offset, "session_shutdown", 0)], os.getpid())
        except OSError:
            return 0
        try:
            return max(0, _time_calls() - without) // TRIAL_CALLS
        finally:
            close_probes(probes)

    def limit(self, calls_per_second: int) -> None:
        """So many calls of each process go up from now on, and of the node twice as many."""
        price_ns = 1_000_000_000 // calls_per_second
        update_map(self.maps["call_prices"], bytes(4), price_ns.to_bytes(8, "little"))

    def limit_each(self, calls_per_second: Mapping[int, int]) -> None:
        """Limits the reported calls of HTTP/1 by process, as far as that is less than `limit`. Process 0 stands for all
        that are not named, and for those past the first `ACCOUNTS_SIZE`."""
        wanted = {pid: 1_000_000_000 // rate for pid, rate in islice(sorted(calls_per_second.items()), ACCOUNTS_SIZE)}
        before, self.prices = self.prices, wanted
        own_prices = self.maps["own_prices"]
        delete_elements(own_prices, [pid.to_bytes(4, "little") for pid in before.keys() - wanted.keys()])
        new = {pid: price_ns for pid, price_ns in wanted.items() if before.get(pid) != price_ns}
        update_batch(own_prices, {pid.to_bytes(4, "little"): ns.to_bytes(8, "little") for pid, ns in new.items()})

    def _link_probes(self, path: str, sites: Iterable[tuple[int, str, int]], pid: int) -> list[int]:
        places: dict[str, dict[int, int]] = {}
        own = OWN_PROBES if pid else 0
        for offset, name, cookie in sites:
            places.setdefault(name, {})[offset] = cookie | own
        return _open_all(lambda one: link_uprobes(path, one[1], self.programs[one[0]], pid), places.items())


def _time_calls() -> int:
    """Nanoseconds of the processor that `TRIAL_CALLS` of the function take, at the best of times."""
    times = []
    for _ in range(TRIAL_ROUNDS):
        began = time.thread_time_ns()
        for _ in range(TRIAL_CALLS):
            _libc.wctob(0x61)
        times.append(time.thread_time_ns() - began)
    return min(times)


def _read_own_numbers(proc: Path) -> list[int]:
    """Numbers of this process in the PID namespace of a proc tree and in all below that it is in: more than one where
    the tree is of a higher namespace, none where it is not in it."""
    try:
        status = (proc / "self" / "status").read_text()
    except OSError:
        return []
    line = next((line for line in status.splitlines() if line.startswith("NSpid:")), "")
    return [int(number) for number in line.split()[1:]]


def _find_address() -> int:
    """Of a function that does little."""
    return ctypes.cast(_libc.wctob, ctypes.c_void_p).value or 0


def _find_place(address: int) -> tuple[str, int]:
    """File and offset of a function of this process. Raises OSError."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        match = _OWN_MAPPING.fullmatch(line)
        if match is not None and int(match[1], 16) <= address < int(match[2], 16):
            return match[4], address - int(match[1], 16) + int(match[3], 16)
    raise OSError(errno.ENOENT, "no file is mapped there")


def has_host_pids() -> bool:
    """Whether this process is in the host's PID namespace. In another one the kernel takes the number of a process for
    one of that namespace (find_vpid in kernel/trace/bpf_trace.c), and programs see the host's."""
    try:
        return os.readlink(PID_NAMESPACE) == HOST_PID_NAMESPACE  # noqa: PTH115 - it is no path.
    except OSError:
        return False


def _read_release() -> tuple[int, ...]:
    """Of the running kernel: (6, 18)."""
    return tuple(int(number) for number in re.findall(r"\d+", platform.release())[:2])


def _open_all(open_one: Callable[[_T], int], wanted: Iterable[_T]) -> list[int]:
    """All of their descriptors, or what one of them raises and none."""
    probes: list[int] = []
    try:
        for one in wanted:
            probes.append(open_one(one))  # noqa: PERF401 - where one fails, those before it are closed.
    except BaseException:
        close_probes(probes)
        raise
    return probes


def close_probes(probes: Iterable[int]) -> None:
    """Takes them out of every process; returns when none can run any more. The kernel waits for each until no
    processor runs it; these waits are one where they begin together."""
    with ThreadPoolExecutor(max_workers=CLOSERS) as pool:
        for done in [pool.submit(os.close, fd) for fd in probes]:
            done.result()


def _open_uprobe(path: str, offset: int, program_fd: int) -> int:
    number = _PERF_EVENT_OPEN.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"TLS is read on x86_64 only, and this is {platform.machine()}")
    name = ctypes.create_string_buffer(os.fsencode(path))
    # struct perf_event_attr: type, size, config (no return probe), no sampling, .., config1: path, config2: offset.
    attributes = struct.pack(
        "<II5QIIQQ",
        *(int(UPROBE_TYPE_PATH.read_text()), _ATTRIBUTE_BYTES, 0, 0, 0, 0, 0),
        *(0, 0, ctypes.addressof(name), offset),
    ).ljust(_ATTRIBUTE_BYTES, b"\0")
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    fd = int(_libc.syscall(number, buffer, -1, 0, -1, _FLAG_FD_CLOEXEC))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    try:
        fcntl.ioctl(fd, _IOC_SET_BPF, program_fd)
        fcntl.ioctl(fd, _IOC_ENABLE, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def build_tls(settings: ProbeSettings) -> Build:
    """The programs on libraries of TLS, for the running kernel. Raises LoadError."""
    constants = {"LOOPBACK_IS_LOCAL": 0, "HAS_COOKIES": int(_read_release() >= FIRST_LINKING)}
    kinds = dict.fromkeys(UPROBES, PROG_TYPE_KPROBE) | dict.fromkeys(SOCKET_TRACEPOINTS, PROG_TYPE_RAW_TRACEPOINT)
    return settings.build("tls.c", kinds, constants)


def load_tls(settings: ProbeSettings, cache_directory: Path | None = None, *, is_linking: bool = True) -> TlsProgram:
    """Compiles (or finds in the cache) and loads; attaches nothing. `is_linking`: whether for links, where the kernel
    has them; it may refuse a program that is for one at an event. Raises LoadError."""
    # Kernels that do not know it do not look at it either.
    kinds = {PROG_TYPE_KPROBE: TRACE_UPROBE_MULTI} if is_linking else {}
    loaded = load_build(build_tls(settings), cache_directory, lambda image: load_image(image, kinds))
    set_scope(loaded.maps, settings.scope_id)
    return TlsProgram(programs=loaded.programs, maps=loaded.maps, is_linking=is_linking)
