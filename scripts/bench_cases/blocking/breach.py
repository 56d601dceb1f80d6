"""A thief who reads one account after the other, end to end: from its first call to the alert, and to its block by the
ladder, among honest clients. In an installation's first hour an alert is a notice, which no ladder acts on: then the
bench is the person who approves the proposal as soon as it is there, and the line says so."""

import time
from datetime import datetime
from typing import Any

from scripts.bench_cases.blocking.clients import Caller
from scripts.bench_cases.blocking.trial import HONEST_COUNT, HONEST_INTERVAL_SECONDS, Api, Timed

KINDS = ("enumeration", "mass_export", "volume_consumer", "volume_pair")
THIEF_INTERVAL_SECONDS = 0.05
WARM_SECONDS = 6.0
WAIT_SECONDS = 60.0


class Reader(Timed):
    """Asks for one account after the other."""

    def call(self) -> str:
        """The next one."""
        return self.caller.call(f"/accounts/{len(self.calls) + 1}")


def run_breach(api: Api, port: int, source: str, wait_seconds: float) -> dict[str, Any]:
    """The figures; everything is lifted at its end. Every client here is younger than a day, so the operator lists the
    endpoints."""
    for kind in KINDS:
        api.put(f"/ladder/{kind}", step="enforce", seconds=600, endpoints=["*"])
    honest = [
        Timed(Caller(port, f"127.0.1.{n + 1}", {"X-Api-Key": f"honest-{n}-breach-0123456789"}), HONEST_INTERVAL_SECONDS)
        for n in range(HONEST_COUNT)
    ]
    time.sleep(WARM_SECONDS)
    began, began_unix = time.monotonic(), time.time()
    thief = Reader(Caller(port, source, {"X-Api-Key": "stolen-breach-0123456789"}), THIEF_INTERVAL_SECONDS)
    try:
        deadline = began + max(wait_seconds, WAIT_SECONDS)
        approved = ""
        while time.monotonic() < deadline and not any(outcome == "reset" for _, outcome in list(thief.calls)):
            approved = approved or _approve(api)
            time.sleep(0.05)
        time.sleep(2)
    finally:
        ended = time.monotonic()
        blocks = api.get("/blocks")["items"]
        api.post("/blocks/lift")
        for loop in (thief, *honest):
            loop.stop()
    first = next((at for at, outcome in thief.calls if outcome == "reset"), None)
    own = [block for block in blocks if block["alert_id"]]
    alerts = [api.get(f"/alerts/{block['alert_id']}") for block in own]
    alerted = min((datetime.fromisoformat(alert["opened_at"]).timestamp() for alert in alerts), default=None)
    hurt = sum(outcome != "200" for loop in honest for at, outcome in loop.calls if at < ended)
    return {
        "case": "breach",
        "by": "principal",
        "first_call_to_alert_seconds": round(alerted - began_unix, 2) if alerted is not None else None,
        "first_call_to_block_seconds": round(first - began, 2) if first is not None else None,
        "decision_to_block_seconds": (
            round(first - began - (alerted - began_unix), 2) if first is not None and alerted is not None else None
        ),
        "approved_by_hand": bool(approved),
        "kinds": sorted({alert["kind"] for alert in alerts}),
        "leaked_records": sum(outcome == "200" for _, outcome in thief.calls),
        "leaked_after_first_reset": sum(
            outcome == "200" for at, outcome in thief.calls if first is not None and first < at < ended
        ),
        "thief_hangs": sum(outcome == "hang" for _, outcome in thief.calls),
        "honest_calls": sum(len(loop.calls) for loop in honest),
        "honest_hurt": hurt,
    }


def _approve(api: Api) -> str:
    """The block of the first proposal, if there is one."""
    for block in api.get("/blocks")["items"]:
        if block["state"] == "proposed":
            api.post(f"/blocks/{block['id']}/approve")
            return str(block["id"])
    return ""
