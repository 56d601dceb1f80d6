"""Which blocks a sensor enforced before it was started anew: their share of the calls was measured then.

A file of the state directory (0600), ids with what they name, so that an id given to another client is not known.
"""

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sensor.enforce.block import BLOCKS_LIMIT, Block

logger = logging.getLogger(__name__)

FILE_NAME: Final = "enforced.json"
_BYTES_MAX: Final = 4 << 20


class KnownBlocks:
    """Read once, at the start; written after each change."""

    def __init__(self, path: Path | None) -> None:
        """`path` None: nothing is kept."""
        self._path = path
        self._known = _read(path) if path is not None else frozenset()

    def is_known(self, block: Block) -> bool:
        """Whether it was in force before the start."""
        return name_block(block) in self._known

    def save(self, blocks: Iterable[Block]) -> None:
        """These are in force. A disk that fails costs a measurement after the next start."""
        if self._path is None:
            return
        text = json.dumps(sorted(name_block(block) for block in blocks))
        draft = self._path.with_suffix(".new")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
            draft.replace(self._path)
        except OSError as error:
            logger.warning("%s cannot be written (%s)", self._path, error.strerror)


def name_block(block: Block) -> str:
    """Its id and what it names."""
    assert block.kind is not None
    return f"{block.id} {block.kind.value} {block.network or block.hash}"


def _read(path: Path) -> frozenset[str]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_BYTES_MAX))
    except (OSError, ValueError):
        return frozenset()
    if not isinstance(found, list):
        return frozenset()
    return frozenset(name for name in found[:BLOCKS_LIMIT] if isinstance(name, str))
