"""A short, safe name for a process, from what it runs. Pure.

Reads the executable's path, the command line and the kernel's command name, and gives the program's name: the
executable's, or for an interpreter the script's, module's, jar's or class's. Only file and module names are taken,
cut to `MAX_NAME_CHARACTERS` and to characters that a file name of a program has, so an argument that holds a secret
is never part of a name.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

# Longer than any program a distribution ships; bounds what an odd command line can put into the inventory.
MAX_NAME_CHARACTERS = 64
UNNAMED = "unknown"

_UNSAFE = re.compile(r"[^A-Za-z0-9._+@-]+")
_DELETED = " (deleted)"
_FILE_NAME = re.compile(r"[./]")
_URL_TAIL = re.compile(r"[?#].*", re.DOTALL)
# gunicorn, celery and others rewrite their command line with setproctitle: `gunicorn: master [app]`.
_TITLE = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9._-]*):( |$)")
# One binary under many names: the kernel's command name tells which.
_MULTI_CALL = frozenset({"busybox", "toybox", "coreutils", "exe"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """How the command line of one interpreter names the program. `executable` matches the whole file name."""

    executable: re.Pattern[str]
    name: str  # When nothing else is known: `python3 -c ...`.
    options_with_value: frozenset[str] = frozenset()
    module_options: frozenset[str] = frozenset()  # Their value names the program.
    inline_options: frozenset[str] = frozenset()  # Their value is program text: never a name, nor is what follows.
    subcommands: frozenset[str] = frozenset()  # `deno run x`: not the program.
    source: str = ""


INTERPRETERS: tuple[Interpreter, ...] = (
    Interpreter(
        executable=re.compile(r"(python|pypy)[0-9.]*[a-z]?"),
        name="python3",
        options_with_value=frozenset({"-W", "-X", "--check-hash-based-pycs"}),
        module_options=frozenset({"-m"}),
        inline_options=frozenset({"-c"}),
        source="docs.python.org/3/using/cmdline.html",
    ),
    Interpreter(
        executable=re.compile(r"node(js)?"),
        name="node",
        options_with_value=frozenset(
            [
                "-r",
                "--require",
                "--import",
                "--loader",
                "--experimental-loader",
                "--env-file",
                "-C",
                "--conditions",
                "--title",
                "--icu-data-dir",
            ]
        ),
        inline_options=frozenset({"-e", "--eval", "-p", "--print", "-pe"}),
        source="nodejs.org/api/cli.html",
    ),
    Interpreter(
        executable=re.compile(r"java"),
        name="java",
        options_with_value=frozenset(
            [
                "-cp",
                "-classpath",
                "--class-path",
                "-p",
                "--module-path",
                "--upgrade-module-path",
                "--add-modules",
                "--add-reads",
                "--add-exports",
                "--add-opens",
                "--limit-modules",
                "--patch-module",
                "--source",
            ]
        ),
        module_options=frozenset({"-jar", "-m", "--module"}),
        source="docs.oracle.com/en/java/javase/21/docs/specs/man/java.html",
    ),
    Interpreter(
        executable=re.compile(r"ruby[0-9.]*"),
        name="ruby",
        options_with_value=frozenset({"-I", "-r", "-C", "-E"}),
        inline_options=frozenset({"-e"}),
        source="ruby(1)",
    ),
    Interpreter(
        executable=re.compile(r"perl[0-9.]*"),
        name="perl",
        options_with_value=frozenset({"-I", "-M", "-m"}),
        inline_options=frozenset({"-e", "-E"}),
        source="perlrun(1)",
    ),
    Interpreter(
        executable=re.compile(r"php[0-9.]*"),
        name="php",
        options_with_value=frozenset({"-d", "-c", "-S", "-t", "-z"}),
        module_options=frozenset({"-f"}),
        inline_options=frozenset({"-r", "-B", "-R", "-E"}),
        source="php(1)",
    ),
    Interpreter(
        executable=re.compile(r"(ba|da|z|k)?sh"),
        name="sh",
        options_with_value=frozenset({"-o", "+o", "-O", "+O", "--rcfile", "--init-file"}),
        inline_options=frozenset({"-c", "-lc", "-ec"}),
        source="bash(1)",
    ),
    Interpreter(
        executable=re.compile(r"(deno|bun)"),
        name="deno",
        options_with_value=frozenset({"-c", "--config", "--import-map", "--preload", "-r"}),
        inline_options=frozenset({"-e", "--eval"}),
        subcommands=frozenset({"run", "serve", "start"}),
        source="docs.deno.com/runtime/reference/cli, bun.sh/docs/cli/run",
    ),
    Interpreter(
        executable=re.compile(r"dotnet"),
        name="dotnet",
        module_options=frozenset({"exec"}),
        options_with_value=frozenset({"--runtimeconfig", "--depsfile", "--additionalprobingpath", "--fx-version"}),
        subcommands=frozenset({"run"}),
        source="learn.microsoft.com/dotnet/core/tools/dotnet",
    ),
)


def name_program(*, executable: str, command_line: Sequence[str], command: str) -> str:
    """The program's name: `nginx`, `app.py`, `uvicorn`, `orders.jar`; `unknown` where nothing is readable.

    `executable` is the target of /proc/PID/exe or empty, `command` the name in /proc/PID/stat. Never raises, never
    empty.
    """
    file_name = _base_name(executable.removesuffix(_DELETED))
    if not file_name or file_name in _MULTI_CALL or executable.startswith("/memfd:"):
        return _clean(command) or UNNAMED
    for interpreter in INTERPRETERS:
        if interpreter.executable.fullmatch(file_name):
            return _clean(_name_script(interpreter, command_line)) or (
                interpreter.name if file_name != "bun" else "bun"
            )
    return _clean(file_name) or UNNAMED


def _name_script(interpreter: Interpreter, command_line: Sequence[str]) -> str:
    """What the interpreter runs; empty where it runs program text or nothing."""
    title = _TITLE.match(command_line[0]) if command_line else None
    if title:
        return title["name"]
    arguments = iter(command_line[1:])
    is_after_option = (
        False  # The argument may be the value, even the secret value, of a long option this table does not know.
    )
    for argument in arguments:
        option, has_value, value = argument.partition("=")
        if argument in interpreter.module_options:
            return _name_module(next(arguments, ""))
        if option in interpreter.module_options and has_value:
            return _name_module(value)
        if argument in interpreter.inline_options:
            return ""
        if argument in interpreter.options_with_value:
            next(arguments, "")
        elif argument.startswith(("-", "+")):
            is_after_option = argument.startswith("--") and not has_value
            continue
        elif argument not in interpreter.subcommands and not (is_after_option and not _FILE_NAME.search(argument)):
            return _base_name(_URL_TAIL.sub("", argument))
        is_after_option = False
    return ""


def _name_module(value: str) -> str:
    """`uvicorn`, `http.server`, `orders.jar`; of a Java `module/class` the class, of a package's `__main__` the
    package.
    """
    return _base_name(value).removesuffix(".__main__")


def _base_name(path: str) -> str:
    """The last component; of `app/__main__.py` the directory, which is what people call it."""
    head, _, last = path.rstrip("/").rpartition("/")
    return head.rpartition("/")[2] if last == "__main__.py" and head else last


def _clean(name: str) -> str:
    return _UNSAFE.sub("_", name)[:MAX_NAME_CHARACTERS].strip("_")
