"""Builds tests/fuzz/kernel.c, the kernel's readers of heads in user space; `python -m tests.fuzz.kernel --seconds N`
fuzzes it with libFuzzer (clang-19 and libclang-rt-19-dev), started by `scripts/fuzz kernel`.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from sensor.ebpf.compile import BPF_DIRECTORY
from sensor.ebpf.http1_states import build_machine, defines
from tests.fuzz.bounds import add_bounds, fuzzer_options

ROOT = Path(__file__).parent.parent.parent
CORPUS = Path(__file__).with_name("corpus") / "kernel"
# Words are read at any byte, as the kernel's processors allow.
_FLAGS = ("-O1", "-g", "-Wno-unknown-pragmas", "-fno-sanitize-recover=undefined")
_CHECKED = "address,undefined"
_INPUTS_FACTOR = 50  # C reads some 50 heads in the time of one in Python.


def build(directory: Path, compiler: str, *options: str, sanitizers: str = _CHECKED) -> Path:
    """The program. Raises subprocess.CalledProcessError where the compiler cannot."""
    program = directory / "kernel"
    table = ",".join(map(str, build_machine().packed()))
    (directory / "table.h").write_text(f"static const u8 TABLE[] = {{{table}}};\n")
    flags = [*_FLAGS, f"-fsanitize={sanitizers}", "-fno-sanitize=alignment", f"-I{BPF_DIRECTORY}", f"-I{directory}"]
    source = str(Path(__file__).with_suffix(".c"))
    command = [compiler, *flags, *options, *defines(), "-o", str(program), source]
    subprocess.run(command, check=True, capture_output=True)
    return program


def main() -> None:
    """Parses the arguments and does not return."""
    parser = argparse.ArgumentParser(description="Fuzz the kernel's readers until they fail or the time is over.")
    add_bounds(parser)
    arguments = parser.parse_args()
    clang = shutil.which("clang-19") or shutil.which("clang")
    if clang is None:
        sys.exit("fuzz: clang is not installed: apt-get install clang-19 libclang-rt-19-dev")
    found = ROOT / ".run" / "fuzz" / "kernel"
    try:
        directory = ROOT / ".run" / "fuzz-kernel"
        directory.mkdir(exist_ok=True)
        program = build(directory, clang, sanitizers=f"fuzzer,{_CHECKED}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"fuzz: clang could not build (libclang-rt-19-dev?): {error.stderr.decode()[-1000:]}")
    os.execv(program, [str(program), *fuzzer_options(arguments, found, _INPUTS_FACTOR), str(CORPUS)])


if __name__ == "__main__":
    main()
