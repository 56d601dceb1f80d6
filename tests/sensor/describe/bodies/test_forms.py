"""Multipart forms and protobuf: fields by name and by number, files and bytes without a value, and nothing raises."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.describe.bodies.documents import read_document, read_multipart
from sensor.describe.bodies.protobuf import FIELDS_MAX, read_protobuf
from sensor.sensitive.kinds import Binary, Text

FORM = (
    b'--x1\r\nContent-Disposition: form-data; name="title"\r\n\r\nA b\r\n'
    b'--x1\r\nContent-Disposition: form-data; filename="a.png"; name="photo"\r\n'
    b"Content-Type: image/png\r\n\r\n\x89PNG\r\n"
    b'--x1\r\nContent-Disposition: form-data; name="tag"\r\n\r\none\r\n'
    b'--x1\r\nContent-Disposition: form-data; name="tag"\r\n\r\ntwo\r\n--x1--\r\n'
)


def test_a_multipart_form() -> None:
    assert read_multipart(FORM, True) == {"title": "A b", "photo": Binary(), "tag": ["one", "two"]}
    document = read_document(FORM, "multipart/form-data", is_complete=True)
    assert document is not None
    assert document.records is None


def test_of_a_cut_form_the_last_part_is_left_out() -> None:
    assert read_multipart(FORM[:-40], False) == {"title": "A b", "photo": Binary(), "tag": "one"}


def test_what_is_no_form_is_refused() -> None:
    with pytest.raises(ValueError, match="boundary"):
        read_multipart(b"title=1", True)


@given(data=st.binary(max_size=200))
def test_forms_of_any_bytes(data: bytes) -> None:
    read_multipart(b"--x\r\n" + data, False)


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes((number & 0x7F | 0x80,))
        number >>= 7
    return out + bytes((number,))


def field(number: int, wire: int, data: bytes) -> bytes:
    return varint(number << 3 | wire) + (varint(len(data)) if wire == 2 else b"") + data


INNER = field(1, 0, varint(300)) + field(2, 2, b"a text")
MESSAGE = (
    field(1, 0, varint(7)) + field(2, 2, b"Ada") + field(3, 2, INNER) + field(3, 2, INNER)
    + field(4, 1, struct.pack("<d", 1.5)) + field(5, 2, b"\xff\xfe\x00")
)  # fmt: skip
READ = {
    "field_1": 7,
    "field_2": "Ada",
    "field_3": [{"field_1": 300, "field_2": "a text"}] * 2,
    "field_4": 1.5,
    "field_5": Binary(),
}


def test_protobuf_by_number() -> None:
    assert read_protobuf(MESSAGE, "application/protobuf", is_complete=True) == READ
    framed = b"\x00" + len(MESSAGE).to_bytes(4, "big") + MESSAGE
    assert read_protobuf(framed + framed, "application/grpc+proto", is_complete=True) == [READ, READ]
    assert read_protobuf(b"\x01" + framed[1:], "application/grpc", is_complete=True) is None
    cut = read_protobuf(framed[:-2], "application/grpc", is_complete=False)
    assert isinstance(cut, dict)
    assert cut["field_1"] == 7
    assert "field_5" not in cut
    assert read_protobuf(b"\xff\xff", "application/protobuf", is_complete=True) is None


@given(data=st.binary(max_size=300))
def test_protobuf_of_any_bytes(data: bytes) -> None:
    read_protobuf(data, "application/protobuf", is_complete=False)
    read_protobuf(data, "application/grpc", is_complete=True)


def test_protobuf_is_bounded() -> None:
    read = read_protobuf(field(1, 0, b"\x01") * 5_000, "application/protobuf", is_complete=True)
    assert isinstance(read, dict)
    assert len(read["field_1"]) == FIELDS_MAX


def test_text_keeps_no_value_in_its_bytes() -> None:
    assert repr(Binary(b"secret")) == "Binary(6 bytes)"
    assert isinstance(Text("17"), str)
