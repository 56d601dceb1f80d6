"""The kernel's head reader and byte machine, compiled in user space, and a plain Python reference beside them."""

import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import strategies as st

from sensor.ebpf import hashes
from sensor.ebpf.abi import NameKind
from sensor.ebpf.compile import BPF_DIRECTORY
from sensor.ebpf.http1_states import STATE, Action, ParseFlag, build_machine, defines
from tests.bpf.reference import Reference

REFUSED = 2
ENDS = (Action.HEAD_END, Action.HEAD_END_BARE)


@dataclass(frozen=True, slots=True)
class Read:
    """What the reader made of a head."""

    verdict: int
    size: int
    flags: int
    length: int
    profile: int
    host: int
    method: int
    is_unknown: int
    is_suspicious: int
    object: int
    number: int
    credential: int
    is_odd: int


Reader = Callable[..., list[Read]]  # (heads, is_answer=False).
Frame = Callable[..., tuple[int, ...]]  # (head, state="REQUEST"): done, state, action, status, flags, length.
IGNORED = (b"referer", b"x-request-id", b"content-type-x", b"a", b"accept-encoding")
QUOTED = (b"accept-charset", b"if-none-match")
SHAPED = (b"accept", b"user-agent")


def _reference() -> Reference:
    reference = Reference(key=bytes(range(16)), seed=0x1234_5678_9ABC_DEF0)
    reference.names[False, b"host"] = NameKind.HEADER_HOST
    reference.names[False, b"authorization"] = NameKind.HEADER_AUTHORIZATION
    reference.names[False, b"x-api-key"] = NameKind.HEADER_KEY
    reference.names[False, b"x-signature"] = NameKind.HEADER_PRESENT
    for name in IGNORED:
        reference.names[False, name] = NameKind.HEADER_IGNORED
    for name in QUOTED:
        reference.names[False, name] = NameKind.HEADER_QUOTED
    reference.names[False, b"accept"] = NameKind.HEADER_SHAPE
    reference.names[False, b"user-agent"] = NameKind.HEADER_AGENT
    for name in (b"page", b"q", b"a_long_parameter_name", b""):
        reference.names[True, name] = NameKind.QUERY_IGNORED
    reference.names[True, b"api_key"] = NameKind.QUERY_CREDENTIAL
    reference.names[False, b"cookie"] = NameKind.HEADER_COOKIE
    reference.cookies |= dict.fromkeys((b"_ga", b"_a_longer_name"), NameKind.COOKIE_IGNORED)
    reference.cookies |= dict.fromkeys((b"sid", b"JSESSIONID"), NameKind.COOKIE_TOLD)
    for name in (b"report_id", b"email"):
        reference.names[True, name] = NameKind.QUERY_OBJECT
    return reference


REFERENCE = _reference()


def _build(directory: Path, name: str) -> Path:
    compiler = shutil.which("cc") or shutil.which("clang-19") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    program = directory / name
    source = Path(__file__).with_name(f"{name}.c")
    flags = ["-O1", "-g", "-Wall", "-Werror", "-Wno-unknown-pragmas", f"-I{BPF_DIRECTORY}", *defines()]
    subprocess.run([compiler, *flags, "-o", str(program), str(source)], check=True)
    return program


@pytest.fixture(scope="session")
def read(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Reads heads one after the other."""
    program = _build(tmp_path_factory.mktemp("head"), "head_harness")
    names = b"".join(
        struct.pack(
            "<Q",
            (hashes.hash_parameter_name if is_parameter else hashes.hash_header_name)(REFERENCE.seed, name) & ~0xFF
            | kind,
        )
        for (is_parameter, name), kind in REFERENCE.names.items()
    )
    names += b"".join(
        struct.pack("<Q", hashes.hash_cookie_name(REFERENCE.seed, name) & ~0xFF | kind)
        for name, kind in REFERENCE.cookies.items()
    )
    start = REFERENCE.key + struct.pack("<QI", REFERENCE.seed, len(names) // 8) + names

    def run(heads: list[bytes], is_answer: bool = False) -> list[Read]:
        cases = b"".join(struct.pack("<I", len(head)) + head for head in heads)
        output = subprocess.run(
            [program, *["answer"] * is_answer], input=start + cases, capture_output=True, check=True
        ).stdout
        return [Read(*map(int, line.split())) for line in output.splitlines()]

    return run


@pytest.fixture(scope="session")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Frame:
    """What the machine makes of a head."""
    directory = tmp_path_factory.mktemp("machine")
    program, table = _build(directory, "machine_harness"), directory / "table"
    table.write_bytes(build_machine().packed())

    def run(head: bytes, state: str = "REQUEST") -> tuple[int, ...]:
        case = struct.pack("<3I", STATE[state], 128, len(head)) + head
        output = subprocess.run([program, table], input=case, capture_output=True, check=True).stdout
        return tuple(map(int, output.split()))

    return run


def agree(head: bytes, told: Read, framed: tuple[int, ...]) -> None:
    """Of a head that the reader took."""
    done, _, action, _, flags, length = framed
    assert action == Action.HEAD_END, head
    assert told.size == done, head
    method_flags = ParseFlag.CONFIRMED | ParseFlag.HEAD | ParseFlag.CONNECT | ParseFlag.OLD
    assert told.flags == flags & ~method_flags, head
    if flags & ParseFlag.LENGTH:
        assert told.length == length, head
    assert (told.profile, told.host, told.credential) == REFERENCE.read(head[: told.size]), head
    assert told.method == int.from_bytes(head.split(b" ", 1)[0][:8], "little")
    if not told.is_unknown:
        assert (told.object, told.number) == REFERENCE.query_object(head), head


TOKEN = st.text("abcXYZ019-_", min_size=1, max_size=20).map(str.encode)
VALUE = st.binary(max_size=80).map(lambda v: bytes(b for b in v if b not in b"\r\n").strip(b" \t"))
