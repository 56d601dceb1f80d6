"""What the commands that ask a collector share: requests, and the options of all of them.

A request that fails prints one sentence and exits with 1.
"""

import getpass
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final

import typer

from collector.api.columns import Column, describe_columns
from collector.cli.contexts import (
    CA_FILE_VARIABLE,
    CONTEXT_VARIABLE,
    TOKEN_FILE_VARIABLE,
    TOKEN_VARIABLE,
    URL,
    URL_VARIABLE,
    Context,
    ContextError,
    choose_context,
)
from collector.cli.output import Output, Printer
from common.log_lines import escape

if TYPE_CHECKING:
    import httpx

__all__ = ["Column", "Output", "describe_columns"]  # For those who write commands: one import.
TIMEOUT_SECONDS = 35.0  # Above the 10 s for a turn and 20 s of work, so that the sentence arrives.
CONNECTION_PANEL = "Connection"
OUTPUT_PANEL = "Output"
STDOUT: Final = "-"  # As the name of a file.
# Lists of the API that a sentence of it may point to, by their name below `apidae get`.
LOOKED_UP: Final = frozenset(
    {
        *("alerts", "blocks", "consumers", "coverage-targets", "endpoints", "findings", "incidents", "mcp-servers"),
        *("services", "specs", "views"),
    }
)
_API_LIST: Final = re.compile(r"/api/v1/([a-z]+(?:/[a-z]+)?)\b")


def name_decider(given: str = "") -> str:
    """Who decides: as given, else the user's name, else `uid:10001` where the user has none, as in a container."""
    if given:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # KeyError: Python 3.12.
        return f"uid:{os.getuid()}"


AskedByOption = Annotated[
    str,
    typer.Option(
        "--asked-by",
        callback=name_decider,
        show_default="your user name",
        help="In whose name; kept behind the name of the token.",
    ),
]


def _connect_option(name: str, text: str, variable: str, metavar: str, default: str = "") -> Any:
    """An option that the environment sets too. contexts.py reads the variable: the nearest source wins."""
    help_text = f"{text} Environment: {variable}."
    return Annotated[
        str,
        typer.Option(
            name, metavar=metavar, help=help_text, show_default=default or False, rich_help_panel=CONNECTION_PANEL
        ),
    ]


CONNECTION_OPTIONS = {
    "url": _connect_option("--url", "Address of the collector's HTTP side.", URL_VARIABLE, "URL", URL),
    "token": _connect_option(
        "--token", "API token. Other users of this machine can see it; prefer --token-file.", TOKEN_VARIABLE, "TOKEN"
    ),
    "token_file": _connect_option("--token-file", "File with the API token.", TOKEN_FILE_VARIABLE, "PATH"),
    "ca_file": _connect_option(
        "--ca-file", "PEM file of the authority of the collector's certificate.", CA_FILE_VARIABLE, "PATH"
    ),
    "context": _connect_option(
        "--context", "Named collector, as `apidae config contexts` lists it.", CONTEXT_VARIABLE, "NAME"
    ),
}
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print.", rich_help_panel=OUTPUT_PANEL)]
NoHeadersOption = Annotated[
    bool, typer.Option("--no-headers", help="No names of columns above a table or CSV.", rich_help_panel=OUTPUT_PANEL)
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=500, help="At most this many.")]
SinceOption = Annotated[str, typer.Option("--since", metavar="SPAN", help="How far back: 1h, 24h, 7d, 30d or 90d.")]


