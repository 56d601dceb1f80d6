"""The archive of a backup: a tar file that is written and read from front to end.

Its first member says what is in it (`Contents`), its last one has the SHA-256 of every other. So an archive that ends
early or has a wrong byte is noticed, and the member is named. In between are entries: `data/NAME` for a file of
data_dir, `tables/NAME` for the rows of a table in ClickHouse's format Native. Each entry is one stream of zstd (RFC
8878) in members of at most 8 MiB, since tar wants the length first: `tables/routes.zst.00001`.
"""

import hashlib
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import PurePosixPath
from typing import IO, Final, Protocol, cast

import msgspec
from backports import zstd

FORMAT: Final = 1
FILES: Final = "data/"
TABLES: Final = "tables/"
CONTENTS: Final = "contents.json"
SUMS: Final = "checksums.json"
MEMBER_BYTES: Final = 8 * 1024 * 1024
BLOCK_BYTES: Final = 256 * 1024
_LEVEL: Final = 3  # Of 1 to 22: 8 % more time than 1, and a quarter less to keep.
_MEMBER: Final = re.compile(r"((?:data|tables)/.+)\.zst\.\d{5,}")
_TABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Source(Protocol):
    """Where an archive comes from."""

    def read(self, size: int, /) -> bytes:
        """So many bytes, and fewer at the end alone."""
        ...


class ArchiveError(Exception):
    """What is wrong with an archive, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableContents:
    """One table: the statement that makes it, its rows, and what they took on disk."""

    create: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The first member. `made_at`: unix seconds; `files`: bytes by path below data_dir."""

    format: int
    version: str
    made_at: float
    tables: Mapping[str, TableContents] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """What everything takes on disk; the archive takes less."""
        return sum(self.files.values()) + sum(table.bytes for table in self.tables.values())

    @property
    def rows(self) -> int:
        """Of all tables."""
        return sum(table.rows for table in self.tables.values())

    def find_bytes(self, entry: str) -> int:
        """What an entry takes on disk."""
        name = entry.partition("/")[2]
        return self.files[name] if entry.startswith(FILES) else self.tables[name].bytes


class ArchiveWriter:
    """Makes the bytes of one archive; whoever asks writes them."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._sums: dict[str, str] = {}

    def begin(self) -> bytes:
        """The first member."""
        return self._add(CONTENTS, msgspec.json.encode(self._contents))

    def add_entry(self, entry: str, parts: Iterable[bytes]) -> Iterator[bytes]:
        """The members of one entry."""
        compressor, buffer, number = zstd.ZstdCompressor(level=_LEVEL), bytearray(), 0
        for part in parts:
            buffer += compressor.compress(part)
            while len(buffer) >= MEMBER_BYTES:
                number += 1
                yield self._add(f"{entry}.zst.{number:05}", bytes(buffer[:MEMBER_BYTES]))
                del buffer[:MEMBER_BYTES]
        buffer += compressor.flush()
        yield self._add(f"{entry}.zst.{number + 1:05}", bytes(buffer))

    def end(self) -> bytes:
        """The last member, and the end of the tar file."""
        return self._add(SUMS, msgspec.json.encode(self._sums)) + bytes(2 * tarfile.BLOCKSIZE)

    def _add(self, name: str, content: bytes) -> bytes:
        self._sums[name] = hashlib.sha256(content).hexdigest()
        head = tarfile.TarInfo(name)
        head.size, head.mode, head.mtime = len(content), 0o600, int(self._contents.made_at)
        padding = bytes(-len(content) % tarfile.BLOCKSIZE)
        return head.tobuf(tarfile.PAX_FORMAT) + content + padding


def open_archive(file: Source, name: str) -> tuple[Contents, Iterator[tuple[str, Iterator[bytes]]]]:
    """What is in it, and its entries in their order, each with its compressed parts; all parts of one have to be taken
    before the next entry. At the end every member was there and is what was written. Raises ArchiveError, at the latest
    then, and OSError."""
    members = _read_members(file, name)
    first, content = next(members, ("", b""))
    if first != CONTENTS:
        raise ArchiveError(f"{name} is no backup of Apidae; name a file that `apidae backup` wrote.")
    contents = _read_contents(content, name)
    return contents, _group_entries(members, contents, {CONTENTS: hashlib.sha256(content).hexdigest()}, name)


def check_archive(
    file: Source, name: str, *, on_contents: Callable[[Contents], object], on_part: Callable[[str, int], object]
) -> Contents:
    """Reads an archive to its end. `on_part` gets the entry and the bytes of each part. Raises as `open_archive`."""
    contents, entries = open_archive(file, name)
    on_contents(contents)
    for entry, parts in entries:
        for part in parts:
            on_part(entry, len(part))
    return contents


def decompress(parts: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The content of an entry. Raises ArchiveError."""
    decompressor = zstd.ZstdDecompressor()
    try:
        for part in parts:
            yield decompressor.decompress(part)
    except (zstd.ZstdError, EOFError) as error:
        raise ArchiveError(f"{name} cannot be decompressed ({error}); use another backup.") from error


