"""A file is replaced as a whole or not at all, and a damaged one is one sentence."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.durable import append_line, check_seal, parse_json, read_json, seal, write_durably

DAMAGED = ValueError("the file is damaged; remove it.")


def test_a_file_is_replaced_with_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    before = os.umask(0o077)
    try:
        write_durably(path, b"one")
        assert path.read_bytes() == b"one" and path.stat().st_mode & 0o777 == 0o600
        write_durably(path, lambda file: file.write(b"two"), mode=0o644)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two" and path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_crash_left_beside_it_is_in_nobodys_way(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    (tmp_path / "a.new").symlink_to(target)
    write_durably(tmp_path / "a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one" and not target.exists() and not (tmp_path / "a.new").exists()


def test_content_and_name_are_synced_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        sync(descriptor)

    def note_replace(path: Path, target: Path) -> Path:
        done.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    write_durably(tmp_path / "a", b"one")
    assert done == ["sync a.new", "rename", f"sync {tmp_path.name}"]


@pytest.mark.parametrize("place", [(os, "fsync"), (os, "fchmod"), (Path, "replace")])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_after_an_error_the_old_file_is_there_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str], error: BaseException
) -> None:
    path = tmp_path / "a"
    write_durably(path, b"one")

    def refuse(*_: object) -> None:
        raise error

    with monkeypatch.context() as refusing:
        refusing.setattr(*place, refuse)
        with pytest.raises(type(error)):
            write_durably(path, b"two")
    assert path.read_bytes() == b"one" and list(tmp_path.iterdir()) == [path]


def test_a_missing_file_gives_none_and_an_unreadable_one_raises(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none", list, DAMAGED) is None
    with pytest.raises(IsADirectoryError):
        read_json(tmp_path, list, DAMAGED)


@pytest.mark.parametrize(
    ("content", "convert"),
    [
        (b"", list),
        (b"\xff", list),
        (b'{"a": ', list),
        (b"3", list),
        (b"{}", lambda found: found["a"]),
        (b"[]", lambda found: found[0]),
        (b"null", lambda found: found.get("a")),
        (b'"x"', int),
    ],
)
def test_a_damaged_file_is_its_sentence(tmp_path: Path, content: bytes, convert: Callable[[Any], object]) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_json(tmp_path / "a", convert, DAMAGED)
    assert caught.value is DAMAGED and caught.value.__suppress_context__


@given(st.binary())
def test_whatever_the_bytes_they_are_read_or_damaged(content: bytes) -> None:
    try:
        assert isinstance(parse_json(content, list, DAMAGED), list)
    except ValueError as error:
        assert error is DAMAGED


def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "a.json", tmp_path / "of-somebody-else.json"
    other.write_bytes(b"[1]")
    path.symlink_to(other)
    with pytest.raises(OSError) as error:
        read_json(path, list, DAMAGED)
    assert error.value.errno == errno.ELOOP
    write_durably(path, b"[2]")  # It takes the link's place.
    assert read_json(path, list, DAMAGED) == [2] and other.read_bytes() == b"[1]"


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    write_durably(tmp_path / "a", b'{"epoch": 7}')
    assert read_json(tmp_path / "a", lambda found: int(found["epoch"]), DAMAGED) == 7


def test_a_line_is_appended_whole_and_what_a_crash_cut_keeps_none_out(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    assert append_line(path, b"one") == 4
    with path.open("ab") as file:
        file.write(b'{"cut')
    assert append_line(path, b"two") == path.stat().st_size
    assert path.read_bytes() == b'one\n{"cut\ntwo\n' and path.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_leaves_nothing_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "lines", os.write
    append_line(path, b"one")
    room = [3]

    def write(descriptor: int, content: memoryview) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written, room[0] = real(descriptor, content[: room[0]]), 0
        return written

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space"):
        append_line(path, b"two and more")
    assert path.read_bytes() == b"one\n"


def test_any_flipped_bit_of_sealed_fields_is_noticed_and_older_files_are_read() -> None:
    fields = {"position": [12, 4_711], "claim_end": None, "names": ["é", "node-a"]}
    sealed = seal(fields)
    assert parse_json(sealed, check_seal, DAMAGED) == fields
    assert parse_json(b'{"position": [12, 4711]}', check_seal, DAMAGED) == {"position": [12, 4_711]}
    for place in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[place] ^= 1 << bit
            try:
                assert parse_json(bytes(changed), _read_checked, DAMAGED) == fields
            except ValueError as error:
                assert error is DAMAGED


def _read_checked(fields: Any) -> Any:
    """As a reader does, which takes what it needs and no more."""
    known = check_seal(fields)
    return {name: known[name] for name in ("position", "claim_end", "names")}
