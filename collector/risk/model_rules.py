"""The rules that find risks of calls to models: endpoints of model APIs, ours and those of providers. Pure.

What prompts hold is counted by caller and model, so a workload that asks rarely is not hidden by one that asks often.
"""

from typing import Final

from collector.inventory.endpoints.bodies import PERSONAL, BodySide, DataClass
from collector.inventory.endpoints.endpoint import SeenAt
from collector.inventory.endpoints.outbound import ROLE_CLIENT
from collector.inventory.models.sums import Destination, ModelData, ModelSum, find_destination
from collector.risk.finding import SHARE_MIN, Circumstances, Evidence, Severity, list_words, names_person

# Served calls before a missing credential is a habit and not a chance.
_HABIT_CALLS_MIN: Final = 3
# Samples in which a kind was found: a number may have the form of a card's by chance.
_SAMPLES_MIN: Final = 3
# What can be used against a person or an account at once.
_GRAVE: Final = frozenset((DataClass.SECRET, DataClass.HEALTH, DataClass.FINANCIAL))


def find_data_to_provider(seen: Circumstances) -> Evidence | None:
    """Prompts with secrets, or with data that together names a person, to a provider outside."""
    found = [(use, kinds) for use in seen.model_uses if _is_outside(seen, use) and (kinds := _find_sent(use))]
    if not found:
        return None
    kinds = {kind: data_class for _, several in found for kind, data_class in several.items()}
    callers = len({use.caller for use, _ in found})
    samples = sum(use.samples for use, _ in found)
    calls = sum(use.calls for use, _ in found)
    who = "1 caller" if callers == 1 else f"{callers:,} callers"
    return Evidence(
        why=f"Prompts of {who} to {seen.endpoint.host or 'a provider'} contain {list_words(kinds)}; "
        f"{samples:,} of some {calls:,} calls were read.",
        signs=tuple(kinds),
        severity=Severity.HIGH if _GRAVE & set(kinds.values()) else None,
    )


def _is_watched(seen: Circumstances) -> bool:
    return seen.endpoint.seen_at is not SeenAt.CLIENT


def _is_outside(seen: Circumstances, use: ModelSum) -> bool:
    """Whoever calls a server of ours may name any host, so only the client's side says that it called a provider."""
    destination = find_destination(seen.endpoint.exposure.level, use.host, is_watched=_is_watched(seen))
    return use.role == ROLE_CLIENT and destination is Destination.OUTSIDE


def _find_sent(use: ModelSum) -> dict[str, DataClass]:
    """Kinds in prompts that count: secrets, and personal data where together it names somebody. Of few samples a chance
    hit is a large share: there only secrets with a form of their own count."""
    often = {
        one.kind: one.data_class
        for one in use.data
        if one.side is BodySide.REQUEST
        and one.calls >= SHARE_MIN * use.requests_read
        and (_is_certain(one) or one.calls * use.samples >= _SAMPLES_MIN * use.calls)
    }
    secrets = {kind: data_class for kind, data_class in often.items() if data_class is DataClass.SECRET}
    personal = {kind: data_class for kind, data_class in often.items() if data_class in PERSONAL}
    return secrets | (personal if names_person(frozenset(personal)) else {})


def _is_certain(found: ModelData) -> bool:
    """A password is known by the name of its field, the other secrets by their form."""
    return found.data_class is DataClass.SECRET and found.kind != "password"


def find_key_in_url(seen: Circumstances) -> Evidence | None:
    """Keys that go to a provider in the URL; at a server of ours `credentials_in_url` finds them."""
    calls = sum(use.url_keys for use in seen.model_uses if _is_outside(seen, use))
    if not calls:
        return None
    return Evidence(
        why=f"{calls:,} calls carried the provider's key in the URL; logs of proxies and traces keep it.",
        signs=("key in url",),
    )


def find_open_model(seen: Circumstances) -> Evidence | None:
    """A server of ours that answers calls to models without credentials."""
    endpoint = seen.endpoint
    served = endpoint.status.success
    if not (seen.model_uses and _is_watched(seen) and seen.is_open) or served < _HABIT_CALLS_MIN:
        return None
    where = "is reached from outside" if seen.is_external else "is reached from inside, as far as is known"
    return Evidence(
        why=f"A model API answered {served:,} calls without credentials, and {where}.",
        signs=("external",) if seen.is_external else ("inside",),
        severity=Severity.HIGH if seen.is_external else None,
    )
