"""Names the containers of this node and their images, from the files that their runtimes keep on the host.

- docker, under its data root (/var/lib/docker, the snap's, or `data-root` of /etc/docker/daemon.json): `Name`,
  `Image` and `Config.Image` of containers/ID/config.v2.json (moby container/container.go). Other names of the image
  are in image/DRIVER/repositories.json (moby reference/store.go).
- podman and cri-o, under /var/lib/containers/storage or `graphroot` of /etc/containers/storage.conf: `names` and
  `metadata` in DRIVER-containers/{containers,volatile-containers}.json (containers/storage containers.go, podman
  libpod/storage.go). The image's digest is in DRIVER-images/images.json.
- nerdctl: the text of the file /var/lib/nerdctl/HASH/names/NAMESPACE/NAME is the id (nerdctl pkg/namestore). The
  image is only in containerd's database.

No runtime socket is asked, because that would need its rights. Where no file has a name, the short id is the name.

Rootless containers have the same files in the user's home: .local/share/docker or `data-root` of
.config/docker/daemon.json (docs.docker.com, rootless mode), and .local/share/containers/storage or `graphroot` of
.config/containers/storage.conf (containers-storage.conf(5)). A user may put a pipe, a link, a device or a file system
of their own (FUSE) there, to make the reader wait or stray. So every step of a path is opened without following links
(O_PATH, O_NOFOLLOW). It must be the user's and lie on the home's own mount, which must be a local file system. Only a
regular file of bounded size is read. Sources: open(2), proc_pid_fdinfo(5), proc_pid_mountinfo(5), passwd(5).

Attributes are OpenTelemetry's container.image.name, container.image.tags and container.image.repo_digests.
"""

import json
import os
import re
import stat
import threading
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from common.bounded import BoundedDict
from sensor.enrich.kubernetes.pod import WORKLOADS_MAX, WorkloadFacts

# A docker config with many labels is some 20 KB; an index of a thousand podman containers 500 KB.
MAX_FILE_BYTES: Final = 8 << 20
_MAX_STEPS: Final = 16
# A network's may not answer for minutes, and a user's own may never.
_LOCAL_TYPES: Final = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "overlay", "tmpfs")
)


def find_home(uid: int, *, root: Path = Path("/")) -> str:
    """The home of a user in /etc/passwd, absolute on the host; empty where the file does not name it."""
    try:
        # The bytes of a home come back where it is opened; it is never shown.
        with (root / "etc/passwd").open(errors="surrogateescape") as file:
            for line in file:
                fields = line.rstrip("\n").split(":")
                if len(fields) == 7 and fields[2] == str(uid) and fields[5].startswith("/") and len(fields[5]) > 1:
                    return fields[5]
    except OSError:
        pass
    return ""


def read_user_file(home: Path, relative: PurePosixPath, uid: int) -> bytes | None:
    """The content of a user's regular file below `home`; None where there is none that may be read. Never raises for
    what the user did."""
    parts = relative.parts
    if not parts or len(parts) > _MAX_STEPS or ".." in parts or relative.is_absolute():
        return None
    try:
        with _open_path(str(home)) as top:
            mount = _mount_of(top)
            if not _is_local(mount) or os.fstat(top).st_uid != uid:
                return None
            return _read_below(top, parts, uid, mount)
    except OSError:
        return None


def _read_below(directory: int, parts: tuple[str, ...], uid: int, mount: str) -> bytes | None:
    with _open_path(parts[0], directory) as found:
        if _mount_of(found) != mount:
            return None
        status = os.fstat(found)
        if status.st_uid != uid:
            return None
        if len(parts) > 1:
            return _read_below(found, parts[1:], uid, mount) if stat.S_ISDIR(status.st_mode) else None
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
            return None
        # The very file that was looked at, whatever its name means by now.
        with open(f"/proc/self/fd/{found}", "rb") as file:  # noqa: PTH123 - a descriptor, not a path.
            return file.read(MAX_FILE_BYTES)


