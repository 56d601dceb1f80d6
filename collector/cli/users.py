"""Commands of users: who you are, API tokens, and sessions of pages."""

import json
from enum import StrEnum
from typing import Annotated
from urllib.parse import quote

import typer

from collector.cli.client import Api, AskedByOption, add_group, command, describe_columns, fail, open_output, say

TOKEN_COLUMNS = describe_columns(
    "name role clusters/2 namespaces/2 expires_at/1 last_used_at/1 made_by/3 made_at/3 is_expired/4"
)
SESSION_COLUMNS = describe_columns("id actor role way/2 began_at/1 until/1 address/2")


BINDING_COLUMNS = describe_columns("kind name role clusters/2 namespaces/2 made_by/3 made_at/3")


class Form(StrEnum):
    """What the audit log is exported as."""

    JSONL = "jsonl"
    CSV = "csv"


class Kind(StrEnum):
    """Whom a binding is for."""

    USER = "user"
    GROUP = "group"


class RoleName(StrEnum):
    """What somebody may do. The collector has the same words."""

    VIEWER = "viewer"
    ANALYST = "analyst"
    RESPONDER = "responder"
    ADMIN = "admin"


class Switch(StrEnum):
    """On or off."""

    ON = "on"
    OFF = "off"


ClusterOption = Annotated[list[str] | None, typer.Option("--cluster", help="Only this one; may be repeated.")]
NamespaceOption = Annotated[
    list[str] | None,
    typer.Option("--namespace", help="Only NAMESPACE, or CLUSTER/NAMESPACE; may be repeated."),
]


FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="Where to write it; `-` for standard output.", show_default=False)
]
KindArgument = Annotated[Kind, typer.Argument(help="Whom it is for.", show_default=False)]
NameArgument = Annotated[str, typer.Argument(help="As the provider's ID token has it.", show_default=False)]


