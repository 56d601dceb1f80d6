"""`scripts/release`: what a release consists of, made from a tag; see there.

The same tag makes the same files: images by `scripts.containers.archive`, and the chart with its entries sorted and at
the commit's time, where Helm takes the times of the checkout's files.
"""

import argparse
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from scripts.containers.rootfs import ROOT, SIDES
from scripts.helm.binaries import HelmMissingError, find_helm

CHART: Final = ROOT / "deploy/helm/apidae"
CHECKSUMS: Final = "SHA256SUMS"
REPOSITORY: Final = "registry.example/team/apidae"
HELM: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What is made, and where."""

    tag: str
    repository: str
    directory: Path

    @property
    def version(self) -> str:
        """Of the images."""
        return self.tag.removeprefix("v")

    def list_steps(self) -> list[tuple[str, list[str]]]:
        """(What is made, the command that makes it)."""
        images = ["scripts/images", "--build", "--oci", str(self.directory), "--repository", self.repository]
        helm = ["helm", "package", str(CHART.relative_to(ROOT)), "--app-version", self.version]
        return [
            ("sensor.tar, collector.tar and their SBOMs sensor.spdx.json, collector.spdx.json", images),
            (f"apidae-{read_chart_version()}.tgz", [*helm, "--destination", str(self.directory)]),
            (CHECKSUMS, ["sha256sum", *self.list_files()]),
        ]

    def list_files(self) -> list[str]:
        """Names of all that is made, but the checksums."""
        chart = f"apidae-{read_chart_version()}.tgz"
        return sorted([chart, *(f"{side}.{kind}" for side in SIDES for kind in ("tar", "spdx.json"))])

    def list_publishing(self) -> list[str]:
        """The commands that somebody with a registry and a key runs afterwards, in order."""
        images = [f"{self.repository}-{side}:{self.version}" for side in SIDES]
        registry = self.repository.rpartition("/")[0]
        sums = self.directory / CHECKSUMS
        return [
            *(
                f"skopeo copy --all --preserve-digests oci-archive:{self.directory}/{side}.tar docker://{image}"
                for side, image in zip(SIDES, images, strict=True)
            ),
            *(
                f"cosign sign --key cosign.key {image}@{self.read_digest(side)}    # keyless: without --key"
                for side, image in zip(SIDES, images, strict=True)
            ),
            *(
                f"cosign attest --key cosign.key --type spdxjson --predicate {self.directory}/{side}.spdx.json "
                f"{image}@{self.read_digest(side)}"
                for side, image in zip(SIDES, images, strict=True)
            ),
            f"helm push {self.directory}/apidae-{read_chart_version()}.tgz oci://{registry}",
            f"cosign sign-blob --key cosign.key --bundle {sums}.bundle {sums}",
        ]

    def read_digest(self, side: str) -> str:
        """By which the image is signed; a word that stands for it where the archive is not made yet."""
        path = ROOT / self.directory / f"{side}.tar"
        if not path.exists():
            return "DIGEST"
        with tarfile.open(path) as archive:
            index = archive.extractfile("index.json")
            if index is None:
                raise ValueError(f"{path} is not an archive of the OCI: it has no index.json")
            return str(json.loads(index.read())["manifests"][0]["digest"])


def read_chart_version() -> str:
    """As the chart says."""
    return str(yaml.safe_load((CHART / "Chart.yaml").read_text())["version"])


def find_faults(tag: str, root: Path = ROOT) -> list[str]:
    """What speaks against a release of this tag; one sentence each."""
    faults = []
    if not re.fullmatch(r"v\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?", tag):
        faults.append(f"the tag {tag} is not v and a version, as in v0.2.0")
    commit = _ask_git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}")
    if not commit:
        faults.append(f"there is no tag {tag}: git tag --sign {tag}")
    elif commit != _ask_git(root, "rev-parse", "HEAD"):
        faults.append(f"the tag {tag} is not what is checked out: git checkout {tag}")
    if _ask_git(root, "status", "--porcelain"):
        faults.append("the checkout has changes: git stash, or commit them before the tag")
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    if version != tag.removeprefix("v"):
        faults.append(f"pyproject.toml has version {version}, and the tag is {tag}")
    chart = yaml.safe_load((root / "deploy/helm/apidae/Chart.yaml").read_text())
    if str(chart["appVersion"]) != tag.removeprefix("v"):
        faults.append(f"the chart's appVersion is {chart['appVersion']}, and the tag is {tag}")
    return faults


def _ask_git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
    ).stdout.strip()


def pack_again(path: Path, seconds: int) -> None:
    """The same package with sorted entries, one time for all, and no time in the compression."""
    entries: list[tuple[tarfile.TarInfo, bytes]] = []
    with tarfile.open(path) as archive:
        for entry in archive:
            file = archive.extractfile(entry)
            entries.append((entry, file.read() if file else b""))
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for entry, content in sorted(entries, key=lambda pair: pair[0].name):
            entry.mtime, entry.pax_headers = seconds, {}
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            archive.addfile(entry, io.BytesIO(content))
    path.write_bytes(gzip.compress(plain.getvalue(), mtime=0))


def make(release: Release) -> None:
    """All files. Raises CalledProcessError, HelmMissingError."""
    directory = ROOT / release.directory
    directory.mkdir(parents=True, exist_ok=True)
    (_, images), (_, package), _ = release.list_steps()
    subprocess.run(images, cwd=ROOT, check=True)
    subprocess.run([str(find_helm(HELM)), *package[1:]], cwd=ROOT, check=True)
    seconds = int(_ask_git(ROOT, "log", "-1", "--format=%ct"))
    pack_again(directory / f"apidae-{read_chart_version()}.tgz", seconds)
    sums = [f"{hash_file(directory / name)}  {name}\n" for name in release.list_files()]
    (directory / CHECKSUMS).write_text("".join(sums))


def hash_file(path: Path) -> str:
    """SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 where something speaks against the release."""
    parser = argparse.ArgumentParser(prog="scripts/release", description="Makes what a release consists of.")
    parser.add_argument("tag", help="v0.2.0")
    parser.add_argument("--dry-run", action="store_true", help="make nothing, print what would be made")
    parser.add_argument("--repository", default=REPOSITORY, help="first part of the images' names")
    parser.add_argument("--to", type=Path, metavar="DIR", help="where the files go; dist/TAG")
    options = parser.parse_args(arguments)
    release = Release(tag=options.tag, repository=options.repository, directory=options.to or Path("dist", options.tag))
    faults = find_faults(release.tag)
    for fault in faults:
        print(f"release: {fault}", file=sys.stderr)
    if options.dry_run:
        for what, command in release.list_steps():
            print(f"would make {what}:\n    {' '.join(command)}")
    elif faults:
        return 1
    else:
        make(release)
        print(f"made {', '.join(release.list_files())} and {CHECKSUMS} in {release.directory}")
    print("Nothing was signed or published. Whoever has the registry and the key runs:")
    print("".join(f"    {command}\n" for command in release.list_publishing()), end="")
    return 1 if faults else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (subprocess.CalledProcessError, HelmMissingError) as problem:
        sys.exit(f"release: {problem}")
