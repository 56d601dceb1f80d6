"""Which collector a command asks: by its options, else by the environment, else by the context in use.

A context has a name, the address of a collector, its token and the authority of its certificate. Contexts are in
`$XDG_CONFIG_HOME/apidae/contexts.toml`, which only its user may read. The token and the authority of a context are used
with its own address and no other, so that no collector gets the token of another one.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Final

URL: Final = "http://127.0.0.1:8080"
URL_VARIABLE: Final = "APIDAE_URL"
TOKEN_VARIABLE: Final = "APIDAE_TOKEN"
TOKEN_FILE_VARIABLE: Final = "APIDAE_TOKEN_FILE"
CA_FILE_VARIABLE: Final = "APIDAE_CA_FILE"
CONTEXT_VARIABLE: Final = "APIDAE_CONTEXT"


class ContextError(Exception):
    """What is wrong with a context, an option or a file, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One collector; empty fields are not set. `sources` says of each field where it is from, for people."""

    url: str = ""
    token: str = field(default="", repr=False)
    token_file: str = ""
    ca_file: str = ""
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    def read_token(self) -> str:
        """The token, from its file where one is named. Raises ContextError."""
        if self.token or not self.token_file:
            return self.token
        try:
            return Path(self.token_file).expanduser().read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ContextError(
                f"The token file {self.token_file} is not readable ({why}); set --token-file or {TOKEN_FILE_VARIABLE}."
            ) from None


STORED: Final = tuple(one.name for one in fields(Context) if one.name != "sources")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contexts:
    """The file."""

    current: str = ""
    by_name: Mapping[str, Context] = field(default_factory=dict)

    def find(self, name: str) -> Context:
        """The context of a name. Raises ContextError."""
        found = self.by_name.get(name)
        if found is None:
            known = ", ".join(self.by_name) or "none is set"
            raise ContextError(f"There is no context {name!r} ({known}); set it with `apidae config set-context`.")
        return found


def find_path() -> Path:
    """Where contexts are kept."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base else Path.home() / ".config") / "apidae" / "contexts.toml"


def load_contexts(path: Path | None = None) -> Contexts:
    """All contexts; none where there is no file. Raises ContextError."""
    where = path or find_path()
    try:
        found = tomllib.loads(where.read_text())
        contexts = {name: Context(**one) for name, one in found.get("contexts", {}).items()}
        return Contexts(current=str(found.get("current", "")), by_name=contexts)
    except FileNotFoundError:
        return Contexts()
    except OSError as error:
        raise ContextError(f"The file of contexts {where} cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, AttributeError) as error:
        raise ContextError(f"The file of contexts {where} is malformed ({error}); correct or remove it.") from None


def save_contexts(contexts: Contexts, path: Path | None = None) -> None:
    """Replaces the file; only its user may read it. Raises ContextError."""
    where = path or find_path()
    lines = [f"current = {_quote(contexts.current)}"]
    for name, context in contexts.by_name.items():
        lines += ["", f"[contexts.{_quote(name)}]"]
        lines += [f"{key} = {_quote(value)}" for key in STORED if (value := getattr(context, key))]
    try:
        where.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = where.with_name(f".{where.name}.{os.getpid()}")
        with open(temporary, "w", opener=_open_private) as file:
            file.write("\n".join(lines) + "\n")
        temporary.replace(where)
    except OSError as error:
        raise ContextError(f"The file of contexts {where} cannot be written ({error.strerror}).") from None


def choose_context(
    *,
    url: str = "",
    token: str = "",
    token_file: str = "",
    ca_file: str = "",
    context: str = "",
    environment: Mapping[str, str] | None = None,
    contexts: Contexts | None = None,
) -> Context:
    """What a command asks, from its options, the environment and the context in use. Raises ContextError."""
    variables = os.environ if environment is None else environment
    kept = load_contexts() if contexts is None else contexts
    asked = {"url": (url, "--url"), "ca_file": (ca_file, "--ca-file")}
    for key, variable in (("url", URL_VARIABLE), ("ca_file", CA_FILE_VARIABLE)):
        if not asked[key][0] and variables.get(variable):
            asked[key] = (variables[variable], variable)
    # A token and a file of one are one thing: the nearest source wins.
    sources = (
        {"token": (token, "--token"), "token_file": (token_file, "--token-file")},
        {
            "token": (variables.get(TOKEN_VARIABLE, ""), TOKEN_VARIABLE),
            "token_file": (variables.get(TOKEN_FILE_VARIABLE, ""), TOKEN_FILE_VARIABLE),
        },
    )
    asked |= next((found for one in sources if (found := {k: v for k, v in one.items() if v[0]})), {})
    chosen = Context(
        **{key: value for key, (value, _) in asked.items() if value},
        sources={key: source for key, (value, source) in asked.items() if value},
    )
    name = context or variables.get(CONTEXT_VARIABLE, "") or kept.current
    if name:
        chosen = _add(chosen, kept.find(name), f"context {name}")
    return chosen if chosen.url else replace(chosen, url=URL, sources={**chosen.sources, "url": "default"})


def _add(chosen: Context, context: Context, source: str) -> Context:
    """Fills what is not set from the context, if it is about the same collector."""
    if chosen.url and chosen.url.rstrip("/") != context.url.rstrip("/"):
        return chosen
    has_token = bool(chosen.token or chosen.token_file)
    filled = {
        key: value
        for key in STORED
        if (value := getattr(context, key))
        and not getattr(chosen, key)
        and not (has_token and key in ("token", "token_file"))
    }
    return replace(chosen, **filled, sources={**chosen.sources, **dict.fromkeys(filled, source)})


def _quote(text: str) -> str:
    """A TOML basic string."""
    escaped = "".join(
        f"\\u{ord(one):04x}" if not one.isprintable() and ord(one) < 0x1_0000 else f"\\{one}" if one in '"\\' else one
        for one in text
    )
    return f'"{escaped}"'


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
