"""`python -m tests.fuzz.deep NAME --seconds N`: coverage-guided fuzzing of one target; started by scripts/fuzz.

Inputs that reach new code are kept in .run/fuzz/NAME; one that fails is written there as `crash-*` and ends the run.
"""

import argparse
import importlib
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parent.parent.parent
# Imported under the fuzzer's eyes.
_ROOMS = (
    "sensor.http", "sensor.capture.files", "sensor.capture.http2", "sensor.capture.syscalls", "sensor.capture.tls",
    "sensor.describe", "sensor.enrich", "sensor.export", "sensor.offload.name_table",
    "collector.receiver.convert", "collector.specs.document",
)  # fmt: skip


def main() -> None:
    """Parses the arguments and does not return."""
    with atheris.instrument_imports(include=list(_ROOMS)):
        targets = importlib.import_module("tests.fuzz.targets").TARGETS
    parser = argparse.ArgumentParser(description="Fuzz one target until it fails or the time is over.")
    parser.add_argument("name", choices=sorted(targets))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="the same inputs at each run; 0: others each time")
    arguments = parser.parse_args()
    found, kept = ROOT / ".run" / "fuzz" / arguments.name, ROOT / "tests" / "fuzz" / "corpus" / arguments.name
    found.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={arguments.seconds}", "-max_len=4096", f"-artifact_prefix={found}/", "-print_final_stats=1",
        "-timeout=10", f"-seed={arguments.seed}",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(found), *([str(kept)] if kept.is_dir() else [])], targets[arguments.name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
