"""A responder over a state."""

from typing import Any

from collector.core.config import BlockSettings
from collector.response.block_store import BlockStore
from collector.response.ladder import Ladder
from collector.response.policy_table import PolicyTable
from collector.response.reports import BlockReports
from collector.response.responder import Responder
from collector.storage.state.store import StateStore
from collector.trust.audit import AuditLog


def make_responder(state: StateStore, **more: Any) -> Responder:
    """`more`: what is not of the state."""
    policy = PolicyTable(state, ())
    return Responder(
        **{"limits": BlockSettings(), **more},
        store=BlockStore(state, policy),
        policy=policy,
        audit=AuditLog(state),
        reports=BlockReports(state, more["clock"]),
        ladder=Ladder(state),
    )
