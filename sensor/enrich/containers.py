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
.config/containers/storage.conf (containers-storage.conf(5)). All has to be the user's and on the home's own mount
(`sensor.enrich.user_files`). Source of homes: passwd(5).

Attributes are OpenTelemetry's container.image.name, container.image.tags and container.image.repo_digests.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from common.bounded import BoundedDict
from sensor.core.sandbox import Task
from sensor.enrich.file_contents import (
    PodmanContainer,
    PodmanImage,
    list_docker_references,
    read_data_root,
    read_docker_container,
    read_graph_root,
    read_podman_container,
    read_podman_image,
)
from sensor.enrich.kubernetes.pod import WORKLOADS_MAX, WorkloadFacts
from sensor.enrich.user_files import ReadFile, UserTree


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
_DOCKER_HOME, _DOCKER_CONFIG = ".local/share/docker", ".config/docker/daemon.json"
_STORAGE_HOME, _STORAGE_CONFIG = ".local/share/containers/storage", ".config/containers/storage.conf"
_STORAGE_DRIVERS = ("overlay", "vfs", "btrfs", "zfs")
_OWN_MOUNTS: Final = Path("/proc/self/mountinfo")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container by its name; `image` is None where nothing names it."""

    name: str
    image: ContainerImage | None = None


def read_container(container_id: str, uid: int | None = None, *, read: ReadFile, root: Path = Path("/")) -> Container:
    """The container of an id; its name is the one that a person gave it, or its short id.

    `uid` is the user who runs it without root, else None; `root` is where the host's files are mounted. Never raises.
    """
    if not _ID.fullmatch(container_id):
        return Container(name=container_id)
    for container in _list_known(container_id, uid, root, read):
        if _SAFE_NAME.fullmatch(container.name):
            return container
    return Container(name=container_id[:SHORT_ID_CHARACTERS])


def _list_known(container_id: str, uid: int | None, root: Path, read: ReadFile) -> Iterator[Container]:
    if uid is None:
        files = _RuntimeFiles(UserTree(root, _OWN_MOUNTS), read, container_id)
        for data_root in _docker_roots(files):
            yield from files.read_docker(data_root)
        for storage in _storage_roots(files):
            yield from files.read_podman(storage)
        yield from _read_nerdctl(root, container_id)
        return
    home = find_home(uid, root=root)
    if not home:
        return
    tree = UserTree(root / home.lstrip("/"), _OWN_MOUNTS, owner=uid)
    files = _RuntimeFiles(tree, read, container_id, payer=f"user {uid}")
    for data_root in _user_roots(_DOCKER_HOME, files.read(_DOCKER_CONFIG, read_data_root), home):
        yield from files.read_docker(data_root)
    for storage in _user_roots(_STORAGE_HOME, files.read(_STORAGE_CONFIG, read_graph_root), home):
        yield from files.read_podman(storage)


def _user_roots(usual: str, configured: str | None, home: str) -> Iterator[str]:
    """Relative to the home: what lies elsewhere is not the user's alone."""
    yield usual
    other = (configured or "").replace("$HOME", home)
    if other.startswith(f"{home}/"):
        yield other.removeprefix(f"{home}/")


def _docker_roots(files: "_RuntimeFiles") -> Iterator[str]:
    yield from _DOCKER_ROOTS
    configured = files.read("etc/docker/daemon.json", read_data_root)
    if configured:
        yield configured


def _storage_roots(files: "_RuntimeFiles") -> Iterator[str]:
    yield _STORAGE_ROOT
    configured = (files.read("etc/containers/storage.conf", read_graph_root) or "").lstrip("/")
    if configured and configured != _STORAGE_ROOT:
        yield configured


class _RuntimeFiles:
    """The files of runtimes that say something of one container."""

    def __init__(self, tree: UserTree, read: ReadFile, container_id: str, payer: str = "") -> None:
        self._tree, self._read, self._id, self._payer = tree, read, container_id, payer or container_id

    def read(self, path: str, task: Task[_T], argument: str = "") -> _T | None:
        return self._read(self._tree, path, task, argument, payer=self._payer)

    def read_docker(self, data_root: str) -> Iterator[Container]:
        found = self.read(f"{data_root}/containers/{self._id}/config.v2.json", read_docker_container)
        if found is None:
            return
        references: list[str] = []
        if found.image_id and _SAFE_NAME.fullmatch(found.driver):
            path = f"{data_root}/image/{found.driver}/repositories.json"
            references = self.read(path, list_docker_references, found.image_id) or []
        image = read_image((found.image, *references), digests=(found.digest,))
        yield Container(name=found.name.removeprefix("/"), image=image)

    def read_podman(self, storage: str) -> Iterator[Container]:
        for file_name in ("containers.json", "volatile-containers.json"):
            for driver in _STORAGE_DRIVERS:
                found = self.read(f"{storage}/{driver}-containers/{file_name}", read_podman_container, self._id)
                if found is not None and found.names:
                    image = self._read_podman_image(f"{storage}/{driver}-images/images.json", found)
                    yield from (Container(name=name, image=image) for name in found.names)

    def _read_podman_image(self, index: str, container: PodmanContainer) -> ContainerImage | None:
        known = self.read(index, read_podman_image, container.image_id) if container.image_id else None
        known = known or PodmanImage()
        return read_image((container.image, *known.names), digests=(known.digest,))


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
