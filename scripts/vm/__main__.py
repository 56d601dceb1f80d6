"""`scripts/test --vm [--kernel VERSION] [pytest arguments]`: tests in an emulated machine with another kernel.

The machine (qemu, plain emulation, no network) boots the kernel with this host's files as its own: read only, with an
overlay that ends with it. It runs pytest as root; the runner's closing line is the last of the output, and its status
ours. Where a kernel or an emulator is missing it says so and skips.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from scripts.vm.images import VARIABLE, keep_image
from scripts.vm.initramfs import END, build_initramfs
from scripts.vm.package import Kernel, NoKernelError, fetch_kernel

ROOT: Final = Path(__file__).parent.parent.parent
DIRECTORY: Final = ROOT / ".run" / "vm"
EMULATOR: Final = "qemu-system-x86_64"
DEFAULT_KERNEL: Final = "6.12"
MEMORY: Final = "3G"
# What a kernel that is new to us has to show: all programs pass its verifier; 23 calls are 23 calls both ways; calls of
# one cgroup are seen where it is watched alone; and TLS is read by the programs that a kernel tells their places, and
# of rustls where its server is built.
TESTS: Final = (
    *("tests/bpf/test_verifier.py", "tests/bpf/test_syscall_abi.py", "tests/bpf/test_tls_abi.py"),
    "tests/bpf/test_image.py::test_a_refused_program_is_named_with_the_verifiers_reason",
    *("tests/bpf/test_servers.py", "tests/bpf/test_scope.py"),
    *("tests/bpf/test_tls.py::test_openssl_by_its_functions", "tests/bpf/test_tls.py::test_rustls"),
)
PYTEST: Final = (
    *("-v", "-ra", "-s", "--color=no", "--tb=short", "--assert=plain", "--basetemp=/tmp/machine/files"),
    *("-p", "no:cacheprovider", "-p", "no:hypothesispytest"),
)
TIMEOUT_SECONDS: Final = 1_200.0


def main() -> int:
    """The exit status of the tests; 0 where they cannot be run here, which is said."""
    parser = argparse.ArgumentParser(prog="scripts/test --vm", description=__doc__)
    parser.add_argument("--kernel", default=DEFAULT_KERNEL, metavar="VERSION", help="6.1, 6.12, 6.17 ...")
    parser.add_argument(
        "--without-cgroup2", action="store_true", help="boot without cgroup v2: only the fallback works"
    )
    options, tests = parser.parse_known_args()
    try:
        if shutil.which(EMULATOR) is None:
            raise NoKernelError(f"{EMULATOR} is missing: apt-get install qemu-system-x86")
        kernel = fetch_kernel(options.kernel, DIRECTORY)
        return run_machine(kernel, tests or list(TESTS), has_cgroup2=not options.without_cgroup2)
    except NoKernelError as error:
        print(f"skipped: {error}")
        return 0


def run_machine(kernel: Kernel, tests: list[str], *, has_cgroup2: bool) -> int:
    """Boots, runs, and passes on what is printed; gives pytest's status."""
    arguments = [*PYTEST, *tests]
    environment = "HOME=/tmp/machine TMPDIR=/tmp/machine PYTHONDONTWRITEBYTECODE=1 PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    packages = f"PYTHONPATH={ROOT}:{ROOT / 'proto' / 'gen'}"
    images = f"{VARIABLE}={keep_image(DIRECTORY / 'images', kernel.release)}"
    python = f"{environment} {packages} {images} .venv/bin/python -B -m pytest"
    command = f"cd {ROOT} && uname -r && {python} {shlex.join(arguments)}"
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory, "initramfs")
        archive.write_bytes(build_initramfs(kernel, command, has_cgroup2=has_cgroup2))
        machine = subprocess.Popen(
            _emulate(kernel, archive), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
        )
        try:
            lines = _pass_on(machine)
            machine.wait(TIMEOUT_SECONDS)
        finally:
            machine.kill()
            machine.wait()
    ends = [line for line in lines if line.startswith(END)]
    said = [line for line in lines if line and not line.startswith(END) and not line.startswith("[")]
    print(f"kernel {kernel.release}, {time.monotonic() - started:.0f} s in all")
    print(said[-1] if said else "the machine said nothing")
    return int(ends[-1].rpartition(" ")[2]) if ends else 1


def _emulate(kernel: Kernel, archive: Path) -> list[str]:
    share = "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"
    return [
        *(EMULATOR, "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(min(2, os.cpu_count() or 1))),
        *("-m", MEMORY, "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-net", "none"),
        *("-fsdev", share, "-device", "virtio-9p-pci,fsdev=host,mount_tag=host"),
        *("-kernel", str(kernel.image), "-initrd", str(archive)),
        *("-append", "console=ttyS0 quiet panic=-1 mitigations=off nokaslr"),
    ]


def _pass_on(machine: "subprocess.Popen[str]") -> list[str]:
    assert machine.stdout is not None
    lines = []
    for line in machine.stdout:
        lines.append(line.rstrip())
        print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    sys.exit(main())
