"""One thief among honest clients, blocked while all of them call: what it still got, how soon, whom else it hurt."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from scripts.bench_cases.blocking.clients import Caller, Loop

HONEST_COUNT = 4
WARM_SECONDS = 6.0
THIEF_INTERVAL_SECONDS = 0.01
HONEST_INTERVAL_SECONDS = 0.02
FIND_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How the clients come, and what is blocked."""

    name: str
    make_caller: Callable[[str, str], Caller]  # Source address, key.
    is_by_address: bool
    thief: str  # Address.
    is_confirmed: bool = True


class Api:
    """The collector's, without a token."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=f"{url}/api/v1", timeout=20)

    def get(self, path: str) -> Any:
        answer = self._client.get(path)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, **body: Any) -> Any:
        answer = self._client.post(path, json={"asked_by": "bench", **body})
        if answer.is_error:
            raise RuntimeError(answer.text)
        return answer.json()

    def put(self, path: str, **body: Any) -> Any:
        answer = self._client.put(path, json={"asked_by": "bench", **body})
        if answer.is_error:
            raise RuntimeError(answer.text)
        return answer.json()

    def close(self) -> None:
        self._client.close()


def find_principal(api: Api, thief: str) -> str:
    """The consumer that calls from an address."""
    deadline = time.monotonic() + FIND_SECONDS
    while time.monotonic() < deadline:
        for item in api.get("/consumers")["items"]:
            if item["id"].startswith("principal:") and f"'{thief}'" in str(api.get(f"/consumers/{item['id']}")):
                return str(item["id"])
        time.sleep(0.2)
    raise RuntimeError(f"the thief is not among the consumers within {FIND_SECONDS:.0f} s")


class Timed(Loop):
    """Notes when each call ended and how."""

    def __init__(self, caller: Caller, interval_seconds: float) -> None:
        self.calls: list[tuple[float, str]] = []
        super().__init__(caller, interval_seconds)

    def note(self, outcome: str) -> None:
        """Called after each call, in its thread."""
        self.calls.append((time.monotonic(), outcome))


def run_trial(api: Api, trial: Trial, minute_seconds: float) -> dict[str, Any]:
    """The figures of one trial; everything is lifted at its end."""
    thief = Timed(trial.make_caller(trial.thief, f"stolen-{trial.name}-0123456789"), THIEF_INTERVAL_SECONDS)
    honest: list[Timed] = []
    try:
        # Alone at first: on a connection that others share, all have one address.
        target = trial.thief if trial.is_by_address else find_principal(api, trial.thief)
        honest += [
            Timed(trial.make_caller(f"127.0.1.{n + 1}", f"honest-{n}-{trial.name}-0123456789"), HONEST_INTERVAL_SECONDS)
            for n in range(HONEST_COUNT)
        ]
        time.sleep(WARM_SECONDS)
        decided = time.monotonic()
        block = api.post("/blocks", consumer=target, seconds=600, is_confirmed=trial.is_confirmed)
        answered = time.monotonic()
        time.sleep(minute_seconds)
        told = api.get(f"/blocks/{block['id']}")
    finally:
        ended = time.monotonic()
        api.post("/blocks/lift")
        for loop in (thief, *honest):
            loop.stop()
    after = [(at, outcome) for at, outcome in thief.calls if decided < at < ended]
    first = next((at for at, outcome in after if outcome == "reset"), None)
    leaked = Counter(outcome for _, outcome in after)
    hurt = Counter(outcome for loop in honest for at, outcome in loop.calls if at < ended)
    return {
        "case": trial.name,
        "by": "address" if trial.is_by_address else "principal",
        "decision_to_block_seconds": round(first - decided, 3) if first is not None else None,
        "api_seconds": round(answered - decided, 3),
        "leaked_records": leaked["200"],
        "leaked_after_first_reset": sum(outcome == "200" for at, outcome in after if first is not None and at > first),
        "thief_resets": leaked["reset"],
        "thief_hangs": leaked["hang"],
        "told_as_let_through": sum(node["spared_requests"] for node in told["nodes"]),
        "honest_calls": sum(hurt.values()),
        "honest_hurt": sum(hurt.values()) - hurt["200"],
        "seconds": round(ended - decided, 1),
    }
