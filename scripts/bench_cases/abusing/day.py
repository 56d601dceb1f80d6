"""A day of one service in lines, as tests/accuracy/abuse.py takes them: honest people by the hundred, a crawler, a
nightly export, support, families, shared addresses; and attacks among them (attacks.py). Deterministic by seed.

What differs from seed to seed: the service, how many come, how often and when, what they own, who renews tokens, how
long an endpoint fails, what calls cost, and every attack's pace, length and hour.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from scripts.bench_cases.abusing.applications import APPLICATIONS, SHOP
from scripts.bench_cases.abusing.costs import Costs
from scripts.bench_cases.abusing.line import DAY, START, Line
from scripts.bench_cases.abusing.renewals import Renewals
from scripts.bench_cases.abusing.service import SHAPES, Account, Shape, make_accounts

AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/126.0", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5) Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64) Firefox/127.0", "okhttp/4.12.0", "App/3.2 (Android 14)",
)  # fmt: skip
_STAFF_SHARE_OF_FUNCTIONS = 0.1
_BLOCKS = (23, 45, 62, 81, 93, 104, 151, 178, 185, 203)  # First bytes of addresses outside.


@dataclass
class Day:
    """The honest side. `lines` are in no order."""

    seed: int
    application: str = SHOP  # Of applications.py; the detectors were set on the shop.
    lines: list[Line] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random = Random(self.seed)
        self.costs = Costs(self.seed)
        self.shape: Shape = SHAPES[self.seed % len(SHAPES)]
        self.people = random.randrange(220, 380)
        most = random.uniform(1.5, 2.5) * (self.people if self.application == SHOP else 380)
        self.accounts: list[Account] = make_accounts(random, int(most))
        self.articles = [f"{random.getrandbits(88):022x}" for _ in range(250)]
        self.busy = random.uniform(0.7, 1.5)  # Sessions, to those of an ordinary day.
        self._peak = random.uniform(10, 16)  # The hour.
        if self.application != SHOP:
            APPLICATIONS[self.application](self)
            return
        failing = random.randrange(5, 20) * 3_600 + random.randrange(3_600)
        self._failing = (self.shape.writes[0], failing, failing + random.randrange(600, 2_400))
        offices = [self.draw_address() for _ in range(2)]
        families = self._draw_families()
        for person in range(self.people):
            self._come(person, offices, families.get(person, ()))
        self._crawl()
        self._export()
        for number in range(random.randrange(2, 5)):
            self._support(number)
        self.lines += Renewals(self).lines

    @property
    def honest_count(self) -> int:
        """Actors among `lines` that are not attacks."""
        return len({line.actor for line in self.lines if not line.actor.startswith("attack")})

    def draw_address(self, random: Random | None = None) -> str:
        """An address outside."""
        random = random or self.random
        first, middle = random.choice(_BLOCKS), [random.randrange(256) for _ in range(2)]
        return f"{first}.{middle[0]}.{middle[1]}.{random.randrange(1, 255)}"

    def draw_second(self, random: Random | None = None) -> float:
        """When somebody comes: by day rather than by night, from midnight on."""
        random = random or self.random
        while True:
            second = random.uniform(0, DAY)
            wave = 0.5 + 0.5 * math.cos(2 * math.pi * (second / 3_600 - self._peak) / 24)
            if random.random() < 0.2 + 0.8 * wave:
                return second

    def say(
        self, second: float, actor: str, address: str, agent: str, token: str, method: str, path: str, status: int = 200
    ) -> None:
        """Add a line; answers of 200 have a size of their own."""
        size = int(self.random.lognormvariate(6.3, 0.8)) if status == 200 else self.random.randrange(20, 120)
        if second < DAY:
            self.lines.append(
                Line(
                    time=round(START + second, 3), actor=actor, address=address, agent=agent, token=token,
                    method=method, path=path, status=status, size=size,
                    milliseconds=self.costs.draw(second, method, path),
                )
            )  # fmt: skip

    def _draw_families(self) -> dict[int, tuple[int, ...]]:
        """Some households share what they own: each of two to four reads the others' too."""
        families: dict[int, tuple[int, ...]] = {}
        for _ in range(self.people // 40):
            members = tuple(self.random.sample(range(self.people), self.random.randrange(2, 5)))
            families |= {member: tuple(other for other in members if other != member) for member in members}
        return families

    def _come(self, person: int, offices: list[str], family: tuple[int, ...]) -> None:
        random, actor, agent = self.random, f"user{person}", self.random.choice(AGENTS)
        home = random.choice(offices) if random.random() < 0.13 else self.draw_address()
        is_mobile, is_roaming = random.random() < 0.15, random.random() < 0.01
        away, renewed_at = self.draw_address(), random.uniform(0, DAY) if random.random() < 0.5 else DAY
        name, sessions = f"t{random.getrandbits(64):016x}", max(1, round(self.busy * random.lognormvariate(0.9, 0.9)))
        own = self.accounts[person]
        shared = [self.accounts[member] for member in family]
        for second in sorted(self.draw_second() for _ in range(min(sessions, 22))):
            address = away if is_mobile and random.random() < 0.4 else home
            address = self.draw_address() if is_roaming else address
            token = f"{name}.{int(second > renewed_at)}"
            if random.random() < 0.4:
                status = 401 if random.random() < 0.13 else 200
                self.say(second, actor, address, agent, "", "POST", self.shape.login, status)
            for _ in range(1 + min(40, int(random.expovariate(1 / 9)))):
                second += random.expovariate(1 / 8)
                account = random.choice(shared) if shared and random.random() < 0.25 else own
                method, path = self.choose(random, account)
                self.say(second, actor, address, agent, token, method, path, self._answer(second, method, path))

    def choose(self, random: Random, account: Account) -> tuple[str, str]:
        """A call of a person, on what an account owns."""
        shape, kind = self.shape, random.random()
        number, name = random.choice(account.numbers), random.choice(account.uuids)
        if kind < 0.36:
            return "GET", random.choice((*shape.own_lists, *shape.own_lists, *shape.public_lists))
        if kind < 0.52:
            return "GET", random.choice(shape.private).format(number)
        if kind < 0.60:
            return "GET", shape.private_by_uuid.format(name)
        if kind < 0.68:
            return "GET", shape.private_by_query.format(number)
        if kind < 0.77:
            return "PUT", random.choice(shape.writes).format(number)
        if kind < 0.86:  # Some articles are read by many.
            place = min(len(self.articles) - 1, int(random.expovariate(1 / 25)))
            return "GET", shape.public.format(self.articles[place])
        if kind < 0.92:
            return "GET", random.choice(shape.public_lists)
        return "POST", random.choice(shape.posts)

    def _answer(self, second: float, method: str, path: str) -> int:
        prefix, begin, end = self._failing
        is_failing = method == "PUT" and begin <= second < end and path.startswith(prefix.partition("{")[0])
        if is_failing and self.random.random() < 0.6:
            return 503
        return self.random.choices((200, 400, 404, 500, 403), (950, 14, 12, 12, 3))[0]

    def _crawl(self) -> None:
        address, second, agent = self.draw_address(), 0.0, "Googlebot/2.1 (+http://www.google.com/bot.html)"
        while second < DAY:
            path = self.random.choice(
                (self.shape.public.format(self.random.choice(self.articles)), *self.shape.public_lists)
            )
            self.say(second, "crawler", address, agent, "", "GET", path)
            second += self.random.expovariate(1 / 25)

    def _export(self) -> None:
        """Every account's objects, each night at the same pace."""
        second, pace = self.random.uniform(1, 5) * 3_600, self.random.uniform(0.2, 0.8)
        for account in self.accounts:
            for number, name in zip(account.numbers, account.uuids, strict=True):
                for path in (self.shape.private[0].format(number), self.shape.private_by_uuid.format(name)):
                    self.say(second, "export", "10.0.4.17", "batch/1.4", "svc-export", "GET", path)
                    second += pace

    def _support(self, number: int) -> None:
        """Reads what others own, eight hours long, and is let into functions of staff."""
        random, actor, agent = self.random, f"support{number}", AGENTS[0]
        address, token = self.draw_address(), f"t{random.getrandbits(64):016x}"
        second = random.uniform(7, 9) * 3_600
        end = second + 8.5 * 3_600
        while second < end:
            second += random.expovariate(1 / 70)
            account = random.choice(self.accounts)
            place = random.randrange(len(account.numbers))
            if random.random() < _STAFF_SHARE_OF_FUNCTIONS:
                method, path = random.choice(self.shape.functions)
                path = path.format(account.numbers[place])
            else:
                patterns = (*self.shape.private, self.shape.private_by_query)
                path = random.choice(patterns).format(account.numbers[place])
                path = self.shape.private_by_uuid.format(account.uuids[place]) if random.random() < 0.25 else path
                method = "GET"
            self.say(second, actor, address, agent, token, method, path)


def order(lines: list[Line]) -> Iterator[Line]:
    """By time."""
    yield from sorted(lines, key=lambda line: line.time)
