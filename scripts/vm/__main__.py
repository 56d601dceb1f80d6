"""`scripts/test --vm [--kernel VERSION] [--architecture arm64] [pytest arguments]`: tests in an emulated machine.

The machine (qemu, plain emulation, no network) boots the kernel with this host's files as its own, or with those of
another architecture: read only, with an overlay that ends with it. It runs pytest as root; the runner's closing line is
the last of the output, and its status ours. Where a kernel or an emulator is missing it says so and skips.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from scripts.vm.architecture import AMD64, ARCHITECTURES, Architecture, prepare_root
from scripts.vm.images import VARIABLE, compile_images
from scripts.vm.initramfs import END, build_initramfs
from scripts.vm.package import Kernel, NoKernelError, fetch_kernel

ROOT: Final = Path(__file__).parent.parent.parent
DIRECTORY: Final = ROOT / ".run" / "vm"
DEFAULT_KERNEL: Final = "6.12"
MEMORY: Final = "3G"
# What a kernel that is new to us has to show: all programs pass its verifier; 23 calls are 23 calls both ways; calls of
# one cgroup are seen where it is watched alone; and TLS is read by the programs that a kernel tells their places, and
# of rustls where its server is built. What a C compiler says of structs is the same on every kernel.
TESTS: Final = (
    "tests/bpf/test_verifier.py",
    "tests/bpf/test_syscall_abi.py::test_programs_load_and_stay_below_the_limit",
    "tests/bpf/test_syscall_abi.py::test_offsets_are_those_of_the_running_kernel",
    "tests/bpf/test_tls_abi.py::test_programs_load_and_stay_below_the_limit",
    "tests/bpf/test_image.py::test_a_refused_program_is_named_with_the_verifiers_reason",
    *("tests/bpf/test_servers.py", "tests/bpf/test_scope.py"),
    *("tests/bpf/test_tls.py::test_openssl_by_its_functions", "tests/bpf/test_tls.py::test_rustls"),
)
# Of another architecture, on which TLS is not read. LLVM compiles there too, which is most of the time.
ARM_TESTS: Final = (
    *("tests/bpf/test_verifier.py", "tests/bpf/test_syscall_abi.py", "tests/bpf/test_servers.py"),
    *("tests/bpf/test_scope.py", "tests/sensor/ebpf"),
)
PYTEST: Final = (
    *("-v", "-ra", "-s", "--color=no", "--tb=short", "--assert=plain", "--basetemp=/tmp/machine/files"),
    *("-p", "no:cacheprovider"),
)
TIMEOUT_SECONDS: Final = 3_600.0


def main() -> int:
    """The exit status of the tests; 0 where they cannot be run here, which is said."""
    parser = argparse.ArgumentParser(prog="scripts/test --vm", description=__doc__)
    parser.add_argument("--kernel", default=DEFAULT_KERNEL, metavar="VERSION", help="6.1, 6.12, 6.17 ...")
    parser.add_argument("--architecture", default=AMD64.name, choices=ARCHITECTURES, help="Debian's name")
    parser.add_argument(
        "--without-cgroup2", action="store_true", help="boot without cgroup v2: only the fallback works"
    )
    options, tests = parser.parse_known_args()
    try:
        architecture = ARCHITECTURES[options.architecture]
        if shutil.which(architecture.emulator) is None:
            raise NoKernelError(f"{architecture.emulator} is missing: apt-get install {architecture.emulator_package}")
        directory = DIRECTORY if architecture is AMD64 else DIRECTORY / architecture.name
        kernel = fetch_kernel(options.kernel, directory, architecture.name)
        root = prepare_root(architecture, directory)
        chosen = tests or list(TESTS if architecture is AMD64 else ARM_TESTS)
        return run_machine(architecture, kernel, root, chosen, has_cgroup2=not options.without_cgroup2)
    except NoKernelError as error:
        print(f"skipped: {error}")
        return 0


def run_machine(architecture: Architecture, kernel: Kernel, root: Path, tests: list[str], *, has_cgroup2: bool) -> int:
    """Boots, runs, and passes on what is printed; gives pytest's status. `root` is the machine's `/`."""
    arguments = [*PYTEST, *tests]
    # No test needs a plugin that is installed, and importing them takes seconds there.
    environment = "HOME=/tmp/machine TMPDIR=/tmp/machine PYTHONDONTWRITEBYTECODE=1 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1"
    packages = f"PYTHONPATH={ROOT}:{ROOT / 'proto' / 'gen'}{architecture.packages}"
    is_host = root == Path("/")
    kept = compile_images(DIRECTORY / "images") if is_host else Path("/tmp/machine/images")
    paths = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    python = f"{environment} {paths} {packages} {VARIABLE}={kept} {architecture.python} -B -m pytest"
    command = f"cd {ROOT} && uname -r && {python} {shlex.join(arguments)}"
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory, "initramfs")
        checkout = None if is_host else ROOT
        archive.write_bytes(build_initramfs(kernel, command, root, checkout, has_cgroup2=has_cgroup2))
        machine = subprocess.Popen(
            _emulate(architecture, kernel, root, archive),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
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


def _emulate(architecture: Architecture, kernel: Kernel, root: Path, archive: Path) -> list[str]:
    shared = {"host": root, "checkout": ROOT}
    shares = [
        part
        for tag, path in shared.items()
        for part in (
            *("-fsdev", f"local,id={tag},path={path},security_model=none,readonly=on,multidevs=remap"),
            *("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
        )
    ]
    return [
        *(architecture.emulator, *architecture.machine, "-m", MEMORY, *shares),
        *("-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-net", "none"),
        *("-kernel", str(kernel.image), "-initrd", str(archive)),
        *("-append", f"console={architecture.console} quiet panic=-1 mitigations=off nokaslr"),
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
