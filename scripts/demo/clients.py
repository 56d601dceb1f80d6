"""Honest demo clients: shoppers who think between clicks, partners who poll, a monitor, an internal report; some 3
calls a second in all.

    python -m scripts.demo.clients orders=PORT users=PORT [catalog=PORT] [cart=PORT] [seed=N]

Each consumer is a task of its own with its own credential and connection. A service that is not named is not called.
"""

import asyncio
import json
import math
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from scripts.demo.credentials import make_jwt, make_key, make_uuid
from scripts.demo.orders import FIRST_ORDER

SHOPPERS = 5
PARTNERS = 2
THINK_MEDIAN_SECONDS = 1.8  # Between two clicks; log-normal, as people are: mostly quick, at times long.
THINK_SIGMA = 0.8
SESSION_END_PROBABILITY = 0.08  # A session is some 12 clicks.
BREAK_MEAN_SECONDS = 12.0
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What every client knows: ports by service name."""

    ports: dict[str, int]

    def url(self, service: str, path: str) -> str:
        """Address of `path` at a service."""
        return f"http://127.0.0.1:{self.ports[service]}{path}"

    def has(self, service: str) -> bool:
        """Whether the service runs."""
        return service in self.ports


async def think(rng: random.Random) -> None:
    """A person's pause."""
    await asyncio.sleep(min(30.0, math.exp(rng.gauss(math.log(THINK_MEDIAN_SECONDS), THINK_SIGMA))))


async def shop(world: World, client: httpx.AsyncClient, name: str, rng: random.Random) -> None:
    """Sign in, look at one's own orders, fill the cart, buy now and then, go away, come back."""
    cookie = {"Cookie": f"theme=dark; session={make_key(rng)}"}
    user_id = make_uuid(rng)
    own_orders = [FIRST_ORDER + rng.randrange(50_000) for _ in range(rng.randrange(3, 9))]
    await asyncio.sleep(rng.uniform(0, 3))
    while True:
        bearer = {"Authorization": f"Bearer {make_jwt(name, rng)}"}
        await client.get(world.url("users", f"/api/v2/users/{user_id}"), headers=bearer)
        while rng.random() > SESSION_END_PROBABILITY:
            await think(rng)
            click = rng.random()
            if click < 0.35:
                await client.get(world.url("orders", f"/api/v1/orders/{rng.choice(own_orders)}"), headers=bearer)
            elif click < 0.6:
                await client.get(world.url("orders", f"/api/v1/orders?page={rng.randrange(1, 4)}"), headers=bearer)
            elif click < 0.66:
                await client.post(
                    world.url("orders", "/api/v1/orders"), headers=bearer, json={"product": rng.randrange(1_000, 1_060)}
                )
            elif world.has("cart") and click < 0.9:
                await client.get(world.url("cart", "/cart"), headers=cookie)
            elif world.has("cart"):
                await client.put(
                    world.url("cart", f"/cart/items/{rng.randrange(1_000, 1_060)}"), headers=cookie, json={"count": 1}
                )
        await asyncio.sleep(rng.expovariate(1 / BREAK_MEAN_SECONDS))


async def poll_catalog(world: World, client: httpx.AsyncClient, _: str, rng: random.Random) -> None:
    """A partner's shop that reads products, some of them withdrawn."""
    key = {"X-API-Key": make_key(rng)}
    while True:
        await client.get(world.url("catalog", f"/products/{rng.randrange(1_000, 1_062)}"), headers=key)
        await asyncio.sleep(rng.uniform(1.0, 4.0))


async def check_health(world: World, client: httpx.AsyncClient, _: str, rng: random.Random) -> None:
    """Monitoring, every few seconds, without credentials as is usual."""
    while True:
        for service in ("orders", "users"):
            await client.get(world.url(service, "/healthz"))
        await asyncio.sleep(5 + rng.uniform(-0.2, 0.2))


async def export_users(world: World, client: httpx.AsyncClient, _: str, rng: random.Random) -> None:
    """An internal report that reads persons without any credentials."""
    user_ids = [make_uuid(rng) for _ in range(12)]
    while True:
        await client.get(world.url("users", f"/internal/users/{rng.choice(user_ids)}/export"))
        await asyncio.sleep(rng.uniform(1.5, 6.0))


Behaviour = Callable[[World, httpx.AsyncClient, str, random.Random], Awaitable[None]]


async def live(behaviour: Behaviour, world: World, name: str, rng: random.Random) -> None:
    """One consumer for ever: a failed call is one that a person would try again a little later."""
    async with httpx.AsyncClient(
        timeout=TIMEOUT_SECONDS, headers={"User-Agent": f"demo-{name.partition('-')[0]}/1.0"}
    ) as client:
        while True:
            try:
                await behaviour(world, client, name, rng)
            except httpx.HTTPError:
                await asyncio.sleep(1 + rng.random())


async def run_clients(world: World, rng: random.Random) -> None:
    """All consumers at once; each with a random source of its own, so that one's luck does not move another's."""
    cast: list[tuple[Behaviour, str]] = [(shop, f"shopper-{index}") for index in range(SHOPPERS)]
    cast += [(check_health, "monitor"), (export_users, "report")]
    if world.has("catalog"):
        cast += [(poll_catalog, f"partner-{index}") for index in range(PARTNERS)]
    async with asyncio.TaskGroup() as group:
        for behaviour, name in cast:
            group.create_task(live(behaviour, world, name, random.Random(rng.getrandbits(64))))


def main() -> None:
    settings = {name: int(value) for name, _, value in (argument.partition("=") for argument in sys.argv[1:])}
    rng = random.Random(settings.pop("seed", None))
    print(json.dumps({"event": "ready"}), flush=True)
    asyncio.run(run_clients(World(ports=settings), rng))


if __name__ == "__main__":
    main()