@contextmanager
def _open_path(name: str, directory: int | None = None) -> Iterator[int]:
    """A descriptor that stands for the file without opening it."""
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _mount_of(descriptor: int) -> str:
    """The id of the mount on which a descriptor's file lies."""
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "mnt_id":
            return value.strip()
    return ""


def _is_local(mount: str) -> bool:
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split(" ", 1)[0] == mount:
            return rest.split(" ", 1)[0] in _LOCAL_TYPES
    return False


NAME_ATTRIBUTE: Final = "container.image.name"
TAGS_ATTRIBUTE: Final = "container.image.tags"
REPO_DIGESTS_ATTRIBUTE: Final = "container.image.repo_digests"
# An image can have any number of tags; more than a few say nothing more.
TEXTS_MAX: Final = 4

# distribution/reference: [domain[:port]/]path[:tag][@digest], path in lower case, of at most 255 characters.
_REFERENCE = re.compile(
    r"(?P<name>(?:(?:[A-Za-z0-9.-]{1,200}|\[[0-9a-fA-F:]{2,45}\])(?::[0-9]{1,5})?/)?[a-z0-9][a-z0-9._/-]{0,254})"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[a-z0-9]{1,16}:[0-9a-f]{32,128}))?"
)
_DIGEST = re.compile(r"[a-z0-9]{1,16}:[0-9a-f]{32,128}")
# `docker run 3f1a2b..` names no image but its id, or a part of it.
_IMAGE_ID = re.compile(r"(sha256:)?[0-9a-f]{12,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerImage:
    """One image. `repo_digests` are `name@algorithm:hex`, as registries know it."""

    name: str
    tags: tuple[str, ...] = ()
    repo_digests: tuple[str, ...] = ()

    def attributes(self) -> tuple[tuple[str, str], ...]:
        """Name and value of each attribute; one of several values has a pair for each."""
        return (
            (NAME_ATTRIBUTE, self.name),
            *((TAGS_ATTRIBUTE, tag) for tag in self.tags),
            *((REPO_DIGESTS_ATTRIBUTE, digest) for digest in self.repo_digests),
        )


def read_image(references: Iterable[str], *, digests: Iterable[str] = ()) -> ContainerImage | None:
    """The image of the first reference that has a name, with the tags and digests that others give the same name.

    `digests` are `algorithm:hex` of it, without a name. None where nothing names it. A reference without tag and
    digest means the tag `latest`, as in docker and podman.
    """
    name = ""
    tags: list[str] = []
    repo_digests: list[str] = []
    for reference in references:
        match = _REFERENCE.fullmatch(reference)
        if match is None or _IMAGE_ID.fullmatch(reference) or (name and match["name"] != name):
            continue
        name = match["name"]
        tag = match["tag"] or ("" if match["digest"] else "latest")
        if tag:
            tags.append(tag)
        if match["digest"]:
            repo_digests.append(f"{name}@{match['digest']}")
    if not name:
        return None
    repo_digests += [f"{name}@{digest}" for digest in digests if _DIGEST.fullmatch(digest)]
    return ContainerImage(
        name=name,
        tags=tuple(dict.fromkeys(tags))[:TEXTS_MAX],
        repo_digests=tuple(dict.fromkeys(repo_digests))[:TEXTS_MAX],
    )


SHORT_ID_CHARACTERS = 12
_MAX_NAMES = 10_000
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")  # Docker's and podman's own rule for names.
_ID = re.compile(r"[0-9a-f]{64}")
_DOCKER_ROOTS = ("var/lib/docker", "var/snap/docker/common/var-lib-docker")
_STORAGE_ROOT = "var/lib/containers/storage"
_DOCKER_HOME, _DOCKER_CONFIG = Path(".local/share/docker"), Path(".config/docker/daemon.json")
_STORAGE_HOME, _STORAGE_CONFIG = Path(".local/share/containers/storage"), Path(".config/containers/storage.conf")
_STORAGE_DRIVERS = ("overlay", "vfs", "btrfs", "zfs")

# Of a path: the file's content, None where it may not be read.
Read = Callable[[Path], bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container by its name; `image` is None where nothing names it."""

    name: str
    image: ContainerImage | None = None


def read_container(container_id: str, uid: int | None = None, *, root: Path = Path("/")) -> Container:
    """The container of an id; its name is the one that a person gave it, or its short id.

    `uid` is the user who runs it without root, else None; `root` is where the host's files are mounted. Never raises.
    """
    if not _ID.fullmatch(container_id):
        return Container(name=container_id)
    for container in _list_known(container_id, uid, root):
        if _SAFE_NAME.fullmatch(container.name):
            return container
    return Container(name=container_id[:SHORT_ID_CHARACTERS])


def _list_known(container_id: str, uid: int | None, root: Path) -> Iterator[Container]:
    if uid is None:
        for data_root in _docker_roots(root):
            yield from _read_docker(data_root, container_id, _read)
        for storage in _storage_roots(root):
            yield from _read_podman(storage, container_id, _read)
        yield from _read_nerdctl(root, container_id)
        return
    home = find_home(uid, root=root)
    if not home:
        return

    def read(path: Path) -> bytes | None:
        return read_user_file(root / home.lstrip("/"), PurePosixPath(path), uid)

    for data_root in _user_roots(_DOCKER_HOME, _text_of(_parse(read(_DOCKER_CONFIG)), "data-root"), home):
        yield from _read_docker(data_root, container_id, read)
    configured = _text_of(_parse_toml(read(_STORAGE_CONFIG)).get("storage"), "graphroot")
    for storage in _user_roots(_STORAGE_HOME, configured, home):
        yield from _read_podman(storage, container_id, read)


def _user_roots(usual: Path, configured: str, home: str) -> Iterator[Path]:
    """Relative to the home: what lies elsewhere is not the user's alone."""
    yield usual
    other = configured.replace("$HOME", home)
    if other.startswith(f"{home}/"):
        yield Path(other.removeprefix(f"{home}/"))


def _read_docker(data_root: Path, container_id: str, read: Read) -> Iterator[Container]:
    config = _parse(read(data_root / "containers" / container_id / "config.v2.json"))
    if isinstance(config, dict):
        name = str(config.get("Name", "")).removeprefix("/")
        yield Container(name=name, image=_read_docker_image(data_root, config, read))


def _docker_roots(root: Path) -> Iterator[Path]:
    yield from (root / path for path in _DOCKER_ROOTS)
    configured = _text_of(_parse(_read(root / "etc/docker/daemon.json")), "data-root")
    if configured:
        yield root / configured.lstrip("/")


def _read_docker_image(data_root: Path, config: Mapping[str, Any], read: Read) -> ContainerImage | None:
    given = _text_of(config.get("Config"), "Image")
    digest = _text_of(config.get("ImageManifest"), "digest")  # Where images are kept in containerd.
    image_id = _text_of(config, "Image")
    known = _list_docker_references(data_root, _text_of(config, "Driver"), image_id, read) if image_id else ()
    return read_image((given, *known), digests=(digest,))


def _list_docker_references(data_root: Path, driver: str, image_id: str, read: Read) -> list[str]:
    """What an image is called, with tags before digests."""
    if not _SAFE_NAME.fullmatch(driver):
        return []
    file = _parse(read(data_root / "image" / driver / "repositories.json"))
    repositories = file.get("Repositories") if isinstance(file, dict) else None
    if not isinstance(repositories, dict):
        return []
    found = [
        reference
        for references in repositories.values()
        if isinstance(references, dict)
        for reference, of_image in references.items()
        if of_image == image_id
    ]
    return sorted(found, key=lambda reference: ("@" in reference, reference))


def _read_podman(storage: Path, container_id: str, read: Read) -> Iterator[Container]:
    for file_name in ("containers.json", "volatile-containers.json"):
        for driver in _STORAGE_DRIVERS:
            for entry in _items_of(_parse(read(storage / f"{driver}-containers" / file_name))):
                if isinstance(entry, dict) and entry.get("id") == container_id:
                    image = _read_podman_image(storage / f"{driver}-images" / "images.json", entry, read)
                    for name in _items_of(entry.get("names")):
                        yield Container(name=str(name), image=image)


def _storage_roots(root: Path) -> Iterator[Path]:
    yield root / _STORAGE_ROOT
    storage = _parse_toml(_read(root / "etc/containers/storage.conf")).get("storage")
    configured = _text_of(storage, "graphroot").lstrip("/")
    if configured and configured != _STORAGE_ROOT:
        yield root / configured


def _read_podman_image(images: Path, entry: Mapping[str, Any], read: Read) -> ContainerImage | None:
    try:
        metadata = json.loads(_text_of(entry, "metadata") or "{}")
    except (ValueError, RecursionError):
        metadata = {}
    image_id = _text_of(entry, "image")
    index = _items_of(_parse(read(images))) if image_id else []
    found = [one for one in index if isinstance(one, dict) and one.get("id") == image_id]
    names = [str(name) for one in found for name in _items_of(one.get("names"))]
    return read_image((_text_of(metadata, "image-name"), *names), digests=[_text_of(one, "digest") for one in found])


def _read_nerdctl(root: Path, container_id: str) -> Iterator[Container]:
    try:
        names = sorted((root / "var/lib/nerdctl").glob("*/names/*/*"))[:_MAX_NAMES]
    except OSError:
        return
    for path in names:
        try:
            if (
                path.is_file()
                and path.stat().st_size < 100
                and path.read_text(errors="replace").strip() == container_id
            ):
                yield Container(name=path.name)
        except OSError:
            continue


def _text_of(holder: object, key: str) -> str:
    """A text in an object; empty where there is none."""
    value = holder.get(key) if isinstance(holder, dict) else None
    return value if isinstance(value, str) else ""


def _items_of(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _read(path: Path) -> bytes | None:
    """A file of the host's; None where it is absent, unreadable or too large."""
    try:
        return path.read_bytes() if path.stat().st_size <= MAX_FILE_BYTES else None
    except OSError:
        return None


def _parse(content: bytes | None) -> Any:
    """JSON; None where there is none."""
    try:
        return None if content is None else json.loads(content)
    except (ValueError, RecursionError):  # Nested too deep.
        return None


def _parse_toml(content: bytes | None) -> dict[str, Any]:
    """TOML; empty where there is none."""
    try:
        return {} if content is None else tomllib.loads(content.decode())
    except (ValueError, RecursionError):
        return {}


KIND: Final = "Container"


class ContainerTable:
    """Thread-safe: one thread asks for names, another for what is reported. Keeps the `WORKLOADS_MAX` seen last."""

    def __init__(self, read: Callable[[str, int | None], Container]) -> None:
        """`read` gives the container of an id and the user who runs it without root."""
        self._read = read
        # By container id, the first seen first.
        self._images: BoundedDict[str, WorkloadFacts] = BoundedDict(WORKLOADS_MAX)
        self._lock = threading.Lock()

    def name(self, container_id: str, uid: int | None = None) -> str:
        """The name of a container, or its short id. Reads files, a millisecond or so."""
        container = self._read(container_id, uid)
        if container.image is not None:
            facts = WorkloadFacts(
                cluster="",
                namespace="",
                workload=container.name,
                kind=KIND,
                labels=container.image.attributes(),
                zone="",
                pods=0,
            )
            with self._lock:
                self._images[container_id] = facts
        return container.name

    def workloads(self, *, cluster: str, zone: str) -> list[WorkloadFacts]:
        """One a name whose image is known, with the attributes of the image as its labels. Of several containers that
        had a name, the one first seen last: it has taken the place of the others."""
        with self._lock:
            by_name = {facts.workload: facts for facts in self._images.values()}
        return [replace(facts, cluster=cluster, zone=zone) for _, facts in sorted(by_name.items())]
