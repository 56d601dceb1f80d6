"""Keeps blocks in the state: those that are proposed, live or lately over.

`BlockStore.change` is one transaction in which blocks, the audit log and the policy of sensors change together. Only
one is under way at a time, whichever collector began it. Open blocks are kept in memory until somebody changes a block.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, bindparam, delete, func, insert, select, update

from collector.response.block import Block, BlockState
from collector.response.policy_table import PolicyTable
from collector.storage.state.cache import StateCache
from collector.storage.state.imports import read_rows
from collector.storage.state.store import StateStore, read_row
from collector.storage.state.tables.response import BLOCKS
from collector.trust.audit import AuditEntry, add_entries

OPEN_MAX: Final = 10_000  # Proposed and live: what one policy message may hold.
OVER_MAX: Final = 1_000  # The oldest goes.
_OPEN: Final = (BlockState.PROPOSED, BlockState.LIVE)


class BlockChange:
    """One transaction on blocks: `open_blocks` by id, oldest first, as they are after its changes."""

    def __init__(self, connection: Connection, open_blocks: Mapping[str, Block]) -> None:
        self.connection = connection
        self.open_blocks = dict(open_blocks)
        self.decisions: list[tuple[str, Block]] = []  # Actions and their blocks.
        self.has_put = False
        self.is_live_changed = False  # Or anything else that what sensors are to stop depends on.

    def find(self, block_id: str) -> Block | None:
        """One block."""
        return self.open_blocks.get(block_id) or _find(self.connection, BLOCKS.c.id == block_id)

    def find_answered(self, alert_ids: Collection[str]) -> set[str]:
        """The alerts that led to a block."""
        return _find_answered(self.connection, alert_ids)

    def list_live(self) -> list[Block]:
        """Live ones."""
        return [block for block in self.open_blocks.values() if block.state is BlockState.LIVE]

    def put(self, *blocks: Block) -> None:
        """New or changed blocks."""
        if not blocks:
            return
        known = {block.id for block in blocks if block.id in self.open_blocks or self.find(block.id) is not None}
        if changed := [_write_block(block) | {"own": block.id} for block in blocks if block.id in known]:
            values: dict[str, Any] = {name: bindparam(name) for name in changed[0] if name not in ("id", "own")}
            self.connection.execute(update(BLOCKS).where(BLOCKS.c.id == bindparam("own")).values(values), changed)
        if new := [block for block in blocks if block.id not in known]:
            last = self.connection.execute(select(func.coalesce(func.max(BLOCKS.c.number), 0))).scalar_one()
            rows = [_write_block(block) | {"number": number} for number, block in enumerate(new, last + 1)]
            self.connection.execute(insert(BLOCKS), rows)
        for block in blocks:
            self.is_live_changed |= block.began_at > 0
            if block.state in _OPEN:
                self.open_blocks[block.id] = block
            else:
                self.open_blocks.pop(block.id, None)
        if any(block.state not in _OPEN for block in blocks):
            over = select(BLOCKS.c.id).where(BLOCKS.c.state.not_in(_OPEN)).order_by(BLOCKS.c.number.desc())
            self.connection.execute(delete(BLOCKS).where(BLOCKS.c.id.in_(over.offset(OVER_MAX))))
        self.has_put = True

    def record(self, entries: Sequence[AuditEntry], blocks: Sequence[Block] = ()) -> None:
        """In the audit log; with blocks each entry is the decision on one."""
        add_entries(self.connection, entries)
        self.decisions += [(entry.action, block) for entry, block in zip(entries, blocks, strict=False)]

    def erase(self, pattern: re.Pattern[str], credentials: Collection[int]) -> int:
        """Without the blocks of a consumer that a pattern names; other blocks lose its credentials, and its name where
        their reason holds it. How many went."""
        count = 0
        for block in _read_blocks(self.connection, select(BLOCKS)):
            if pattern.fullmatch(block.target.consumer):
                self.connection.execute(delete(BLOCKS).where(BLOCKS.c.id == block.id))
                self.open_blocks.pop(block.id, None)
                self.has_put = True
                count += 1
                continue
            kept = replace(
                block,
                credentials=tuple(one for one in block.credentials if one not in credentials),
                reason=pattern.sub("erased", block.reason),
                accused=pattern.sub("erased", block.accused),
            )
            if kept != block:
                self.put(kept)
        return count


class BlockStore:
    """Thread-safe. Methods raise StoreError."""

    def __init__(self, state: StateStore, policy: PolicyTable) -> None:
        self._state, self._policy = state, policy
        self._open = StateCache(state, (BLOCKS.name,), _read_open)

    @property
    def version(self) -> int:
        """Of what was read last; another one after each change."""
        return self._open.writes

    def find(self, block_id: str) -> Block | None:
        """One block."""
        with self._state.read() as connection:
            return _find(connection, BLOCKS.c.id == block_id)

    def find_answered(self, alert_ids: Collection[str]) -> set[str]:
        """The alerts that led to a block."""
        with self._state.read() as connection:
            return _find_answered(connection, alert_ids)

    def list_blocks(self) -> list[Block]:
        """All, the newest first."""
        with self._state.read() as connection:
            return _read_blocks(connection, select(BLOCKS).order_by(BLOCKS.c.number.desc()))

    def list_open(self) -> list[Block]:
        """Proposed and live ones."""
        return list(self._open.read().values())

    def list_live(self) -> list[Block]:
        """Live ones."""
        return [block for block in self.list_open() if block.state is BlockState.LIVE]

    @contextmanager
    def change(self) -> Iterator[BlockChange]:
        """All of it is kept, or nothing. One in another would wait for itself."""
        with self._state.write() as connection:
            self._policy.hold(connection)
            before = self._open.read_in(connection)
            writes = self._open.writes
            change = BlockChange(connection, before)
            yield change
        if change.has_put:
            self._open.replace(change.open_blocks, writes=writes)


def import_blocks(connection: Connection, content: bytes) -> int:
    """Those in `blocks.json` of an earlier version. How many there were. Raises ValueError."""
    blocks = read_rows(content, Block)
    rows = [_write_block(block) | {"number": number} for number, block in enumerate(blocks, 1)]
    if rows:
        connection.execute(insert(BLOCKS), rows)
    return len(rows)


def _find_answered(connection: Connection, alert_ids: Collection[str]) -> set[str]:
    own = select(BLOCKS.c.alert_id).where(BLOCKS.c.alert_id.in_(alert_ids))
    return set(connection.execute(own).scalars())


def _find(connection: Connection, condition: Any) -> Block | None:
    found = _read_blocks(connection, select(BLOCKS).where(condition).limit(1))
    return found[0] if found else None


def _read_open(connection: Connection) -> Mapping[str, Block]:
    own = select(BLOCKS).where(BLOCKS.c.state.in_(_OPEN)).order_by(BLOCKS.c.number)
    return {block.id: block for block in _read_blocks(connection, own)}


def _read_blocks(connection: Connection, statement: Select[Any]) -> list[Block]:
    return [_read_block(row) for row in connection.execute(statement)]


def _read_block(row: Row[Any]) -> Block:
    return read_row(Block, row, target={"kind": row.kind, "value": row.value})


def _write_block(block: Block) -> dict[str, Any]:
    row = asdict(block)
    target: dict[str, Any] = row.pop("target")
    return row | target
