"""The first files of the machine: busybox, the modules that reach its files, and the script that goes there.

A cpio archive as the kernel reads it (Documentation/driver-api/early-userspace/buffer-format.rst, "newc").
"""

import lzma
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from scripts.vm.package import Kernel, NoKernelError

# What mounts the host's files (9p over virtio) and lets them be written to without harm (overlay); sock_diag for TCP.
_MODULES: Final = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "tcp_diag")
_BUSYBOX: Final = "usr/bin/busybox"
_MAGIC: Final = "070701"
_DIRECTORY, _FILE, _DEVICE = 0o040755, 0o100755, 0o020600
END: Final = "machine ended with status"

_MOUNT: Final = "/busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose"
_INIT: Final = """#!/busybox sh
/busybox mount -t proc proc /proc
/busybox mount -t sysfs sys /sys
/busybox mount -t devtmpfs dev /dev
for module in $(/busybox cat /modules/order); do /busybox insmod /modules/$module || echo "insmod $module failed"; done
MOUNT host /lower || echo "9p failed"
/busybox mount -t tmpfs tmpfs /upper
/busybox mkdir /upper/files /upper/work
layers=lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work
/busybox mount -t overlay -o $layers overlay /root || echo "overlay failed"
CHECKOUT
for each in proc sys dev; do /busybox mount --move /$each /root/$each; done
/busybox mount -t tmpfs tmpfs /root/run
/busybox mkdir -p /root/tmp/machine
/busybox mount -t tmpfs tmpfs /root/tmp/machine
/busybox mount -t tmpfs tmpfs /root/sys/fs/cgroup
/busybox mkdir -p /root/sys/fs/cgroup/unified /root/dev/shm
/busybox mount -t tmpfs tmpfs /root/dev/shm
HIERARCHY
/busybox ip link set lo up
/busybox cp /script /root/tmp/machine/script
/busybox chroot /root /bin/sh /tmp/machine/script
echo "END $?"
/busybox poweroff -f
""".replace("MOUNT", _MOUNT)


def build_initramfs(kernel: Kernel, script: str, root: Path, checkout: Path | None, *, has_cgroup2: bool) -> bytes:
    """The archive; `script` is run by sh with the files of `root` as its own. `checkout` is a directory of this host
    that the machine has at the same place, where it is not in `root`. Raises NoKernelError."""
    busybox = root / _BUSYBOX
    if not busybox.exists():
        raise NoKernelError("busybox is missing: apt-get install busybox-static")
    hierarchy = "/busybox mount -t cgroup2 none /root/sys/fs/cgroup/unified" if has_cgroup2 else ""
    init = _INIT.replace("HIERARCHY", hierarchy).replace("END", END)
    init = init.replace("CHECKOUT", f"{_MOUNT} checkout /root{checkout}" if checkout else "")
    archive = b"".join(_entry(name, _DIRECTORY) for name in ("proc", "sys", "dev", "lower", "upper", "root", "modules"))
    archive += _entry("dev/console", _DEVICE, device=(5, 1))
    archive += _entry("busybox", _FILE, busybox.read_bytes()) + _entry("init", _FILE, init.encode())
    archive += _entry("script", _FILE, script.encode())
    order = []
    for path in _find_modules(kernel):
        name = path.name.partition(".ko")[0] + ".ko"
        order.append(name)
        archive += _entry(f"modules/{name}", _FILE, _read_module(path))
    archive += _entry("modules/order", _FILE, "\n".join(order).encode())
    return archive + _entry("TRAILER!!!", 0)


def _entry(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
    head = (_MAGIC + "".join(f"{field:08x}" for field in fields) + name + "\0").encode()
    return _pad(head) + _pad(data)


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _find_modules(kernel: Kernel) -> list[Path]:
    """Files of the modules and of what they need, in the order to load them; what is built in has none."""
    if shutil.which("depmod", path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
        raise NoKernelError("depmod is missing: apt-get install kmod")
    subprocess.run(["/usr/sbin/depmod", "-b", str(kernel.root), kernel.release], check=True, capture_output=True)
    found: list[Path] = []
    for module in _MODULES:
        command = ["/usr/sbin/modprobe", "-d", str(kernel.root), "-S", kernel.release, "--show-depends", module]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        # One that is not there is built in: packages before depmod's run do not always tell so.
        found += [Path(path) for path in re.findall(r"^insmod (\S+)", told.stdout, re.MULTILINE)]
    return list(dict.fromkeys(found))


def _read_module(path: Path) -> bytes:
    if path.suffix == ".zst":
        if shutil.which("zstd") is None:
            raise NoKernelError("this kernel's modules are compressed by zstd, which is missing: apt-get install zstd")
        return subprocess.run(["zstd", "-dc", str(path)], check=True, capture_output=True).stdout
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
