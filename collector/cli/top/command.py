"""The command: asks the collector again and again, and shows what it answers until the person quits."""

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from collector.cli.client import Api, command, fail, say

if TYPE_CHECKING:
    from collector.cli.top.frame import View

TIMEOUT_SECONDS = 5.0
PLAIN_WIDTH = 140


def register_top(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "top", prints=False)(run_top)


def run_top(
    api: Api,
    search: Annotated[str, typer.Option("--query", "-q", help="Words that must all occur in an endpoint.")] = "",
    interval: Annotated[
        float, typer.Option("--interval", min=0.5, max=3_600, help="Seconds between two questions.")
    ] = 2.0,
    count: Annotated[
        int, typer.Option("--count", "-n", min=0, help="Without a terminal: tables to print, 0 without end.")
    ] = 1,
) -> None:
    """Watch endpoints and open alerts in the terminal. In a pipe it prints a table and ends."""
    import httpx

    from collector.cli.top.frame import View
    from collector.cli.top.rates import RateMeter
    from collector.cli.top.snapshot import read_snapshot
    from collector.cli.top.state import State
    from collector.cli.top.terminal import open_screen

    screen = open_screen()
    meter, started, printed = RateMeter(), time.monotonic(), 0
    with ExitStack() as stack:
        client = stack.enter_context(
            httpx.Client(base_url=api.url, headers=api.make_headers(), verify=api.make_trust(), timeout=TIMEOUT_SECONDS)
        )
        first = read_snapshot(client, search)
        if first.error:
            raise fail(f"The collector at {api.url} did not answer: {first.error}")
        if screen is not None:
            screen.state = State(search=search)
            stack.callback(screen.close)
        snapshot = first
        try:
            while True:
                now = time.monotonic()
                rates = meter.update({line.id: line.calls for line in snapshot.endpoints}, now)
                view = View(snapshot=snapshot, rates=rates, url=api.url, elapsed_seconds=now - started, now=time.time())
                if screen is not None:
                    screen.show(view)
                    if screen.wait(interval):
                        return
                else:
                    print_view(view)
                    printed += 1
                    if count and printed >= count:
                        return
                    time.sleep(interval)
                snapshot = read_snapshot(client, screen.search if screen is not None else search)
        except KeyboardInterrupt:
            return


def print_view(view: "View") -> None:
    """The whole table as lines, for a pipe or a log."""
    from collector.cli.top.frame import draw_frame
    from collector.cli.top.state import State

    if view.snapshot.error:
        say(f"The collector at {view.url} did not answer: {view.snapshot.error}", err=True)
        return
    height = len(view.snapshot.endpoints) + 16
    lines = [line.plain.rstrip() for line in draw_frame(view, State(), PLAIN_WIDTH, height).lines[:-1]]
    print("\n".join(line for line in lines if line), flush=True, file=sys.stdout)
