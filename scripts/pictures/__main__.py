"""Starts the demo, waits until its acts are over, and takes each picture with Chromium."""

import base64
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import numpy as np
import typer
from playwright.sync_api import Page, sync_playwright

from common.main import run_app
from scripts.live.program import Program, ProgramError
from scripts.pictures.png import encode_png
from scripts.pictures.terminal import draw_terminal

PROGRAM: Final = "scripts/screenshots"
TERMINAL: Final = "terminal"
DIRECTORY: Final = Path("docs/images")
LOG: Final = Path(".run/logs/screenshots.log")
BYTES_MAX: Final = 150_000
WIDTH, HEIGHT = 1_280, 800
START_SECONDS: Final = 240.0
STORY_SECONDS: Final = 150.0
SETTLE_SECONDS: Final = 90.0  # Until scores have followed, and charts have a shape.
_PIXELS: Final = """async (data) => {
    const image = await createImageBitmap(await (await fetch("data:image/png;base64," + data)).blob());
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const bytes = context.getImageData(0, 0, image.width, image.height).data;
    let text = "";
    for (let start = 0; start < bytes.length; start += 32768)
        text += String.fromCharCode(...bytes.subarray(start, start + 32768));
    return [image.width, image.height, btoa(text)];
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One page of the demo; `find_path` asks the API for the id that its address needs."""

    name: str
    find_path: Callable[[httpx.Client], str]
    height: int = HEIGHT


def ask(client: httpx.Client, path: str, **asked: Any) -> list[dict[str, Any]]:
    """The items of a list."""
    answer = client.get(f"/api/v1/{path}", params=asked)
    answer.raise_for_status()
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def find_scraper_alert(client: httpx.Client) -> dict[str, Any]:
    """The alert about the client that reads every order."""
    accused = [one for one in ask(client, "alerts", state="open") if one["consumer"].startswith("principal:")]
    return accused[0]


PICTURES: Final = (
    Picture(name="overview", find_path=lambda _: "/"),
    Picture(name="endpoints", find_path=lambda _: "/endpoints?sort=risk"),
    Picture(
        name="endpoint",
        find_path=lambda client: f"/endpoints/{ask(client, 'endpoints', sort='risk', limit=1)[0]['id']}",
        height=1_000,
    ),
    Picture(name="alert", find_path=lambda client: f"/alerts/{find_scraper_alert(client)['id']}", height=1_000),
    Picture(name="incident", find_path=lambda client: f"/incidents/{find_scraper_alert(client)['incident_id']}"),
    Picture(name="map", find_path=lambda _: "/map"),
    Picture(name="findings", find_path=lambda _: "/findings"),
    Picture(name="response", find_path=lambda _: "/response"),
)


def take_pictures(address: str, names: Sequence[str]) -> None:
    """All that are named, or all. Raises httpx.HTTPError, and playwright's errors."""
    program = shutil.which("chromium")
    with httpx.Client(base_url=address, timeout=30) as client, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-lcd-text"])
        blank = browser.new_page()
        for picture in PICTURES:
            if names and picture.name not in names:
                continue
            page = browser.new_page(base_url=address, viewport={"width": WIDTH, "height": picture.height})
            page.goto(picture.find_path(client))
            page.wait_for_timeout(1_500)
            data = compress(blank, page.screenshot())
            page.close()
            keep(f"{picture.name}.png", data)
        browser.close()
        if not names or TERMINAL in names:
            keep(f"{TERMINAL}.svg", draw_terminal(client).encode())


def keep(name: str, data: bytes) -> None:
    """Writes a picture and says how large it is."""
    (DIRECTORY / name).write_bytes(data)
    print(f"{name}: {len(data):,} bytes{' (too many)' if len(data) > BYTES_MAX else ''}", flush=True)


def compress(blank: Page, screenshot: bytes) -> bytes:
    """The browser decodes its own picture; the palette is ours."""
    width, height, text = blank.evaluate(_PIXELS, base64.b64encode(screenshot).decode())
    pixels = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)
    return encode_png(pixels)


def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(help=f"Which: {', '.join((*(one.name for one in PICTURES), TERMINAL))}; default: all."),
    ] = None,
    url: Annotated[str, typer.Option("--url", help="Of a demo that runs already, instead of a new one.")] = "",
) -> None:
    """Takes the pictures of README and docs from the demo into docs/images."""
    DIRECTORY.mkdir(exist_ok=True)
    if url:
        take_pictures(url, names or ())
        return
    LOG.parent.mkdir(parents=True, exist_ok=True)
    demo = Program("demo", [sys.executable, "-m", "scripts.live", "--demo", "--headless", "--seed", "7"], LOG)
    try:
        address = demo.wait_for("started", START_SECONDS)["url"]
        demo.wait_for("enforced", STORY_SECONDS)
        time.sleep(SETTLE_SECONDS)
        take_pictures(address, names or ())
    except ProgramError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    finally:
        demo.stop(60)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(run)
    run_app(app, PROGRAM)
