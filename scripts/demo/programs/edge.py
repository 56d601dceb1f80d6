"""Demo clients outside, and the load balancer in front of them: each call comes from the balancer's address and names
its client in X-Forwarded-For.

    python -m edge gateway=PORT [seed=N] [catalog=1] [cart=1]     honest clients, some 3 calls a second in all
    python -m edge gateway=PORT attack=stuffing|injection         one attacker

Each consumer is a task of its own with its own address, credential and connection.
"""

import asyncio
import json
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from scripts.demo.credentials import make_key, make_uuid
from scripts.demo.people import FIRST_ORDER, HOST, PASSWORD
from scripts.demo.web import EDGE_ADDRESS, read_arguments

# Nobody has these addresses: they were those of 6to4 relays until RFC 7526. Networks for documentation do not count as
# public.
OUTSIDE = "192.88.99."
SHOPPERS = 5
PARTNERS = 2
THINK_MEDIAN_SECONDS = 1.8  # Between two clicks; log-normal, as people are: mostly quick, at times long.
THINK_SIGMA = 0.8
SESSION_END_PROBABILITY = 0.08  # A session is some 12 clicks.
BREAK_MEAN_SECONDS = 12.0
TIMEOUT_SECONDS = 10.0
STUFFING_CALLS_PER_SECOND = 3.0
STUFFING_TRIES = 240
PAYLOADS = (
    "' OR '1'='1",
    "1 UNION SELECT card_number, expiry FROM cards--",
    "'; DROP TABLE orders;--",
    "1' AND SLEEP(5)--",
    "admin'/*",
    "' UNION ALL SELECT NULL, password FROM users--",
    "1 OR 1=1",
    "../../../../etc/passwd",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What every client knows."""

    gateway: int
    has_catalog: bool = False
    has_cart: bool = False


class Consumer:
    """One client: its address, its software and its connection to the gateway."""

    def __init__(self, world: World, name: str, address: str, rng: random.Random, agent: str) -> None:
        self.world, self.name, self.rng = world, name, rng
        self._http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{world.gateway}",
            timeout=TIMEOUT_SECONDS,
            headers={"Host": HOST, "User-Agent": agent, "X-Forwarded-For": address},
            transport=httpx.AsyncHTTPTransport(local_address=EDGE_ADDRESS),
        )

    async def call(self, method: str, path: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        """One call, to its end."""
        return await self._http.request(method, path, headers=headers, **body)

    async def think(self) -> None:
        """A person's pause."""
        await asyncio.sleep(min(30.0, math.exp(self.rng.gauss(math.log(THINK_MEDIAN_SECONDS), THINK_SIGMA))))


async def shop(one: Consumer) -> None:
    """Sign in, look at one's own orders, fill the cart, buy now and then, go away, come back."""
    rng = one.rng
    cookie = {"Cookie": f"theme=dark; session={make_key(rng)}"}
    user_id = make_uuid(rng)
    own_orders = [FIRST_ORDER + rng.randrange(50_000) for _ in range(rng.randrange(3, 9))]
    await asyncio.sleep(rng.uniform(0, 3))
    while True:
        answer = await one.call("POST", "/login", json={"email": f"{one.name}@shop.example", "password": PASSWORD})
        bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        await one.call("GET", f"/api/v2/users/{user_id}", bearer)
        while rng.random() > SESSION_END_PROBABILITY:
            await one.think()
            click = rng.random()
            if click < 0.35:
                await one.call("GET", f"/api/v1/orders/{rng.choice(own_orders)}", bearer)
            elif click < 0.6:
                await one.call("GET", f"/api/v1/orders?page={rng.randrange(1, 4)}", bearer)
            elif click < 0.7:
                await one.call("POST", "/api/v1/orders", bearer, json={"product": rng.randrange(1_000, 1_060)})
            elif one.world.has_cart and click < 0.9:
                await one.call("GET", "/cart", cookie)
            elif one.world.has_cart:
                await one.call("PUT", f"/cart/items/{rng.randrange(1_000, 1_060)}", cookie, json={"count": 1})
        await asyncio.sleep(rng.expovariate(1 / BREAK_MEAN_SECONDS))


async def poll_catalog(one: Consumer) -> None:
    """A partner's shop that reads products, some of them withdrawn."""
    key = {"X-API-Key": make_key(one.rng)}
    while True:
        await one.call("GET", f"/products/{one.rng.randrange(1_000, 1_062)}", key)
        await asyncio.sleep(one.rng.uniform(1.0, 4.0))


async def read_export(one: Consumer) -> None:
    """Somebody outside who found the export of persons, and needs no credentials."""
    user_ids = [make_uuid(one.rng) for _ in range(12)]
    while True:
        await one.call("GET", f"/internal/users/{one.rng.choice(user_ids)}/export")
        await asyncio.sleep(one.rng.uniform(3.0, 7.0))


async def stuff(one: Consumer) -> None:
    """Names and passwords of somebody else's list, at the login, until the list ends."""
    for number in range(STUFFING_TRIES):
        name = f"{one.rng.choice(('anna', 'jonas', 'maria', 'tom'))}{number}@mail.example"
        await one.call("POST", "/login", json={"email": name, "password": make_key(one.rng)[:12]})
        await asyncio.sleep(1 / STUFFING_CALLS_PER_SECOND)
    await asyncio.Event().wait()


async def inject(one: Consumer) -> None:
    """Payloads of a scanner in a search, one after the other."""
    while True:
        for payload in PAYLOADS:
            await one.call("GET", f"/api/v1/orders?search={quote(payload)}")
            await asyncio.sleep(one.rng.uniform(0.5, 1.5))


Behaviour = Callable[[Consumer], Awaitable[None]]
ATTACKS: dict[str, tuple[Behaviour, str, str]] = {
    "stuffing": (stuff, f"{OUTSIDE}200", "python-requests/2.32"),
    "injection": (inject, f"{OUTSIDE}210", "sqlmap/1.8"),
}


async def live(behaviour: Behaviour, consumer: Consumer) -> None:
    """One consumer for ever: a failed call is one that a person would try again a little later."""
    while True:
        try:
            await behaviour(consumer)
        except (httpx.HTTPError, LookupError, ValueError):
            await asyncio.sleep(1 + consumer.rng.random())


async def run_honest(world: World, rng: random.Random) -> None:
    """All honest clients at once; each with a random source of its own, so that one's luck does not move another's."""
    cast: list[tuple[Behaviour, str, str]] = [(shop, f"customer-{index}", "Shop/5.1") for index in range(SHOPPERS)]
    cast.append((read_export, "stranger", "curl/8.14"))
    if world.has_catalog:
        cast += [(poll_catalog, f"partner-{index}", "partner-feed/1.4") for index in range(PARTNERS)]
    async with asyncio.TaskGroup() as group:
        for number, (behaviour, name, agent) in enumerate(cast):
            source = random.Random(rng.getrandbits(64))
            group.create_task(live(behaviour, Consumer(world, name, f"{OUTSIDE}{10 + number}", source, agent)))


async def run_attack(world: World, name: str, rng: random.Random) -> None:
    """One attacker."""
    behaviour, address, agent = ATTACKS[name]
    await live(behaviour, Consumer(world, name, address, rng, agent))


def main() -> None:
    arguments = read_arguments()
    world = World(gateway=int(arguments["gateway"]), has_catalog="catalog" in arguments, has_cart="cart" in arguments)
    rng = random.Random(int(arguments["seed"]) if "seed" in arguments else None)
    print(json.dumps({"event": "ready", "time": time.time()}), flush=True)
    attack = arguments.get("attack", "")
    asyncio.run(run_attack(world, attack, rng) if attack else run_honest(world, rng))


if __name__ == "__main__":
    main()
