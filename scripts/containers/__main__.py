"""`scripts/images`: builds the images' root file systems and runs the programs in them; see there."""

import argparse
import json
import sys
import time

from scripts.containers.containerfile import ContainerfileError
from scripts.containers.proof import Image, ProofError, prove
from scripts.containers.rights import read_capabilities
from scripts.containers.rootfs import SIDES, NotBuiltError, StepError, build
from scripts.live.program import ProgramError


def main() -> int:
    """One JSON line a fact; the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/images", description="Builds the images and runs the programs in them."
    )
    parser.add_argument("--build", action="store_true", help="build only: no sensor is started")
    is_building_only = parser.parse_args().build
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
    if is_building_only:
        return 0 if len(images) == len(SIDES) else 3
    try:
        for fact in prove(images.get("sensor"), images.get("collector"), read_capabilities()):
            print(json.dumps(fact), flush=True)
    except (ProofError, ProgramError) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0 if len(images) == len(SIDES) else 3


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ContainerfileError, StepError) as problem:
        sys.exit(f"images: {problem}")
