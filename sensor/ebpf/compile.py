"""Compiles the kernel side in a short-lived child, describes it as data, loads it with bpf(2), and caches it.

`python -m sensor.ebpf.compile` is the child. It reads a `Build` from standard input, compiles that source of
sensor/ebpf/bpf with bcc and writes an `Image` to standard output. LLVM's 130 MB and seconds of work end with the child.
The sensor's own process does not import bcc.

An `Image` holds the instructions of each program and the attributes of each map. The sensor loads it now and at every
later start. It is the same for every node with this kind of processor: what depends on the kernel or on settings is
written into the instructions and maps when they are loaded (`fill_image`; bpf/constants.h). Map references in the
instructions are numbers of maps in the image, which become file descriptors. Storage maps of sockets need a BTF type of
their value's size, which is made by hand here. Sources: include/uapi/linux/bpf.h, Documentation/bpf/btf.rst.

`ImageCache` keeps images between starts: compiling takes seconds, reading one takes milliseconds. A file name holds a
digest of the sources, stub headers, build constants and the compiler's own file. Whoever may write to the directory may
choose what is loaded into the kernel. So the default is the sensor's state directory (0700, root), and a file that
somebody else owns or may write to is not read.
"""

import contextlib
import ctypes
import errno
import hashlib
import importlib.util
import logging
import os
import re
import struct
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from common.time_slice import lower_priority
from sensor.ebpf.abi import STREAM_RECORDS_BYTES
from sensor.ebpf.bpf_syscall import create_object, read_info
from sensor.ebpf.http1_states import defines

MAP_CREATE: Final = 0
PROG_LOAD: Final = 5
BTF_LOAD: Final = 18
MAP_TYPE_SK_STORAGE: Final = 24
PROG_TYPE_KPROBE: Final = 2
PROG_TYPE_CGROUP_SKB: Final = 8
PROG_TYPE_RAW_TRACEPOINT: Final = 17
INSTRUCTION_BYTES: Final = 8
NAME_BYTES: Final = 15
# bpf_ktime_get_ns() and others are for GPL-compatible programs; ours may be used under GPL-2.0.
_LICENSE: Final = ctypes.create_string_buffer(b"GPL")
# The verifier's reason and what it counted (BPF_LOG_STATS, Linux 5.2): a few lines. A log of all steps may fill, and
# before Linux 6.4 it then keeps the beginning, without the reason.
_LOG_LEVEL: Final = 4
_LOG_BYTES: Final = 1 << 16
# The verifier takes seconds of a processor. It has every second one, two at most, and gives way to whoever else wants
# them: what shares the node waits less, and the start takes little longer.
_LOADERS_MAX: Final = 2
NICENESS = 10
_LOAD_64_BITS: Final = 0x18  # BPF_LD | BPF_IMM | BPF_DW: two instructions, each with half of the number.
_PSEUDO_MAP_FD: Final = 1  # Of the source register: the number is a map's descriptor.
_CONSTANT_MARK: Final = 0x41706964  # Upper half of CONSTANT_MARK in bpf/constants.h.
_BTF_KIND_INT: Final = 1 << 24
_BTF_KIND_ARRAY: Final = 3 << 24


class MapImage(msgspec.Struct, frozen=True):
    """What BPF_MAP_CREATE is told of one map."""

    name: str
    kind: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


class ProgramImage(msgspec.Struct, frozen=True):
    """One program. `maps`: (offset of an instruction in bytes, number of the map it names); `constants`: (offset,
    number of the constant it loads)."""

    name: str
    instructions: bytes
    maps: list[tuple[int, int]]
    kind: int = PROG_TYPE_CGROUP_SKB  # `enum bpf_prog_type`.
    constants: list[tuple[int, int]] = []


class Image(msgspec.Struct, frozen=True):
    """Everything that is loaded. Programs named in `tail_calls` are wired into the first program array, in order.
    `constants` are names by number."""

    maps: list[MapImage]
    programs: list[ProgramImage]
    tail_calls: list[str]
    constants: list[str] = []


class ImageError(RuntimeError):
    """The kernel refused a map or a program; the message says which and why."""


class LoadedImage(msgspec.Struct):
    """Open fds by name."""

    programs: dict[str, int]
    maps: dict[str, int]

    def close(self, *, keep: Iterable[int] = ()) -> None:
        """Closes all fds but those kept."""
        kept = set(keep)
        for fd in (*self.programs.values(), *self.maps.values()):
            if fd not in kept:
                os.close(fd)


