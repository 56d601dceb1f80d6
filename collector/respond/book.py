"""The blocks that are proposed, live or lately over, in one file of the data directory. Not thread-safe."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from collector.ingest.blocks import BlockKind
from collector.ingest.reader import write_durably
from collector.respond.block import Block, BlockState, Target

OPEN_MAX: Final = 10_000  # Proposed and live: what one policy message may hold.
OVER_MAX: Final = 1_000  # The oldest goes.
_OPEN: Final = (BlockState.PROPOSED, BlockState.LIVE)


class BlockBook:
    """Blocks by id, oldest first."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, ValueError where the file cannot be read."""
        self._path = path
        self._blocks: dict[str, Block] = {}
        if path.exists():
            try:
                self._blocks = {entry["id"]: _read(entry) for entry in json.loads(path.read_text())}
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{path} is damaged; remove it: what it held is not blocked any more.") from None

    def find(self, block_id: str) -> Block | None:
        """One block."""
        return self._blocks.get(block_id)

    def list_blocks(self) -> list[Block]:
        """All, the newest first."""
        return list(reversed(self._blocks.values()))

    def list_open(self) -> list[Block]:
        """Proposed and live ones."""
        return [block for block in self._blocks.values() if block.state in _OPEN]

    def put(self, *blocks: Block) -> None:
        """New or changed blocks; durable when this returns. Raises OSError."""
        changed = {**self._blocks, **{block.id: block for block in blocks}}
        over = [block.id for block in changed.values() if block.state not in _OPEN]
        for block_id in over[: max(0, len(over) - OVER_MAX)]:
            del changed[block_id]
        write_durably(self._path, json.dumps([_write(block) for block in changed.values()]).encode())
        self._blocks = changed

    def erase(self, pattern: re.Pattern[str], credentials: Collection[int]) -> int:
        """Without the blocks of a consumer that a pattern names; other blocks lose its credentials, and its name where
        their reason holds it. Durable when this returns; how many went. Raises OSError."""
        kept = {
            block.id: replace(
                block,
                credentials=tuple(one for one in block.credentials if one not in credentials),
                reason=pattern.sub("erased", block.reason),
            )
            for block in self._blocks.values()
            if not pattern.fullmatch(block.target.consumer)
        }
        if kept == self._blocks:
            return 0
        write_durably(self._path, json.dumps([_write(block) for block in kept.values()]).encode())
        count, self._blocks = len(self._blocks) - len(kept), kept
        return count


def _write(block: Block) -> dict[str, Any]:
    return asdict(block)


def _read(entry: Mapping[str, Any]) -> Block:
    target = Target(kind=BlockKind(entry["target"]["kind"]), value=str(entry["target"]["value"]))
    return Block(
        **{
            **entry,
            "target": target,
            "state": BlockState(entry["state"]),
            "credentials": tuple(entry["credentials"]),
            "services": tuple(entry["services"]),
            "clusters": tuple(entry.get("clusters", ())),
        }
    )
