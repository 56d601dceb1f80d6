"""The command line of `scripts/run`: reads the options, runs one session, turns expected failures into one sentence
and exit code 1.
"""

import contextlib
import fcntl
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Event
from typing import IO, Annotated

import typer

from common.main import run_app
from scripts.demo.nginx import NginxError
from scripts.live.host import RootNeededError, prefix_for_root
from scripts.live.program import ProgramError
from scripts.live.screen import choose_screen
from scripts.live.session import Options, Session

PROGRAM = "scripts/run"
RUN_DIRECTORY = Path(".run")


class AlreadyRunningError(Exception):
    """Another run of this checkout has its logs and data."""


def hold_directory(lock: IO[str]) -> None:
    """Until `lock` is closed, or this process ends. Raises AlreadyRunningError."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AlreadyRunningError("another one runs in this checkout; end it first, with Ctrl-C there") from None


def remove_directory(path: Path) -> None:
    """With all in it; what the sensor made under sudo belongs to root, and is removed as it was made."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        subprocess.run([*prefix_for_root(), "rm", "-rf", "--", str(path.absolute())], check=False)


def run(
    demo: Annotated[
        bool, typer.Option("--demo", help="Add sample services, honest clients, and from second 15 on three attacks.")
    ] = False,
    no_scraper: Annotated[bool, typer.Option("--no-scraper", help="With --demo: honest clients only.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="Where the collector keeps its store [default: .run/data; the demo's is deleted]."
        ),
    ] = None,
    http_listen: Annotated[
        str, typer.Option("--http-listen", help="HOST:PORT of web page and API; port 0 = any.")
    ] = "127.0.0.1:0",
    seconds: Annotated[
        float, typer.Option("--seconds", min=0, help="Stop after so many seconds; 0 = at Ctrl-C.")
    ] = 0.0,
    headless: Annotated[
        bool, typer.Option("--headless", help="JSON lines of what happens instead of a table.")
    ] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the demo's honest clients.")] = None,
) -> None:
    """Watches this host: starts a collector and a sensor, and shows every HTTP endpoint as it is called, until
    Ctrl-C.
    """
    if data_dir is not None and not data_dir.name:
        raise typer.BadParameter(f"'{data_dir}' is no directory of its own", param_hint="'--data-dir'")
    is_stopped = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: is_stopped.set())
    try:
        with contextlib.ExitStack() as stack:
            RUN_DIRECTORY.mkdir(exist_ok=True)
            hold_directory(stack.enter_context((RUN_DIRECTORY / "run.lock").open("a")))
            base = RUN_DIRECTORY
            if demo and data_dir is None:
                base = Path(tempfile.mkdtemp(prefix="demo-", dir=RUN_DIRECTORY))
                stack.callback(remove_directory, base)
            options = Options(
                data_directory=data_dir or base / "data",
                state_directory=base / "sensor" if data_dir is None else data_dir.with_name(f"{data_dir.name}-sensor"),
                log_directory=RUN_DIRECTORY / "logs",
                http_listen=http_listen,
                is_demo=demo,
                has_scraper=not no_scraper,
                seconds=seconds,
                seed=seed,
            )
            code = Session(options, choose_screen(is_stopped, is_headless=headless), is_stopped).run()
    except (ProgramError, NginxError, RootNeededError, AlreadyRunningError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        code = 1
    except OSError as error:
        print(f"{PROGRAM}: {error.filename or 'the operating system'}: {error.strerror or error}", file=sys.stderr)
        code = 1
    raise typer.Exit(code)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(run)
    run_app(app, PROGRAM)
