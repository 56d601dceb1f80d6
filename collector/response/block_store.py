"""Keeps blocks and their audit log in files of the data directory.

`BlockStore` has the blocks that are proposed, live or lately over, in one file. Not thread-safe.

`AuditLog` records who stopped whom, when, why, and the result: one JSON object a line. A line changes only when a
consumer is erased. `audit.jsonl` (0600) is synced at each line. Past `FILE_BYTES_MAX` it becomes `audit.jsonl.1`, whose
predecessor is deleted.
"""

import contextlib
import re
import threading
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from collector.response.block import Block, BlockState
from common.durable import append_line, read_json, write_durably

OPEN_MAX: Final = 10_000  # Proposed and live: what one policy message may hold.
OVER_MAX: Final = 1_000  # The oldest goes.
_OPEN: Final = (BlockState.PROPOSED, BlockState.LIVE)


class BlockStore:
    """Blocks by id, oldest first."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, ValueError where the file cannot be read."""
        self._path = path
        damaged = ValueError(f"{path} is damaged; remove it: what it held is not blocked any more.")
        kept = read_json(path, lambda found: msgspec.convert(found, list[Block]), damaged)
        self._blocks = {block.id: block for block in kept or ()}

    def find(self, block_id: str) -> Block | None:
        """One block."""
        return self._blocks.get(block_id)

    def list_blocks(self) -> list[Block]:
        """All, the newest first."""
        return list(reversed(self._blocks.values()))

    def list_open(self) -> list[Block]:
        """Proposed and live ones."""
        return [block for block in self._blocks.values() if block.state in _OPEN]

    def list_live(self) -> list[Block]:
        """Live ones."""
        return [block for block in self._blocks.values() if block.state is BlockState.LIVE]

    def put(self, *blocks: Block) -> None:
        """New or changed blocks; durable when this returns. Raises OSError."""
        changed = {**self._blocks, **{block.id: block for block in blocks}}
        over = [block.id for block in changed.values() if block.state not in _OPEN]
        for block_id in over[: max(0, len(over) - OVER_MAX)]:
            del changed[block_id]
        self._save(changed)

    def erase(self, pattern: re.Pattern[str], credentials: Collection[int]) -> int:
        """Without the blocks of a consumer that a pattern names; other blocks lose its credentials, and its name where
        their reason holds it. Durable when this returns; how many went. Raises OSError."""
        before = self._blocks
        kept = {
            block.id: replace(
                block,
                credentials=tuple(one for one in block.credentials if one not in credentials),
                reason=pattern.sub("erased", block.reason),
                accused=pattern.sub("erased", block.accused),
            )
            for block in before.values()
            if not pattern.fullmatch(block.target.consumer)
        }
        if kept != before:
            self._save(kept)
        return len(before) - len(kept)

    def _save(self, blocks: dict[str, Block]) -> None:
        write_durably(self._path, msgspec.json.encode(list(blocks.values())))
        self._blocks = blocks


FILE_BYTES_MAX: Final = 64 * 1024 * 1024
KEPT_ENTRIES: Final = 1_000  # In memory, for the API and the page.
_TAIL_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One line. `time`: unix seconds."""

    time: float
    by: str
    action: str  # proposed, began, approved, rejected, lifted, expired, declined, ladder.
    block_id: str
    target: str
    why: str


class AuditLog:
    """Thread-safe; writes before it returns. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._recent: deque[AuditEntry] = deque(_read_tail(path), maxlen=KEPT_ENTRIES)

    def add(self, entry: AuditEntry) -> None:
        """One more line."""
        line = msgspec.json.encode(replace(entry, time=round(entry.time, 3)))
        with self._lock:
            if self._path.exists() and self._path.stat().st_size > FILE_BYTES_MAX:
                self._path.replace(self._path.with_suffix(self._path.suffix + ".1"))
            append_line(self._path, line)
            self._recent.append(entry)

    def list_recent(self, limit: int) -> list[AuditEntry]:
        """The newest first."""
        with self._lock:
            return list(self._recent)[: -limit - 1 : -1]

    def prune(self, before: float) -> int:
        """Remove lines of decisions from before a unix time. How many lines that were. Raises OSError."""
        count = 0
        with self._lock:
            for path in (self._path.with_suffix(self._path.suffix + ".1"), self._path):
                if not path.exists():
                    continue
                with path.open("rb") as file:
                    oldest = file.readline()
                    if not oldest or _is_kept(oldest, before):  # So are all others.
                        continue
                    file.seek(0)
                    lines = file.readlines()
                kept = [line for line in lines if _is_kept(line, before)]
                count += len(lines) - len(kept)
                write_durably(path, b"".join(kept))
            self._recent = deque((one for one in self._recent if one.time >= before), maxlen=KEPT_ENTRIES)
        return count

    def erase(self, pattern: re.Pattern[str]) -> int:
        """Blank a name that a pattern finds, in every line; what was decided, when and by whom stays. How many lines
        that were. Raises OSError."""
        count = 0
        with self._lock:
            for path in (self._path.with_suffix(self._path.suffix + ".1"), self._path):
                lines = path.read_text().splitlines(keepends=True) if path.exists() else []
                blanked = [pattern.sub("erased", line) for line in lines]
                count += sum(old != new for old, new in zip(lines, blanked, strict=True))
                if blanked != lines:
                    write_durably(path, "".join(blanked).encode())
            self._recent = deque(_read_tail(self._path), maxlen=KEPT_ENTRIES)
        return count


def _is_kept(line: bytes, before: float) -> bool:
    """Whether an entry is not older; of a line that a crash cut nobody can say."""
    try:
        return msgspec.json.decode(line, type=AuditEntry).time >= before
    except msgspec.DecodeError:
        return bool(line)


def _read_tail(path: Path) -> list[AuditEntry]:
    """The last entries; a line that was cut by a crash is passed over."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().splitlines()
    found = []
    for line in lines[-KEPT_ENTRIES:]:
        with contextlib.suppress(msgspec.DecodeError):
            found.append(msgspec.json.decode(line, type=AuditEntry))
    return found