def register_users(app: typer.Typer) -> None:
    """Add the groups."""
    tokens = add_group(app, "tokens", "API tokens with a role: list, create and revoke them.")
    bindings = add_group(app, "bindings", "Roles of users and groups of the OpenID provider.")
    audit = add_group(
        app,
        "audit",
        "Who decided what (`apidae get audit`): export it, and check that no entry is changed or missing.",
    )
    sessions = add_group(app, "sessions", "Pages that are signed in: list and end them.")

    @command(app, "whoami")
    def whoami(api: Api) -> None:
        """Show as whom the collector sees you."""
        api.print_items([api.fetch("me")], describe_columns("actor role clusters namespaces way"), key="actor")

    @command(tokens, "list")
    def list_tokens(api: Api) -> None:
        """List the named tokens. Nobody sees their secrets again."""
        found = api.fetch("tokens")
        if not found["is_first_token_on"]:
            say("The first token is off.", err=True)
        api.print_items(found["items"], TOKEN_COLUMNS, key="name")

    @command(tokens, "create", prints=False)
    def create(
        api: Api,
        name: Annotated[str, typer.Argument(help="Letters, digits and ._-")],
        role: Annotated[RoleName, typer.Option(help="What it may do.")] = RoleName.VIEWER,
        cluster: ClusterOption = None,
        namespace: NamespaceOption = None,
        days: Annotated[int, typer.Option(min=0, help="Until it expires; 0: never.")] = 90,
        asked_by: AskedByOption = "",
    ) -> None:
        """Make a token and print it, this once."""
        body = {
            "name": name,
            "role": role.value,
            "clusters": cluster or [],
            "namespaces": namespace or [],
            "days": days,
            "asked_by": asked_by,
        }
        typer.echo(api.act("tokens", body)["token"])

    @command(tokens, "revoke", prints=False)
    def revoke(api: Api, name: Annotated[str, typer.Argument(help="As `apidae tokens list` shows it.")]) -> None:
        """End a token, and the sessions that were signed in with it."""
        gone = api.remove(f"tokens/{quote(name, safe='')}")
        say(f"The token {gone['name']} is revoked.")

    @command(tokens, "first", prints=False)
    def first(
        api: Api,
        to: Annotated[Switch, typer.Argument(help="On or off.", show_default=False)],
        asked_by: AskedByOption = "",
    ) -> None:
        """Switch the collector's own token on or off."""
        api.put("first-token", {"is_on": to is Switch.ON, "asked_by": asked_by})
        say(f"The first token is {to.value}.")

    @command(bindings, "list")
    def list_bindings(api: Api) -> None:
        """List what users and groups of the OpenID provider may do."""
        api.print_items(api.fetch("role-bindings")["items"], BINDING_COLUMNS, key="name")

    @command(bindings, "set", prints=False)
    def bind(
        api: Api,
        kind: KindArgument,
        name: NameArgument,
        role: Annotated[RoleName, typer.Option(help="What it may do.", show_default=False)],
        cluster: ClusterOption = None,
        namespace: NamespaceOption = None,
        asked_by: AskedByOption = "",
    ) -> None:
        """Bind a user or a group to a role, or bind it anew."""
        body = {
            "kind": kind.value,
            "name": name,
            "role": role.value,
            "clusters": cluster or [],
            "namespaces": namespace or [],
            "asked_by": asked_by,
        }
        made = api.put("role-bindings", body)
        say(f"The {made['kind']} {made['name']} has the role {made['role']}.")

    @command(bindings, "remove", prints=False)
    def unbind(api: Api, kind: KindArgument, name: NameArgument, asked_by: AskedByOption = "") -> None:
        """Remove a binding; sessions that it let in end."""
        gone = api.act("role-bindings/remove", {"kind": kind.value, "name": name, "asked_by": asked_by})
        say(f"The {gone['kind']} {gone['name']} has no role any more.")

    @command(audit, "export", prints=False)
    def export_audit(
        api: Api,
        file: FileArgument,
        form: Annotated[Form, typer.Option("--format", help="A JSON line an entry, or CSV.")] = Form.JSONL,
        actor: Annotated[str, typer.Option(help="By exactly this actor.")] = "",
        action: Annotated[str, typer.Option(help="One action, or the first word of several, as token.")] = "",
        target: Annotated[str, typer.Option(help="What was decided on holds this text.")] = "",
        start: Annotated[str, typer.Option(help="From this time on, as 2026-11-26T15:00:00Z or 7d.")] = "",
        end: Annotated[str, typer.Option(help="Before this time.")] = "",
    ) -> None:
        """Write all entries that match into a file, the newest first. The export is an entry, too."""
        asked = {"actor": actor, "action": action, "target": target, "start": start, "end": end}
        try:
            with open_output(file, is_text=True) as output:
                for number, part in enumerate(api.fetch_files(f"exports/audit.{form.value}", asked)):
                    # The heading once.
                    output.write(part.partition(b"\r\n")[2] if form is Form.CSV and number else part)
        except OSError as error:
            raise fail(f"{file} cannot be written ({error.strerror}); choose another file.") from None

    @command(audit, "check", prints=False)
    def check_audit(api: Api) -> None:
        """Name the first entry that is changed or missing; exit status 1 where there is one."""
        found = api.fetch("audit/check")
        if found["fault"]:
            raise fail(found["fault"])
        say(f"All {found['entries']} entries are there. The last is {found['last']}: {found['last_hash']}")

    @command(sessions, "list")
    def list_sessions(api: Api, of_all: Annotated[bool, typer.Option("--all", help="Of everybody.")] = False) -> None:
        """List your own sessions, or those of everybody."""
        found = api.fetch("sessions", {"all": json.dumps(True)} if of_all else None)
        api.print_items(found["items"], SESSION_COLUMNS)

    @command(sessions, "end", prints=False)
    def end(
        api: Api,
        session: Annotated[str, typer.Argument(help="Id of one; without it all of yours.")] = "",
        actor: Annotated[str, typer.Option(help="All of this one, for an admin.")] = "",
        asked_by: AskedByOption = "",
    ) -> None:
        """Sign out: one session, or everywhere."""
        if session:
            ended = api.remove(f"sessions/{quote(session, safe='')}")
        else:
            ended = api.act("sessions/end", {"actor": actor, "asked_by": asked_by})
        say(f"{ended['ended']} sessions ended.")
