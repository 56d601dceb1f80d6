"""What the demo does while it runs: starts each act when it is due, says when the scraper is flagged, blocks it, and
lifts the block at the end. It acts by the collector's API, as anybody could.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from scripts.demo.stage import ACTS, Act, Stage

# Kinds of alerts by which the scraper may be flagged.
SCRAPER_KINDS: Final = frozenset(("volume_endpoint", "volume_consumer", "volume_pair", "enumeration"))
BLOCK_DELAY_SECONDS: Final = 15.0  # Time to look at the alert first.
BLOCK_SECONDS: Final = 300
BLOCKED_SERVICE: Final = "gateway"
API: Final = "/api/v1"
Tell = Callable[..., None]


@dataclass(slots=True)
class Story:
    """One run of the demo's acts. `notes` are the sentences that stay on the screen."""

    stage: Stage
    client: httpx.Client
    tell: Tell
    acts: tuple[Act, ...] = ACTS
    notes: list[str] = field(default_factory=list)
    _waiting: list[Act] = field(init=False)
    _scraper_started_at: float | None = None
    _flagged_at: float | None = None  # Seconds after the start.
    _alert: Mapping[str, Any] = field(default_factory=dict)
    _block_id: str = ""
    _is_enforced: bool = False

    def __post_init__(self) -> None:
        self._waiting = list(self.acts)

    def step(self, elapsed_seconds: float) -> None:
        """Called once a second. A collector that does not answer is asked again at the next step."""
        self._start_acts(elapsed_seconds)
        with contextlib.suppress(httpx.HTTPError, ValueError, LookupError):
            if self._scraper_started_at is None or self._is_enforced:
                return
            if self._flagged_at is None:
                self._look_for_alert(elapsed_seconds)
            elif not self._block_id and elapsed_seconds >= self._flagged_at + BLOCK_DELAY_SECONDS:
                self._block()
            elif self._block_id:
                self._look_at_block()

    def end(self) -> None:
        """Lifts the block, while the collector still answers."""
        if not self._block_id:
            return
        with contextlib.suppress(httpx.HTTPError):
            lifted = self.client.post(f"{API}/blocks/{self._block_id}/lift", json={"asked_by": "demo"})
            if lifted.is_success:
                self.tell("lifted", "the block is lifted", block=self._block_id)

    def _start_acts(self, elapsed_seconds: float) -> None:
        for act in [act for act in self._waiting if elapsed_seconds >= act.seconds]:
            self._waiting.remove(act)
            started_at = self.stage.start(act)
            if act.name == "scraper":
                self._scraper_started_at = started_at
            self._note("act", f"since second {elapsed_seconds:.0f} {act.text}", name=act.name)

    def _look_for_alert(self, elapsed_seconds: float) -> None:
        for alert in self._get("alerts", state="open")["items"]:
            if alert["kind"] in SCRAPER_KINDS and alert["consumer"].startswith("principal:"):
                self._alert, self._flagged_at = alert, elapsed_seconds
                seconds = round(time.time() - (self._scraper_started_at or 0.0), 1)
                self._note("flagged", f"scraper flagged {seconds:.1f} s after its start", seconds=seconds)
                return

    def _block(self) -> None:
        consumer = self._alert["consumer"]
        wish = {
            "consumer": consumer,
            "services": [BLOCKED_SERVICE],
            "seconds": BLOCK_SECONDS,
            "reason": "reads every order by number",
            "alert_id": self._alert["id"],
            "asked_by": "demo",
        }
        preview = self.client.post(f"{API}/blocks/preview", json={"consumer": consumer})
        answer = self.client.post(f"{API}/blocks", json=wish)
        if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
            return  # Its calls are still on their way to the tables.
        preview.raise_for_status()
        answer.raise_for_status()
        self._block_id = answer.json()["id"]
        calls = preview.json()["calls"]
        text = f"{consumer} is blocked for {BLOCK_SECONDS // 60} minutes; it had made {calls:,} calls"
        self._note("blocked", text, block=self._block_id, consumer=consumer, calls=calls)

    def _look_at_block(self) -> None:
        block = self._get(f"blocks/{self._block_id}")
        if block["stopped_connections"]:
            self._is_enforced = True
            self._note("enforced", "the sensor resets the scraper's connections", block=self._block_id)

    def _get(self, path: str, **params: str) -> Any:
        answer = self.client.get(f"{API}/{path}", params=params)
        answer.raise_for_status()
        return answer.json()

    def _note(self, event: str, text: str, **fields: object) -> None:
        self.notes.append(text)
        self.tell(event, text, **fields)
