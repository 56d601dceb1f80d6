"""Commands on risk, detection and evidence, by requests to a collector."""

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from collector.cli.client import (
    Api,
    AskedByOption,
    LimitOption,
    add_group,
    command,
    describe_columns,
    fail,
    say,
)
from collector.cli.lists import LISTS, VIEWED
from collector.core.moments import MOMENT_FORMS, read_moment

TERM_COLUMNS = describe_columns("term=name weight evidence lower/2 then=score_if_lowered owasp/3")
FINDING_COLUMNS = describe_columns(
    "id severity state title service/1 method/2 host/5 template=url_template why/3 owasp/4 first_seen/6 "
    "by=changed_by/7 note/7"
)


DECIDED_COLUMNS = describe_columns("id state")


class FindingState(StrEnum):
    """What people decide of a finding."""

    OPEN = "open"
    ACCEPTED = "accepted"
    FALSE_POSITIVE = "false_positive"
    FIXED = "fixed"


class Severity(StrEnum):
    """Of findings and alerts, the worst first."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Level(StrEnum):
    """How much detection reports."""

    QUIET = "quiet"
    NORMAL = "normal"
    PARANOID = "paranoid"


class Resolution(StrEnum):
    """How long a row of calls is."""

    MINUTE = "minute"
    HOUR = "hour"


class Verdict(StrEnum):
    """What an alert was."""

    CONFIRMED = "confirmed"
    FALSE_ALARM = "false_alarm"
    NONE = "none"


EndpointArgument = Annotated[str, typer.Argument(help="Id of an endpoint, as `apidae get endpoints` lists it.")]
AlertArgument = Annotated[str, typer.Argument(help="Id of an alert, as `apidae get alerts` lists it.")]


PREVIEW_COLUMNS = describe_columns("level alerts_a_day high_a_day suppressed_a_day/1 budget_a_day/2")
RULE_COLUMNS = describe_columns(
    "id in_force=is_in_force consumer/1 network/1 workload/1 endpoint=endpoint_id/2 kind/1 note expires_at "
    "reports created_by/3"
)
_HOUR, _DAY = 3_600, 86_400


def register_reading(get: typer.Typer) -> None:
    """Add what is read: risk, evidence, the level of detection and its exceptions."""

    @command(get, "risk")
    def risk(api: Api, endpoint: EndpointArgument) -> None:
        """Explain the risk of one endpoint: every term, what was seen, what would lower it."""
        found = api.fetch(f"endpoints/{quote(endpoint, safe='')}/risk")
        if api.print_document(found):
            return
        say(f"Risk {found['score']} of 100 ({found['level']}, formula {found['formula']}).", err=True)
        api.print_items(found["terms"], TERM_COLUMNS)
        if found["findings"] and api.output.is_table:
            api.print_items(found["findings"], FINDING_COLUMNS)

    @command(get, "evidence")
    def evidence(api: Api, alert: AlertArgument, limit: LimitOption = 500) -> None:
        """List the calls behind an alert by minute or hour, with what was observed, expected and allowed."""
        found = api.fetch(f"alerts/{quote(alert, safe='')}/evidence", {"limit": str(limit)})
        for sentence in _describe(found):
            say(sentence, err=True)
        api.print_items(found["items"], EVIDENCE_COLUMNS)

    @command(get, "calls")
    def calls(
        api: Api,
        endpoint: Annotated[str, typer.Option(help="Id of an endpoint.")] = "",
        consumer: Annotated[str, typer.Option(help="kind:value, as `apidae get consumers` lists it.")] = "",
        address: Annotated[str, typer.Option(help="Where calls came from, whoever the consumer is.")] = "",
        whole_service: Annotated[bool, typer.Option("--whole-service", help="All of the endpoint's service.")] = False,
        software: Annotated[str, typer.Option(help="Client software, as evidence names it; by minute only.")] = "",
        start: Annotated[str, typer.Option(help=f"From this time on: {MOMENT_FORMS}.")] = "1h",
        end: Annotated[str, typer.Option(help="Until this time, as in --start.")] = "now",
        resolution: Annotated[Resolution, typer.Option(help="How long a row is.")] = Resolution.MINUTE,
        limit: LimitOption = 500,
    ) -> None:
        """List calls by minute or hour of one endpoint, one consumer or one address, or of all that are given."""
        asked = {"endpoint": endpoint, "consumer": consumer, "address": address, "software": software}
        asked |= {"whole_service": "true"} if whole_service else {}
        times = {"start": _write_time(start, "--start"), "end": _write_time(end, "--end")}
        found = api.fetch("calls", {**asked, **times, "resolution": resolution.value, "limit": str(limit)})
        api.print_items(found["items"], EVIDENCE_COLUMNS, "start")

    @command(get, "sensitivity")
    def sensitivity(api: Api) -> None:
        """Show the level of detection and how many alerts a day each level would have given here."""
        _print_level(api, api.fetch("detection/sensitivity"))

    @command(get, "known-good")
    def known_good(api: Api) -> None:
        """List the known-good rules, which suppress alerts."""
        api.print_items(api.fetch("detection/known-good")["items"], RULE_COLUMNS)


def _print_level(api: Api, found: Mapping[str, Any]) -> None:
    api.print_items(found["previews"], PREVIEW_COLUMNS)
    days = found["history_seconds"] / _DAY
    whence = f"chosen by {found['changed_by']}" if found["changed_at"] else "by the settings"
    say(f"The level is {found['level']}, {whence}. Previews are of the last {days:.1f} days.", err=True)


def register_views(decide: typer.Typer) -> None:
    """Add what changes views."""

    @command(decide, "view")
    def view(
        api: Api,
        name: Annotated[str, typer.Argument(help="Name of the view.")],
        query: Annotated[str, typer.Argument(help="Filters and sort as in a URL: `auth=none&sort=risk`.")] = "",
        of_list: Annotated[
            str, typer.Option("--list", help="Of which list.", autocompletion=lambda: VIEWED)
        ] = "endpoints",
        is_deleted: Annotated[bool, typer.Option("--delete", help="Delete the view for everybody.")] = False,
        asked_by: AskedByOption = "",
    ) -> None:
        """Save filters of a list under a name, for everybody, or delete them."""
        if not is_deleted:
            body = {"list": of_list, "name": name, "query": query, "asked_by": asked_by}
            api.print_items([api.act("views", body)], LISTS["views"].columns)
            return
        found = api.fetch("views", {"list": of_list, "limit": "500"})["items"]
        ids = [one["id"] for one in found if one["name"] == name]
        if not ids:
            raise fail(f"There is no view {name!r} of {of_list}; `apidae get views --list {of_list}` lists them.")
        api.print_items([api.remove(f"views/{quote(ids[0], safe='')}")], LISTS["views"].columns)


def register_decisions(app: typer.Typer, decide: typer.Typer) -> None:
    """Add what people decide of findings and alerts."""

    @command(decide, "finding")
    def finding(
        api: Api,
        words: Annotated[
            list[str],
            typer.Argument(
                metavar="[ID]... STATE",
                help="Ids of findings, as `apidae get findings` lists them, and what they are: "
                f"{', '.join(FindingState)}.",
                autocompletion=lambda: list(FindingState),
            ),
        ],
        note: Annotated[str, typer.Option(help="Why.")] = "",
        days: Annotated[int, typer.Option(min=0, max=400, help="How long it holds; 0: no end.")] = 0,
        rule: Annotated[str, typer.Option(help="Instead of ids: all open findings of a rule; with open, all.")] = "",
        service: Annotated[str, typer.Option(help="With --rule or alone: all open findings of this service.")] = "",
        namespace: Annotated[str, typer.Option(help="The same of a namespace of Kubernetes.")] = "",
        asked_by: AskedByOption = "",
    ) -> None:
        """Decide on findings, by id or by filter: accepted, a false positive, fixed, or open again."""
        filters = {"rule": rule, "service": service, "namespace": namespace}
        chosen = {name: value for name, value in filters.items() if value}
        *ids, last = words
        if last not in set(FindingState):
            raise fail(f"The last word is {last!r}; use one of {', '.join(FindingState)}.")
        state = FindingState(last)
        body: dict[str, Any] = {"state": state.value, "asked_by": asked_by, "note": note}
        body |= {"seconds": days * _DAY} if days else {}
        if chosen and state is not FindingState.OPEN:
            chosen["state"] = FindingState.OPEN.value
        body |= {"filters": chosen} if chosen else {}
        body |= {"ids": ids} if ids else {}
        done = api.act("findings/decisions", body)
        api.print_items([{"id": one, "state": state.value} for one in done["decided"]], DECIDED_COLUMNS)
        say(
            f"{len(done['decided']):,} decided, {done['unchanged']:,} unchanged. "
            f"Undo: apidae set undo-decision {done['id']}",
            err=True,
        )

    @command(decide, "undo-decision", prints=False)
    def undo_decision(
        api: Api,
        decision: Annotated[str, typer.Argument(help="Id of the decision, as `apidae set finding` says.")],
        asked_by: AskedByOption = "",
    ) -> None:
        """Undo a decision on findings: each gets the state from before it."""
        done = api.act(f"findings/decisions/{quote(decision, safe='')}/undo", {"asked_by": asked_by})
        say(f"{len(done['decided']):,} undone, {done['unchanged']:,} decided on since and left as they are.")

    @command(decide, "sensitivity")
    def sensitivity(
        api: Api,
        level: Annotated[Level, typer.Argument(help="How much detection reports.")],
        asked_by: AskedByOption = "",
    ) -> None:
        """Choose the level of detection."""
        _print_level(api, api.act("detection/sensitivity", {"level": level.value, "asked_by": asked_by}))

    register_known_good(app)
    register_views(decide)

    @command(app, "acknowledge", prints=False)
    def acknowledge(api: Api, alert: AlertArgument, asked_by: AskedByOption = "") -> None:
        """Record that somebody works on an alert. It stays open."""
        found = api.act(f"alerts/{quote(alert, safe='')}/acknowledge", {"asked_by": asked_by})
        say(f"{found['id']}: {found['state']}, acknowledged")

    @command(app, "silence", prints=False)
    def silence(
        api: Api,
        alert: AlertArgument,
        hours: Annotated[
            float, typer.Option(min=0, max=2_160, help="For how many hours; 0: it is expected, until undone.")
        ] = 0.0,
        reason: Annotated[str, typer.Option(help="Why, for the others.")] = "",
        is_confirmed: Annotated[
            bool, typer.Option("--confirm", help="Do not ask first, where the alert is of high severity.")
        ] = False,
        asked_by: AskedByOption = "",
    ) -> None:
        """Silence an alert: its subject raises no more alerts, for some hours or until `unsilence`. At a terminal, an
        alert of high severity asks first."""
        if not is_confirmed and has_terminal():
            _ask_first(api.fetch(f"alerts/{quote(alert, safe='')}"))
        body: dict[str, object] = {"asked_by": asked_by, "reason": reason}
        action = "mute" if hours else "expected"
        body |= {"seconds": round(hours * _HOUR)} if hours else {}
        found = api.act(f"alerts/{quote(alert, safe='')}/{action}", body)
        until = found["silence"]["until"] or f"`apidae unsilence {found['id']}`"
        say(f"{found['id']}: {found['silence']['kind']} until {until}")

    @command(app, "unsilence", prints=False)
    def unsilence(
        api: Api,
        alert: Annotated[str, typer.Argument(help="Id of an alert, as `apidae get alerts --state silenced` says.")],
        asked_by: AskedByOption = "",
    ) -> None:
        """Undo a silence: the alert's subject raises alerts again."""
        found = api.act(f"alerts/{quote(alert, safe='')}/unsilence", {"asked_by": asked_by})
        say(f"{found['id']}: {found['state']}")

    @command(app, "verdict", prints=False)
    def verdict(
        api: Api,
        alert: AlertArgument,
        what: Annotated[Verdict, typer.Argument(help="What it was; none takes it back.")],
        note: Annotated[str, typer.Option(help="Why, for the others.")] = "",
        asked_by: AskedByOption = "",
    ) -> None:
        """Record whether an alert was right; it changes later alerts."""
        body = {"verdict": "" if what is Verdict.NONE else what.value, "asked_by": asked_by, "note": note}
        found = api.act(f"alerts/{quote(alert, safe='')}/verdict", body)
        say(f"{found['id']}: {found['verdict'] or 'no verdict'}")


