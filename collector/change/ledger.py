"""Facts in the store. What was seen goes on being known for as long as it is seen; methods raise StoreError."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final, Protocol

from collector.change.fact import Fact, FactKind
from collector.inventory.reader import select
from collector.store.base import Store

_COLUMNS: Final = ", ".join(field.name for field in fields(Fact))
_OF_SUBJECTS: Final = f"SELECT {_COLUMNS} FROM change_facts FINAL WHERE subject IN {{subjects:Array(String)}}"
_TOLD: Final = f"""
SELECT {_COLUMNS} FROM change_facts FINAL
WHERE kind = {{kind:String}} AND told_at > {{since:Float64}} AND scope IN {{scopes:Array(String)}}
ORDER BY told_at, first_seen, subject, detail LIMIT {{limit:UInt32}}"""
TOLD_MAX: Final = 5_000  # Facts of one day that alerts are made of.


class Facts(Protocol):
    """Whoever keeps them; methods raise StoreError."""

    def read(self, subjects: Sequence[str]) -> list[Fact]:
        """All facts of these subjects."""
        ...

    def read_told(self, kind: FactKind, scopes: Sequence[str], since: float) -> list[Fact]:
        """What was told after `since`, oldest first."""
        ...

    def save(self, facts: Sequence[Fact]) -> None:
        """Keep versions, of which the newest holds."""
        ...


class Ledger:
    """The table `change_facts`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, subjects: Sequence[str]) -> list[Fact]:
        """As the contract says."""
        return self._select(_OF_SUBJECTS, {"subjects": list(subjects)}) if subjects else []

    def read_told(self, kind: FactKind, scopes: Sequence[str], since: float) -> list[Fact]:
        """As the contract says."""
        asked = {"kind": kind.value, "scopes": list(scopes), "since": since, "limit": TOLD_MAX}
        return self._select(_TOLD, asked) if scopes else []

    def save(self, facts: Sequence[Fact]) -> None:
        """As the contract says."""
        self._store.insert_records("change_facts", facts)

    def _select(self, sql: str, parameters: dict[str, Any]) -> list[Fact]:
        rows = select(self._store, sql, parameters)
        return [Fact(**{**row, "kind": FactKind(row["kind"]), "key_id": int(row["key_id"])}) for row in rows]
