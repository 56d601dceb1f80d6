"""What changes something goes to the collector that does the jobs, once, in the name of whoever asked."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp

from collector.api.forwarding import HERE, Peers
from collector.api.services import ApiSettings, Services
from collector.server.app import build_app
from collector.storage.state.store import StateStore
from tests.collector.api.fakes import MemoryAlerts, make_alert
from tests.collector.http_serving import EmptyReader, serve

TOKEN = "correct-horse"
PATH = "/api/v1/alerts/a1/acknowledge"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@dataclass
class Member:
    """One collector of two."""

    url: str
    alerts: MemoryAlerts


def make_app(
    state: StateStore, alerts: MemoryAlerts, find_holder: Callable[[], str | None], token: str | None = TOKEN
) -> ASGIApp:
    return build_app(
        Services(
            store=EmptyReader(),  # type: ignore[arg-type]
            state=state,
            alerts=alerts,
            settings=ApiSettings(token=token, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: 1_800_000_000.0,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
            peers=Peers(find_holder=find_holder),
        )
    )


@asynccontextmanager
async def run_pair(
    state: StateStore, standby_holder: Callable[[str], str | None]
) -> AsyncIterator[tuple[Member, Member]]:
    """The holder, and a standby that finds as the holder what `standby_holder` makes of its URL."""
    first, second = MemoryAlerts(make_alert("a1")), MemoryAlerts(make_alert("a1"))
    async with serve(make_app(state, first, lambda: HERE)) as (_, port):
        url = f"http://127.0.0.1:{port}"
        async with serve(make_app(state, second, lambda: standby_holder(url))) as (_, other):
            yield Member(url, first), Member(f"http://127.0.0.1:{other}", second)


def test_a_change_reaches_the_holder_and_what_reads_is_answered_here(sqlite_state: StateStore) -> None:
    async def main() -> None:
        async with (
            run_pair(sqlite_state, lambda url: url) as (holder, standby),
            httpx.AsyncClient(base_url=standby.url, timeout=60) as client,
        ):
            answer = await client.post(PATH.replace("a1", "a%201"), json={}, headers=BEARER)
            assert answer.status_code == 404 and "'a 1'" in answer.json()["detail"], answer.text
            answer = await client.post(PATH, json={"asked_by": "ops"}, headers=BEARER)
            assert (answer.status_code, answer.json()["acknowledged_by"]) == (200, "api-token, asked by ops")
            assert answer.headers["content-type"] == "application/json"
            assert not standby.alerts.alerts["a1"].acknowledged_by
            assert holder.alerts.alerts["a1"].acknowledged_by == "api-token, asked by ops"
            answer = await client.get("/api/v1/alerts/a1", headers=BEARER)
            assert answer.json()["acknowledged_by"] == ""

    asyncio.run(main())


def test_a_person_signs_in_here_and_acts_there_in_the_name_of_the_session(sqlite_state: StateStore) -> None:
    async def main() -> None:
        async with (
            run_pair(sqlite_state, lambda url: url) as (holder, standby),
            httpx.AsyncClient(base_url=standby.url, timeout=60) as client,
        ):
            assert (await client.post("/login", data={"token": TOKEN, "next": "/"})).status_code == 303
            form = {"sec-fetch-site": "same-origin", "origin": standby.url}
            answer = await client.post("/alerts/a1/acknowledge", headers=form)
            assert answer.status_code == 303 and answer.headers["location"].startswith("/")
            assert holder.alerts.alerts["a1"].acknowledged_by == "page-session"
            holder.alerts.alerts["a1"] = make_alert("a1")
            for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "http://evil.example"}):
                assert (await client.post("/alerts/a1/acknowledge", headers=headers)).status_code == 403
            client.cookies.clear()
            assert (await client.post(PATH, json={})).status_code == 401
            assert not holder.alerts.alerts["a1"].acknowledged_by

    asyncio.run(main())


def ask_standby(state: StateStore, find: Callable[[str], str | None], **headers: str) -> tuple[httpx.Response, Member]:
    found: list[Any] = []

    async def main() -> None:
        async with (
            run_pair(state, find) as (holder, standby),
            httpx.AsyncClient(base_url=standby.url, timeout=60) as client,
        ):
            found.extend((await client.post(PATH, json={}, headers=BEARER | headers), holder))

    asyncio.run(main())
    return found[0], found[1]


def test_without_a_holder_there_is_one_sentence(sqlite_state: StateStore) -> None:
    answer, _ = ask_standby(sqlite_state, lambda url: None)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["detail"].startswith("No collector does the jobs at the moment")


def test_a_holder_that_is_gone_is_one_sentence(sqlite_state: StateStore) -> None:
    answer, _ = ask_standby(sqlite_state, lambda url: "http://127.0.0.1:9")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "The collector that does the jobs does not answer (ConnectError); try again."


def test_nothing_is_passed_on_twice(sqlite_state: StateStore) -> None:
    answer, holder = ask_standby(sqlite_state, lambda url: url, **{"apidae-forwarded": "api-token"})
    assert answer.status_code == 503 and not holder.alerts.alerts["a1"].acknowledged_by


def test_whoever_waits_for_one_that_stands_still_hears_of_its_successor(sqlite_state: StateStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as still:  # It takes connections, and nobody reads them.
        url = "http://{}:{}".format(*still.getsockname())
        holders = [url, url]

        async def main() -> None:
            app = make_app(sqlite_state, MemoryAlerts(make_alert("a1")), lambda: holders.pop() if holders else HERE)
            async with (
                serve(app) as (_, port),
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
            ):
                answer = await client.post(PATH, json={}, headers=BEARER)
                assert answer.status_code == 503 and "Another collector took over" in answer.json()["detail"]

        asyncio.run(main())
