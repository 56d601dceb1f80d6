"""The picture of `apidae top`: the collector's answers in, an SVG out, with the fonts of whoever looks at it."""

import io
import re
import time
from typing import Final

import httpx
from rich.console import Console

from collector.cli.top.frame import View, draw_frame
from collector.cli.top.rates import RateMeter
from collector.cli.top.snapshot import read_snapshot
from collector.cli.top.state import Sort, State

WIDTH, HEIGHT = 128, 30
LOOK_SECONDS: Final = 12.0  # Between two readings, from which calls/s follow; windows close every 10 s.
_FONT: Final = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # Of another site.


def draw_terminal(client: httpx.Client) -> str:
    """Two readings, sorted by risk."""
    meter, started = RateMeter(), time.monotonic()
    for pause in (LOOK_SECONDS, 0.0):
        snapshot = read_snapshot(client)
        rates = meter.update({line.id: line.calls for line in snapshot.endpoints}, time.monotonic())
        time.sleep(pause)
    view = View(
        snapshot=snapshot,
        rates=rates,
        url=str(client.base_url),
        elapsed_seconds=time.monotonic() - started,
        now=time.time(),
    )
    console = Console(record=True, width=WIDTH + 1, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in draw_frame(view, State(sort=Sort.RISK), WIDTH, HEIGHT).lines:
        console.print(line, no_wrap=True, crop=False, highlight=False)
    return _FONT.sub("", console.export_svg(title="apidae top"))
