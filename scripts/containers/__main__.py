"""`scripts/images`: builds the images' root file systems, writes them as archives, and runs the programs in them; see
there."""

import argparse
import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any, Final

from scripts.containers.archive import Labels, Platform, write_archive
from scripts.containers.containerfile import ContainerfileError
from scripts.containers.proof import Image, ProofError, prove
from scripts.containers.rights import read_capabilities
from scripts.containers.rootfs import ROOT, SIDES, NotBuiltError, StepError, build
from scripts.live.program import ProgramError

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
    options = parser.parse_args()
    images: dict[str, Image] = {}
    for side in SIDES:
        started = time.monotonic()
        try:
            images[side] = build(side)
        except NotBuiltError as error:
            print(f"NOT BUILT: the {side}'s image: {error}", flush=True)
            continue
        size = sum(file.lstat().st_size for file in images[side][0].rglob("*") if file.is_file())
        document = json.loads((images[side][0] / "opt/apidae/sbom.cdx.json").read_text())
        fact = {
            "image": side,
            "megabytes": round(size / 1e6),
            "packages": len(document["components"]),
            "seconds": round(time.monotonic() - started, 1),
        }
        print(json.dumps(fact), flush=True)
    if options.oci:
        for side, image in images.items():
            print(json.dumps(_write(options.oci, side, image, options.repository)), flush=True)
    if options.build:
        return 0 if len(images) == len(SIDES) else 3
    try:
        for fact in prove(images.get("sensor"), images.get("collector"), read_capabilities()):
            print(json.dumps(fact), flush=True)
    except (ProofError, ProgramError) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0 if len(images) == len(SIDES) else 3


def _write(directory: Path, side: str, image: Image, repository: str) -> dict[str, Any]:
    """The archive of one side, and what is to be known of it."""
    started = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{side}.tar"
    root, stage = image
    platform = Platform(architecture=ARCHITECTURE[os.uname().machine], root=root, stage=stage)
    digest = write_archive(path, [platform], read_labels(side, repository))
    return {
        "archive": str(path),
        "digest": digest,
        "megabytes": round(path.stat().st_size / 1e6),
        "seconds": round(time.monotonic() - started, 1),
    }


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