def _read_contents(content: bytes, name: str) -> Contents:
    try:
        kind = msgspec.json.decode(content)
        found, version = int(kind["format"]), str(kind["version"])
        if found > FORMAT:
            raise ArchiveError(
                f"{name} was made by Apidae {version} in format {found}, and this version reads formats up to "
                f"{FORMAT}; restore it with Apidae {version} or later."
            )
        contents = msgspec.convert(kind, Contents)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise _make_damage(name, CONTENTS, "it cannot be read") from error
    for table in contents.tables:
        if not _TABLE.fullmatch(table):
            raise _make_damage(name, CONTENTS, f"it names a table {table!r}")
    for path in contents.files:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise _make_damage(name, CONTENTS, f"it names a file {path!r}")
    return contents


def _make_damage(name: str, member: str, why: str) -> ArchiveError:
    return ArchiveError(f"{name} is damaged in its member {member} ({why}); use another backup.")


def _read_members(file: Source, name: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents. Raises ArchiveError where the file ends within a member or is no tar file."""
    last = ""
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", file), mode="r|", bufsize=BLOCK_BYTES) as archive:
            for member in archive:
                last = member.name
                if not member.isreg() or member.size > 64 * MEMBER_BYTES:
                    raise _make_damage(name, last, "it is no file of a backup")
                opened = archive.extractfile(member)
                content = opened.read() if opened is not None else b""
                yield last, content
    except (tarfile.TarError, EOFError) as error:
        if not last:
            raise ArchiveError(f"{name} is no backup of Apidae; name a file that `apidae backup` wrote.") from error
        raise ArchiveError(f"{name} is damaged in or after its member {last} ({error}); use another backup.") from error


def _group_entries(
    members: Iterator[tuple[str, bytes]], contents: Contents, seen: dict[str, str], name: str
) -> Iterator[tuple[str, Iterator[bytes]]]:
    expected: Mapping[str, str] | None = None

    def find_entry(member: tuple[str, bytes]) -> str:
        found = _MEMBER.fullmatch(member[0])
        return found[1] if found else ""

    def read_parts(group: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
        for member, content in group:
            seen[member] = hashlib.sha256(content).hexdigest()
            yield content

    entries: set[str] = set()
    for entry, group in groupby(members, find_entry):
        if entry:
            entries.add(entry)
            yield entry, read_parts(group)
            continue
        for member, content in group:
            if member != SUMS:
                raise _make_damage(name, member, "it is no member of a backup")
            try:
                expected = msgspec.json.decode(content, type=dict[str, str])
            except msgspec.MsgspecError as error:
                raise _make_damage(name, SUMS, "it cannot be read") from error
    if expected is None:
        raise ArchiveError(f"{name} is cut off or damaged after its member {[*seen][-1]}; use another backup.")
    for member in sorted({*expected, *seen}):
        if member not in seen:
            raise _make_damage(name, member, "it is missing")
        if seen[member] != expected.get(member):
            raise _make_damage(name, member, "its checksum differs")
    wanted = {*(FILES + path for path in contents.files), *(TABLES + table for table in contents.tables)}
    if missing := sorted(wanted ^ entries):
        raise _make_damage(name, missing[0], "it is missing, or nothing says what it is")
