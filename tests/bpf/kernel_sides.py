"""Every kernel side that a sensor may load; as a program, `python -m tests.bpf.kernel_sides CGROUP SIDE`, what this
process may do with one of them.

Nothing is kept and no kept image is read. Prints an `Outcome` as JSON.
"""

import json
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from sensor.ebpf.compile import INSTRUCTION_BYTES, Build, Image, ImageCache, ProgramImage, build_http1, make_digest
from sensor.ebpf.loader import LoadError, compile_build, load_program
from sensor.ebpf.tracepoints import ProbeSettings, build_syscalls, load_tracepoints
from sensor.ebpf.uprobes import UPROBES, build_tls, close_probes, load_tls
from sensor.preflight.checks import parse_capabilities
from sensor.preflight.trial import find_entry_offset

RING_BYTES: Final = 1 << 18
_CALL: Final = 0x85  # BPF_JMP | BPF_CALL; a helper's number is in the immediate where the source register is 0.
# Programs that judge cgroups themselves are others than those of the whole host; any number does.
_SCOPE_ID: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSide:
    """How one side is built; and how it is loaded and attached, given a cgroup and a directory with its image."""

    build: Callable[[], Build]
    run: Callable[[Path, Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one kernel side in one process."""

    capabilities: int  # Effective, a bit each.
    kallsyms_bytes: int  # What can be read of it.
    digest: str  # Of the image.
    helpers: dict[str, list[int]]  # That each of its programs calls.
    problem: str  # Why it could not be loaded or attached.


def _run_packets(cgroup: Path, images: Path, *, is_root_cgroup: bool) -> None:
    program = load_program(cgroup, RING_BYTES, is_root_cgroup, RING_BYTES, images, is_enforcing=True)
    try:
        program.attach()
    finally:
        program.close()


def _run_syscalls(cgroup: Path, images: Path, *, settings: ProbeSettings) -> None:
    program = load_tracepoints(settings, images)
    try:
        program.attach()
    finally:
        program.close()


def _run_tls(cgroup: Path, images: Path, *, settings: ProbeSettings) -> None:
    """All programs on the entry point of a program that nobody runs."""
    file = Path(shutil.copy(Path(sys.executable).resolve(), images / "program"))
    with file.open("rb") as opened:
        entry = find_entry_offset(opened.read(4_096))
    program = load_tls(settings, images)
    try:
        program.attach()
        close_probes(program.open_probes(str(file), [(entry, name, 0) for name in UPROBES]))
    finally:
        program.close()


def _describe_packets(*, is_root_cgroup: bool) -> KernelSide:
    return KernelSide(
        build=partial(build_http1, RING_BYTES, RING_BYTES, is_root_cgroup),
        run=partial(_run_packets, is_root_cgroup=is_root_cgroup),
    )


def _describe_syscalls(scope_id: int) -> KernelSide:
    settings = ProbeSettings(ring_bytes=RING_BYTES, scope_id=scope_id)
    return KernelSide(build=partial(build_syscalls, settings), run=partial(_run_syscalls, settings=settings))


def _describe_tls(scope_id: int) -> KernelSide:
    settings = ProbeSettings(ring_bytes=RING_BYTES, scope_id=scope_id)
    return KernelSide(build=partial(build_tls, settings), run=partial(_run_tls, settings=settings))


PACKETS_OF_THE_HOST: Final = "packets of the host"
KERNEL_SIDES: Final = {
    PACKETS_OF_THE_HOST: _describe_packets(is_root_cgroup=True),
    "packets of a cgroup": _describe_packets(is_root_cgroup=False),
    "system calls of the host": _describe_syscalls(0),
    "system calls of a cgroup": _describe_syscalls(_SCOPE_ID),
    "TLS of the host": _describe_tls(0),
    "TLS of a cgroup": _describe_tls(_SCOPE_ID),
}


def list_helpers(program: ProgramImage) -> list[int]:
    """Numbers of the helpers that a program calls (`enum bpf_func_id`), each once."""
    numbers = set()
    for offset in range(0, len(program.instructions), INSTRUCTION_BYTES):
        code, registers, _, immediate = struct.unpack_from("<BBhi", program.instructions, offset)
        if code == _CALL and not registers >> 4:
            numbers.add(immediate)
    return sorted(numbers)


def digest_image(image: Image) -> str:
    """The same for the same instructions and maps."""
    return blake2b(msgspec.msgpack.encode(image), digest_size=16).hexdigest()


def try_side(side: KernelSide, cgroup: Path) -> Outcome:
    """Compiles it, loads it and attaches it for a moment."""
    build = side.build()
    image = compile_build(build)
    problem = ""
    with tempfile.TemporaryDirectory() as directory:
        ImageCache(Path(directory)).keep_image(make_digest(build), image)
        try:
            side.run(cgroup, Path(directory))
        except (LoadError, OSError) as error:
            problem = str(error)
    return Outcome(
        capabilities=parse_capabilities(Path("/proc/self/status").read_text()),
        kallsyms_bytes=len(Path("/proc/kallsyms").read_bytes()),
        digest=digest_image(image),
        helpers={program.name: list_helpers(program) for program in image.programs},
        problem=problem,
    )


if __name__ == "__main__":
    print(json.dumps(asdict(try_side(KERNEL_SIDES[sys.argv[2]], Path(sys.argv[1])))))
