"""What API descriptions say against what happens: endpoints that are not described, or no longer, or less protected."""

from typing import Final

from collector.inventory.endpoint import FULL_COVERAGE
from collector.inventory.spec_status import SpecStatus
from collector.risk.circumstances import Circumstances
from collector.risk.rule import Evidence, Rule, Severity


def _find_status(seen: Circumstances, status: SpecStatus, otherwise: str) -> Evidence | None:
    endpoint = seen.endpoint
    if endpoint.spec.status is not status or not endpoint.status.success:
        return None
    return Evidence(
        why=f"{endpoint.spec.reason or otherwise} {endpoint.status.success:,} calls were served.",
        signs=(endpoint.spec.spec or status,),
        severity=Severity.MEDIUM if seen.is_external else None,
    )


def _find_shadow(seen: Circumstances) -> Evidence | None:
    return _find_status(seen, SpecStatus.SHADOW, "No description of its service has it.")


def _find_zombie(seen: Circumstances) -> Evidence | None:
    return _find_status(seen, SpecStatus.ZOMBIE, "It is deprecated.")


def _find_weaker(seen: Circumstances) -> Evidence | None:
    spec, authentication = seen.endpoint.spec, seen.endpoint.authentication
    if spec.requires_authentication is not True or authentication.coverage is None:
        return None
    if authentication.coverage >= FULL_COVERAGE:
        return None
    return Evidence(
        why=f"{spec.spec} asks for credentials; {1 - authentication.coverage:.0%} of the 2xx calls carried none.",
        signs=(spec.spec,),
    )


DESCRIPTION_RULES: Final = (
    Rule(
        id="shadow_endpoint",
        title="Not described",
        severity=Severity.LOW,
        owasp="API9:2023",
        advice="Describe it, or take it away.",
        find=_find_shadow,
    ),
    Rule(
        id="zombie_endpoint",
        title="Deprecated and still called",
        severity=Severity.LOW,
        owasp="API9:2023",
        advice="Move its callers on, then take it away.",
        find=_find_zombie,
    ),
    Rule(
        id="authentication_weaker_than_described",
        title="Less protected than described",
        severity=Severity.HIGH,
        owasp="API2:2023",
        advice="Refuse calls without credentials, as the description says.",
        find=_find_weaker,
    ),
)
