"""`apidae sensitivity|known-good|verdict|silence|unsilence`: how detection is set, by asking a collector."""

from typing import Annotated
from urllib.parse import quote

import typer

from collector.commands.client import act, fetch
from collector.commands.options import URL, ByOption, Output, OutputOption, TokenOption, UrlOption
from collector.commands.table import describe_columns, print_items

PREVIEW_COLUMNS = describe_columns(
    ("level", "level", 0),
    ("alerts_a_day", "alerts_a_day", 0),
    ("high_a_day", "high_a_day", 0),
    ("suppressed_a_day", "suppressed_a_day", 1),
    ("budget_a_day", "budget_a_day", 2),
)
RULE_COLUMNS = describe_columns(
    ("id", "id", 0),
    ("in_force", "is_in_force", 0),
    ("consumer", "consumer", 1),
    ("network", "network", 1),
    ("workload", "workload", 1),
    ("endpoint", "endpoint_id", 2),
    ("kind", "kind", 1),
    ("note", "note", 0),
    ("expires_at", "expires_at", 0),
    ("reports", "reports", 0),
    ("created_by", "created_by", 3),
)
_HOUR, _DAY = 3_600, 86_400


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("sensitivity")
    def sensitivity(
        set_level: Annotated[str, typer.Option("--set", help="quiet, normal or paranoid.")] = "",
        by: ByOption = "",
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Show the level and how many alerts a day each would have given here; or choose one."""
        if set_level:
            found = act(url, token, "detection/sensitivity", {"level": set_level, "by": by})
        else:
            found = fetch(url, token, "detection/sensitivity", {})
        print_items(found["previews"], PREVIEW_COLUMNS, output)
        days = found["history_seconds"] / _DAY
        whence = f"chosen by {found['changed_by']}" if found["changed_at"] else "by the settings"
        typer.echo(f"The level is {found['level']}, {whence}. Previews are of the last {days:.1f} days.", err=True)

    @app.command("known-good")
    def known_good(
        add: Annotated[str, typer.Option("--add", help="Add a rule with this note; name what it is about.")] = "",
        end: Annotated[str, typer.Option("--end", help="End the rule of this id.")] = "",
        consumer: Annotated[str, typer.Option(help="kind:value, as `apidae consumers` says.")] = "",
        network: Annotated[str, typer.Option(help="Of consumers named by address, as 198.51.100.0/24.")] = "",
        workload: Annotated[str, typer.Option(help="Of consumers named by workload; * and ? stand for anything.")] = "",
        endpoint: Annotated[str, typer.Option(help="Id of an endpoint.")] = "",
        kind: Annotated[str, typer.Option(help="Kind of alert.")] = "",
        days: Annotated[int, typer.Option(min=1, max=400, help="Until it expires.")] = 30,
        by: ByOption = "",
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List what is known to be good and raises no alert; or add or end a rule."""
        if end:
            items = [act(url, token, f"detection/known-good/{quote(end, safe='')}/end", {"by": by})]
        elif add:
            named = {"consumer": consumer, "network": network, "workload": workload, "endpoint_id": endpoint}
            named |= {"kind": kind} if kind else {}
            body = {**named, "note": add, "by": by, "seconds": days * _DAY}
            items = [act(url, token, "detection/known-good", body)]
        else:
            items = fetch(url, token, "detection/known-good", {})["items"]
        print_items(items, RULE_COLUMNS, output)

    @app.command("silence")
    def silence(
        alert: Annotated[str, typer.Argument(help="Id of an alert.")],
        hours: Annotated[
            float, typer.Option(min=0, max=2_160, help="Mute its subject for so long; 0: it is expected, until undone.")
        ] = 0.0,
        reason: Annotated[str, typer.Option(help="Why, for the others.")] = "",
        by: ByOption = "",
        url: UrlOption = URL,
        token: TokenOption = "",
    ) -> None:
        """Say that an alert is expected, or mute it: its subject raises nothing more. `unsilence` undoes it."""
        body: dict[str, object] = {"by": by, "reason": reason}
        action = "mute" if hours else "expected"
        body |= {"seconds": round(hours * _HOUR)} if hours else {}
        found = act(url, token, f"alerts/{quote(alert, safe='')}/{action}", body)
        until = found["silence"]["until"] or f"`apidae unsilence {found['id']}`"
        typer.echo(f"{found['id']}: {found['silence']['kind']} until {until}")

    @app.command("unsilence")
    def unsilence(
        alert: Annotated[str, typer.Argument(help="Id of an alert, as `apidae alerts --state silenced` says.")],
        by: ByOption = "",
        url: UrlOption = URL,
        token: TokenOption = "",
    ) -> None:
        """Undo a silence: the alert's subject raises alerts again."""
        found = act(url, token, f"alerts/{quote(alert, safe='')}/unsilence", {"by": by})
        typer.echo(f"{found['id']}: {found['state']}")

    @app.command("verdict")
    def verdict(
        alert: Annotated[str, typer.Argument(help="Id of an alert.")],
        what: Annotated[str, typer.Argument(help="false_alarm, confirmed, or none to take it back.")],
        by: ByOption = "",
        url: UrlOption = URL,
        token: TokenOption = "",
    ) -> None:
        """Say what an alert was: it changes what is told next."""
        body = {"verdict": "" if what == "none" else what, "by": by}
        found = act(url, token, f"alerts/{quote(alert, safe='')}/verdict", body)
        typer.echo(f"{found['id']}: {found['verdict'] or 'no verdict'}")