def has_terminal() -> bool:
    """Whether somebody can answer a question."""
    return sys.stdin.isatty()


def _ask_first(alert: Mapping[str, Any]) -> None:
    """Ends the command where the answer is no."""
    if alert["severity"] == Severity.HIGH:
        say(alert["title"], err=True)
        typer.confirm("Silence this alert of high severity?", abort=True, err=True)


def register_known_good(app: typer.Typer) -> None:
    """Add the group."""
    group = add_group(app, "known-good", "Rules of what is known to be good; they suppress alerts.")

    @command(group, "add")
    def add(
        api: Api,
        note: Annotated[str, typer.Argument(help="Why, for the others.")],
        consumer: Annotated[str, typer.Option(help="kind:value, as `apidae get consumers` lists it.")] = "",
        network: Annotated[str, typer.Option(help="Of consumers named by address, as 198.51.100.0/24.")] = "",
        workload: Annotated[str, typer.Option(help="Of consumers named by workload; * and ? stand for anything.")] = "",
        endpoint: Annotated[str, typer.Option(help="Id of an endpoint.")] = "",
        kind: Annotated[str, typer.Option(help="Kind of alert.")] = "",
        days: Annotated[int, typer.Option(min=1, max=400, help="Days until it expires.")] = 30,
        asked_by: AskedByOption = "",
    ) -> None:
        """Add a rule; name what it is about by at least one option."""
        named = {"consumer": consumer, "network": network, "workload": workload, "endpoint_id": endpoint}
        named |= {"kind": kind} if kind else {}
        body = {**named, "note": note, "asked_by": asked_by, "seconds": days * _DAY}
        api.print_items([api.act("detection/known-good", body)], RULE_COLUMNS)

    @command(group, "end")
    def end(
        api: Api,
        rule: Annotated[str, typer.Argument(help="Id of a rule, as `apidae get known-good` lists it.")],
        asked_by: AskedByOption = "",
    ) -> None:
        """End a rule before it expires."""
        api.print_items(
            [api.act(f"detection/known-good/{quote(rule, safe='')}/end", {"asked_by": asked_by})], RULE_COLUMNS
        )


