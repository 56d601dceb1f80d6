"""Every target on its kept inputs, and for a moment on inputs made of them. `scripts/fuzz NAME` goes deep."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")


def read_corpus(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


@pytest.mark.parametrize("name", TARGETS)
def test_kept_inputs(name: str) -> None:
    inputs = read_corpus(name)
    assert inputs
    for data in inputs:
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=80, deadline=None)
@given(draw=st.data())
def test_inputs_made_of_kept_ones(name: str, draw: st.DataObject) -> None:
    parts = draw.draw(st.lists(st.sampled_from(read_corpus(name)), min_size=1, max_size=3))
    data = bytearray(b"".join(parts))
    for _ in range(draw.draw(st.integers(0, 8))):
        at = draw.draw(st.integers(0, len(data)))
        data[at : at + draw.draw(st.integers(0, 4))] = draw.draw(st.binary(max_size=4))
    TARGETS[name](bytes(data))


def test_every_corpus_has_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == {*TARGETS, "kernel"}  # tests/fuzz/test_kernel.py
