"""`python -m tests.fuzz.deep NAME`: coverage-guided fuzzing of one target; started by scripts/fuzz.

Inputs that reach new code are kept in .run/fuzz/NAME; one that fails is written there as `crash-*` and ends the run.
"""

import argparse
import importlib
import sys
from pathlib import Path

import atheris

from tests.fuzz.bounds import add_bounds, fuzzer_options

ROOT = Path(__file__).parent.parent.parent
# Imported under the fuzzer's eyes.
_ROOMS = (
    "sensor.http", "sensor.capture.files", "sensor.capture.http2", "sensor.capture.syscalls", "sensor.capture.tls",
    "sensor.describe", "sensor.enrich", "sensor.export", "sensor.offload.name_table",
    "collector.receiver", "collector.kubernetes", "collector.schemas.merging", "collector.trust.enrollment",
    "collector.specs.document",
)  # fmt: skip


def main() -> None:
    """Parses the arguments and does not return."""
    with atheris.instrument_imports(include=list(_ROOMS)):
        targets = importlib.import_module("tests.fuzz.targets").TARGETS
    parser = argparse.ArgumentParser(description="Fuzz one target until it fails or the time is over.")
    parser.add_argument("name", choices=sorted(targets))
    add_bounds(parser)
    arguments = parser.parse_args()
    kept = ROOT / "tests" / "fuzz" / "corpus" / arguments.name
    options = fuzzer_options(arguments, ROOT / ".run" / "fuzz" / arguments.name)
    atheris.Setup([sys.argv[0], *options, *([str(kept)] if kept.is_dir() else [])], targets[arguments.name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
