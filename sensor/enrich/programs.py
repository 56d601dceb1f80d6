"""A short, safe name of what a process runs, as a person would call it.

`name_program` uses the executable's path, the command line and the kernel's command name. It gives the executable's
name, or for an interpreter that of the script, module, jar or class. Servers that run an application have the name of
the application. `Files` may have a better name: of the package, the manifest of the jar, or the only web application.
Only names of files, modules and packages are used, cut to `MAX_NAME_CHARACTERS` and to characters of file names. So an
argument that holds a secret is never part of a name.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

# Longer than any program a distribution ships; bounds what an odd command line can put into the inventory.
MAX_NAME_CHARACTERS = 64
UNNAMED = "unknown"

_UNSAFE = re.compile(r"[^A-Za-z0-9._+@-]+")
_DELETED = " (deleted)"
_FILE_NAME = re.compile(r"[./]")
_URL_TAIL = re.compile(r"[?#].*", re.DOTALL)
# gunicorn, celery and others rewrite their command line: `gunicorn: master [app]`, `verdaccio`.
_TITLE = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9._-]*)(?::(?: .*\[(?P<application>[^\[\]]+)\]| |$)|\Z)")
# One binary under many names: the kernel's command name says which.
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


# Options whose value is the next argument.
_NODE_OPTIONS = "-r --require --import --loader --experimental-loader --env-file -C --conditions --title --icu-data-dir"
_JAVA_OPTIONS = (
    "-cp -classpath --class-path -p --module-path --upgrade-module-path --add-modules --add-reads "
    "--add-exports --add-opens --limit-modules --patch-module --source"
)
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
        options_with_value=frozenset(_NODE_OPTIONS.split()),
        inline_options=frozenset({"-e", "--eval", "-p", "--print", "-pe"}),
        source="nodejs.org/api/cli.html",
    ),
    Interpreter(
        executable=re.compile(r"java"),
        name="java",
        options_with_value=frozenset(_JAVA_OPTIONS.split()),
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


# Programs that run an application of Python, named by an argument `package.module:attribute` or a file.
_SERVERS: Final = frozenset(
    ("uvicorn", "gunicorn", "hypercorn", "daphne", "granian", "waitress-serve", "waitress", "uvicorn.main", "fastapi")
)
_APPLICATION: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*):[A-Za-z_][A-Za-z0-9_.]*(?:\(\))?\Z")
# Options of these servers that have no value.
_FLAGS: Final = frozenset(
    ("--reload", "--factory", "--preload", "--daemon", "-D", "--proxy-headers", "--no-access-log", "--use-colors")
)
# Modules and files that are called so in every application: their directory distinguishes them.
_COMMON_STEMS: Final = frozenset(("app", "application", "asgi", "index", "main", "run", "server", "service", "wsgi"))
_JAR: Final = re.compile(r"(.+?)(?:-\d[\w.+-]*)?\.(?:jar|war)\Z", re.IGNORECASE)
_BASE: Final = re.compile(r"-D(?P<name>catalina|jetty)\.base=(?P<directory>/.*)")


class Files(Protocol):
    """The files of a process. Whoever runs it may have made them: an error is an empty answer."""

    def find_directory(self) -> str:
        """The name of its working directory; empty where that says nothing."""

    def find_package(self, script: str) -> str:
        """The name in the package.json that is nearest above a script of Node.js, or above the working directory."""

    def read_title(self, jar: str) -> str:
        """The Implementation-Title of a jar; empty where it has none."""

    def list_webapps(self, base: str) -> list[str]:
        """Applications in the directory `webapps` of a server of servlets, without those it comes with."""


def name_program(*, executable: str, command_line: Sequence[str], command: str, files: Files | None = None) -> str:
    """The program's name: `nginx`, `app.py`, `shop.main`, `orders`; `unknown` where nothing is readable.

    `executable` is the target of /proc/PID/exe or empty, `command` the name in /proc/PID/stat. Never raises, never
    empty.
    """
    file_name = _base_name(executable.removesuffix(_DELETED))
    if not file_name or file_name in _MULTI_CALL or executable.startswith("/memfd:"):
        return _clean(command) or UNNAMED
    for interpreter in INTERPRETERS:
        if interpreter.executable.fullmatch(file_name):
            return _clean(_name_script(interpreter, command_line, files)) or (
                interpreter.name if file_name != "bun" else "bun"
            )
    return _clean(file_name) or UNNAMED


def _name_script(interpreter: Interpreter, command_line: Sequence[str], files: Files | None) -> str:
    """What the interpreter runs; empty where it runs program text or nothing."""
    title = _TITLE.match(" ".join(filter(None, command_line)))
    if title and not interpreter.executable.fullmatch(title["name"]):
        package = files.find_package("") if files and interpreter.name == "node" else ""
        return package or _name_application([title["application"] or ""], files) or title["name"]
    script, rest = _find_script(interpreter, command_line)
    name = _base_name(script)
    if interpreter.name == "python3" and name.removesuffix(".__main__") in _SERVERS:
        return _name_application(rest, files) or name
    if interpreter.name == "node" and files and script:
        return files.find_package(script) or name
    if interpreter.name == "java":
        return _name_archive(script, command_line, files)
    return name.removesuffix(".__main__")


def _find_script(interpreter: Interpreter, command_line: Sequence[str]) -> tuple[str, list[str]]:
    """The script, module, jar or class as it was given, and the arguments behind it."""
    arguments = iter(command_line[1:])
    # The argument may be the value, even the secret value, of a long option this table does not know.
    is_after_option = False
    for argument in arguments:
        option, has_value, value = argument.partition("=")
        if argument in interpreter.module_options:
            return next(arguments, ""), list(arguments)
        if option in interpreter.module_options and has_value:
            return value, list(arguments)
        if argument in interpreter.inline_options:
            return "", []
        if argument in interpreter.options_with_value:
            next(arguments, "")
        elif argument.startswith(("-", "+")):
            is_after_option = argument.startswith("--") and not has_value
            continue
        elif argument not in interpreter.subcommands and not (is_after_option and not _FILE_NAME.search(argument)):
            return _URL_TAIL.sub("", argument), list(arguments)
        is_after_option = False
    return "", []


def _name_application(arguments: Sequence[str], files: Files | None) -> str:
    """The module of the application that a server was started with; empty where there is none."""
    found = next(_find_applications(arguments), "")
    if found in _COMMON_STEMS and files is not None:
        directory = files.find_directory()
        return f"{directory}.{found}" if directory else found
    return found


def _find_applications(arguments: Sequence[str]) -> Iterator[str]:
    """Arguments that are no value of an option, which might be a user and a password."""
    before = ""
    for argument in arguments:
        match = _APPLICATION.match(argument)
        if match and (not before.startswith("-") or "=" in before or before in _FLAGS):
            yield match[1]
        before = argument


def _name_archive(script: str, command_line: Sequence[str], files: Files | None) -> str:
    """The artifact of a jar, the only application of a server of servlets, or else the class."""
    base = next((match for argument in command_line if (match := _BASE.match(argument))), None)
    if base is not None:
        applications = files.list_webapps(base["directory"]) if files else []
        return applications[0] if len(applications) == 1 else {"catalina": "tomcat"}.get(base["name"], base["name"])
    name = _base_name(script)
    artifact = _JAR.match(name)
    if artifact is None:
        return name
    return (files.read_title(script) if files and artifact[1] in _COMMON_STEMS else "") or artifact[1]


def _base_name(path: str) -> str:
    """The last component; of `app/__main__.py` the directory, which is what people call it."""
    head, _, last = path.rstrip("/").rpartition("/")
    return head.rpartition("/")[2] if last == "__main__.py" and head else last


def _clean(name: str) -> str:
    return _UNSAFE.sub("_", name)[:MAX_NAME_CHARACTERS].strip("_")
