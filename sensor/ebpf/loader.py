"""Loads the kernel side, from a compiling child or from the image cache, and attaches it to a cgroup by bpf_link.

Gives a `LoadedProgram`: file descriptors of the two entry programs and of the maps. Nothing is pinned. When the
last process that holds the descriptors ends, by whatever means, the kernel detaches and frees everything.
"""

import contextlib
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from sensor.ebpf.bpf_syscall import CGROUP_INET_EGRESS, CGROUP_INET_INGRESS, create_link, update_map
from sensor.ebpf.compile import (
    MAPS,
    Build,
    Image,
    ImageCache,
    ImageError,
    LoadedImage,
    build_http1,
    fill_image,
    find_shipped,
    load_image,
    make_digest,
)
from sensor.ebpf.http1_states import build_machine

logger = logging.getLogger(__name__)

# A busy machine compiles in some 5 s; past this the child hangs.
COMPILE_TIMEOUT_SECONDS = 600.0  # Some ten seconds of a processor, of which a busy node may give a fiftieth.
# The ring of records: 30,000 calls, while it is looked at every 0.1 to 0.2 s (sensor.agent.wakeup) and read at a
# quarter of it.
RECORDS_BYTES: Final = 4 << 20
# Programs that only a sensor calls which enforces.
GUARDS: Final = ("guard", "guard_streams")
# Programs without which the others work, should a kernel refuse one, and what is the worse for it.
DISPENSABLE: Final = {
    "match_streams": "calls of HTTP/2 will cost more",
    "skim": "many requests in one segment will be counted by their answers only",
}


class LoadError(RuntimeError):
    """The kernel side could not be loaded or attached; the message names the cause and the fix."""


@dataclass(slots=True, kw_only=True)
class KernelPrograms:
    """Open fds of what was loaded. `links` is empty while detached."""

    programs: dict[str, int]
    maps: dict[str, int]
    links: list[int] = field(default_factory=list)

    def detach(self) -> None:
        """Stops capture at once; `attach` starts it again."""
        while self.links:
            os.close(self.links.pop())

    def close(self) -> None:
        """Detaches and frees everything."""
        self.detach()
        for fd in (*self.programs.values(), *self.maps.values()):
            os.close(fd)
        self.programs.clear()
        self.maps.clear()


@dataclass(slots=True, kw_only=True)
class LoadedProgram(KernelPrograms):
    """The programs on a cgroup's packets, `ingress` and `egress`."""

    cgroup: int

    def attach(self) -> None:
        """Starts capture. Raises LoadError where another owner holds the cgroup exclusively."""
        if self.links:
            return
        try:
            self.links.append(create_link(self.programs["ingress"], self.cgroup, CGROUP_INET_INGRESS))
            self.links.append(create_link(self.programs["egress"], self.cgroup, CGROUP_INET_EGRESS))
        except OSError as error:
            self.detach()
            raise LoadError(
                f"attaching to the cgroup failed: {error.strerror}; another program may hold it exclusively "
                "(`bpftool cgroup tree` shows it), or CAP_BPF and CAP_NET_ADMIN are missing"
            ) from error

    def close(self) -> None:
        """Detaches and frees everything."""
        KernelPrograms.close(self)
        os.close(self.cgroup)


def _explain(stderr: str) -> str:
    if "No module named 'bcc'" in stderr:
        return (
            "the module bcc is missing: install the operating system's package python3-bpfcc "
            "(the index's package named bcc is another thing)"
        )
    lines = stderr.strip().splitlines()
    return _explain_refusal(lines[-1] if lines else "the compiler said nothing")


def _explain_refusal(error: str) -> str:
    if "Operation not permitted" in error:
        return f"the kernel refused the program ({error}): run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
    return error


