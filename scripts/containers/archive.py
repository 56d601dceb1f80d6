"""OCI image archives of root file systems: a tar with `oci-layout`, `index.json` and blobs, the same at each build.

Any tool that reads the image layout of the OCI (image-spec v1.1) takes it: `ctr images import`, `podman load`,
`skopeo copy oci-archive:`. A layer holds its entries sorted, with whole seconds that do not depend on when it was
built, and is compressed by the locked zstd, so that the digests are those of the files alone.
"""

import hashlib
import io
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from backports import zstd

from scripts.containers.containerfile import Stage

INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
ZSTD_LEVEL: Final = 3  # At 9 it takes four times as long for 7 % less.
# Of this program alone: they change with each version, and the layers below them do not.
OWN_PREFIX: Final = "opt/apidae/"
OWN_PACKAGES: Final = ("apidae", "common", "sensor", "collector")
# Where a container writes, or what belongs to the build.
EMPTIED: Final = ("dev", "proc", "run", "sys", "tmp", "var/tmp", "var/cache", "var/log")
LEFT_OUT: Final = ("etc/machine-id", "etc/resolv.conf", "etc/hostname", "var/lib/apt", "root/.cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A root file system of one architecture, as Go names it (`amd64`), and how it runs."""

    architecture: str
    root: Path
    stage: Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What an image says of itself. `created`: seconds of the commit it was built from."""

    name: str  # registry.example/team/apidae-sensor:0.2.0
    title: str
    description: str
    version: str
    revision: str
    created: int

    def list_annotations(self) -> dict[str, str]:
        """By the OCI's own keys."""
        keys = {
            "title": self.title,
            "description": self.description,
            "version": self.version,
            "revision": self.revision,
            "created": _format_time(self.created),
            "licenses": "Apache-2.0",
            "vendor": "Apidae",
            "base.name": "docker.io/library/debian:trixie-slim",
        }
        return {f"org.opencontainers.image.{key}": value for key, value in sorted(keys.items())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What points at a blob."""

    media_type: str
    digest: str
    size: int

    def as_json(self) -> dict[str, Any]:
        """By the names of the specification."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A compressed layer in the blobs, and the digest of what it unpacks to."""

    descriptor: Descriptor
    diff_id: str
    unpacked: int


def write_archive(path: Path, platforms: Sequence[Platform], labels: Labels) -> str:
    """Writes the archive of all platforms, and returns the digest by which it is pulled: of the one manifest, or of the
    index of several."""
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        blobs = Path(directory)
        manifests = [_write_platform(blobs, platform, labels) for platform in platforms]
        top = manifests[0]
        if len(manifests) > 1:
            index = {
                "schemaVersion": 2,
                "mediaType": INDEX_TYPE,
                "manifests": manifests,
                "annotations": labels.list_annotations(),
            }
            top = _keep_json(blobs, INDEX_TYPE, index).as_json()
        tag = labels.name.rpartition(":")[2]
        named = {"io.containerd.image.name": labels.name, "org.opencontainers.image.ref.name": tag}
        layout = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [{**top, "annotations": named}]}
        part = path.with_name(path.name + ".part")
        with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as archive:
            _add_bytes(archive, "oci-layout", _encode({"imageLayoutVersion": "1.0.0"}))
            _add_bytes(archive, "index.json", _encode(layout))
            for blob in sorted(blobs.iterdir()):
                with blob.open("rb") as file:
                    archive.addfile(_describe(f"blobs/sha256/{blob.name}", blob.stat().st_size), file)
        part.replace(path)
        return str(top["digest"])


def _write_platform(blobs: Path, platform: Platform, labels: Labels) -> dict[str, Any]:
    """The descriptor of the platform's manifest, in the blobs with all that it points at."""
    groups = group_entries(platform.root)
    # Only what is ours has the time of the commit: the layers of others stay the same while they do.
    times = {"base": 0, "packages": 0, "apidae": labels.created}
    layers = {name: _write_layer(blobs, platform.root, groups[name], times[name]) for name in groups}
    created = _format_time(labels.created)
    config = {
        "created": created,
        "architecture": platform.architecture,
        "os": "linux",
        "config": make_config(platform.stage, labels),
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers.values()]},
        "history": [{"created": created, "created_by": f"scripts/images --oci: {_WORDS[name]}"} for name in layers],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _keep_json(blobs, CONFIG_TYPE, config).as_json(),
        "layers": [layer.descriptor.as_json() for layer in layers.values()],
        "annotations": labels.list_annotations(),
    }
    descriptor = _keep_json(blobs, MANIFEST_TYPE, manifest).as_json()
    return {**descriptor, "platform": {"architecture": platform.architecture, "os": "linux"}}


_WORDS: Final = {
    "base": "Debian's packages",
    "packages": "Python packages of requirements/run.lock",
    "apidae": "Apidae and the list of what is in the image",
}


