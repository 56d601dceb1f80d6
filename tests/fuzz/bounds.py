"""How long a fuzzer goes on: for a time, or for a count of inputs from the same start at each run."""

import argparse
from pathlib import Path

_SEED = 1


def add_bounds(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/fuzz` that bound a run."""
    bounds = parser.add_mutually_exclusive_group()
    bounds.add_argument("--seconds", type=int, default=60, help="look for new inputs for so long")
    bounds.add_argument("--inputs", type=int, default=0, help="so many inputs, from the same start at each run")


def fuzzer_options(arguments: argparse.Namespace, found: Path, inputs_factor: int = 1) -> list[str]:
    """libFuzzer's options. Inputs that reach new code are kept in `found`, and used again where the run is bounded by
    time; `inputs_factor`: how many inputs of this target stand for one of `--inputs`.

    The kernel's readers get the same inputs at each run; that takes fixed addresses and hashes (scripts/fuzz), and no
    directory that is read again meanwhile. Parsers in Python draw keys of their own, so their inputs drift apart.
    """
    found.mkdir(parents=True, exist_ok=True)
    options = ["-max_len=4096", f"-artifact_prefix={found}/", "-print_final_stats=1", "-timeout=10"]
    if arguments.inputs:
        return [*options, f"-runs={arguments.inputs * inputs_factor}", f"-seed={_SEED}", "-reload=0"]
    return [*options, f"-max_total_time={arguments.seconds}", str(found)]
