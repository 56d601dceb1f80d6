"""Findings: the list by rule, the findings of one rule with check boxes, and decisions on one or many.

A decision that was made shows above the list with the way back. Every form works without JavaScript.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from collector.api.parameters import NOTE_CHARACTERS_MAX, name_actor
from collector.api.problem import Problem, show
from collector.core.errors import ConflictError
from collector.risk.assessment import BULK_MAX, BulkDecision, RiskAssessor
from collector.risk.finding import FindingState
from collector.risk.finding_query import (
    FindingFilters,
    FindingGroupQuery,
    FindingGroupSort,
    FindingQuery,
    FindingSort,
)
from collector.risk.rules import load_rules
from collector.ui.components.rendering import own_path, read_fields, read_form
from collector.ui.components.tables import Column, build_list_values, link_to, read_list
from collector.ui.components.tools import build_tools
from collector.ui.site import Page, Site

PATH: Final = "/findings"
ROWS: Final = 100  # Of one page of a rule.
ALL_STATES: Final = "all"
FIELDS_MAX: Final = ROWS + 30
DAY: Final = 86_400
ENDS: Final = ((0, "until the evidence grows"), (30, "for 30 days"), (90, "for 90 days"), (365, "for a year"))
GROUP_COLUMNS: Final = (
    Column(FindingGroupSort.SEVERITY, "Finding", "Sort by the worst severity", "wide"),
    Column(FindingGroupSort.FINDINGS, "Findings", "Sort by findings"),
)
FINDING_COLUMNS: Final = (
    Column(FindingSort.SEVERITY, "Finding", "Sort by severity", "wide"),
    Column(FindingSort.FIRST_SEEN, "First seen", "Sort by first seen", "number optional"),
    Column(FindingSort.LAST_SEEN, "Last seen", "Sort by last seen", "number optional"),
    Column(FindingSort.CHANGED, "Decided", "Sort by the last change of state", "text"),
)


def add_routes(router: APIRouter, site: Site) -> None:
    """Its routes."""
    risks, clock = site.services.risks, site.services.clock
    assert risks is not None, "the page is not available"

    @router.get(PATH)
    def show_groups(request: Request) -> Response:
        asked, read = _read_asked(request.query_params)
        query, page, complaint = read_list(FindingGroupQuery, read, risks.table.list_groups)
        kept = {name: value for name, value in asked.items() if name not in ("sort", "order", "cursor", "rule")}
        # Rules are sorted otherwise than findings, of which views and files are.
        kept_here = {} if complaint else {name: str(read[name]) for name in read if name not in ("sort", "order")}
        values = {
            **build_list_values(query, page, GROUP_COLUMNS, PATH, asked),
            "tabs": _list_tabs(PATH, asked, query.state),
            "rows": [(group, link_to(f"{PATH}/{quote(group.rule, safe='')}", kept)) for group in page.items],
            "tools": build_tools(site.services.views, "findings", kept_here, 0),
            "total_findings": sum(group.findings for group in page.items),
            "complaint": complaint,
        }
        return site.render(request, "findings/groups.html", values, status=422 if complaint else 200)

    def show_rule(request: Request, rule: str, complaint: str = "", status: int = 422) -> Response:
        """`complaint`: what was wrong with a decision."""
        known = next((one for one, _ in load_rules() if one.id == rule), None)
        if known is None:
            raise Problem(404, f"There is no rule {show(rule)}; go back to the findings.")
        path = f"{PATH}/{quote(rule, safe='')}"
        asked, read = _read_asked(request.query_params)
        decided = asked.pop("decided", "")
        read.pop("decided", None)
        query, page, refusal = read_list(FindingQuery, {"limit": ROWS, **read, "rule": rule}, risks.table.list_findings)
        complaint = complaint or refusal
        values = {
            **build_list_values(query, page, FINDING_COLUMNS, path, asked),
            "rule": known,
            "tabs": _list_tabs(path, asked, query.state),
            "here": link_to(path, asked, cursor=query.cursor),
            "states": _list_choices(query.state),
            "ends": ENDS,
            "most": BULK_MAX,
            "chosen": {name: value for name, value in read.items() if name in FindingFilters.list_filters()},
            "decided": _read_decided(risks, decided),
            "complaint": complaint,
        }
        return site.render(request, "findings/rule.html", values, status=status if complaint else 200)

    @router.get(PATH + "/{rule}")
    def show_findings(request: Request, rule: str) -> Response:
        return show_rule(request, rule)

    @router.post(PATH + "/{rule}")
    async def decide_all(request: Request, rule: str) -> Response:
        fields = await read_fields(request, FIELDS_MAX)
        form = {name: values[-1] for name, values in fields.items()}
        try:
            wish = _read_wish(rule, form, fields.get("id", []), clock())
            done = await run_in_threadpool(risks.decide_all, wish, by=name_actor())
        except ValueError as error:
            return await run_in_threadpool(show_rule, request, rule, str(error))
        except ConflictError as error:
            return await run_in_threadpool(show_rule, request, rule, str(error), 409)
        asked = {**request.query_params, "decided": done.id if done.decided else ""}
        return RedirectResponse(link_to(f"{PATH}/{quote(rule, safe='')}", asked), status_code=303)

    @router.post(PATH + "/decisions/{decision_id}/undo")
    async def undo(request: Request, decision_id: str) -> Response:
        form = await read_form(request)
        if await run_in_threadpool(risks.undo, decision_id, by=name_actor()) is None:
            raise Problem(404, f"There is no decision {show(decision_id)}; go back and reload.")
        return RedirectResponse(own_path(form.get("next", PATH)), status_code=303)

    @router.post(PATH + "/{finding_id}/{state}")
    async def decide(request: Request, finding_id: str, state: str) -> Response:
        if state not in {one.value for one in FindingState}:
            raise Problem(404, f"There is no state {state!r}; use one of {', '.join(FindingState)}.")
        form = await read_form(request)
        note = form.get("note", "")[:NOTE_CHARACTERS_MAX] or "On the page, without a note."
        done = await run_in_threadpool(risks.decide, finding_id, FindingState(state), by=name_actor(), note=note)
        if done is None:
            raise Problem(404, f"There is no finding {finding_id!r}; go back and reload.")
        return RedirectResponse(own_path(form.get("next", "/")), status_code=303)


def _read_asked(given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """The page's own query, and the same as the list takes it: open findings unless another state is asked for."""
    asked = {name: value for name, value in given.items() if value}
    read: dict[str, Any] = {"state": FindingState.OPEN.value, **asked}
    if read["state"] == ALL_STATES:
        del read["state"]
    return asked, read


