"""Runs a program in an image's root file system as a container runtime would: namespaces, capabilities, read-only root.

No runtime is needed, only util-linux: `unshare`, `chroot` and the image's own `setpriv`.
"""

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.containers.containerfile import Stage
from scripts.containers.rights import limit_capabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """How a program of an image runs."""

    root: Path
    stage: Stage
    capabilities: Sequence[str] = ()
    # (of this host, in the container, whether it may be written).
    mounts: Sequence[tuple[Path, str, bool]] = ()
    # Network namespace of this process; empty: that of the caller.
    network_of: int = 0

    def command(self, arguments: Sequence[str], environment: dict[str, str] | None = None) -> list[str]:
        """What starts it. The process that is started ends the container with it."""
        user, _, group = self.stage.user.partition(":")
        there = shlex.quote(str(self.root))
        mounts = ["mount --make-rprivate /", f"mount --rbind {there} {there}"]
        mounts += [f"mount -t tmpfs -o mode=1777 tmpfs {there}/{directory}" for directory in ("tmp", "run")]
        for origin, target, is_written in self.mounts:
            place = shlex.quote(f"{self.root}{target}")
            mounts.append(f"mkdir -p {place}; mount --rbind {shlex.quote(str(origin))} {place}")
            if not is_written:
                mounts.append(f"mount -o remount,bind,ro {place}")
        mounts += [
            f"mount --rbind /dev {there}/dev",
            f"mount --bind /sys {there}/sys; mount -o remount,bind,ro {there}/sys",
            f"mount -t proc proc {there}/proc",
            f"mount -o remount,bind,ro {there}",
        ]
        privileges = ["--reuid", user, "--regid", group, "--clear-groups", *limit_capabilities(self.capabilities)]
        variables = {"HOME": "/tmp", **self.stage.environment, **(environment or {})}
        inside = ["chroot", str(self.root), "/usr/bin/setpriv", *privileges, "/usr/bin/env", "-i"]
        inside += [f"{name}={value}" for name, value in variables.items()] + list(arguments)
        script = "; ".join([*mounts, f"exec {shlex.join(inside)}"])
        namespaces = ["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"]
        enter = ["nsenter", "--net", "--target", str(self.network_of)] if self.network_of else []
        return [*enter, "unshare", *namespaces, "sh", "-ec", script]

    def run(self, *arguments: str, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
        """To its end; output as text."""
        return subprocess.run(
            self.command(arguments, environment),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )


def main_process(started: int) -> int:
    """The pid of the container's own first process, given that of the command which started it."""
    return int(Path(f"/proc/{started}/task/{started}/children").read_text().split()[0])
