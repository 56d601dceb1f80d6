"""The policy that all sensors get, in the state: whoever changes blocks writes it in the same transaction, and each
collector sends it to the sensors that are connected to it.

Its terms are those of the settings, and an epoch counts its changes. Who changes blocks locks the table, so that two
collectors do it one after the other.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, insert, select, update

from collector.receiver.policy import BlockOrder, SensorPolicy, describe_terms
from collector.storage.state.cache import StateCache
from collector.storage.state.store import StateStore, lock_table, upsert
from collector.storage.state.tables.response import POLICY
from common.consumer_order import ConsumerColumn

_ID: Final = 1  # Of the one row.


class PolicyTable:
    """Thread-safe. Methods raise StoreError."""

    def __init__(self, state: StateStore, consumer_order: Sequence[ConsumerColumn]) -> None:
        """Another order than was published last makes another epoch."""
        terms = describe_terms(consumer_order)
        with state.write() as connection:
            self.hold(connection)
            row = connection.execute(select(POLICY.c.epoch, POLICY.c.terms)).first()
            if row is None:
                connection.execute(insert(POLICY), {"id": _ID, "epoch": 1, "terms": terms, "orders": []})
            elif row.terms != terms:
                connection.execute(update(POLICY).values(epoch=row.epoch + 1, terms=terms))
        self._policy = StateCache(state, (POLICY.name,), _read_policy)

    def read(self) -> SensorPolicy:
        """The newest."""
        return self._policy.read()

    def hold(self, connection: Connection) -> None:
        """Until the transaction ends, nobody else changes blocks."""
        lock_table(connection, POLICY)

    def publish(self, connection: Connection, orders: Sequence[BlockOrder]) -> bool:
        """What is to be stopped from now on; whether that is a change. `hold` comes first, and this once."""
        policy = self._policy.read_in(connection)
        if policy.blocks == tuple(orders):
            return False
        kept = [asdict(order) for order in orders]
        connection.execute(update(POLICY).values(epoch=policy.epoch + 1, orders=kept))
        return True


def import_policy(connection: Connection, content: bytes) -> int:
    """The epoch and the terms in `policy.json` of an earlier version. Raises ValueError, KeyError."""
    terms: dict[str, Any] = json.loads(content)
    epoch = int(terms.pop("epoch"))
    upsert(connection, POLICY, [{"id": _ID, "epoch": epoch, "terms": terms, "orders": []}])
    return 1


def _read_policy(connection: Connection) -> SensorPolicy:
    row = connection.execute(select(POLICY)).one()
    return SensorPolicy(
        epoch=row.epoch,
        consumer_order=tuple(ConsumerColumn(name) for name in row.terms["consumer_order"]),
        blocks=msgspec.convert(row.orders, tuple[BlockOrder, ...]),
    )
