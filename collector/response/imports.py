"""Imports what earlier versions kept of blocks in files of the data directory."""

from pathlib import Path

from collector.response.block_store import import_blocks
from collector.response.ladder import import_ladder
from collector.response.policy_table import import_policy
from collector.storage.state.imports import IMPORTED_SUFFIX, import_file
from collector.storage.state.store import StateStore
from collector.trust.audit import import_audit

# Each with what is lost where it is damaged.
_FILES = (
    ("blocks.json", import_blocks, "what it held is not blocked any more."),
    ("ladder.json", import_ladder, "every alert then stands at its default."),
    ("policy.json", import_policy, "the settings say all of it but the count of changes."),
    ("audit.jsonl.1", import_audit, "it held the older half of the audit log."),
    ("audit.jsonl", import_audit, "it held the audit log."),
)


def import_response(state: StateStore, directory: Path, now: float) -> None:
    """Once. Raises StoreError, OSError, and ValueError for a damaged file."""
    for name, copy, damage in _FILES:
        import_file(state, directory / name, copy, now, damage=damage)


def drop_imported(directory: Path) -> None:
    """For an erasure: what may name a consumer. Raises OSError."""
    for name in ("blocks.json", "audit.jsonl.1", "audit.jsonl"):
        (directory / f"{name}{IMPORTED_SUFFIX}").unlink(missing_ok=True)
