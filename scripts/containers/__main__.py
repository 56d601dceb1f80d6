"""`scripts/images`: builds the images' root file systems, writes them as archives, and runs the programs in them; see
there."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any, Final

from scripts.containers.archive import Labels, Platform, write_archive
from scripts.containers.containerfile import ContainerfileError
from scripts.containers.proof import Image, ProofError, prove
from scripts.containers.rights import read_capabilities
from scripts.containers.rootfs import DIRECTORY, ROOT, SIDES, NotBuiltError, StepError, build
from scripts.containers.runtime import ContainerError, NotRunError
from scripts.containers.sizes import check_budget, measure, write_table
from scripts.live.program import ProgramError

NOT_BUILT: Final = 3  # Exit status: nothing is wrong, but what it takes is not here.
SBOM: Final = "opt/apidae/sbom.spdx.json"
ARCHITECTURE: Final = {"x86_64": "amd64", "aarch64": "arm64"}
DESCRIPTIONS: Final = {
    "sensor": "Reports the HTTP calls of a host or node, seen by eBPF at the kernel boundary",
    "collector": "Builds the inventory of APIs from what sensors report, assesses risk and detects abuse",
}


def main() -> int:
    """One JSON line a fact; the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/images", description="Builds the images and runs the programs in them."
    )
    parser.add_argument("--build", action="store_true", help="build only: no sensor is started")
    parser.add_argument("--oci", type=Path, metavar="DIR", help="write sensor.tar and collector.tar, OCI archives")
    parser.add_argument("--repository", default="localhost/apidae", help="first part of the images' names in them")
    parser.add_argument("--twice", action="store_true", help="build both a second time: the digests must be the same")
    parser.add_argument("--sizes", action="store_true", help="write what is in them by size into images/README.md")
    options = parser.parse_args()
    images: dict[str, Image] = {}
    sizes: dict[str, dict[str, int]] = {}
    for side in SIDES:
        started = time.monotonic()
        try:
            images[side] = build(side)
        except NotBuiltError as error:
            print(f"NOT BUILT: the {side}'s image: {error}", flush=True)
            continue
        sizes[side] = measure(images[side][0])
        total = sum(sizes[side].values())
        document = json.loads((images[side][0] / SBOM).read_text())
        fact = {
            "image": side,
            "megabytes": round(total / 1e6),
            "packages": len(document["packages"]),
            "seconds": round(time.monotonic() - started, 1),
        }
        print(json.dumps(fact), flush=True)
        if fault := check_budget(side, total):
            print(f"images: {fault}", file=sys.stderr)
            return 1
    if options.sizes:
        write_table(sizes)
    if options.build and not options.oci:
        return _end(images)
    archives: dict[str, Image] = {}
    for side, image in images.items():
        fact = _write(options.oci or DIRECTORY / "oci", side, image, options.repository)
        archives[side] = Path(str(fact["archive"])), image[1]
        print(json.dumps(fact), flush=True)
        if options.twice and (fault := _build_again(side, fact, options.repository)):
            print(f"images: {fault}", file=sys.stderr)
            return 1
    if options.build:
        return _end(images)
    try:
        for fact in prove(archives.get("sensor"), archives.get("collector"), read_capabilities()):
            print(json.dumps(fact), flush=True)
    except NotRunError as error:
        print(f"NOT RUN: {error}", flush=True)
        return NOT_BUILT
    except (ProofError, ProgramError, ContainerError) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return _end(images)


def _end(images: dict[str, Image]) -> int:
    return 0 if len(images) == len(SIDES) else NOT_BUILT


def _write(directory: Path, side: str, image: Image, repository: str) -> dict[str, Any]:
    """The archive of one side, and what is to be known of it."""
    started = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{side}.tar"
    root, stage = image
    platform = Platform(architecture=ARCHITECTURE[os.uname().machine], root=root, stage=stage)
    digest = write_archive(path, [platform], read_labels(side, repository))
    shutil.copyfile(root / SBOM, directory / f"{side}.spdx.json")
    return {
        "archive": str(path),
        "digest": digest,
        "megabytes": round(path.stat().st_size / 1e6),
        "seconds": round(time.monotonic() - started, 1),
    }


def _build_again(side: str, first: dict[str, Any], repository: str) -> str:
    """Empty where a second build gives the same archive, or a sentence."""
    image = build(side, is_kept=False)
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
        second = _write(Path(directory), side, image, repository)
    print(json.dumps({"again": side, "digest": second["digest"], "seconds": second["seconds"]}), flush=True)
    if second["digest"] == first["digest"]:
        return ""
    return f"two builds of the {side}'s image differ: {first['digest']} and {second['digest']}"


def read_labels(side: str, repository: str) -> Labels:
    """Of the commit that is checked out; SOURCE_DATE_EPOCH goes before its time, as elsewhere."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    git = ("git", "-C", str(ROOT), "log", "-1")
    revision, seconds = subprocess.check_output([*git, "--format=%H %ct"], text=True).split()
    return Labels(
        name=f"{repository}-{side}:{version}",
        title=f"apidae-{side}",
        description=DESCRIPTIONS[side],
        version=version,
        revision=revision,
        created=int(os.environ.get("SOURCE_DATE_EPOCH", seconds)),
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ContainerfileError, StepError) as problem:
        sys.exit(f"images: {problem}")