def _list_tabs(path: str, asked: Mapping[str, str], current: FindingState | None) -> list[tuple[str, str, bool]]:
    """Title, link and whether it is the current one, by state."""
    tabs = [(_word(state), link_to(path, asked, state=state.value), state is current) for state in FindingState]
    return [*tabs, ("All", link_to(path, asked, state=ALL_STATES), current is None)]


def _list_choices(current: FindingState | None) -> list[tuple[str, str]]:
    """What may be decided of what is shown."""
    meant = {
        FindingState.ACCEPTED: "Accept: it is so, and it is meant so",
        FindingState.FALSE_POSITIVE: "False positive: it is not so",
        FindingState.FIXED: "Fixed: calls from now on do not show it",
        FindingState.OPEN: "Open again",
    }
    return [(state.value, words) for state, words in meant.items() if state is not current]


def _word(state: FindingState) -> str:
    return state.value.replace("_", " ").capitalize()


def _read_wish(rule: str, form: Mapping[str, str], ids: list[str], now: float) -> BulkDecision:
    """The decision that a form asks for. Raises ValueError with one sentence."""
    state, note, days = form.get("decision", ""), form.get("note", "").strip(), form.get("days", "0")
    if state not in set(FindingState):
        raise ValueError("Choose what the findings are.")
    if not note:
        raise ValueError("Say why, for the others.")
    if days not in {str(one) for one, _ in ENDS}:
        raise ValueError("Choose how long it holds.")
    has_end = state in (FindingState.ACCEPTED, FindingState.FALSE_POSITIVE) and days != "0"
    until = now + int(days) * DAY if has_end else 0.0
    wish = BulkDecision(state=FindingState(state), note=note[:NOTE_CHARACTERS_MAX], until=until)
    if form.get("scope") == ALL_STATES:
        names = FindingFilters.list_filters()
        chosen = {name.removeprefix("filter-"): value for name, value in form.items() if name.startswith("filter-")}
        filters = {name: value for name, value in chosen.items() if name in names and value}
        expected = form.get("expected", "")
        try:
            asked = FindingFilters.model_validate({**filters, "rule": rule})
        except ValidationError:
            raise ValueError("The filters are not those of the page; reload it.") from None
        return replace(wish, filters=asked, expected=int(expected) if expected.isdecimal() else None)
    if not ids:
        raise ValueError("Choose at least one finding, or all of them.")
    return replace(wish, ids=tuple(dict.fromkeys(ids)))


def _read_decided(risks: RiskAssessor, decision_id: str) -> tuple[str, int, str] | None:
    """Id of the decision that was just made, how many findings it is about, and the state."""
    found = risks.table.list_decided(decision_id) if decision_id else {}
    changes = [change for change, _ in found.values()]
    return (decision_id, len(changes), _word(changes[0].state).lower()) if changes else None


PAGE = Page(
    add_routes=add_routes,
    path=PATH,
    title="Findings",
    group="Security",
    key="f",
    is_available=lambda services: services.risks is not None,
)
