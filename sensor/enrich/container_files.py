"""What a person called a container and made it of, from the files its runtime keeps on the host, where readable.

- docker, under its data root (/var/lib/docker, the snap's, or `data-root` of /etc/docker/daemon.json): `Name`, `Image`
  and `Config.Image` of containers/ID/config.v2.json (moby container/container.go), and what else its image is called
  in image/DRIVER/repositories.json (moby reference/store.go);
- podman, cri-o, under /var/lib/containers/storage or `graphroot` of /etc/containers/storage.conf: `names` and
  `metadata` in DRIVER-containers/{containers,volatile-containers}.json (containers/storage containers.go, podman
  libpod/storage.go), and the image's digest in DRIVER-images/images.json;
- nerdctl: the file /var/lib/nerdctl/HASH/names/NAMESPACE/NAME, whose text is the id (nerdctl pkg/namestore); the image
  is in containerd's database only.

Of a container that a user runs without root, the same files in the user's home are read, by `user_files`: docker's
under .local/share/docker or `data-root` of .config/docker/daemon.json (docs.docker.com, rootless mode), podman's under
.local/share/containers/storage or `graphroot` of .config/containers/storage.conf (containers-storage.conf(5)).

No runtime socket is asked: that would need its rights. Where no file tells, the short id is the name.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sensor.enrich.container_image import ContainerImage, read_image
from sensor.enrich.user_files import MAX_FILE_BYTES, find_home, read_user_file

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
    """One container by its name; `image` is None where nothing tells it."""

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
    told = _text_of(_parse_toml(read(_STORAGE_CONFIG)).get("storage"), "graphroot")
    for storage in _user_roots(_STORAGE_HOME, told, home):
        yield from _read_podman(storage, container_id, read)


def _user_roots(usual: Path, told: str, home: str) -> Iterator[Path]:
    """Relative to the home: what lies elsewhere is not the user's alone."""
    yield usual
    other = told.replace("$HOME", home)
    if other.startswith(f"{home}/"):
        yield Path(other.removeprefix(f"{home}/"))


def _read_docker(data_root: Path, container_id: str, read: Read) -> Iterator[Container]:
    config = _parse(read(data_root / "containers" / container_id / "config.v2.json"))
    if isinstance(config, dict):
        name = str(config.get("Name", "")).removeprefix("/")
        yield Container(name=name, image=_read_docker_image(data_root, config, read))


def _docker_roots(root: Path) -> Iterator[Path]:
    yield from (root / path for path in _DOCKER_ROOTS)
    told = _text_of(_parse(_read(root / "etc/docker/daemon.json")), "data-root")
    if told:
        yield root / told.lstrip("/")


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
    told = _text_of(_parse_toml(_read(root / "etc/containers/storage.conf")).get("storage"), "graphroot").lstrip("/")
    if told and told != _STORAGE_ROOT:
        yield root / told


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