@dataclass(frozen=True, slots=True)
class Api:
    """The collector that a command asks, and how it prints. A request that fails prints one sentence and raises
    typer.Exit(1)."""

    url: str
    token: str
    output: Output = Output.TABLE
    has_headers: bool = True
    ca_file: str = ""
    chosen: Context = field(default_factory=Context)  # Where these are from.

    def fetch(self, path: str, asked: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The JSON answer of one question."""
        return self._exchange(path, "GET", {"params": {name: value for name, value in (asked or {}).items() if value}})

    def find(self, path: str, asked: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """The same, or None where the collector has no such thing (404)."""
        params = {name: value for name, value in (asked or {}).items() if value}
        return self._exchange(path, "GET", {"params": params}, missing=True) or None

    def fetch_pages(self, path: str, asked: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
        """The answers of a list, page after page."""
        answer = self.fetch(path, asked)
        yield answer
        while cursor := answer.get("next_cursor"):
            answer = self.fetch(path, {**(asked or {}), "cursor": str(cursor)})
            yield answer

    def fetch_files(self, path: str, asked: Mapping[str, str]) -> Iterator[bytes]:
        """An exported list: as many files as it takes, one after the other."""
        params = {name: value for name, value in asked.items() if value}
        while True:
            response = self._send(path, "GET", {"params": params})
            if response.is_error:
                self._check(response.status_code, self._read(response))
            yield response.content
            params["cursor"] = response.headers.get("apidae-next-cursor", "")
            if not params["cursor"]:
                return

    def act(
        self,
        path: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> dict[str, Any]:
        """The JSON answer of a POST."""
        return self._exchange(path, "POST", {"json": dict(body)}, headers, timeout_seconds)

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON answer of a PUT."""
        return self._exchange(path, "PUT", {"json": dict(body)})

    def remove(self, path: str) -> dict[str, Any]:
        """The JSON answer of a DELETE."""
        return self._exchange(path, "DELETE", {})

    def make_headers(self) -> dict[str, str]:
        """What every request has. A wrong token or address is a sentence."""
        if not (self.token.isascii() and self.token.isprintable()):
            raise fail(f"The API token is not printable ASCII; correct --token-file or {TOKEN_VARIABLE}.")
        if not self.url.startswith(("http://", "https://")):
            raise fail(f"The URL is {self.url!r}; it must begin with http:// or https://; set --url or {URL_VARIABLE}.")
        return {"authorization": f"Bearer {self.token}"} if self.token else {}

    def make_address(self, path: str) -> str:
        """Of a route."""
        return f"{self.url.rstrip('/')}/api/v1/{path}"

    def make_trust(self) -> Any:
        """What httpx verifies certificates by."""
        import ssl

        if not self.url.startswith("https://"):
            return False  # There is no certificate, and to read the system's authorities takes 50 ms.
        if not self.ca_file:
            return True
        try:
            return ssl.create_default_context(cafile=Path(self.ca_file).expanduser())
        except OSError as error:
            why = error.strerror or "it holds no certificate"
            raise fail(
                f"The CA file {self.ca_file} cannot be read ({why}); correct --ca-file or {CA_FILE_VARIABLE}."
            ) from None

    def _exchange(
        self,
        path: str,
        method: str,
        request: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        *,
        missing: bool = False,
    ) -> dict[str, Any]:
        """The answer; where `missing` allows it, an empty one for what is not there."""
        response = self._send(path, method, request, headers, timeout_seconds)
        answer = self._read(response)
        if missing and response.status_code == 404:
            return {}
        self._check(response.status_code, answer)
        return dict(answer)

    def _send(
        self,
        path: str,
        method: str,
        request: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> "httpx.Response":
        import httpx  # Completion and `--help` ask nobody.

        sent = {**self.make_headers(), **(headers or {})}
        try:
            with httpx.Client(timeout=timeout_seconds, verify=self.make_trust()) as client:
                return client.request(method, self.make_address(path), headers=sent, **request)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise fail(self.explain_failure(error)) from error

    def _read(self, response: "httpx.Response") -> Any:
        try:
            return response.json()
        except ValueError as error:
            raise fail(
                f"What answers at {self.url} is not an Apidae collector; set --url or {URL_VARIABLE}."
            ) from error

    def _check(self, status: int, answer: Any) -> None:
        if status >= 400:
            detail = answer.get("detail", "") if isinstance(answer, dict) else ""
            raise fail(name_commands(self.explain_refusal(status, str(detail))))

    def explain_failure(self, error: Exception) -> str:
        """A sentence for a request that got no answer."""
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            why = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0] or "no known authority"
            if "mismatch" in why:
                return (
                    f"The certificate of {self.url} is not for this name ({why.rstrip('.')}); use a name that it has "
                    f"in --url or {URL_VARIABLE}, or start the collector with this name in tls_server_names."
                )
            return (
                f"The certificate of {self.url} is not trusted ({why}); name the file of its authority by --ca-file or "
                f"{CA_FILE_VARIABLE}."
            )
        if any(word in text for word in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")):
            return f"The collector at {self.url} does not speak TLS on this port; use http:// or its port with TLS."
        if self.url.startswith("http://") and "disconnected without sending a response" in text:
            return f"What listens at {self.url} does not speak HTTP; if it is TLS, use https:// in --url."
        if "disconnected without sending a response" in text:
            return (
                f"What listens at {self.url} does not speak HTTP/1.1; name the address of the collector's http_listen "
                f"in --url or {URL_VARIABLE}."
            )
        return f"The collector at {self.url} cannot be reached ({text}); start it, or set --url or {URL_VARIABLE}."

    def explain_refusal(self, status: int, detail: str) -> str:
        """A sentence for an answer that is an error."""
        if status == 401:
            what = "did not accept the API token" if self.token else "asks for an API token"
            return (
                f"The collector at {self.url} {what}; name the file of its token by --token-file or "
                f"{TOKEN_FILE_VARIABLE}, or set {TOKEN_VARIABLE}."
            )
        return f"The collector at {self.url} answered {status}: {detail}"

    def print_items(self, items: Sequence[Mapping[str, Any]], columns: Sequence[Column], key: str = "id") -> None:
        """As the user asked; `key` is the place of an item's name."""
        Printer(self.output, self.has_headers).print_items(items, columns, key)

    def print_document(self, document: Any) -> bool:
        """Whether it was printed as it is, as JSON or YAML."""
        return Printer(self.output, self.has_headers).print_document(document)


def add_group(app: typer.Typer, name: str, text: str) -> typer.Typer:
    """A group of commands; alone it prints its help."""
    group = typer.Typer(help=text, no_args_is_help=True)
    app.add_typer(group, name=name)
    return group


def command(
    app: typer.Typer, name: str, *, prints: bool = True, help: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds a function as a command whose first parameter is the API. The command has the options of the others: which
    collector to ask, and how to print where it prints items."""
    shared: dict[str, tuple[Any, Any]] = {key: (option, "") for key, option in CONNECTION_OPTIONS.items()}
    if prints:
        shared |= {"output": (OutputOption, Output.TABLE), "no_headers": (NoHeadersOption, False)}

    def add(run: Callable[..., None]) -> Callable[..., None]:
        def call(**given: Any) -> None:
            asked = {key: given.pop(key) for key in CONNECTION_OPTIONS}
            output, no_headers = given.pop("output", Output.TABLE), given.pop("no_headers", False)
            run(open_api(output=output, has_headers=not no_headers, **asked), **given)

        own = list(inspect.signature(run).parameters.values())[1:]
        options = [
            *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own),
            *(
                inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
                for key, (annotation, default) in shared.items()
            ),
        ]
        # What Typer makes options of.
        call.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        call.__annotations__ = {one.name: one.annotation for one in options}
        call.__doc__ = run.__doc__
        app.command(name, help=help)(call)
        return run

    return add


def open_api(*, output: Output = Output.TABLE, has_headers: bool = True, **asked: Any) -> Api:
    """The collector that the options, the environment or the context name. Raises typer.Exit with its sentence said."""
    try:
        chosen = choose_context(**asked)
        return Api(chosen.url, chosen.read_token(), output, has_headers, chosen.ca_file, chosen)
    except ContextError as error:
        raise fail(str(error)) from None


def fail(sentence: str) -> typer.Exit:
    """Prints the sentence; the caller raises what it gets."""
    say(sentence, err=True)
    return typer.Exit(1)


@contextmanager
def open_output(file: str, *, is_text: bool = False) -> Iterator[IO[bytes]]:
    """A file that has its name, mode 0600, when it is whole, and is gone otherwise."""
    if file == STDOUT:
        if sys.stdout.isatty() and not is_text:
            raise fail("What is written is no text for a terminal; redirect standard output, or name a file.")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file)
    aside = path.with_name(f"{path.name}.part")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as output:
            yield output
            output.flush()
            os.fsync(output.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def name_commands(sentence: str) -> str:
    """`sentence` of the API, with `apidae get NAME` for the address of a list that this command prints."""

    def name(found: re.Match[str]) -> str:
        listed = found.group(1).replace("/", "-")
        return f"`apidae get {listed}`" if listed in LOOKED_UP else found.group()

    return _API_LIST.sub(name, sentence)


def say(sentence: str, *, err: bool = False) -> None:
    """Prints a sentence, which may quote what clients, services and sensors send, as one line that steers no
    terminal."""
    typer.echo(escape(sentence), err=err)
