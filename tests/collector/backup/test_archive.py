"""An archive is read back as it was written, and whatever is wrong with it is one sentence that names the member."""

import io
import os

import pytest

from collector.backup.archive import (
    FORMAT,
    MEMBER_BYTES,
    ArchiveError,
    ArchiveWriter,
    Contents,
    TableContents,
    check_archive,
    decompress,
    open_archive,
)

LONG = os.urandom(2 * MEMBER_BYTES + 1)  # Of three members: it cannot be compressed.
ENTRIES = {"data/tls/authority.pem": b"key", "data/" + "n" * 180: b"", "tables/routes": LONG}
CONTENTS = Contents(
    format=FORMAT,
    version="0.2.0",
    made_at=1_800_000_000.0,
    tables={"routes": TableContents(create="CREATE TABLE default.routes (..)", rows=7, bytes=len(LONG))},
    files={"tls/authority.pem": 3, "n" * 180: 0},
)


def write(contents: Contents = CONTENTS, entries: dict[str, bytes] = ENTRIES) -> bytes:
    writer = ArchiveWriter(contents)
    parts = [writer.begin()]
    for entry, content in entries.items():
        parts += writer.add_entry(entry, (content[at : at + 1_000_000] for at in range(0, len(content), 1_000_000)))
    return b"".join([*parts, writer.end()])


WHOLE = write()


def check(archive: bytes) -> Contents:
    return check_archive(
        io.BytesIO(archive), "b.tar", on_contents=lambda contents: None, on_part=lambda entry, size: None
    )


def test_everything_comes_back_in_its_order() -> None:
    contents, entries = open_archive(io.BytesIO(WHOLE), "b.tar")
    assert contents == CONTENTS
    assert [(entry, b"".join(decompress(parts, entry))) for entry, parts in entries] == [*ENTRIES.items()]
    assert check(WHOLE).rows == 7


@pytest.mark.parametrize("share", [0.0001, 0.2, 0.5, 0.8])
def test_a_flipped_byte_is_damage_that_names_its_member(share: float) -> None:
    damaged = bytearray(WHOLE)
    damaged[int(len(WHOLE) * share) + 600] ^= 1
    with pytest.raises(ArchiveError, match=r"b\.tar is .*damaged (in|after|in or after) its member \S+"):
        check(bytes(damaged))


def test_the_sentence_has_the_member_whose_checksum_differs() -> None:
    at = WHOLE.index(b"tables/routes.zst.00002") + 512
    damaged = WHOLE[:at] + bytes([WHOLE[at] ^ 255]) + WHOLE[at + 1 :]
    sentence = "its member tables/routes.zst.00002 (its checksum differs); use another backup."
    with pytest.raises(ArchiveError) as error:
        check(damaged)
    assert sentence in str(error.value)


@pytest.mark.parametrize("member", ["tables/routes.zst.00001", "tables/routes.zst.00003", "checksums.json"])
def test_an_archive_that_ends_early_is_not_whole(member: str) -> None:
    at = WHOLE.index(member.encode())
    for end in (at, at + 700):
        with pytest.raises(ArchiveError, match=r"(cut off or damaged|damaged in or) after its member"):
            check(WHOLE[:end])


def test_an_entry_without_contents_and_contents_without_entry_are_damage() -> None:
    with pytest.raises(ArchiveError, match=r"data/stranger \(it is missing, or nothing says what it is\)"):
        check(write(entries={**ENTRIES, "data/stranger": b"x"}))
    with pytest.raises(ArchiveError, match=r"tables/routes \(it is missing"):
        check(write(entries={name: content for name, content in ENTRIES.items() if name != "tables/routes"}))


def test_an_archive_of_a_newer_version_names_that_version() -> None:
    newer = Contents(format=FORMAT + 1, version="9.1.0", made_at=0.0)
    with pytest.raises(ArchiveError, match=r"b\.tar was made by Apidae 9\.1\.0 .* restore it with Apidae 9\.1\.0"):
        check(write(newer, {}))


@pytest.mark.parametrize("name", ["/etc/passwd", "../authority.pem", "tls/../../x"])
def test_no_file_is_written_outside_of_the_directory(name: str) -> None:
    outside = Contents(format=FORMAT, version="0.2.0", made_at=0.0, files={name: 1})
    with pytest.raises(ArchiveError, match="it names a file"):
        check(write(outside, {f"data/{name}": b"x"}))


def test_a_table_has_a_plain_name() -> None:
    table = TableContents(create="", rows=0, bytes=0)
    odd = Contents(format=FORMAT, version="0.2.0", made_at=0.0, tables={"routes; DROP": table})
    with pytest.raises(ArchiveError, match="it names a table"):
        check(write(odd, {"tables/routes; DROP": b""}))


@pytest.mark.parametrize("content", [b"", b"no tar file at all" * 100, WHOLE[512:4096]])
def test_another_file_is_no_backup(content: bytes) -> None:
    with pytest.raises(ArchiveError, match="is no backup of Apidae"):
        check(content)
