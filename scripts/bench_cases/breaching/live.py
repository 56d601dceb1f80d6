"""The thief of 10.4 records a second among honest callers, for minutes, against nginx with a real sensor and collector.

nginx serves accounts; honest callers each read their own objects again and again; the thief takes one account after the
other with a key of its own from its own address. The installation is minutes old, so that what names the thief is a
notice (docs/use/alerts.md): its bars are those of the first hour.
"""

import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from scripts.bench_cases.blocking.clients import Caller, Loop
from scripts.bench_cases.blocking.trial import Api
from scripts.bench_cases.breaching.thieves import RATE
from scripts.demo.nginx import Nginx
from scripts.live.host import start_collector, start_sensor

SERVER = """\
        location /api/v1/accounts/ {
            default_type application/json;
            return 200 '{"id": 1, "name": "Ada", "plan": "prepaid"}';
        }"""
BAR_SECONDS, BAR_RECORDS = 30, 320
HONEST_COUNT = 16
HONEST_INTERVAL_SECONDS = 0.25
OBJECTS = 8  # Of each honest caller.
THIEF_ADDRESS = "127.0.3.1"
PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.1


class Reader(Loop):
    """An honest caller: its own accounts, round and round."""

    def __init__(self, port: int, number: int) -> None:
        self._number, self._calls = number, 0
        key = f"honest-{number:04d}-0123456789abcdef"
        caller = Caller(port, f"127.0.2.{number + 1}", {"X-Api-Key": key})
        super().__init__(caller, HONEST_INTERVAL_SECONDS)

    def _run(self) -> None:
        while not self._is_ending.wait(self._interval):
            self._calls += 1
            self.caller.call(f"/api/v1/accounts/{1_000 * self._number + self._calls % OBJECTS}")


@dataclass
class Thief:
    """Takes account after account at RATE, in a thread; `taken` are the times of its answers (monotonic clock)."""

    caller: Caller
    taken: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._is_ending = threading.Event()
        self.began = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._is_ending.wait(max(0.0, self.began + number / RATE - time.monotonic())):
            number += 1
            if self.caller.call(f"/api/v1/accounts/{7_000_000 + 13 * number}") == "200":
                self.taken.append(time.monotonic())

    def stop(self) -> None:
        """Ends it."""
        self._is_ending.set()
        self._thread.join()
        self.caller.close()


def run_live(warm_seconds: float) -> dict[str, Any]:
    """One trial: seconds and records from the thief's first call until an alert that names it."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apidae-breach-")))
        nginx = Nginx(directory / "nginx", SERVER)
        stack.callback(nginx.stop)
        collector, address = start_collector(directory / "data", directory)
        stack.callback(collector.stop)
        sensor = start_sensor(address, directory / "sensor", directory)
        stack.callback(sensor.stop)
        api = Api(address.url)
        stack.callback(api.close)
        readers = [Reader(nginx.port, number) for number in range(HONEST_COUNT)]
        for reader in readers:
            stack.callback(reader.stop)
        time.sleep(warm_seconds)
        thief = Thief(Caller(nginx.port, THIEF_ADDRESS, {"X-Api-Key": "stolen-0123456789abcdef"}))
        stack.callback(thief.stop)
        found, seconds = _wait_for_alert(api, thief.began)
        records = sum(at <= thief.began + seconds for at in thief.taken)
        return _describe(api, found, seconds, records, warm_seconds, readers)


def _wait_for_alert(api: Api, began: float) -> tuple[dict[str, Any] | None, float]:
    """The first alert that names the thief, and how long it took. Alerts come before the inventory knows the consumer's
    address, so all that are open are kept with the second in which they were seen first."""
    first_seen: dict[str, float] = {}
    while time.monotonic() < began + PATIENCE_SECONDS:
        alerts = [alert for alert in _list_alerts(api) if alert["consumer"]]
        for alert in alerts:
            first_seen.setdefault(alert["consumer"], time.monotonic() - began)
        for alert in alerts:
            if _comes_from(api, alert["consumer"], THIEF_ADDRESS):
                return alert, first_seen[alert["consumer"]]
        time.sleep(_POLL_SECONDS)
    return None, PATIENCE_SECONDS


def _comes_from(api: Api, consumer: str, address: str) -> bool:
    try:
        return f"'{address}'" in str(api.get(f"/consumers/{consumer}"))
    except httpx.HTTPStatusError:  # The inventory does not know it yet.
        return False


def _list_alerts(api: Api) -> list[dict[str, Any]]:
    return list(api.get("/alerts")["items"])


def _describe(
    api: Api, found: dict[str, Any] | None, seconds: float, records: int, warm_seconds: float, readers: list[Reader]
) -> dict[str, Any]:
    outcomes = [reader.stop() for reader in readers]
    thief = found["consumer"] if found is not None else ""
    others = [alert for alert in _list_alerts(api) if alert["consumer"] not in ("", thief)]
    is_met = found is not None and seconds <= BAR_SECONDS and records <= BAR_RECORDS
    return {
        "thief": "one_key_live",
        "warm_seconds": warm_seconds,
        "honest_callers": len(readers),
        "honest_calls": sum(sum(outcome.values()) for outcome in outcomes),
        "seconds": round(seconds, 2) if found is not None else None,
        "bar_seconds": BAR_SECONDS,
        "records": records if found is not None else None,
        "bar_records": BAR_RECORDS,
        "is_met": is_met,
        "title": found["title"] if found is not None else None,
        "kind": found["kind"] if found is not None else None,
        "severity": found["severity"] if found is not None else None,
        "confidence": found["confidence"] if found is not None else None,
        "honest_named": [f"{alert['kind']}: {alert['title']}" for alert in others],
    }
