"""Whoever stole the collector's key: a server of our own in its place tells a real sensor on the real kernel to stop
everybody, and honest clients are served throughout. What the sensor's own settings allow, it still does."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from apidae.v1 import stream_pb2

from common.keyed_hash import hash_siphash
from scripts.bench_cases.blocking.clients import Caller, Loop, Shop
from scripts.live.host import CollectorAddress
from tests.e2e.conftest import Product
from tests.sensor.export.collector import KEY, FakeCollector
from tests.waiting import wait_for_equal, wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e, pytest.mark.full("sensor.enforce", "sensor.export")]

PARTNER, BUSY, SMALL, THIEF = "127.0.1.11", "127.0.1.12", "127.0.1.13", "127.0.1.66"
KEYS = {source: f"key-of-{source}-0123456789" for source in (PARTNER, BUSY, SMALL, THIEF)}
SETTINGS = f"""
[enforcement]
enabled = true
never_block_cidrs = ["{PARTNER}/32"]
max_blocks = 20
max_block_seconds = 3600
max_call_share = 0.5
"""
HOUR_MS, FOREVER_MS = 3_600_000, 2**62


def block(
    id: str, *, address: str = "", credential: str = "", kind: int = 0, left_ms: int = HOUR_MS
) -> stream_pb2.Block:
    """Of an address, or of an API key: who has the installation key can hash it."""
    chosen = stream_pb2.BLOCK_KIND_ADDRESS if address else stream_pb2.BLOCK_KIND_CREDENTIAL
    return stream_pb2.Block(
        id=id,
        kind=kind or chosen,
        address=address,
        hash=hash_siphash(KEY.secret, credential.encode()) if credential else 0,
        key_id=0 if address else KEY.key_id,
        expires_unix_ms=left_ms,
        is_confirmed=True,
    )


HOSTILE = {
    "the never-block list, its address in every form": [
        block("a", address=PARTNER),
        block("b", address=f"::ffff:{PARTNER}"),
        block("c", address=f"{PARTNER}/32"),
    ],
    "its credential": [block("a", credential=KEYS[PARTNER])],
    "all traffic": [block(f"n{n}", address=text) for n, text in enumerate(("0.0.0.0/0", "127.0.0.0/8", "::/0"))]
    + [block("m", address="::ffff:0:0/96"), block("h", address="0.0.0.0/1")],
    "who makes most calls": [block("a", address=BUSY), block("b", credential=KEYS[BUSY])],
    "for ever": [block("a", address=SMALL, left_ms=FOREVER_MS), block("b", credential=KEYS[SMALL], left_ms=FOREVER_MS)],
    "more than may be": [block(f"f{n}", address=f"10.{n >> 8}.{n & 255}.1") for n in range(10_001)],
    "one that is none": [block("a", address=SMALL), block("b", address="localhost")],
    "one id twice": [block("a", address=SMALL), block("a", address=BUSY)],
    "of no kind": [block("a", address=SMALL), block("b", address=BUSY, kind=9)],
    "a flood": [block(f"f{n:05}", address=f"10.{n >> 8}.{n & 255}.1") for n in range(9_990)]
    + [block(f"z{source}", address=source) for source in (PARTNER, BUSY, SMALL)],
}


class Impostor:
    """A collector in a thread of its own, that says what a test wants."""

    def __init__(self) -> None:
        self.fake = FakeCollector()
        self._is_there = threading.Event()
        self._epoch = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._is_there.wait(60)

    async def _serve(self) -> None:
        self._loop, self._is_ending = asyncio.get_running_loop(), asyncio.Event()
        async with self.fake.serve():
            self._is_there.set()
            await self._is_ending.wait()

    @property
    def address(self) -> CollectorAddress:
        return CollectorAddress(grpc=f"127.0.0.1:{self.fake.port}", http="")

    def tell(self, blocks: list[stream_pb2.Block]) -> int:
        """A full policy; its epoch."""
        self._epoch += 1
        triggers = stream_pb2.Triggers(distinct_objects_per_second=10, calls_per_second=20)
        policy = stream_pb2.Policy(
            epoch=self._epoch, is_full=True, triggers=triggers, block_set=stream_pb2.BlockSet(blocks=blocks)
        )
        self._loop.call_soon_threadsafe(self.fake.push, stream_pb2.ConnectResponse(policy=policy))
        return self._epoch

    def count_calls(self) -> int:
        return sum(sum(batch.rows.calls) for batch in list(self.fake.batches))

    def has_answered(self, epoch: int) -> bool:
        return any(result.epoch >= epoch for result in list(self.fake.results))

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._is_ending.set)
        self._thread.join()


@pytest.fixture(scope="module")
def impostor() -> Iterator[Impostor]:
    made = Impostor()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def shop(product: Product, impostor: Impostor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    config = tmp_path_factory.mktemp("settings") / "sensor.toml"
    Path(config).write_text(SETTINGS)
    product.start_sensor(impostor.address, "--config", str(config))
    made = Shop()
    yield made
    made.stop()


def call(shop: Shop, source: str, *, is_keep_alive: bool = True) -> Caller:
    return Caller(shop.port, source, {"X-Api-Key": KEYS[source]}, is_keep_alive=is_keep_alive)


class Behind(Loop):
    """Makes one call for eight of the busy client, so that most calls are that one's on a slow machine too."""

    def __init__(self, shop: Shop, caller: Caller) -> None:
        self._shop = shop
        super().__init__(caller)

    def note(self, outcome: str) -> None:
        while self._shop.served[KEYS[BUSY]] < 8 * self.caller.outcomes.total() and not self._is_ending.wait(0.01):
            pass


def test_honest_clients_are_served_whatever_it_says(shop: Shop, impostor: Impostor) -> None:
    honest = [
        loop
        for is_keep_alive in (True, False)
        for loop in (
            Loop(call(shop, BUSY, is_keep_alive=is_keep_alive), 0.005),
            Behind(shop, call(shop, PARTNER, is_keep_alive=is_keep_alive)),
            Behind(shop, call(shop, SMALL, is_keep_alive=is_keep_alive)),
        )
    ]
    # Until shares are known, nobody is stopped; so it is about what comes after.
    wait_until(lambda: impostor.count_calls() > 300, "the sensor has told calls")
    for blocks in HOSTILE.values():
        epoch = max(impostor.tell(blocks) for _ in range(3))
        wait_until(lambda epoch=epoch: impostor.has_answered(epoch), "the sensor answers")  # type: ignore[misc]
        time.sleep(1.2)  # A tick, and the resets that would follow.
    outcomes = {(loop.caller.source, loop.caller.is_keep_alive): dict(loop.stop()) for loop in honest}
    assert all(set(found) == {"200"} for found in outcomes.values()), outcomes
    assert all(found["200"] > 20 for found in outcomes.values())
    refused = {result.epoch for result in impostor.fake.results if result.reason}
    assert len(refused) == 12, refused  # The four that cannot be, each three times.
    reports = impostor.fake.enforcements
    assert max(sum(one.state == stream_pb2.BLOCK_STATE_ENFORCED for one in report.blocks) for report in reports) == 20


def test_what_the_sensors_settings_allow_is_done_all_the_same(shop: Shop, impostor: Impostor) -> None:
    thief, small = call(shop, THIEF), call(shop, SMALL)
    assert thief.call() == "200"
    impostor.tell([block("thief", address=THIEF)])
    wait_for_equal(thief.call, "reset", "the sensor enforces")
    assert small.call() == "200"
    impostor.tell([])
    wait_for_equal(thief.call, "200", "and lifts")
    for one in (thief, small):
        one.close()
