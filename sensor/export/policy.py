"""The policy that a collector sends: epochs, full forms and differences, applied whole or refused with a reason. Pure.

A full form replaces everything and may carry any epoch, because a collector that lost its data begins again. A
difference names the epoch that it starts from. It is refused at any other epoch, because half a policy is worse than an
old one.
"""

from dataclasses import dataclass, field, replace
from typing import Final

from common.consumer_order import CONSUMER_ORDER, ConsumerColumn
from sensor.aggregate.aggregator import Triggers
from sensor.enforce.block import Block, find_fault

# Past this a trigger never fires in a second; a larger number is a mistake, not a wish.
TRIGGER_LIMIT: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the collector decides. Until the first policy has come it is epoch 0: the default order of consumers and the
    default triggers. A sensor keeps its last policy over a restart."""

    epoch: int = 0
    triggers: Triggers = field(default_factory=Triggers)
    consumer_order: tuple[ConsumerColumn, ...] = CONSUMER_ORDER


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyUpdate:
    """One policy message. `triggers` and `blocks` are None where the message says nothing of them, and `consumer_order`
    is empty."""

    epoch: int
    is_full: bool
    base_epoch: int
    triggers: Triggers | None
    blocks: tuple[Block, ...] | None = None
    consumer_order: tuple[ConsumerColumn, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyResult:
    """The policy in force after an update, and why the update was refused (empty: it was applied)."""

    policy: Policy
    epoch: int  # Of the update.
    reason: str

    @property
    def is_applied(self) -> bool:
        return not self.reason


def apply_update(policy: Policy, update: PolicyUpdate) -> PolicyResult:
    """The policy after the update; the old one, with a reason, where the update cannot be right."""
    reason = _find_fault(policy, update)
    if reason:
        return PolicyResult(policy=policy, epoch=update.epoch, reason=reason)
    base = Policy() if update.is_full else policy
    triggers = update.triggers if update.triggers is not None else base.triggers
    order = update.consumer_order or base.consumer_order
    applied = replace(base, epoch=update.epoch, triggers=triggers, consumer_order=order)
    return PolicyResult(policy=applied, epoch=update.epoch, reason="")


def _find_fault(policy: Policy, update: PolicyUpdate) -> str:
    if update.epoch == 0:
        return "epoch is 0; epochs start at 1"
    if not update.is_full and update.base_epoch != policy.epoch:
        return (
            f"policy {update.epoch} is a difference from epoch {update.base_epoch} and this sensor holds epoch "
            f"{policy.epoch}; send the full form"
        )
    if update.blocks is not None and (fault := find_fault(update.blocks)):
        return fault
    if len(set(update.consumer_order)) != len(update.consumer_order):
        return "consumer_order names a column twice"
    if update.triggers is None:
        return ""
    for name in ("distinct_objects_per_second", "calls_per_second"):
        value = getattr(update.triggers, name)
        if not 1 <= value <= TRIGGER_LIMIT:
            return f"triggers.{name} is {value}; give it 1 to {TRIGGER_LIMIT}"
    return ""
