"""The file by which header tables reach the next sensor: whole, private, young and of this version, or not used."""

import logging
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sensor.capture.packets import table_file
from sensor.capture.packets.table_file import FILE_NAME, MAX_AGE_NS, VERSION, TableFile
from sensor.http.hpack import HpackDecoder, HpackTable, HuffmanStrings, Placeholder
from sensor.http.http2.connection import SavedTables
from sensor.http.reassembly import Direction

SECOND = 1_000_000_000
NOW = 100 * SECOND


class Clock:
    now_ns = NOW

    def __call__(self) -> int:
        return self.now_ns


def make_tables(last_stream: int = 7, value: bytes = b"/orders") -> SavedTables:
    known = HpackTable([(b":path", value), (Placeholder(1, -3, False), b"v")], 9, -1, False, 1)
    return SavedTables(Direction.BACKWARD, last_stream, (known, HpackTable([], 0, 4_096, True, 0)))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path, clock: Clock) -> TableFile:
    return TableFile(tmp_path, clock)


def test_the_next_sensor_reads_what_was_written_once(file: TableFile, tmp_path: Path, clock: Clock) -> None:
    connections = [(1 << 63, make_tables()), (5, make_tables(11, b"\xff\x00"))]
    file.write(connections)
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o7777 == 0o600
    clock.now_ns += MAX_AGE_NS
    assert file.read() == dict(connections)
    assert not list(tmp_path.iterdir())
    assert file.read() == {}


def test_it_is_private_whatever_the_umask_and_what_was_there(file: TableFile, tmp_path: Path) -> None:
    (tmp_path / f"{FILE_NAME}.new").write_text("left by a sensor that was killed")
    (tmp_path / FILE_NAME).write_text("old")
    before = os.umask(0)
    try:
        file.write([(1, make_tables())])
    finally:
        os.umask(before)
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o7777 == 0o600
    assert set(file.read()) == {1}


def test_nothing_is_written_where_there_is_nothing_to_leave(file: TableFile, tmp_path: Path) -> None:
    file.write([])
    assert not list(tmp_path.iterdir())


def test_it_is_bounded(file: TableFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(table_file, "MAX_BYTES", 10_000)
    file.write((number, make_tables(value=b"v" * 1_000)) for number in range(1 << 60, (1 << 60) + 100))
    assert 8_000 < (tmp_path / FILE_NAME).stat().st_size <= 10_000
    assert list(file.read()) == list(range(1 << 60, (1 << 60) + 9))
    monkeypatch.setattr(table_file, "MAX_CONNECTIONS", 3)
    file.write((number, make_tables()) for number in range(100))
    assert list(file.read()) == [0, 1, 2]


def encode(**changes: Any) -> bytes:
    return msgspec.msgpack.encode(
        {"version": VERSION, "written_ns": NOW, "connections": {7: msgspec.to_builtins(make_tables())}} | changes
    )


def replace_tables(place: int, value: object) -> bytes:
    connection: list[Any] = list(msgspec.msgpack.decode(msgspec.msgpack.encode(make_tables())))
    connection[place] = value
    return encode(connections={7: connection})


WHOLE = msgspec.msgpack.encode(
    {"version": VERSION, "written_ns": NOW, "connections": {7: make_tables()}},
)
NOT_USED = {
    "nothing": b"",
    "text": b"header tables",
    "cut": WHOLE[:-5],
    "more": WHOLE + b"\0",
    "deep": b"\x91" * 100_000,
    "older": encode(version=VERSION - 1),
    "newer": encode(version=VERSION + 1, connections="in another form"),
    "no version": msgspec.msgpack.encode({"written_ns": NOW, "connections": {}}),
    "unknown field": encode(more=1),
    "another number": encode(connections={"7": []}),
    "no stream": replace_tables(1, 0),
    "stream too high": replace_tables(1, 1 << 31),
    "no direction": replace_tables(0, 2),
    "one table": replace_tables(2, [[[], 0, -1, False, 0]]),
    "value not bytes": replace_tables(2, [[[[b"name", "text"]], 0, -1, False, 0], [[], 0, -1, False, 0]]),
    "many entries": replace_tables(2, [[[[b"", b""]] * 2_049, 0, -1, False, 0], [[], 0, -1, False, 0]]),
    "a minute ago": encode(written_ns=NOW - MAX_AGE_NS - 1),
    "before a reboot": encode(written_ns=NOW + 1),
}


def test_the_reader_takes_what_the_others_are_made_of(file: TableFile, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(WHOLE)
    (tmp_path / FILE_NAME).chmod(0o600)
    assert file.read() == {7: make_tables()}


@pytest.mark.parametrize("name", NOT_USED)
def test_what_does_not_fit_is_deleted_with_one_line(
    file: TableFile, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (tmp_path / FILE_NAME).write_bytes(NOT_USED[name])
    (tmp_path / FILE_NAME).chmod(0o600)
    with caplog.at_level(logging.INFO):
        assert file.read() == {}
    (line,) = caplog.messages
    assert line.startswith(f"HTTP/2 header tables of the previous sensor are not used: {tmp_path / FILE_NAME}: ")
    assert not list(tmp_path.iterdir())


def test_another_version_is_named(file: TableFile, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE_NAME).write_bytes(NOT_USED["newer"])
    (tmp_path / FILE_NAME).chmod(0o600)
    file.read()
    assert f"its version is {VERSION + 1}, and this sensor reads {VERSION}" in caplog.text


def test_any_damaged_byte_is_found_or_harmless(file: TableFile, tmp_path: Path) -> None:
    for place in range(len(WHOLE)):
        for bit in (1, 0x80):
            data = bytearray(WHOLE)
            data[place] ^= bit
            (tmp_path / FILE_NAME).write_bytes(data)
            (tmp_path / FILE_NAME).chmod(0o600)
            for saved in file.read().values():
                for table in saved.tables:
                    HpackDecoder.load(HuffmanStrings(), table).decode(b"\x82\xbe\xbf\x40\x01a\x01b")


def test_a_large_file_is_not_read(
    file: TableFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_bytes(WHOLE)
    (tmp_path / FILE_NAME).chmod(0o600)
    monkeypatch.setattr(table_file, "MAX_BYTES", len(WHOLE) - 1)
    assert file.read() == {}
    assert "it has more than" in caplog.text


@pytest.mark.parametrize("kind", ["readable", "link", "pipe", "directory"])
def test_a_file_of_others_is_not_used(
    file: TableFile, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    path = tmp_path / FILE_NAME
    match kind:
        case "readable":
            path.write_bytes(WHOLE)
            path.chmod(0o640)
        case "link":
            (tmp_path / "other").write_bytes(WHOLE)
            (tmp_path / "other").chmod(0o600)
            path.symlink_to(tmp_path / "other")
        case "pipe":
            os.mkfifo(path, 0o600)
        case "directory":
            path.mkdir()
    assert file.read() == {}
    assert "are not used" in caplog.text


def test_an_unwritable_directory_costs_the_file_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    TableFile(tmp_path / "none", Clock()).write([(1, make_tables())])
    assert "are not left to the next sensor" in caplog.text
    assert TableFile(tmp_path / "none", Clock()).read() == {}
