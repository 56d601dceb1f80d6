"""The hashes that both sides make: held to vectors, which the kernel's own are held to in tests/bpf."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.addresses import pack_address
from sensor.core.keyed import fold, fold_all
from sensor.ebpf import hashes
from sensor.ebpf.abi import NAME_BUCKETS, SegmentClass

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "recognition_hashes.json").read_text())


def test_vectors() -> None:
    for row in VECTORS["names"]:
        seed, name = int(row["seed"], 16), row["name"].encode("latin-1")
        assert f"{hashes.hash_header_name(seed, name):016x}" == row["header"], name
        assert f"{hashes.hash_parameter_name(seed, name):016x}" == row["parameter"], name
    for row in VECTORS["folds"]:
        assert f"{fold(int(row['left'], 16), int(row['right'], 16)):016x}" == row["folded"]
    for row in VECTORS["shapes"]:
        assert hashes.find_shape(row["segment"].encode("latin-1")) == row["shape"], row["segment"]
    for row in VECTORS["addresses"]:
        assert f"{hashes.fold_address(pack_address(row['address'])):016x}" == row["folded"]


def test_names_are_equal_in_any_case_and_tell_apart_padding_and_use() -> None:
    assert hashes.hash_header_name(7, b"X-Request-Id") == hashes.hash_header_name(7, b"x-request-ID")
    names = [b"", b" ", b"host", b"host ", b"hosts", b"x-request-id", b"x-request-id  "]
    assert len({hashes.hash_header_name(7, name) for name in names}) == len(names)
    assert hashes.hash_header_name(7, b"key") != hashes.hash_parameter_name(7, b"key")


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_folds_are_never_zero_and_ordered(left: int, right: int) -> None:
    folded = fold(fold(0, left), right)
    assert 0 < folded < 1 << 64
    assert left == right or folded != fold(fold(0, right), left)


def test_fold_all_of_one_is_itself() -> None:
    assert fold_all([]) == 0
    assert fold_all([8]) == 8
    assert fold_all([8, 9]) == fold(8, 9)


@given(st.binary(max_size=80))
def test_buckets_are_in_range(name: bytes) -> None:
    assert 0 <= hashes.find_bucket(hashes.hash_header_name(1, name)) < NAME_BUCKETS


@pytest.mark.parametrize(
    "segment", [b"", b"users", b"v1", b"12a", b"1" * 19, b"deadbeef", b"12345678-1234", b"abcd1234-xyz"]
)
def test_other_segments_have_no_shape(segment: bytes) -> None:
    assert hashes.find_shape(segment) == SegmentClass.EXACT


def test_a_connection_has_one_hash_from_both_of_its_ends() -> None:
    ends = [("127.0.0.1", 80), ("127.0.0.1", 81), ("127.0.0.2", 80), ("::1", 80), ("fd00::1", 80)]
    hashed = {hashes.hash_connection(*one, *other) for one in ends for other in ends if one < other}
    assert hashed == {hashes.hash_connection(*other, *one) for one in ends for other in ends if one < other}
    assert len(hashed) == len(ends) * (len(ends) - 1) / 2