def make_config(stage: Stage, labels: Labels) -> dict[str, Any]:
    """How a container of the image runs. `Healthcheck` is Docker's and Podman's; Kubernetes has probes of its own."""
    return {
        "User": stage.user,
        "Env": [f"{name}={value}" for name, value in stage.environment.items()],
        "Entrypoint": stage.entrypoint,
        "Cmd": stage.command,
        "Labels": labels.list_annotations(),
        "Healthcheck": {
            "Test": ["CMD", *stage.healthcheck],
            **{name: int(seconds * 1e9) for name, seconds in stage.health_seconds.items()},
        },
        "StopSignal": "SIGTERM",
    }


def group_entries(root: Path) -> dict[str, list[str]]:
    """The paths of each layer, sorted, a directory before what is in it. Together they are the whole tree, but for what
    a container mounts or writes, and for compiled modules that say when their source was written."""
    groups: dict[str, list[str]] = {"base": [], "packages": [], "apidae": []}
    for path in _list_paths(root):
        if not path.startswith(OWN_PREFIX):
            groups["base"].append(path)
        elif _is_own(path, root):
            groups["apidae"].append(path)
        else:
            groups["packages"].append(path)
    return groups


def _list_paths(root: Path) -> Iterator[str]:
    for directory, directories, files in os.walk(root):
        directories.sort()
        here = os.path.relpath(directory, root)
        prefix = "" if here == "." else f"{here}/"
        for name in list(directories):
            path = prefix + name
            is_link = os.path.islink(os.path.join(directory, name))  # noqa: PTH114, PTH118 - some 20,000 of them.
            if path in LEFT_OUT:
                directories.remove(name)
                continue
            yield path
            if is_link or path in EMPTIED:
                directories.remove(name)
        for name in sorted(files):
            if prefix + name not in LEFT_OUT:
                yield prefix + name


def _is_own(path: str, root: Path) -> bool:
    """Whether it is of this program: its packages, its command, its SBOM, and no directory that others fill too."""
    parts = path.removeprefix(OWN_PREFIX).split("/")
    if parts[0] == "lib" and "site-packages" in parts:
        after = parts[parts.index("site-packages") + 1 :]
        return bool(after) and (after[0] in OWN_PACKAGES or after[0].startswith("apidae-"))
    return parts[-1] == "apidae" or parts[-1].startswith("sbom.")


class _Digester(io.RawIOBase):
    """Passes on what is written, with its digest and length."""

    def __init__(self, target: IO[bytes] | zstd.ZstdFile) -> None:
        super().__init__()
        self._target = target
        self._hash = hashlib.sha256()
        self.length = 0

    def writable(self) -> bool:
        return True

    def write(self, chunk: Any) -> int:
        self._hash.update(chunk)
        self.length += len(chunk)
        self._target.write(chunk)
        return len(chunk)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def _write_layer(blobs: Path, root: Path, paths: Sequence[str], modified: int) -> Layer:
    part = blobs / "layer.part"
    with part.open("wb") as file:
        compressed = _Digester(file)
        with zstd.ZstdFile(compressed, "w", level=ZSTD_LEVEL) as stream:
            plain = _Digester(stream)
            with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                linked: dict[tuple[int, int], str] = {}
                for path in paths:
                    _add_path(archive, root / path, path, modified, linked)
    part.rename(blobs / compressed.digest.removeprefix("sha256:"))
    descriptor = Descriptor(media_type=LAYER_TYPE, digest=compressed.digest, size=compressed.length)
    return Layer(descriptor=descriptor, diff_id=plain.digest, unpacked=plain.length)


def _add_path(
    archive: tarfile.TarFile, origin: Path, path: str, modified: int, linked: dict[tuple[int, int], str]
) -> None:
    status = origin.lstat()
    entry = _describe(path, 0)
    entry.mode, entry.uid, entry.gid, entry.mtime = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, modified
    if stat.S_ISDIR(status.st_mode):
        entry.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(status.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, str(origin.readlink())
    elif not stat.S_ISREG(status.st_mode):
        return  # Devices and sockets: the runtime makes its own.
    elif (status.st_dev, status.st_ino) in linked:
        entry.type, entry.linkname = tarfile.LNKTYPE, linked[status.st_dev, status.st_ino]
    else:
        if status.st_nlink > 1:
            linked[status.st_dev, status.st_ino] = path
        entry.size = status.st_size
        with origin.open("rb") as file:
            archive.addfile(entry, file)
        return
    archive.addfile(entry)


def _describe(name: str, size: int) -> tarfile.TarInfo:
    """An entry with nothing of this machine or moment."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    archive.addfile(_describe(name, len(content)), io.BytesIO(content))


def _keep_json(blobs: Path, media_type: str, document: dict[str, Any]) -> Descriptor:
    content = _encode(document)
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return Descriptor(media_type=media_type, digest=f"sha256:{digest}", size=len(content))


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _format_time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
