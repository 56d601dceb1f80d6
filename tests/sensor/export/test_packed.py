"""Packed columns: the bytes that the protobuf runtime would have written."""

import numpy as np
from apidae.v1 import data_pb2
from hypothesis import given
from hypothesis import strategies as st

from sensor.export.convert import encode_columns, encode_field

FIELDS = {field.name: field.number for field in data_pb2.Rows.DESCRIPTOR.fields}
small = st.integers(0, 127)
large = st.one_of(small, st.integers(0, 2**64 - 1), st.sampled_from([128, 2**14 - 1, 2**14, 2**63, 2**64 - 1]))


@given(
    st.lists(st.integers(0, 2**32 - 1), max_size=20),
    st.lists(small, max_size=20),
    st.lists(large, max_size=20),
    st.lists(large, max_size=20),
)
def test_columns_are_those_of_the_runtime(
    statuses: list[int], calls: list[int], bytes_sums: list[int], hashes: list[int]
) -> None:
    expected = data_pb2.Rows(status_code=statuses, calls=calls, request_bytes=bytes_sums, objects_hash=hashes)
    varints = {
        FIELDS["status_code"]: np.array(statuses, np.uint32),
        FIELDS["calls"]: np.array(calls, np.int64),
        FIELDS["request_bytes"]: np.array(bytes_sums, np.uint64),
    }
    fixed = {FIELDS["objects_hash"]: np.array(hashes, np.uint64)}
    assert encode_columns(varints, fixed) == expected.SerializeToString(deterministic=True)


@given(st.integers(1, 2**29 - 1), st.binary(max_size=300))
def test_a_field_has_tag_and_length(number: int, data: bytes) -> None:
    encoded = encode_field(number, data)
    assert encoded.endswith(data)
    batch = data_pb2.Batch.FromString(encode_field(data_pb2.Batch.NODE_FIELD_NUMBER, b"n" * len(data)))
    assert batch.node == "n" * len(data)