def load_image(image: Image, attach_types: Mapping[int, int] | None = None) -> LoadedImage:
    """Creates the maps and loads the programs, which takes most of a start. `attach_types`: how programs of a type will
    be attached (`enum bpf_attach_type`), where the kernel wants to know. Raises ImageError."""
    expected = attach_types or {}
    loaded = LoadedImage({}, {})
    try:
        for one in image.maps:
            loaded.maps[one.name] = create_map(one)
        fds = list(loaded.maps.values())
        loaders = max(1, min(_LOADERS_MAX, (os.cpu_count() or 1) // 2))
        with ThreadPoolExecutor(max_workers=loaders, initializer=partial(lower_priority, NICENESS)) as pool:
            outcomes = [
                pool.submit(_load_program, program, fds, expected.get(program.kind, 0)) for program in image.programs
            ]
            errors = [error for outcome in outcomes if (error := outcome.exception()) is not None]
            for program, outcome in zip(image.programs, outcomes, strict=True):
                if outcome.exception() is None:
                    loaded.programs[program.name] = outcome.result()
        if errors:
            raise errors[0]
    except BaseException:
        loaded.close()
        raise
    return loaded


def _create(what: str, make: Callable[[], int]) -> int:
    try:
        return make()
    except OSError as error:
        raise ImageError(f"{what}: {error.strerror}") from error


def create_map(one: MapImage) -> int:
    """An empty map; its fd. Raises ImageError."""
    types = (0, 0, 0)
    if one.kind == MAP_TYPE_SK_STORAGE:
        types = (_create("the BTF of a map", lambda: _load_btf(one.value_size)), 1, 3)
    name = one.name.encode()[:NAME_BYTES].ljust(NAME_BYTES + 1, b"\0")
    sizes = struct.pack("<5I", one.kind, one.key_size, one.value_size, one.max_entries, one.flags)
    attributes = sizes + struct.pack("<II16sIIII", 0, 0, name, 0, *types)
    try:
        return _create(f"map {one.name}", lambda: create_object(MAP_CREATE, attributes))
    finally:
        if types[0]:
            os.close(types[0])


def _load_btf(value_size: int) -> int:
    """Three types: a 32-bit key, a byte, and an array of bytes as large as the value."""
    strings = b"\0int\0u8\0"
    types = struct.pack("<IIII", 1, _BTF_KIND_INT, 4, 32 | 1 << 24)
    types += struct.pack("<IIII", 5, _BTF_KIND_INT, 1, 8)
    types += struct.pack("<IIIIII", 0, _BTF_KIND_ARRAY, 0, 2, 1, value_size)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    blob = ctypes.create_string_buffer(header + types + strings, len(header + types + strings))
    return create_object(BTF_LOAD, struct.pack("<QQIII", ctypes.addressof(blob), 0, len(blob), 0, 0))


def _load_program(program: ProgramImage, map_fds: list[int], attach_type: int) -> int:
    code = bytearray(program.instructions)
    for offset, number in program.maps:
        struct.pack_into("<i", code, offset + 4, map_fds[number])
    instructions = ctypes.create_string_buffer(bytes(code), len(code))

    def load(log: "ctypes.Array[ctypes.c_char] | None") -> int:
        attributes = struct.pack(
            "<IIQQIIQII16sII",
            program.kind,
            len(code) // INSTRUCTION_BYTES,
            ctypes.addressof(instructions),
            ctypes.addressof(_LICENSE),
            0 if log is None else _LOG_LEVEL,
            0 if log is None else len(log),
            0 if log is None else ctypes.addressof(log),
            0,
            0,
            program.name.encode()[:NAME_BYTES].ljust(NAME_BYTES + 1, b"\0"),
            0,
            attach_type,
        )
        return create_object(PROG_LOAD, attributes)

    try:
        return load(None)
    except OSError as error:
        reason = error.strerror or errno.errorcode.get(error.errno or 0, "unknown")
        if error.errno != errno.EPERM:
            log = ctypes.create_string_buffer(_LOG_BYTES)
            try:
                return load(log)
            except OSError:
                lines = log.value.decode("utf-8", "replace").strip().splitlines()
                reason = f"{reason}; {' '.join(lines)}"
        raise ImageError(f"program {program.name}: {reason}") from error


def describe_map(name: str, map_fd: int) -> MapImage:
    """What a map that exists was created with. Raises OSError."""
    kind, _, key_size, value_size, max_entries, flags = struct.unpack_from("<6I", read_info(map_fd, 80))
    return MapImage(name, kind, key_size, value_size, max_entries, flags)


def describe_program(
    name: str, instructions: bytes, maps: dict[int, int], kind: int = PROG_TYPE_CGROUP_SKB
) -> ProgramImage:
    """A program as it was compiled against maps with these fds; `maps` gives each fd's number in the image."""
    places, constants = [], []
    offset = 0
    while offset < len(instructions):
        code, registers, _, low, _, high = struct.unpack_from("<BBhiii", instructions.ljust(offset + 16, b"\0"), offset)
        if code != _LOAD_64_BITS:
            offset += INSTRUCTION_BYTES
            continue
        if registers >> 4 == _PSEUDO_MAP_FD:
            places.append((offset, maps[low]))
        elif not registers >> 4 and high == _CONSTANT_MARK:
            constants.append((offset, low))
        offset += 2 * INSTRUCTION_BYTES
    return ProgramImage(name, instructions, places, kind, constants)


BPF_DIRECTORY = Path(__file__).resolve().parent / "bpf"
# The ring of HTTP/2: some 40,000 events, two seconds of 10,000 calls a second.
FRAMES_BYTES: Final = 8 << 20
# Order of `enum program` in bpf/conn.h.
TAIL_CALLS = (
    *("walk", "finish", "walk_deferred", "recognise", "answer", "follow_frames", "copy_frames"),
    *("encrypted", "datagram", "body", "upgraded", "route", "guard", "guard_streams", "ingress", "match_streams"),
    *("skim", "egress", "report_unread"),
)
MAPS = (
    *("events", "records", "frames", "stream_records", "counters", "programs"),
    *("ports", "peers", "unread", "websockets", "listening", "waits", "timed"),
    # The kernel route cache (cache_maps.h, conn.h), which user space fills.
    *("settings", "names", "roots", "edges", "edge_signs", "leaves", "profiles", "overflow", "blocks", "clients"),
    # What is blocked (enforce.h).
    *("enforcement", "blocked_addresses", "blocked_networks", "spared_networks", "blocked_credentials"),
    *("verdicts", "verdict_scopes", "stop_counts", "stops"),
)


class Build(msgspec.Struct, frozen=True):
    """All that decides what the compiler makes, and then what is loaded of it."""

    source: str  # A file of sensor/ebpf/bpf.
    flags: list[str]
    programs: dict[str, int]  # Type by name (`enum bpf_prog_type`).
    tail_calls: list[str] = []  # Of them, in the order of the program array.
    constants: dict[str, int] = {}  # Of this node; the compiler gets the names alone (bpf/constants.h).
    rings: dict[str, int] = {}  # Bytes of each ring buffer: powers of two of at least a page.


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


def build_http1(ring_bytes: int, records_bytes: int, is_loopback_local: bool) -> Build:
    """The programs on a cgroup's packets, with rings of these sizes for heads and for records."""
    return Build(
        source="http1.c",
        flags=[
            *defines(),
            f"-DFRAMES_BYTES={FRAMES_BYTES}",
            f"-DSTREAM_RECORDS_BYTES={STREAM_RECORDS_BYTES}",
            "-Wno-everything",
        ],
        programs=dict.fromkeys(TAIL_CALLS, PROG_TYPE_CGROUP_SKB),
        tail_calls=list(TAIL_CALLS),
        constants={
            "RING_BYTES": ring_bytes,
            "RECORDS_BYTES": records_bytes,
            "LOOPBACK_IS_LOCAL": int(is_loopback_local),
        },
        rings={
            "events": ring_bytes,
            "records": records_bytes,
            "frames": FRAMES_BYTES,
            "stream_records": STREAM_RECORDS_BYTES,
        },
    )


def compile_image(build: Build) -> Image:
    """The whole kernel side. Raises what bcc raises."""
    # From its environment libbcc takes another machine, another kernel version and other headers than these.
    for name in [name for name in os.environ if name == "ARCH" or name.startswith("BCC_")]:
        del os.environ[name]
    os.environ["BCC_KERNEL_SOURCE"] = str(BPF_DIRECTORY / "include")
    from bcc import BPF, lib

    constants = sorted(build.constants)
    numbered = [f"-D{name}=CONSTANT({number})" for number, name in enumerate(constants)]
    bpf = BPF(text=read_source(build.source), cflags=[*build.flags, *numbered])
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
        constants=constants,
    )


def fill_image(image: Image, build: Build) -> Image:
    """What is loaded on this node: with the constants and the sizes of the rings of `build`."""
    values = [build.constants[name].to_bytes(8, "little") for name in image.constants]
    programs = []
    for program in image.programs:
        code = bytearray(program.instructions)
        for offset, number in program.constants:
            code[offset + 4 : offset + 8] = values[number][:4]
            code[offset + 12 : offset + 16] = values[number][4:]
        programs.append(msgspec.structs.replace(program, instructions=bytes(code), constants=[]))
    maps = [msgspec.structs.replace(one, max_entries=build.rings.get(one.name, one.max_entries)) for one in image.maps]
    return msgspec.structs.replace(image, maps=maps, programs=programs, constants=[])


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


logger = logging.getLogger(__name__)

_SUFFIX: Final = ".image"
# Of up to 460 KB each. A node needs three: packets, system calls and TLS. Others are of earlier versions.
IMAGES_MAX: Final = 8


class ImageCache:
    """The images in one directory; None keeps nothing."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def find_image(self, digest: str) -> Image | None:
        """The image of this digest, where one was kept and is whole."""
        if self._directory is None:
            return None
        path = self._directory / (digest + _SUFFIX)
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                    logger.warning("%s is not read: others may write to it", path)
                    return None
                image = msgspec.msgpack.decode(file.read(), type=Image)
            with contextlib.suppress(OSError):
                os.utime(path)
            return image
        except (OSError, ValueError):
            return None

    def keep_image(self, digest: str, image: Image) -> None:
        """Keeps this image, and of the others those that were used last. A directory that cannot be written costs the
        next start some seconds."""
        if self._directory is None:
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._directory, suffix=".part", delete=False) as file:
                file.write(msgspec.msgpack.encode(image))
            Path(file.name).replace(self._directory / (digest + _SUFFIX))
            by_use = sorted(self._directory.glob("*" + _SUFFIX), key=lambda kept: kept.stat().st_mtime_ns)
            for unused in by_use[:-IMAGES_MAX]:
                unused.unlink()
        except OSError as error:
            logger.info("the compiled kernel side is not kept: %s", error)

    def drop_image(self, digest: str) -> None:
        """The kernel refused it: another kernel, or a damaged file."""
        if self._directory is not None:
            with contextlib.suppress(OSError):
                (self._directory / (digest + _SUFFIX)).unlink()


# Images that came with the package (scripts/compile), for machines without a compiler.
SHIPPED_DIRECTORY: Final = Path(__file__).resolve().parent / "images"
_SHIPPED: Final = "shipped"  # In place of the compiler: whichever made them, they fit these sources.


def find_shipped(build: Build) -> Image | None:
    """The image of a build that came with the package, where one did and fits its sources and this machine."""
    return ImageCache(SHIPPED_DIRECTORY).find_image(make_digest(build, compiler=_SHIPPED))


def has_shipped() -> bool:
    """Whether the programs on packets came with the package. Those on system calls and TLS then did too."""
    page = os.sysconf("SC_PAGE_SIZE")
    return find_shipped(build_http1(page, page, is_loopback_local=True)) is not None


def ship_image(build: Build, image: Image, machine: str, directory: Path = SHIPPED_DIRECTORY) -> Path:
    """Keeps an image for the package, for machines of a kind (`uname -m`); the file."""
    directory.mkdir(exist_ok=True)
    path = directory / (make_digest(build, machine, _SHIPPED) + _SUFFIX)
    path.write_bytes(msgspec.msgpack.encode(image))
    return path


def link_images(kept: Path, place: Path) -> None:
    """Makes `place` a directory with links to the images that are kept in another: a cache there finds them, and keeps
    and drops none of them."""
    place.mkdir(exist_ok=True)
    for image in kept.glob("*" + _SUFFIX):
        (place / image.name).symlink_to(image.absolute())


def make_digest(build: Build, machine: str = "", compiler: str = "") -> str:
    """Of everything that decides what the compiler makes; by default for this machine, by its own compiler."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(BPF_DIRECTORY.rglob("*.[ch]")):
        digest.update(str(path.relative_to(BPF_DIRECTORY)).encode() + b"\0" + path.read_bytes())
    digest.update(msgspec.msgpack.encode((build.source, build.flags, build.programs, build.tail_calls)))
    made_by = (machine or os.uname().machine, compiler or _find_compiler())
    digest.update(msgspec.msgpack.encode((sorted(build.constants), *made_by)))
    return digest.hexdigest()


def _find_compiler() -> str:
    """The bcc package's file and its age; importing it would load LLVM into this process."""
    spec = importlib.util.find_spec("bcc")
    return f"{spec.origin} {Path(spec.origin).stat().st_mtime_ns}" if spec is not None and spec.origin else ""
