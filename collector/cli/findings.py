"""Commands on risk, detection and evidence, by requests to a collector.

`apidae risk` and `apidae findings` show why an endpoint is a risk and record decisions. `apidae
sensitivity|known-good|verdict|silence|unsilence` set detection. `apidae evidence ALERT` shows the rows behind an alert.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from collector.cli.client import (
    Api,
    AskedByOption,
    LimitOption,
    Output,
    command,
    describe_columns,
    say,
)
from collector.core.rates import word_measure

TERM_COLUMNS = describe_columns("term=name weight evidence lower/2 then=score_if_lowered owasp/3")
FINDING_COLUMNS = describe_columns(
    "id severity state title service/1 method/2 host/5 template=url_template why/3 owasp/4 first_seen/6 "
    "by=changed_by/7 note/7"
)


def register_risk(app: typer.Typer) -> None:
    """Add the commands."""

    @command(app, "risk")
    def risk(
        api: Api,
        endpoint: Annotated[str, typer.Argument(help="Id of an endpoint, as in `apidae endpoints -o json`.")],
    ) -> None:
        """Explain the risk of one endpoint: every term, what was seen, what would lower it."""
        found = api.fetch(f"endpoints/{quote(endpoint, safe='')}/risk")
        if api.output is Output.JSON:
            typer.echo(json.dumps(found, indent=2))
            return
        say(f"Risk {found['score']} of 100 ({found['level']}, formula {found['formula']}).", err=True)
        api.print_items(found["terms"], TERM_COLUMNS)
        if found["findings"] and api.output is Output.TABLE:
            api.print_items(found["findings"], FINDING_COLUMNS)

    @command(app, "findings")
    def findings(
        api: Api,
        query: Annotated[str, typer.Option("--query", "-q", help="Words that must all occur.")] = "",
        state: Annotated[str, typer.Option(help="open, accepted, false_positive or fixed; default all.")] = "",
        severity: Annotated[str, typer.Option(help="critical, high, medium or low.")] = "",
        rule: str = "",
        endpoint: Annotated[str, typer.Option("--endpoint-id", "--endpoint", help="Id of an endpoint.")] = "",
        decide: Annotated[str, typer.Option("--set", metavar="ID=STATE", help="Decide on one finding.")] = "",
        asked_by: AskedByOption = "",
        note: Annotated[str, typer.Option(help="With --set: why.")] = "",
        limit: LimitOption = 50,
    ) -> None:
        """List what rules found, or decide on one: --set ID=accepted --by ada --note 'public by design'."""
        if decide:
            name, _, wanted = decide.partition("=")
            answer = api.act(
                f"findings/{quote(name, safe='')}/state", {"state": wanted, "asked_by": asked_by, "note": note}
            )
            api.print_items([answer], FINDING_COLUMNS)
            return
        asked = {"q": query, "state": state, "severity": severity, "rule": rule, "endpoint_id": endpoint}
        api.print_items(api.fetch("findings", {**asked, "limit": str(limit)})["items"], FINDING_COLUMNS)


PREVIEW_COLUMNS = describe_columns("level alerts_a_day high_a_day suppressed_a_day/1 budget_a_day/2")
RULE_COLUMNS = describe_columns(
    "id in_force=is_in_force consumer/1 network/1 workload/1 endpoint=endpoint_id/2 kind/1 note expires_at "
    "reports created_by/3"
)
_HOUR, _DAY = 3_600, 86_400


def register_detection(app: typer.Typer) -> None:
    """Add the commands."""

    @command(app, "sensitivity")
    def sensitivity(
        api: Api,
        set_level: Annotated[str, typer.Option("--set", help="quiet, normal or paranoid.")] = "",
        asked_by: AskedByOption = "",
    ) -> None:
        """Show the level and how many alerts a day each would have given here; or choose one."""
        if set_level:
            found = api.act("detection/sensitivity", {"level": set_level, "asked_by": asked_by})
        else:
            found = api.fetch("detection/sensitivity")
        api.print_items(found["previews"], PREVIEW_COLUMNS)
        days = found["history_seconds"] / _DAY
        whence = f"chosen by {found['changed_by']}" if found["changed_at"] else "by the settings"
        say(f"The level is {found['level']}, {whence}. Previews are of the last {days:.1f} days.", err=True)

    @command(app, "known-good")
    def known_good(
        api: Api,
        add: Annotated[str, typer.Option("--add", help="Add a rule with this note; name what it is about.")] = "",
        end: Annotated[str, typer.Option("--end", help="End the rule of this id.")] = "",
        consumer: Annotated[str, typer.Option(help="kind:value, as `apidae consumers` says.")] = "",
        network: Annotated[str, typer.Option(help="Of consumers named by address, as 198.51.100.0/24.")] = "",
        workload: Annotated[str, typer.Option(help="Of consumers named by workload; * and ? stand for anything.")] = "",
        endpoint: Annotated[str, typer.Option(help="Id of an endpoint.")] = "",
        kind: Annotated[str, typer.Option(help="Kind of alert.")] = "",
        days: Annotated[int, typer.Option(min=1, max=400, help="Until it expires.")] = 30,
        asked_by: AskedByOption = "",
    ) -> None:
        """List the known-good rules, which suppress alerts; or add or end one."""
        if end:
            items = [api.act(f"detection/known-good/{quote(end, safe='')}/end", {"asked_by": asked_by})]
        elif add:
            named = {"consumer": consumer, "network": network, "workload": workload, "endpoint_id": endpoint}
            named |= {"kind": kind} if kind else {}
            body = {**named, "note": add, "asked_by": asked_by, "seconds": days * _DAY}
            items = [api.act("detection/known-good", body)]
        else:
            items = api.fetch("detection/known-good")["items"]
        api.print_items(items, RULE_COLUMNS)

    @command(app, "silence", prints=False)
    def silence(
        api: Api,
        alert: Annotated[str, typer.Argument(help="Id of an alert.")],
        hours: Annotated[
            float, typer.Option(min=0, max=2_160, help="Mute its subject for so long; 0: it is expected, until undone.")
        ] = 0.0,
        reason: Annotated[str, typer.Option(help="Why, for the others.")] = "",
        asked_by: AskedByOption = "",
    ) -> None:
        """Silence an alert: its subject raises no more alerts, for some hours or until `unsilence`."""
        body: dict[str, object] = {"asked_by": asked_by, "reason": reason}
        action = "mute" if hours else "expected"
        body |= {"seconds": round(hours * _HOUR)} if hours else {}
        found = api.act(f"alerts/{quote(alert, safe='')}/{action}", body)
        until = found["silence"]["until"] or f"`apidae unsilence {found['id']}`"
        say(f"{found['id']}: {found['silence']['kind']} until {until}")

    @command(app, "unsilence", prints=False)
    def unsilence(
        api: Api,
        alert: Annotated[str, typer.Argument(help="Id of an alert, as `apidae alerts --state silenced` says.")],
        asked_by: AskedByOption = "",
    ) -> None:
        """Undo a silence: the alert's subject raises alerts again."""
        found = api.act(f"alerts/{quote(alert, safe='')}/unsilence", {"asked_by": asked_by})
        say(f"{found['id']}: {found['state']}")

    @command(app, "verdict", prints=False)
    def verdict(
        api: Api,
        alert: Annotated[str, typer.Argument(help="Id of an alert.")],
        what: Annotated[str, typer.Argument(help="false_alarm, confirmed, or none to take it back.")],
        asked_by: AskedByOption = "",
    ) -> None:
        """Record whether an alert was right; it changes later alerts."""
        body = {"verdict": "" if what == "none" else what, "asked_by": asked_by}
        found = api.act(f"alerts/{quote(alert, safe='')}/verdict", body)
        say(f"{found['id']}: {found['verdict'] or 'no verdict'}")


EVIDENCE_COLUMNS = describe_columns(
    "start calls 4xx=client_errors/1 5xx=errors/1 not_read/3 objects~has_estimated_objects credentials/2 "
    "records=records_returned/2 request_bytes/3 response_bytes/3 numeric_calls/4 steps=monotonic_steps/4"
)


def register_evidence(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "evidence")
    def evidence(
        api: Api,
        alert: Annotated[str, typer.Argument(help="An alert's id, as `apidae alerts` lists it.")],
        limit: LimitOption = 500,
    ) -> None:
        """List the calls behind an alert by minute or hour, with what was observed, expected and allowed."""
        found = api.fetch(f"alerts/{quote(alert, safe='')}/evidence", {"limit": str(limit)})
        for sentence in _describe(found):
            say(sentence, err=True)
        api.print_items(found["items"], EVIDENCE_COLUMNS)


def _describe(found: Mapping[str, Any]) -> list[str]:
    """What stands above the rows."""
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