def compile_build(build: Build) -> Image:
    """The image, made in a child. Raises LoadError."""
    command = [sys.executable, "-P", "-m", "sensor.ebpf.compile"]
    try:
        done = subprocess.run(
            command,
            input=msgspec.msgpack.encode(build),
            capture_output=True,
            timeout=COMPILE_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(
            f"compiling the kernel side took over {COMPILE_TIMEOUT_SECONDS:.0f} s: the machine is too busy, try again"
        ) from error
    if done.returncode:
        reason = _explain(done.stderr.decode("utf-8", "replace"))
        raise LoadError(f"compiling the kernel side failed ({done.returncode}): {reason}")
    return msgspec.msgpack.decode(done.stdout, type=Image)


def _lift_memory_limit() -> None:
    """Before Linux 5.11 maps and programs count against RLIMIT_MEMLOCK, whose default is 64 KiB."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def load_build(
    build: Build, cache_directory: Path | None, wire: Callable[[Image], LoadedImage] = load_image
) -> LoadedImage:
    """The programs and maps of a build: of the image that came with the package, from the cache, or compiled. `wire`
    loads an image and fills what its programs need from the start. Raises LoadError."""
    _lift_memory_limit()
    shipped = find_shipped(build)
    if shipped is not None:
        return _load_image(shipped, build, wire)
    digest, cache = make_digest(build), ImageCache(cache_directory)
    image = cache.find_image(digest)
    if image is not None:
        try:
            return wire(fill_image(image, build))
        except ImageError:
            cache.drop_image(digest)
    image = compile_build(build)
    loaded = _load_image(image, build, wire)
    cache.keep_image(digest, image)
    return loaded


def _load_image(image: Image, build: Build, wire: Callable[[Image], LoadedImage]) -> LoadedImage:
    try:
        return wire(fill_image(image, build))
    except ImageError as error:
        raise LoadError(f"loading the kernel side failed: {_explain_refusal(str(error))}") from error


def _load_without(image: Image, left_out: Sequence[str]) -> LoadedImage:
    programs = [program for program in image.programs if program.name not in left_out]
    return load_image(msgspec.structs.replace(image, programs=programs))


def _wire(image: Image, *, is_enforcing: bool) -> LoadedImage:
    """Loads an image and fills what the programs need from the start: the HTTP/1 table, and each other."""
    left_out = () if is_enforcing else GUARDS
    try:
        loaded = _load_without(image, left_out)
    except ImageError as error:
        refused = [name for name in DISPENSABLE if f"program {name}:" in str(error)]
        if not refused:
            raise
        logger.warning("%s, for the kernel refuses a program: %s", DISPENSABLE[refused[0]], error)
        left_out = (*left_out, *DISPENSABLE)
        loaded = _load_without(image, left_out)
    update_map(loaded.maps["machines"], bytes(4), build_machine().packed())
    for number, name in enumerate(image.tail_calls):
        if name not in left_out:
            fd = loaded.programs[name]
            update_map(loaded.maps["programs"], number.to_bytes(4, "little"), fd.to_bytes(4, "little"))
    return loaded


def load_program(
    cgroup_path: Path,
    ring_bytes: int,
    is_root_cgroup: bool,
    records_bytes: int = RECORDS_BYTES,
    cache_directory: Path | None = None,
    *,
    is_enforcing: bool = True,
) -> LoadedProgram:
    """Compiles (2-5 s, in a child; not where `cache_directory` holds the same) and loads (1-2 s); attaches nothing yet.

    Without `is_enforcing` what judges heads is not loaded, a seventh of the verifier's work. `ring_bytes` (heads) and
    `records_bytes` are powers of two of at least a page. With `is_root_cgroup` every local server is seen, so the
    client end of a loopback connection is left out from the start. Raises LoadError.
    """
    try:
        cgroup = os.open(cgroup_path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise LoadError(
            f"cgroup_path {cgroup_path} cannot be opened: {error.strerror}; name a directory of cgroup v2"
        ) from error
    try:
        build = build_http1(ring_bytes, records_bytes, is_root_cgroup)
        loaded = load_build(build, cache_directory, partial(_wire, is_enforcing=is_enforcing))
    except BaseException:
        os.close(cgroup)
        raise
    programs = {name: loaded.programs[name] for name in ("ingress", "egress")}
    maps = {name: loaded.maps[name] for name in MAPS}
    # The array of programs holds the others. It must stay open itself: the kernel empties it with its last user-space
    # reference.
    loaded.close(keep=(*programs.values(), *maps.values()))
    return LoadedProgram(programs=programs, maps=maps, cgroup=cgroup)
