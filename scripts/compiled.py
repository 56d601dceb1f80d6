"""`scripts/compile`: the eBPF programs for every node, and the Java agent where a JDK is here, as files that packages
and images hold.

bcc makes maps while it compiles, so this needs root, which the build of a container image does not have.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sensor.capture.java.build import BuildError, build_jar
from sensor.ebpf.compile import SHIPPED_DIRECTORY, Build, build_http1, ship_image
from sensor.ebpf.loader import LoadError, compile_build
from sensor.ebpf.tracepoints import ProbeSettings, build_syscalls
from sensor.ebpf.uprobes import build_tls

# Whatever they are: only names of constants go into an image.
_RING_BYTES: Final = 1 << 20


def list_builds() -> dict[str, tuple[Build, tuple[str, ...]]]:
    """What is compiled, and for which machines (`uname -m`): TLS is read on x86-64 only. Raises LoadError."""
    settings = ProbeSettings(ring_bytes=_RING_BYTES)
    everywhere = ("x86_64", "aarch64")
    return {
        "packets": (build_http1(_RING_BYTES, _RING_BYTES, True), everywhere),
        "system calls": (build_syscalls(settings), everywhere),
        "TLS": (build_tls(settings), ("x86_64",)),
    }


def compile_programs(directory: Path = SHIPPED_DIRECTORY) -> Iterable[Path]:
    """Replaces all files of the directory; gives each new one. Raises LoadError."""
    for path in directory.glob("*.image"):
        path.unlink()
    for build, machines in list_builds().values():
        image = compile_build(build)
        for machine in machines:
            yield ship_image(build, image, machine, directory)


def main() -> int:
    """1 where they cannot be compiled here, with the reason."""
    try:
        for path in compile_programs():
            print(f"{path.name}: {path.stat().st_size:,} bytes")
    except LoadError as error:
        print(f"scripts/compile: {error}", file=sys.stderr)
        return 1
    try:
        jar = build_jar()
        print(f"{jar.name}: {jar.stat().st_size:,} bytes")
    except BuildError as error:
        print(f"scripts/compile: without the Java agent, {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
