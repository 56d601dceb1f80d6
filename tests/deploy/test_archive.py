"""OCI archives, written from a small root file system; `scripts/images --oci` writes those of the images."""

import hashlib
import io
import json
import os
import shutil
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from scripts.containers.archive import Labels, Platform, group_entries, write_archive
from scripts.containers.containerfile import Stage, read_stages
from scripts.containers.rootfs import CONTAINERFILES

SITE = "opt/apidae/lib/python3.13/site-packages"
LABELS = Labels(
    name="localhost/apidae-sensor:0.1.0",
    title="apidae-sensor",
    description="A sensor",
    version="0.1.0",
    revision="0" * 40,
    created=1_700_000_000,
)


def make_root(place: Path) -> Path:
    """A tree with what an image has: programs, links, two names of one file, what the build left."""
    contents = {
        "usr/bin/python3.13": b"\x7fELF",
        "etc/passwd": b"root:x:0:0::/root:/bin/sh\n",
        "etc/machine-id": b"of the build\n",
        "etc/resolv.conf": b"nameserver 192.0.2.1\n",
        "var/log/apt/term.log": b"of the build\n",
        "var/cache/apt/pkgcache.bin": b"of the build\n",
        "run/host/certificates.crt": b"",
        "opt/apidae/bin/apidae": b"#!/opt/apidae/bin/python\n",
        f"{SITE}/numpy/__init__.py": b"",
        f"{SITE}/sensor/__init__.py": b"",
        f"{SITE}/apidae-0.1.0.dist-info/METADATA": b"Name: apidae\n",
    }
    for path, content in contents.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(content)
    (place / "tmp").mkdir(mode=0o1777)
    (place / "tmp").chmod(0o1777)
    (place / "usr/bin/python3").symlink_to("python3.13")
    (place / "usr/bin/python").hardlink_to(place / "usr/bin/python3.13")
    (place / "bin").symlink_to("usr/bin")
    return place


def write(tmp_path: Path, root: Path, architectures: tuple[str, ...] = ("amd64",)) -> tuple[Path, str]:
    stage = read_stages(CONTAINERFILES / "collector.Containerfile")[-1]
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "image.tar"
    platforms = [Platform(architecture=name, root=root, stage=stage) for name in architectures]
    return path, write_archive(path, platforms, LABELS)


def read_json(path: Path, name: str) -> dict[str, Any]:
    with tarfile.open(path) as archive:
        file = archive.extractfile(name)
        assert file is not None
        document: dict[str, Any] = json.loads(file.read())
    return document


def read_blob(path: Path, digest: str) -> bytes:
    with tarfile.open(path) as archive:
        file = archive.extractfile(f"blobs/sha256/{digest.removeprefix('sha256:')}")
        assert file is not None
        return file.read()


def test_two_builds_have_the_same_bytes(tmp_path: Path) -> None:
    first = make_root(tmp_path / "first")
    # The same files in another order and at another time, as a second build makes them.
    second = tmp_path / "second"
    for path in sorted(first.rglob("*"), reverse=True):
        (second / path.relative_to(first)).parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(first, second, symlinks=True, dirs_exist_ok=True)
    (second / "usr/bin/python").unlink()
    (second / "usr/bin/python").hardlink_to(second / "usr/bin/python3.13")
    for number, path in enumerate(second.rglob("*")):
        os.utime(path, (number, time.time() - number), follow_symlinks=False)
    (second / "etc/machine-id").write_text("another\n")
    (second / "var/log/apt/term.log").write_text("another\n")
    one, digest = write(tmp_path / "a", first)
    two, other = write(tmp_path / "b", second)
    assert digest == other
    assert one.read_bytes() == two.read_bytes()
    (second / "etc/passwd").write_text("changed\n")
    assert write(tmp_path / "c", second)[1] != digest


