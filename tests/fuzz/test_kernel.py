"""The kernel's readers on kept inputs and on some made of them, with address and undefined-behaviour checks."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.kernel import CORPUS, build

KEPT = [path.read_bytes() for path in sorted(CORPUS.iterdir())]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It reads cases until one breaks a promise."""
    compiler = shutil.which("gcc") or shutil.which("clang-19") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler: apt-get install gcc")
    try:
        return build(tmp_path_factory.mktemp("kernel"), compiler, "-DSTANDALONE")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"the compiler has no sanitizers: {error.stderr.decode()[-300:]}")


def run(program: Path, inputs: list[bytes]) -> None:
    cases = b"".join(struct.pack("<I", len(data)) + data for data in inputs)
    done = subprocess.run([program], input=cases, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]


def test_kept_inputs(program: Path) -> None:
    assert KEPT
    run(program, KEPT)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(KEPT),
            st.lists(st.tuples(st.integers(0, 200), st.integers(0, 4), st.binary(max_size=4)), max_size=5),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_inputs_made_of_kept_ones(program: Path, changes: list[tuple[bytes, list[tuple[int, int, bytes]]]]) -> None:
    inputs = []
    for kept, edits in changes:
        data = bytearray(kept)
        for at, length, replacement in edits:
            data[at : at + length] = replacement
        inputs.append(bytes(data))
    run(program, inputs)
