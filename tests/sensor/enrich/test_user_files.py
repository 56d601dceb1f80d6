"""Names of containers that users run without root, and files that are none: nothing waits, strays or raises."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from sensor.enrich.containers import (
    MAX_FILE_BYTES,
    Container,
    ContainerImage,
    find_home,
    read_container,
    read_user_file,
)
from tests.sensor.enrich.test_container_files import ID, write, write_docker, write_podman

UID = os.getuid() or 4_711
HOME = "/home/ada"
FILE = PurePosixPath("a/b/file.json")


def own(path: Path) -> None:
    """All below is the user's."""
    for one in (path, *path.rglob("*")):
        os.chown(one, UID, -1, follow_symlinks=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write(tmp_path / "etc/passwd", f"root:x:0:0:root:/root:/bin/sh\nada:x:{UID}:100::{HOME}:/bin/sh\nodd line\n")
    made = tmp_path / HOME.lstrip("/")
    write(made / FILE, '{"a": 1}')
    own(made)
    return made


@pytest.mark.parametrize(
    "settings", ["", '[storage]\ngraphroot = "$HOME/big"\n', f'[storage]\ngraphroot = "{HOME}/big"\n']
)
def test_podman_without_root(tmp_path: Path, home: Path, settings: str) -> None:
    write(home / ".config/containers/storage.conf", settings)
    write_podman(home / ("big" if settings else ".local/share/containers/storage"))
    own(home)
    image = ContainerImage(name="docker.io/library/nginx", tags=("1.27",))
    assert read_container(ID, UID, root=tmp_path) == Container(name="web", image=image)
    # The host's own runtime does not know it, nor does another user.
    assert read_container(ID, root=tmp_path) == read_container(ID, 9_999, root=tmp_path) == Container(name=ID[:12])


@pytest.mark.parametrize("data_root", [".local/share/docker", "mine/docker"])
def test_docker_without_root(tmp_path: Path, home: Path, data_root: str) -> None:
    write(home / ".config/docker/daemon.json", json.dumps({"data-root": f"{HOME}/mine/docker"}))
    write_docker(home / data_root)
    own(home)
    image = ContainerImage(name="registry.example:5000/shop/web", tags=("1.4",))
    assert read_container(ID, UID, root=tmp_path) == Container(name="shop-web-1", image=image)


def test_a_file_is_read(tmp_path: Path, home: Path) -> None:
    assert find_home(UID, root=tmp_path) == HOME and find_home(4, root=tmp_path) == "" == find_home(4, root=home)
    assert read_user_file(home, FILE, UID) == b'{"a": 1}'
    assert read_user_file(home, PurePosixPath("a/b"), UID) is None
    assert read_user_file(home, PurePosixPath("a/../a/b/file.json"), UID) is None
    assert read_user_file(home, PurePosixPath(f"{home}/{FILE}"), UID) is None
    assert read_user_file(home / "none", FILE, UID) is None
    assert read_user_file(home, FILE, UID + 1) is None


def replace_by_pipe(path: Path) -> None:
    os.mkfifo(path)


def replace_by_link(path: Path) -> None:
    (path.parent / "other").write_text("{}")
    path.symlink_to("other")


def replace_by_directory_link(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.symlink_to("moved")


def replace_by_large_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)


def replace_by_directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    "put",
    [replace_by_pipe, replace_by_link, replace_by_directory_link, replace_by_large_file, replace_by_directory],
)
def test_what_is_no_file_of_the_user_is_not_read(home: Path, put: Callable[[Path], None]) -> None:
    path = home / FILE
    path.unlink()
    put(path)
    own(home)
    assert read_user_file(home, FILE, UID) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to own files as somebody else")
def test_a_file_of_another_is_not_read(home: Path) -> None:
    os.chown(home / FILE, 0, 0)
    assert read_user_file(home, FILE, UID) is None
    own(home)
    os.chown(home / "a", 0, 0)
    assert read_user_file(home, FILE, UID) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
@pytest.mark.parametrize("place", ["a/b", "a/b/file.json", "a"])
def test_what_is_mounted_over_it_is_not_read(home: Path, place: str) -> None:
    """As a user's own file system would be: here another one, with the very same file on it."""
    program = (
        "import sys; from pathlib import Path, PurePosixPath; from sensor.enrich.containers import read_user_file;"
        f"print(read_user_file(Path({str(home)!r}), PurePosixPath({str(FILE)!r}), {UID}))"
    )
    mount = f"mount --bind {home / place} {home / place}"
    done = [
        subprocess.run(
            ["unshare", "--mount", "sh", "-ec", f'{first}; exec "$@"', "sh", sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for first in ("true", mount)
    ]
    assert done == ["b'{\"a\": 1}'", "None"]
