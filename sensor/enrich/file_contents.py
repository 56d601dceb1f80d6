"""Reads names in files that others made: container runtimes' JSON and TOML, package.json, jars.

Nothing here runs in the sensor's process. Each function is a task of `sensor.core.sandbox` and takes the descriptor of
an open file. What does not fit gives an empty answer, and what takes too much is ended by the sandbox. Texts are as
they stand in the file, bounded; whoever asks checks them.

Sources: moby container/container.go and reference/store.go; containers/storage containers.go; podman
libpod/storage.go; the JAR file specification.
"""

import encodings.cp437  # noqa: F401 - zipfile imports it at its first use, and a worker can open no file.
import os
import re
import tomllib
import zipfile
from typing import Annotated, Any, Final, TypeVar

import msgspec

from sensor.core.sandbox import Task

# Longer than any name of an image; and an image can have any number of names.
TEXT_MAX: Final = 512
TEXTS_MAX: Final = 64
Text = Annotated[str, msgspec.Meta(max_length=TEXT_MAX)]
Texts = Annotated[list[Text], msgspec.Meta(max_length=TEXTS_MAX)]

_MANIFEST: Final = "META-INF/MANIFEST.MF"
_MANIFEST_BYTES_MAX: Final = 65_536
_MANIFEST_TITLE: Final = re.compile(r"^Implementation-Title: *(\S[^\r\n]*)", re.MULTILINE)

_T = TypeVar("_T")


class DockerContainer(msgspec.Struct, frozen=True):
    """Of config.v2.json."""

    name: Text = ""
    image: Text = ""  # As it was asked for.
    image_id: Text = ""
    digest: Text = ""  # Where images are kept in containerd.
    driver: Text = ""


class PodmanContainer(msgspec.Struct, frozen=True):
    """Of an entry of containers.json."""

    names: Texts = []
    image: Text = ""
    image_id: Text = ""


class PodmanImage(msgspec.Struct, frozen=True):
    """Of an entry of images.json."""

    names: Texts = []
    digest: Text = ""


class _DockerConfig(msgspec.Struct, rename="pascal"):
    name: str = ""
    image: str = ""
    driver: str = ""
    config: msgspec.Raw = msgspec.Raw()
    image_manifest: msgspec.Raw = msgspec.Raw()


class _DockerGiven(msgspec.Struct, rename="pascal"):
    image: str = ""


class _Digest(msgspec.Struct):
    digest: str = ""


class _Repositories(msgspec.Struct, rename="pascal"):
    repositories: dict[str, dict[str, str]] = {}


class _PodmanEntry(msgspec.Struct):
    id: str = ""
    names: list[str] | None = None
    image: str = ""
    metadata: str = ""
    digest: str = ""


class _PodmanMetadata(msgspec.Struct, rename="kebab"):
    image_name: str = ""


class _DockerSettings(msgspec.Struct, rename="kebab"):
    data_root: str = ""


class _Package(msgspec.Struct):
    name: str = ""


def read_docker_container(fd: int, argument: str) -> DockerContainer:
    """The container of a docker config."""
    found = _decode(_read(fd), _DockerConfig)
    return DockerContainer(
        name=_cut(found.name),
        image=_cut(_decode(found.config, _DockerGiven).image),
        image_id=_cut(found.image),
        digest=_cut(_decode(found.image_manifest, _Digest).digest),
        driver=_cut(found.driver),
    )


def list_docker_references(fd: int, image_id: str) -> Texts:
    """What docker calls an image, with tags before digests."""
    repositories = _decode(_read(fd), _Repositories).repositories
    found = [name for names in repositories.values() for name, of_image in names.items() if of_image == image_id]
    return _cut_all(sorted(found, key=lambda reference: ("@" in reference, reference)))


def read_podman_container(fd: int, container_id: str) -> PodmanContainer:
    """The container of an id; empty where it is not listed."""
    found = _find_entry(fd, container_id)
    metadata = _decode(found.metadata.encode(), _PodmanMetadata)
    return PodmanContainer(
        names=_cut_all(found.names or []), image=_cut(metadata.image_name), image_id=_cut(found.image)
    )


def read_podman_image(fd: int, image_id: str) -> PodmanImage:
    """The image of an id; empty where it is not listed."""
    found = _find_entry(fd, image_id)
    return PodmanImage(names=_cut_all(found.names or []), digest=_cut(found.digest))


def read_data_root(fd: int, argument: str) -> Text:
    """Where docker keeps its files, by its daemon.json; empty where that does not say."""
    return _cut(_decode(_read(fd), _DockerSettings).data_root)


def read_graph_root(fd: int, argument: str) -> Text:
    """Where podman keeps its files, by storage.conf; empty where that does not say."""
    try:
        storage: Any = tomllib.loads(_read(fd).decode()).get("storage")
    except (ValueError, RecursionError):
        return ""
    root = storage.get("graphroot") if isinstance(storage, dict) else None
    return _cut(root) if isinstance(root, str) else ""


def read_package_name(fd: int, argument: str) -> Text:
    """The name in a package.json, without its scope."""
    return _cut(_decode(_read(fd), _Package).name.rpartition("/")[2])


def read_jar_title(fd: int, argument: str) -> Text:
    """The Implementation-Title of a jar; empty where it has none."""
    try:
        with (
            open(fd, "rb", closefd=False) as file,
            zipfile.ZipFile(file) as archive,
            archive.open(_MANIFEST) as manifest,
        ):
            title = _MANIFEST_TITLE.search(manifest.read(_MANIFEST_BYTES_MAX).decode("utf-8", "replace"))
    except (KeyError, zipfile.BadZipFile):
        return ""
    return _cut(title[1].strip()) if title else ""


_READ_BYTES_MAX: Final = 8 << 20
# What a worker may be asked, and the largest file for it, in bytes. A docker config with many labels is some 20 KB; an
# index of a thousand podman containers 500 KB.
TASKS: Final[dict[Task[Any], int]] = {
    read_docker_container: _READ_BYTES_MAX,
    list_docker_references: _READ_BYTES_MAX,
    read_podman_container: _READ_BYTES_MAX,
    read_podman_image: _READ_BYTES_MAX,
    read_data_root: 1 << 20,
    read_graph_root: 1 << 20,
    read_package_name: 1 << 20,
    read_jar_title: 1 << 28,
}


def _read(fd: int) -> bytes:
    """The whole file, which the sensor has found small enough. It may have grown since."""
    parts: list[bytes] = []
    size = 0
    while size <= _READ_BYTES_MAX and (part := os.pread(fd, 1 << 20, size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _decode(content: bytes | msgspec.Raw, kind: type[_T]) -> _T:
    """JSON of that type; an empty one where it cannot be read."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (ValueError, RecursionError):  # Of msgspec, and of text that is not UTF-8.
        return kind()


def _find_entry(fd: int, entry_id: str) -> _PodmanEntry:
    """The entry of an id in a list; an empty one where there is none."""
    wanted = entry_id.encode()
    for entry in _decode(_read(fd), list[msgspec.Raw]):
        if wanted in bytes(entry) and (found := _decode(entry, _PodmanEntry)).id == entry_id:
            return found
    return _PodmanEntry()


def _cut(text: str) -> str:
    return text[:TEXT_MAX]


def _cut_all(texts: list[str]) -> list[str]:
    return [_cut(text) for text in texts[:TEXTS_MAX]]
