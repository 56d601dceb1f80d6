"""A container's name from the files its runtime keeps on the host, where they can be read.

- docker: /var/lib/docker/containers/ID/config.v2.json, `Name` (moby container/container.go);
- podman, cri-o: `names` in /var/lib/containers/storage/DRIVER-containers/{containers,volatile-containers}.json
  (containers/storage containers.go);
- nerdctl: the file /var/lib/nerdctl/HASH/names/NAMESPACE/NAME, whose text is the id (nerdctl pkg/namestore).

No runtime socket is asked: that would need its rights. Where no file tells, the short id is the name.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

SHORT_ID_CHARACTERS = 12
# A docker config with many labels is some 20 KB; an index of a thousand podman containers 500 KB.
_MAX_FILE_BYTES = 8 << 20
_MAX_NAMES = 10_000
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")  # Docker's and podman's own rule for names.
_ID = re.compile(r"[0-9a-f]{64}")


def name_container(container_id: str, *, root: Path = Path("/")) -> str:
    """The name a person gave the container, or its short id.

    `root` is where the host's files are mounted. Never raises.
    """
    if not _ID.fullmatch(container_id):
        return container_id
    for read in _READERS:
        for name in read(root, container_id):
            if _SAFE_NAME.fullmatch(name):
                return name
    return container_id[:SHORT_ID_CHARACTERS]


def _read_docker(root: Path, container_id: str) -> Iterator[str]:
    config = _read_json(root / "var/lib/docker/containers" / container_id / "config.v2.json")
    if isinstance(config, dict):
        yield str(config.get("Name", "")).removeprefix("/")


def _read_podman(root: Path, container_id: str) -> Iterator[str]:
    storage = root / "var/lib/containers/storage"
    for file_name in ("containers.json", "volatile-containers.json"):
        for directory in ("overlay-containers", "vfs-containers", "btrfs-containers"):
            index = _read_json(storage / directory / file_name)
            for entry in index if isinstance(index, list) else ():
                if isinstance(entry, dict) and entry.get("id") == container_id:
                    names = entry.get("names")
                    yield from (str(name) for name in names if name) if isinstance(names, list) else ()


def _read_nerdctl(root: Path, container_id: str) -> Iterator[str]:
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
                yield path.name
        except OSError:
            continue


_READERS: tuple[Callable[[Path, str], Iterator[str]], ...] = (_read_docker, _read_podman, _read_nerdctl)


def _read_json(path: Path) -> object:
    """The parsed file; None where it is absent, unreadable, too large or not JSON."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            return None
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