def _write_time(text: str, option: str) -> str:
    """As the API reads it."""
    try:
        moment = read_moment(text, time.time())
    except ValueError as error:
        raise fail(f"{option} is {text!r}: {error}.") from None
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


EVIDENCE_COLUMNS = describe_columns(
    "start calls 4xx=client_errors/1 5xx=errors/1 not_read/3 objects~has_estimated_objects credentials/2 "
    "records=records_returned/2 request_bytes/3 response_bytes/3 numeric_calls/4 steps=monotonic_steps/4"
)


def _describe(found: Mapping[str, Any]) -> list[str]:
    """What stands above the rows."""
    from collector.core.rates import word_measure

    lines = []
    if found["observed"] is not None:
        named = [word for word in ("observed", "expected", "limit") if found[word] is not None]
        lines.append(", ".join(f"{word} {word_measure(found[word], found['unit'])}" for word in named))
    window = found["window"]
    if window is not None:
        lines.append(f"window of the alert, {window['start']} to {window['end']}: {window['calls']} calls")
    crowd = found["crowd"]
    if crowd is not None:
        lines.append(
            f"{crowd['consumers']} consumers in it, {crowd['new_consumers']} without a call in the hour before"
        )
        lines += [trait["sentence"] for trait in crowd["traits"]]
    lines += found["notes"]
    if found["request"] is not None:
        lines.append(f"the same by {found['request']['path']}?{urlencode(found['request']['parameters'])}")
    if found["next_cursor"] is not None:
        lines.append("there are more rows; ask the API with next_cursor")
    return lines