def test_blobs_are_what_their_digests_say(tmp_path: Path) -> None:
    path, digest = write(tmp_path, make_root(tmp_path / "root"))
    with tarfile.open(path) as archive:
        names = archive.getnames()
        assert names[:2] == ["oci-layout", "index.json"]
        for name in names[2:]:
            assert hashlib.sha256(read_blob(path, name.rpartition("/")[2])).hexdigest() == name.rpartition("/")[2]
        assert {(entry.mtime, entry.uid, entry.gid, entry.uname) for entry in archive.getmembers()} == {(0, 0, 0, "")}
    top = read_json(path, "index.json")["manifests"][0]
    assert top["digest"] == digest
    assert top["annotations"]["io.containerd.image.name"] == "localhost/apidae-sensor:0.1.0"
    assert top["annotations"]["org.opencontainers.image.ref.name"] == "0.1.0"
    manifest = json.loads(read_blob(path, digest))
    config = json.loads(read_blob(path, manifest["config"]["digest"]))
    plain = [zstd.decompress(read_blob(path, layer["digest"])) for layer in manifest["layers"]]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in plain]
    assert len(config["history"]) == len(plain) == 3


def test_layers_together_are_the_tree_without_what_the_build_left(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    path, digest = write(tmp_path, root)
    entries: dict[str, tarfile.TarInfo] = {}
    layers = json.loads(read_blob(path, digest))["layers"]
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(zstd.decompress(read_blob(path, layer["digest"])))) as archive:
            members = archive.getmembers()
        assert not entries.keys() & {member.name for member in members}, "no layer hides another's file"
        entries |= {member.name: member for member in members}
    left = {"etc/machine-id", "etc/resolv.conf", "var/log/apt", "var/cache/apt", "run/host"}
    assert not entries.keys() & left
    assert {"var/log", "var/cache", "run", "tmp", "bin", "usr/bin/python3"} <= entries.keys()
    assert entries["tmp"].mode == 0o1777 and entries["bin"].issym()
    assert sorted(entries[name].islnk() for name in ("usr/bin/python", "usr/bin/python3.13")) == [False, True]
    groups = group_entries(root)
    assert f"{SITE}/numpy/__init__.py" in groups["packages"]
    own = {f"{SITE}/sensor/__init__.py", "opt/apidae/bin/apidae", f"{SITE}/apidae-0.1.0.dist-info/METADATA"}
    assert own <= set(groups["apidae"])
    # Others' layers do not change with the version, so that a node does not fetch them again.
    assert {entries[name].mtime for name in groups["base"] + groups["packages"] if name in entries} == {0}
    assert {entries[name].mtime for name in groups["apidae"]} == {LABELS.created}


@pytest.mark.parametrize("side", ["sensor", "collector"])
def test_containers_run_as_the_containerfile_says(tmp_path: Path, side: str) -> None:
    stage: Stage = read_stages(CONTAINERFILES / f"{side}.Containerfile")[-1]
    root = make_root(tmp_path / "root")
    digest = write_archive(tmp_path / "x.tar", [Platform(architecture="amd64", root=root, stage=stage)], LABELS)
    manifest = json.loads(read_blob(tmp_path / "x.tar", digest))
    config = json.loads(read_blob(tmp_path / "x.tar", manifest["config"]["digest"]))
    assert (config["architecture"], config["os"], config["created"]) == ("amd64", "linux", "2023-11-14T22:13:20Z")
    run = config["config"]
    assert run["User"] == ("0:0" if side == "sensor" else "10001:10001")
    assert (run["Entrypoint"], run["Cmd"]) == (["/opt/apidae/bin/apidae"], [side])
    assert "PATH=/opt/apidae/bin:/usr/sbin:/usr/bin:/sbin:/bin" in run["Env"]
    check = run["Healthcheck"]
    assert check["Test"][:3] == ["CMD", "/opt/apidae/bin/python", "-m"]
    assert (check["Interval"], check["Timeout"], check["StartPeriod"]) == (60e9, 15e9, 120e9)
    labels = run["Labels"]
    assert labels["org.opencontainers.image.version"] == "0.1.0"
    assert labels["org.opencontainers.image.revision"] == "0" * 40
    assert labels == manifest["annotations"]


def test_two_architectures_are_one_index(tmp_path: Path) -> None:
    path, digest = write(tmp_path, make_root(tmp_path / "root"), ("amd64", "arm64"))
    index = json.loads(read_blob(path, digest))
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert [entry["platform"]["architecture"] for entry in index["manifests"]] == ["amd64", "arm64"]
    for entry in index["manifests"]:
        manifest = json.loads(read_blob(path, entry["digest"]))
        assert (
            json.loads(read_blob(path, manifest["config"]["digest"]))["architecture"]
            == (entry["platform"]["architecture"])
        )
