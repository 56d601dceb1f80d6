"""Compares the inventory of one application with what was called and with its own routes."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from scripts.bench_cases.applying.application import Application
from scripts.bench_cases.applying.observed import ObservedCall

RISK_ALERTS = frozenset(("risk_score", "unauthenticated_sensitive_data"))
_PARAMETER = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Of one application. Shares are 0 to 1; None where there is nothing to divide by."""

    calls_made: int
    calls_reported: int
    precision: float | None  # Of endpoints with an answer of 1xx to 3xx: those that are a route of the application.
    recall: float | None  # Of routes that were answered so: those that are exactly one endpoint.
    authentication: float | None  # Of calls: those whose endpoint has the right kind of authentication.
    findings_true: int
    findings_false: tuple[str, ...]
    wrong_endpoints: tuple[str, ...]
    missed_routes: tuple[str, ...]
    alerts: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """Whether no call is missing or invented."""
        return self.calls_made == self.calls_reported


def score(
    application: Application,
    calls: Sequence[ObservedCall],
    endpoints: Sequence[Mapping[str, Any]],
    findings: Iterable[Mapping[str, Any]],
    alerts: Iterable[Mapping[str, Any]],
) -> Score:
    """Endpoints, findings and alerts are those of the API, of this application's port."""
    endpoints = [one for one in endpoints if not one.get("operation")]  # Their calls are those of their parents.
    table = [(route, _compile(route)) for route in application.routes]
    served = Counter(
        route for call in calls if 100 < call.status < 400 and (route := find_route(table, call.method, call.path))
    )
    successes = {_shape(one): one for one in endpoints if _count_successes(one)}
    paths: dict[str | None, list[str]] = {}
    for call in (call for call in calls if 100 < call.status < 400):
        paths.setdefault(find_route(table, call.method, call.path), []).append(f"{call.method} {call.path}")
    shapes = {shape: route for route, pattern in table for shape in _list_shapes(route, pattern, paths.get(route, ()))}
    shapes |= {_normalise(route): route for route in application.routes}
    right = [shape for shape in successes if shape in shapes]
    found = {shapes[shape] for shape in right} & set(served)
    answered = {shape: one for shape, one in successes.items() if one["status"]["2xx"]}
    kinds = [_is_authentication_right(application, shapes.get(shape), one) for shape, one in answered.items()]
    weights = [int(one["calls"]) for one in answered.values()]
    ids = {str(one["id"]): shapes.get(shape, shape) for shape, one in successes.items()}
    named = [
        (str(one["rule"]), ids.get(str(one["endpoint_id"]), "another endpoint"), str(one["endpoint_id"]))
        for one in findings
    ]
    false = [one for one in named if not {one[:2], (one[0], "*")} & application.findings]
    is_wrong_at = {endpoint for _, _, endpoint in false}
    return Score(
        calls_made=len(calls),
        calls_reported=sum(int(one["calls"]) for one in endpoints),
        precision=_divide(len(right), len(successes)),
        recall=_divide(len(found), len(served)),
        authentication=_divide(sum(w for w, good in zip(weights, kinds, strict=True) if good), sum(weights)),
        findings_true=len(named) - len(false),
        findings_false=tuple(sorted(f"{rule} {route}" for rule, route, _ in false)),
        wrong_endpoints=tuple(sorted(shape for shape in successes if shape not in shapes)),
        missed_routes=tuple(sorted(set(served) - found)),
        alerts=tuple(
            f"{one['kind']}: {one['title']}"
            for one in alerts
            # An alert on a risk accuses no client, and is as right as the findings behind it.
            if one["kind"] not in RISK_ALERTS or one["endpoint_id"] in is_wrong_at
        ),
    )  # fmt: skip


def find_route(table: Sequence[tuple[str, "re.Pattern[str]"]], method: str, path: str) -> str | None:
    """The first route that takes a call; HEAD is its own method."""
    line = f"{method} {path}"
    return next((route for route, pattern in table if pattern.fullmatch(line)), None)


def _list_shapes(route: str, pattern: "re.Pattern[str]", paths: Iterable[str]) -> set[str]:
    """How an endpoint of the route may be written. A parameter that had one value may be that value, for nobody can see
    that it is a parameter."""
    matches = [match.groups() for path in paths if (match := pattern.fullmatch(path))]
    parts = _PARAMETER.split(route)
    values = [set(column) for column in zip(*matches, strict=True)] or [set()] * (len(parts) - 1)
    choices = product(*(("{}", *own) if len(own) == 1 else ("{}",) for own in values))
    return {"".join(part + text for part, text in zip(parts, (*texts, ""), strict=True)) for texts in choices}


def _compile(route: str) -> "re.Pattern[str]":
    parts, end = [], 0
    for match in _PARAMETER.finditer(route):
        parts.append(re.escape(route[end : match.start()]))
        parts.append("(.+)" if match[0].endswith(":path}") else "([^/]+)")
        end = match.end()
    return re.compile("".join(parts) + re.escape(route[end:]))


def _normalise(route: str) -> str:
    return _PARAMETER.sub("{}", route)


def _shape(endpoint: Mapping[str, Any]) -> str:
    return _normalise(f"{endpoint['method']} {endpoint['template']}")


def _count_successes(endpoint: Mapping[str, Any]) -> int:
    status = endpoint.get("status") or {}
    return sum(int(status.get(name) or 0) for name in ("1xx", "2xx", "3xx"))


def _is_authentication_right(application: Application, route: str | None, endpoint: Mapping[str, Any]) -> bool:
    """An endpoint that is no route is compared with what the application asks of all others. A possible credential
    beside the right kind says nothing of it: it counts as none."""
    wanted = application.authentication.get(route or "", application.authentication.get("*", "none"))
    kinds = {str(kind) for kind, count in (endpoint["authentication"].get("kinds") or {}).items() if count}
    accepted = set(wanted.split("|"))
    return bool(kinds & accepted) and kinds <= accepted | {"none", "possible_credential"}


def _divide(count: int, total: int) -> float | None:
    return round(count / total, 3) if total else None
