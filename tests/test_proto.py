"""The wire's discipline: generated code is what the .proto files say, and the files keep buf's STANDARD lint rules
that apply here.

The rules are written down as checks over protoc's own descriptors; their names are buf's (https://buf.build/docs/lint/rules).
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).parent.parent
PROTO = ROOT / "proto"
FILES = ("apidae/v1/data.proto", "apidae/v1/enroll.proto", "apidae/v1/stream.proto")
GENERATED = (
    *("data_pb2.py", "data_pb2.pyi"),
    *("enroll_pb2.py", "enroll_pb2.pyi", "enroll_pb2_grpc.py"),
    *("stream_pb2.py", "stream_pb2.pyi", "stream_pb2_grpc.py"),
)
LOWER_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*\Z")
PASCAL = re.compile(r"([A-Z][a-z0-9]*)+\Z")
# A quantity says its unit. Names that end so need one of the suffixes.
QUANTITIES = re.compile(r"(time|duration|latency|delay|after|age|lag|size|memory|length|offset)\Z")


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    output = tmp_path_factory.mktemp("proto") / "set.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(PROTO), f"--descriptor_set_out={output}", *FILES]
    subprocess.run(command, check=True)
    files = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes()).file
    return {file.name: file for file in files}


def walk_messages(
    messages: list[descriptor_pb2.DescriptorProto],
) -> Iterator[descriptor_pb2.DescriptorProto]:
    for message in messages:
        yield message
        yield from walk_messages(list(message.nested_type))


def list_enums(file: descriptor_pb2.FileDescriptorProto) -> list[descriptor_pb2.EnumDescriptorProto]:
    nested = [enum for message in walk_messages(list(file.message_type)) for enum in message.enum_type]
    return [*file.enum_type, *nested]


def to_upper_snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def test_generated_code_is_what_the_files_say(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts/proto", "--output", tmp_path], check=True)
    fresh = tmp_path / "apidae/v1"
    committed = PROTO / "gen/apidae/v1"
    assert sorted(path.name for path in fresh.iterdir()) == sorted(GENERATED)
    different = [name for name in GENERATED if (fresh / name).read_bytes() != (committed / name).read_bytes()]
    assert not different, f"{different} differ from what scripts/proto writes; run scripts/proto and commit"


def test_every_file_is_checked() -> None:
    assert sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("apidae/**/*.proto")) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_package_is_the_directory(descriptors: dict[str, descriptor_pb2.FileDescriptorProto], name: str) -> None:
    file = descriptors[name]
    assert file.package == str(Path(name).parent).replace("/", "."), "PACKAGE_DIRECTORY_MATCH"
    assert re.search(r"\.v[1-9]\d*\Z", file.package), "PACKAGE_VERSION_SUFFIX"
    assert file.syntax == "proto3"


@pytest.mark.parametrize("name", FILES)
def test_messages_and_fields(descriptors: dict[str, descriptor_pb2.FileDescriptorProto], name: str) -> None:
    for message in walk_messages(list(descriptors[name].message_type)):
        assert PASCAL.match(message.name), f"MESSAGE_PASCAL_CASE: {message.name}"
        for field in message.field:
            where = f"{message.name}.{field.name}"
            assert LOWER_SNAKE.match(field.name), f"FIELD_LOWER_SNAKE_CASE: {where}"
            is_number = field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE, field.TYPE_BYTES, field.TYPE_ENUM)
            # A CSR length (`*_len`) and a Segment's length are counts of elements, as their comments say.
            if is_number and where != "Segment.length":
                assert not QUANTITIES.search(field.name), f"a quantity without a unit: {where}"
        for oneof in message.oneof_decl:
            assert LOWER_SNAKE.match(oneof.name), f"ONEOF_LOWER_SNAKE_CASE: {message.name}.{oneof.name}"


@pytest.mark.parametrize("name", FILES)
def test_enums(descriptors: dict[str, descriptor_pb2.FileDescriptorProto], name: str) -> None:
    for enum in list_enums(descriptors[name]):
        prefix = to_upper_snake(enum.name)
        assert PASCAL.match(enum.name), f"ENUM_PASCAL_CASE: {enum.name}"
        assert not enum.options.allow_alias, f"ENUM_NO_ALLOW_ALIAS: {enum.name}"
        assert enum.value[0].number == 0, f"ENUM_FIRST_VALUE_ZERO: {enum.name}"
        assert enum.value[0].name == f"{prefix}_UNSPECIFIED", f"ENUM_ZERO_VALUE_SUFFIX: {enum.value[0].name}"
        for value in enum.value:
            assert value.name.startswith(f"{prefix}_"), f"ENUM_VALUE_PREFIX: {value.name}"
            assert value.name == value.name.upper(), f"ENUM_VALUE_UPPER_SNAKE_CASE: {value.name}"


def test_services(descriptors: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    assert not descriptors["apidae/v1/data.proto"].service, "the service is apart from the data"
    for service in (service for file in descriptors.values() for service in file.service):
        assert service.name.endswith("Service"), f"SERVICE_SUFFIX: {service.name}"
        for method in service.method:
            assert PASCAL.match(method.name), f"RPC_PASCAL_CASE: {method.name}"
            assert method.input_type == f".apidae.v1.{method.name}Request", "RPC_REQUEST_STANDARD_NAME"
            assert method.output_type == f".apidae.v1.{method.name}Response", "RPC_RESPONSE_STANDARD_NAME"
