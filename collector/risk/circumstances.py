"""What score and rules read: one endpoint as measured, its past, and its last minutes. Pure."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from collector.inventory.coverage.coverage import WeakChoice
from collector.inventory.endpoints.bodies import PERSONAL, BodySide, DataClass, DataFound
from collector.inventory.endpoints.endpoint import FULL_COVERAGE, Endpoint
from collector.inventory.endpoints.exposure import ExposureLevel

# Seen in fewer of the bodies than this, a kind is a chance hit of the classifier.
SHARE_MIN: Final = 0.05
# A name, a phone or a date alone names nobody; two of them together do.
_WEAK: Final = frozenset(
    ("person_name", "phone", "address", "email", "date_of_birth", "gender", "nationality", "location", "bic")
)
_NAMING: Final = frozenset(("person_name", "date_of_birth"))
_LIST_RECORDS_MIN: Final = 5  # E-mail addresses of so many records are a list of people.
# Where people show who they are: what they send there is not what the endpoint is protected by.
_ENTRANCES_WORDS: Final = (
    "login signin sign-in sign_in logon authenticate auth token tokens oauth oauth2 register "
    "registration signup sign-up sign_up session sessions password password-reset reset-password "
    "forgot-password refresh callback otp mfa verify"
)
_ENTRANCES: Final = frozenset(_ENTRANCES_WORDS.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What was known of an endpoint when it was judged last. Times are unix seconds; 0: never."""

    exposure: str = ""
    exposure_before: str = ""
    exposure_since: float = 0.0
    authenticated_at: float = 0.0  # When nearly all of its calls carried credentials last.
    score: int = -1
    computed_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """The last minutes: served calls whose credentials could be seen, and those with some."""

    judged: int = 0
    authenticated: int = 0


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """One endpoint; `now` in unix seconds, `seconds` that its figures cover. `weak_tls`: of its service."""

    endpoint: Endpoint
    past: Past
    recent: Recent
    now: float
    seconds: int
    weak_tls: tuple[WeakChoice, ...] = ()

    @cached_property
    def data(self) -> tuple[DataFound, ...]:
        """Kinds found often enough to count."""
        bodies = self.endpoint.bodies
        return tuple(one for one in bodies.data if one.share >= SHARE_MIN) if bodies is not None else ()

    def kinds(self, *sides: BodySide) -> frozenset[str]:
        """Kinds found in these places."""
        return frozenset(one.kind for one in self.data if one.side in sides)

    def classes(self, *sides: BodySide) -> frozenset[DataClass]:
        """Classes found in these places."""
        return frozenset(one.data_class for one in self.data if one.side in sides)

    @cached_property
    def personal_kinds(self) -> frozenset[str]:
        """Kinds in responses that tell of a person, where together they name one; else none."""
        found = {one for one in self.data if one.side is BodySide.RESPONSE and one.data_class in PERSONAL}
        kinds = frozenset(one.kind for one in found)
        strong = kinds - _WEAK
        is_list = "email" in kinds and self.records_per_call >= _LIST_RECORDS_MIN
        is_named = bool(kinds & _NAMING) and len(kinds) >= 2
        return kinds if strong or is_named or is_list else frozenset()

    @property
    def records_per_call(self) -> float:
        """Mean of the served calls."""
        bodies, served = self.endpoint.bodies, self.endpoint.status.success
        return bodies.records_returned / served if bodies is not None and served else 0.0

    @property
    def records_per_day(self) -> float:
        """At the pace of the span; at least one for each served call."""
        bodies, served = self.endpoint.bodies, self.endpoint.status.success
        records = max(bodies.records_returned if bodies is not None else 0, served)
        return records * 86_400 / max(self.seconds, 1)

    @property
    def is_open(self) -> bool:
        """Answered 2xx without any credential. A login is how credentials come to be, and no gap."""
        authentication = self.endpoint.authentication
        return (
            authentication.coverage is not None and authentication.coverage < 1 - FULL_COVERAGE and not self.is_entrance
        )

    @cached_property
    def is_entrance(self) -> bool:
        """Where people log in or register: they send a secret in the body instead."""
        last = [part for part in self.endpoint.template.lower().split("/") if part and not part.startswith("{")][-2:]
        if self.endpoint.operation is not None:
            last = [self.endpoint.operation.name.lower()]
        is_named = not _ENTRANCES.isdisjoint(last)
        return self.endpoint.method == "POST" and (is_named or "password" in self.kinds(BodySide.REQUEST))

    @property
    def is_external(self) -> bool:
        """Reached from outside."""
        return self.endpoint.exposure.level is ExposureLevel.EXTERNAL

    @property
    def is_ours(self) -> bool:
        """Served by us: what third parties serve is theirs to mend."""
        return self.endpoint.exposure.level is not ExposureLevel.THIRD_PARTY
