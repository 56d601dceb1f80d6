"""Names of the fields of protobuf messages, out of the answers of gRPC servers that describe themselves.

Server reflection (`grpc.reflection.v1.ServerReflection`, and v1alpha) answers tools such as grpcurl with serialised
`FileDescriptorProto`s. Where such an answer is among the sampled bodies, calls of the services in it are read by name.
Nobody is asked: without such a tool's call nothing is known.

Names are kept by the full names of types, which are unique in a program. Two versions of one type on a node are read by
the newer description, whose field numbers mean the same (protobuf's rule for changes).
"""

from collections.abc import Iterator
from typing import Final

import msgspec
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

from common.bounded import BoundedDict

TYPES_MAX: Final = 4_096
METHODS_MAX: Final = 4_096
FIELDS_MAX: Final = 512  # Of one type.
NESTING_MAX: Final = 8
REFLECTION_METHODS: Final = (
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
# Of ServerReflectionResponse: its field for descriptors, and the field in that.
_ANSWER_FIELD, _FILE_FIELD = 4, 1
_LENGTH_DELIMITED: Final = 2
_VARINT_BYTES_MAX: Final = 10


class MessageField(msgspec.Struct, frozen=True, gc=False):
    """One field of a type. `type_name`: of the message in it, else empty."""

    name: str
    type_name: str
    is_text: bool
    is_repeated: bool


class _Method(msgspec.Struct, frozen=True, gc=False):
    request_type: str
    response_type: str


class MessageTypes:
    """Types and methods that were described. Not thread-safe."""

    def __init__(self) -> None:
        self._types: BoundedDict[str, dict[int, MessageField]] = BoundedDict(TYPES_MAX)
        self._methods: BoundedDict[str, _Method] = BoundedDict(METHODS_MAX)

    def find_type(self, path: str, *, is_request: bool) -> str:
        """The type of a method's messages; empty where it was not described. A proxy may have put a prefix before."""
        if not self._methods:
            return ""
        method = self._methods.get("/".join(["", *path.rsplit("/", 2)[-2:]]))
        if method is None:
            return ""
        return method.request_type if is_request else method.response_type

    def find_field(self, type_name: str, number: int) -> MessageField | None:
        """None where the type or the number is not known."""
        fields = self._types.get(type_name)
        return None if fields is None else fields.get(number)

    def learn_answer(self, message: bytes) -> None:
        """Takes a ServerReflectionResponse. What is not one is ignored. Cost: some 50 us a kilobyte, of samples."""
        for answer in _list_fields(message, _ANSWER_FIELD):
            for data in _list_fields(answer, _FILE_FIELD):
                try:
                    self._learn_file(FileDescriptorProto.FromString(data))
                except DecodeError:
                    continue

    def _learn_file(self, file: FileDescriptorProto) -> None:
        prefix = f".{file.package}" if file.package else ""
        for message in file.message_type:
            self._learn_type(prefix, message, 0)
        for service in file.service:
            for method in service.method:
                path = f"/{prefix[1:]}.{service.name}" if prefix else f"/{service.name}"
                self._methods[f"{path}/{method.name}"] = _Method(method.input_type, method.output_type)

    def _learn_type(self, prefix: str, message: DescriptorProto, depth: int) -> None:
        name = f"{prefix}.{message.name}"
        self._types[name] = {field.number: _make_field(field) for field in message.field[:FIELDS_MAX]}
        if depth < NESTING_MAX:
            for inner in message.nested_type:
                self._learn_type(name, inner, depth + 1)


def _make_field(field: FieldDescriptorProto) -> MessageField:
    is_message = field.type in (FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.TYPE_GROUP)
    return MessageField(
        name=field.name,
        type_name=field.type_name if is_message else "",
        is_text=field.type == FieldDescriptorProto.TYPE_STRING,
        is_repeated=field.label == FieldDescriptorProto.LABEL_REPEATED,
    )


def _list_fields(data: bytes, wanted: int) -> Iterator[bytes]:
    """Contents of the length-delimited fields of one number, until something else than a message comes."""
    place = 0
    while place < len(data):
        try:
            key, place = read_varint(data, place)
            size, place = read_varint(data, place)
        except (IndexError, ValueError):
            return
        if key & 7 == 0:
            continue  # The second number was its value.
        if key & 7 != _LENGTH_DELIMITED or place + size > len(data):
            return
        if key >> 3 == wanted:
            yield data[place : place + size]
        place += size


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """A number and where it ends. Raises IndexError where it is cut, ValueError where it is too long."""
    value = 0
    for shift in range(_VARINT_BYTES_MAX):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, place
    raise ValueError("a number that is too long")
