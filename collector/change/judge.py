"""What of a look is new, and what of that is news: sights, callers and the facts that are known in, facts out. Pure.

A fact is news where its subject was known for long enough to know better: a service, an endpoint whose responses were
read or a workload for a day, an endpoint with few consumers when none came for two weeks. In the first day after the
first look of all nothing is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from collector.change.callers import Caller
from collector.change.fact import OPEN, Fact, FactKind, Known
from collector.change.sight import Sight

DAY_SECONDS: Final = 86_400.0
LEARNING_SECONDS: Final = DAY_SECONDS
STABLE_SECONDS: Final = 14 * DAY_SECONDS
CONSUMERS_MAX: Final = 10  # Of an endpoint of few.
HOSTS_MAX: Final = 50  # Of a workload that calls few; others browse.
REFRESH_SECONDS: Final = 30 * DAY_SECONDS  # A fact that is still so is written anew, for its row expires.
_HASHED: Final = ("principal:", "credential:")


def judge_sight(sight: Sight, known: Known, now: float, *, is_learning: bool) -> list[Fact]:
    """What an endpoint shows of itself. Facts that are told of have their time of telling."""
    facts: list[Fact] = []
    if sight.is_third_party:
        return facts
    if sight.is_served:
        facts += _judge_endpoint(sight, known, now, is_learning=is_learning)
    if sight.has_bodies:
        facts += _judge_data(sight, known, now, is_learning=is_learning)
    if sight.login_gone is not None and not is_learning:  # Still so after the first day, it is told then.
        opened = f"{sight.login_gone.changed_at:.0f}"
        if known.find(FactKind.LOGIN, sight.id, opened) is None:
            facts.append(_tell(_make(FactKind.LOGIN, sight, now, detail=opened), now))
    return facts


def _judge_endpoint(sight: Sight, known: Known, now: float, *, is_learning: bool) -> list[Fact]:
    service, endpoint = known.find(FactKind.SERVICE, sight.scope), known.find(FactKind.ENDPOINT, sight.id)
    since = min(sight.first_seen, now)
    facts: list[Fact] = []
    if service is None or _is_due(service, now):
        first = Fact(kind=FactKind.SERVICE, subject=sight.scope, first_seen=since, seen_at=now)
        facts.append(first if service is None else replace(service, seen_at=now))
    if endpoint is not None:
        return [*facts, replace(endpoint, seen_at=now)] if _is_due(endpoint, now) else facts
    fact = _make(FactKind.ENDPOINT, sight, now, first_seen=since)
    # One that was asked for longer ago has another id now, by a merge or a name, or was refused until today.
    is_young = now - since <= DAY_SECONDS
    is_news = is_young and service is not None and now - service.first_seen >= DAY_SECONDS and not is_learning
    return [*facts, _tell(fact, now) if is_news else fact]


def _judge_data(sight: Sight, known: Known, now: float, *, is_learning: bool) -> list[Fact]:
    before = known.of(FactKind.DATA, sight.id)
    base = before.get("")
    is_settled = base is not None and now - base.first_seen >= DAY_SECONDS and not is_learning
    facts: list[Fact] = []
    for detail in ("", *sorted(sight.classes)):
        fact = before.get(detail)
        if fact is not None:
            facts += [replace(fact, seen_at=now)] if _is_due(fact, now) else []
            continue
        fresh = _make(FactKind.DATA, sight, now, detail=detail)
        facts.append(_tell(fresh, now) if is_settled else fresh)
    return facts


def judge_consumers(
    sight: Sight, callers: Sequence[Caller], known: Known, now: float, *, is_learning: bool
) -> list[Fact]:
    """Who was served by an endpoint of few consumers; one that has more is open from then on."""
    before = known.of(FactKind.CONSUMER, sight.id)
    if OPEN in before:
        return [replace(before[OPEN], seen_at=now)] if _is_due(before[OPEN], now) else []
    fresh = [
        _make(FactKind.CONSUMER, sight, now, detail=one.name, key_id=one.key_id)
        for one in callers
        if one.name not in before
    ]
    if len(before) + len(fresh) > CONSUMERS_MAX or sight.consumers > CONSUMERS_MAX:
        return [_make(FactKind.CONSUMER, sight, now, detail=OPEN)]
    old = [fact for fact in before.values() if not fact.told_at]  # Who was told of makes none unstable.
    is_stable = bool(old) and all(now - fact.first_seen >= STABLE_SECONDS for fact in old) and not is_learning
    facts = [replace(fact, seen_at=now) for fact in before.values() if _is_due(fact, now)]
    return facts + [_tell(fact, now) if is_stable and not _is_renamed(fact, old) else fact for fact in fresh]


def judge_hosts(
    workload: str, hosts: Iterable[Sight], base: float, known: Known, now: float, *, is_learning: bool
) -> list[Fact]:
    """What a workload calls outside. `base`: since when the workload is known, unix seconds."""
    before = known.of(FactKind.OUTBOUND, workload)
    if OPEN in before:
        return [replace(before[OPEN], seen_at=now)] if _is_due(before[OPEN], now) else []
    by_name = {sight.host: sight for sight in sorted(hosts, key=lambda one: (one.first_seen, one.id), reverse=True)}
    first = before.get("")
    since = min(base, first.first_seen if first is not None else now)
    is_settled = now - since >= DAY_SECONDS and not is_learning
    facts = [replace(fact, seen_at=now) for name, fact in before.items() if name in by_name and _is_due(fact, now)]
    if first is None or _is_due(first, now):
        facts.append(_outbound(workload, "", since, now))
    fresh = [
        _outbound(workload, name, min(sight.first_seen, now), now)
        for name, sight in sorted(by_name.items())
        if name not in before
    ]
    if len(before) + len(fresh) > HOSTS_MAX:
        return [_outbound(workload, OPEN, now, now)]
    return facts + [_tell(fact, now) if is_settled else fact for fact in fresh]


def _outbound(workload: str, host: str, since: float, now: float) -> Fact:
    return Fact(
        kind=FactKind.OUTBOUND,
        subject=workload,
        detail=host,
        scope=workload,
        label=host,
        first_seen=since,
        seen_at=now,
    )


def _is_renamed(fact: Fact, old: Sequence[Fact]) -> bool:
    """Whether a hash may be one that is known, by the installation's key of before."""
    if not fact.detail.startswith(_HASHED):
        return False
    keys = {one.key_id for one in old if one.detail.startswith(_HASHED)}
    return bool(keys) and fact.key_id not in keys


def _make(
    kind: FactKind, sight: Sight, now: float, *, detail: str = "", first_seen: float | None = None, key_id: int = 0
) -> Fact:
    return Fact(
        kind=kind,
        subject=sight.id,
        detail=detail,
        scope=sight.scope,
        label=sight.label,
        first_seen=now if first_seen is None else first_seen,
        seen_at=now,
        key_id=key_id,
    )


def _tell(fact: Fact, now: float) -> Fact:
    return replace(fact, told_at=now)


def _is_due(fact: Fact, now: float) -> bool:
    return now - fact.seen_at >= REFRESH_SECONDS
