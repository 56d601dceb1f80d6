"""Messages of protobuf are classified, and read by name once their server has described them (gRPC reflection)."""

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from sensor.describe.bodies.decoding import Payload
from sensor.describe.bodies.message_types import REFLECTION_METHODS, MessageTypes
from sensor.describe.bodies.protobuf import read_protobuf
from sensor.describe.bodies.reader import BodyCall, BodyReader
from sensor.describe.bodies.sampling import SampleRule
from sensor.sensitive.kinds import DataPlace, list_kinds

METHOD = "/shop.v1.People/List"
_STRING, _MESSAGE, _INT64 = 9, 11, 3


def describe() -> FileDescriptorProto:
    """`service People { rpc List(ListRequest) returns (ListResponse) }`, with a nested type."""
    file = FileDescriptorProto(name="shop.proto", package="shop.v1", syntax="proto3")
    person = file.message_type.add(name="Person")
    for number, (name, kind) in enumerate((("id", _INT64), ("full_name", _STRING), ("birth_date", _STRING)), 1):
        person.field.add(name=name, number=number, type=kind, label=1)  # type: ignore[arg-type]
    contact = person.nested_type.add(name="Contact")
    contact.field.add(name="password", number=1, type=_STRING, label=1)
    person.field.add(name="contact", number=4, type=_MESSAGE, label=1, type_name=".shop.v1.Person.Contact")
    file.message_type.add(name="ListRequest").field.add(name="last_name", number=1, type=_STRING, label=1)
    answer = file.message_type.add(name="ListResponse")
    answer.field.add(name="people", number=1, type=_MESSAGE, label=3, type_name=".shop.v1.Person")
    file.service.add(name="People").method.add(
        name="List", input_type=".shop.v1.ListRequest", output_type=".shop.v1.ListResponse"
    )
    return file


def make_message(name: str, fields: str) -> Message:
    from google.protobuf.text_format import Parse

    pool = DescriptorPool()
    pool.Add(describe())
    return Parse(fields, GetMessageClass(pool.FindMessageTypeByName(f"shop.v1.{name}"))())


def prefix(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


def delimit(number: int, data: bytes) -> bytes:
    size, out = len(data), b""
    while size > 0x7F:
        out, size = out + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + out + bytes([size]) + data


REFLECTED = prefix(delimit(1, b"host") + delimit(4, delimit(1, describe().SerializeToString())))
ANSWER = prefix(
    make_message(
        "ListResponse",
        "people { id: 7 full_name: 'Anna Meier' birth_date: '1980-02-03' contact { password: 'hunter22' } }",
    ).SerializeToString()
)


def call(path: str, request: bytes, response: bytes, time_ns: int) -> BodyCall:
    payloads = (Payload(request, True, b"application/grpc", b""), Payload(response, True, b"application/grpc", b""))
    sizes = len(request) + 80, len(response) + 80
    return BodyCall(time_ns, 200, b"", b"", *sizes, time_ns, None, payloads=payloads, head_bytes=80, path=path)


def test_a_described_name_gives_the_kind() -> None:
    reader = BodyReader(SampleRule())
    request = prefix(make_message("ListRequest", "last_name: 'Meier'").SerializeToString())
    before = reader.read(call(METHOD, request, ANSWER, 1))
    assert before is not None and before.data == ()
    reader.read(call(REFLECTION_METHODS[1], prefix(b""), REFLECTED, 2))
    facts = reader.read(call(f"/proxied{METHOD}", request, ANSWER, 3))
    assert facts is not None
    assert {kind.value for kind in list_kinds(facts.data, DataPlace.RESPONSE_BODY)} == {
        "PERSON_NAME",
        "DATE_OF_BIRTH",
        "PASSWORD",
    }
    assert [kind.value for kind in list_kinds(facts.data, DataPlace.REQUEST_BODY)] == ["PERSON_NAME"]
    assert facts.records == 1


def test_without_a_description_values_are_known_by_their_form() -> None:
    message = prefix(delimit(1, delimit(2, b"anna@example.org")) + delimit(1, delimit(2, b"b@example.org")))
    facts = BodyReader(SampleRule()).read(call("/a.B/C", prefix(b""), message, 1))
    assert facts is not None
    assert [kind.value for kind in list_kinds(facts.data, DataPlace.RESPONSE_BODY)] == ["EMAIL"]
    assert facts.records == 2


def test_each_message_of_a_stream_is_a_record() -> None:
    facts = BodyReader(SampleRule()).read(call("/a.B/C", prefix(b""), ANSWER * 5, 1))
    assert facts is not None and facts.records == 5


def test_a_single_element_of_a_repeated_field_is_a_list() -> None:
    types = MessageTypes()
    types.learn_answer(REFLECTED[5:])
    read = read_protobuf(ANSWER, "application/grpc", is_complete=True, types=types, type_name=".shop.v1.ListResponse")
    assert isinstance(read, dict) and isinstance(read["people"], list)


@given(st.binary(max_size=200))
def test_no_answer_breaks_what_learns_from_it(data: bytes) -> None:
    types = MessageTypes()
    types.learn_answer(data)
    types.learn_answer(delimit(4, delimit(1, data)))
    read_protobuf(data, "application/grpc", is_complete=False, types=types, type_name=".shop.v1.Person")
