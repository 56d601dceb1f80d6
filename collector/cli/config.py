"""`apidae config`: named collectors of this user (collector/cli/contexts.py)."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from collector.cli.client import (
    Api,
    NoHeadersOption,
    Output,
    OutputOption,
    add_group,
    command,
    describe_columns,
    fail,
    say,
)
from collector.cli.contexts import (
    STORED,
    Context,
    ContextError,
    Contexts,
    find_path,
    load_contexts,
    save_contexts,
)
from collector.cli.output import Printer

CONTEXT_COLUMNS = describe_columns("context current url token=has_token token_file/1 ca_file/1")
SHOWN_COLUMNS = describe_columns("name value source")
NameArgument = Annotated[str, typer.Argument(help="Name of a context, as `apidae config contexts` lists it.")]


def register_config(app: typer.Typer) -> None:
    """Add the group."""
    group = add_group(app, "config", "Named collectors of yours: addresses, tokens and authorities.")
    for name, run in (
        ("contexts", list_contexts),
        ("use", use),
        ("set-context", set_context),
        ("delete-context", delete_context),
    ):
        group.command(name)(run)
    command(group, "show")(show)


def list_contexts(output: OutputOption = Output.TABLE, no_headers: NoHeadersOption = False) -> None:
    """List the named collectors."""
    kept = _load()
    items = [
        {
            "context": name,
            "current": "yes" if name == kept.current else "",
            "url": one.url,
            "has_token": "yes" if one.token else "",
            "token_file": one.token_file,
            "ca_file": one.ca_file,
        }
        for name, one in kept.by_name.items()
    ]
    Printer(output, not no_headers).print_items(items, CONTEXT_COLUMNS, "context")


def use(name: NameArgument) -> None:
    """Ask this collector from now on, unless an option or the environment names another."""
    kept = _load()
    try:
        kept.find(name)
    except ContextError as error:
        raise fail(str(error)) from None
    _save(replace(kept, current=name))
    say(f"{name}: {kept.by_name[name].url}")


def set_context(
    name: Annotated[str, typer.Argument(help="What to call the collector.")],
    url: Annotated[str, typer.Option(metavar="URL", help="Address of the collector's HTTP side.")] = "",
    token_file: Annotated[str, typer.Option(metavar="PATH", help="File with the API token.")] = "",
    ca_file: Annotated[
        str, typer.Option(metavar="PATH", help="PEM file of the authority of the collector's certificate.")
    ] = "",
    token_stdin: Annotated[
        bool,
        typer.Option("--token-stdin", help="Read the token from standard input and keep it in the file of contexts."),
    ] = False,
) -> None:
    """Name a collector, or change what is kept of it. The first one is used at once."""
    kept = _load()
    before = kept.by_name.get(name, Context())
    if not (url or before.url):
        raise fail(f"Context {name!r} needs the address of a collector: --url https://HOST:PORT.")
    if url and not url.startswith(("http://", "https://")):
        raise fail(f"The URL is {url!r}; it must begin with http:// or https://.")
    if token_file and token_stdin:
        raise fail("Give --token-file or --token-stdin, one of them.")
    given: dict[str, Any] = {"url": url, "token_file": _make_absolute(token_file), "ca_file": _make_absolute(ca_file)}
    changed = replace(before, **{key: value for key, value in given.items() if value})
    if token_stdin:
        changed = replace(changed, token=sys.stdin.readline().strip(), token_file="")
    elif token_file:
        changed = replace(changed, token="")
    elif url and before.url and url.rstrip("/") != before.url.rstrip("/"):
        changed = replace(changed, token="")  # It was another collector's.
    _save(Contexts(current=kept.current or name, by_name={**kept.by_name, name: changed}))
    say(f"{name}: {changed.url}, in {find_path()}")


def delete_context(name: NameArgument) -> None:
    """Forget a collector with its token."""
    kept = _load()
    if name not in kept.by_name:
        raise fail(f"There is no context {name!r}; `apidae config contexts` lists them.")
    left = {key: one for key, one in kept.by_name.items() if key != name}
    _save(Contexts(current="" if kept.current == name else kept.current, by_name=left))
    say(f"{name}: deleted")


def show(api: Api) -> None:
    """Show which collector a command would ask, and where each part is from. The token itself is not shown."""
    items = [
        {"name": key, "value": "(set)" if key == "token" else value, "source": api.chosen.sources.get(key, "")}
        for key in STORED
        if (value := getattr(api.chosen, key))
    ]
    api.print_items(items, SHOWN_COLUMNS, "name")


def _make_absolute(path: str) -> str:
    """A command asks from any directory."""
    return str(Path(path).expanduser().absolute()) if path else ""


def _load() -> Contexts:
    try:
        return load_contexts()
    except ContextError as error:
        raise fail(str(error)) from None


def _save(contexts: Contexts) -> None:
    try:
        save_contexts(contexts)
    except ContextError as error:
        raise fail(str(error)) from None
