"""The honest side of the breach: who calls the abused API, how often, and for which objects. Deterministic by seed.

Fixed by what the bench is to show: 20,000 principals, 100 calls/s and more at peak and a fifth of it at night, pages
that load all of up to 50 objects at once, agents who take up to 150 a day, a nightly export at 200/s for 20 minutes, a
partner at 20/s, a crawler, and carriers and offices behind which many share an address.
"""

from dataclasses import dataclass

import numpy as np

from collector.detection.framework.distinct import mix
from scripts.bench_cases.breaching.calls import LIST, U64, Calls, Ints, join, make_calls

START = 1_700_006_400  # A midnight.
DAY = 86_400
PRINCIPALS = 20_000
PEAK_CALLS = 110.0  # A second, at the detail endpoint, by principals alone.
NIGHT_SHARE = 0.2
PAGE_MAX = 50
_PAGE_SHARE = 0.35  # Of visits load all of one's objects at once; the others look at one to three.
_NEW_SHARE = 0.01  # Of visits meet one object more.
AGENTS = 60
AGENT_OBJECTS = 150  # A day, at most.
EXPORT_RATE, EXPORT_SECONDS, EXPORT_AT = 200, 1_200, 2 * 3_600
PARTNER_RATE, PARTNER_OBJECTS = 20, 25_000
CRAWLER_RATE, CRAWLER_ADDRESSES = 0.3, 4
_NATS, _NAT_SHARE, _MOBILE_SHARE = 200, 0.3, 0.1

AGENT, EXPORT, PARTNER, THIEF = 30_000, 40_001, 40_002, 50_001  # Principals; customers are 1 to PRINCIPALS.
_CRAWLER_AT, _OFFICE_AT, _EXPORT_AT, _PARTNER_AT = 0, 10, 12, 13  # Indexes of addresses.
_NAT_AT = 20
_HOME_AT = _NAT_AT + _NATS
THIEVES_AT = _HOME_AT + PRINCIPALS
_THIEF_ADDRESSES = 2_000

ADDRESSES: tuple[str, ...] = (
    *(f"66.249.70.{i}" for i in range(10)),
    *(f"10.20.0.{i}" for i in range(3)),
    *(f"91.10.0.{i}" for i in range(7)),
    *(f"80.{i // 250}.7.{i % 250}" for i in range(_NATS)),
    *(f"84.{i // 250}.{i % 250}.9" for i in range(PRINCIPALS)),
    *(f"185.{i // 250}.{i % 250}.77" for i in range(_THIEF_ADDRESSES)),
)


@dataclass
class World:
    """`calls` gives every honest call of a span of seconds; spans are asked for in order."""

    seed: int

    def __post_init__(self) -> None:
        self.random = random = np.random.default_rng(self.seed)
        weight = random.lognormal(0, 1, PRINCIPALS)
        self._share = np.cumsum(weight) / weight.sum()
        self._own = np.clip(np.rint(random.lognormal(np.log(8), 1, PRINCIPALS)), 1, PAGE_MAX).astype(np.int64)
        self._grown = np.zeros(PRINCIPALS, np.int64)
        is_nat = random.random(PRINCIPALS) < _NAT_SHARE
        nat = _NAT_AT + random.integers(0, _NATS, PRINCIPALS)
        self._home = np.where(is_nat, nat, _HOME_AT + np.arange(PRINCIPALS))
        page = float((weight * self._own).sum() / weight.sum())
        self._calls_a_visit = _PAGE_SHARE * page + (1 - _PAGE_SHARE) * 2
        self._crawled = 0
        self._day = -1
        self._plan: Calls | None = None  # Of the agents' day.

    def calls(self, begin: int, seconds: int) -> Calls:
        """Everything honest from `begin` (unix seconds) on."""
        parts = [*self._visit(begin, seconds), self._help(begin, seconds), self._serve_partner(begin, seconds)]
        parts += [self._export(begin, seconds), self._crawl(begin, seconds)]
        return join([part for part in parts if len(part)])

    def victims(self, count: int) -> U64:
        """Principals with honest histories, whose credentials a thief has."""
        return (1 + self.random.choice(PRINCIPALS, count, replace=False)).astype(np.uint64)

    def _visit(self, begin: int, seconds: int) -> list[Calls]:
        level = (1 + NIGHT_SHARE) / 2 - (1 - NIGHT_SHARE) / 2 * np.cos(2 * np.pi * (begin % DAY) / DAY)
        n = int(self.random.poisson(PEAK_CALLS / self._calls_a_visit * level * seconds))
        who = np.searchsorted(self._share, self.random.random(n))
        second = begin + self.random.integers(0, seconds, n)
        is_mobile = self.random.random(n) < _MOBILE_SHARE
        address = np.where(is_mobile, _NAT_AT + self.random.integers(0, _NATS, n), self._home[who])
        own = self._own[who]
        is_page = self.random.random(n) < _PAGE_SHARE
        length = np.where(is_page, own, np.minimum(self.random.integers(1, 4, n), own))
        first = np.where(is_page, 0, (self.random.random(n) * (own - length + 1)).astype(np.int64))
        np.add.at(self._grown, who[self.random.random(n) < _NEW_SHARE], 1)
        visit = np.repeat(np.arange(n), length)
        within = np.arange(len(visit)) - np.repeat(np.cumsum(length) - length, length)
        number = (self._grown[who] + first)[visit] + within
        customer = (who + 1).astype(np.uint64)
        items = mix(customer[visit], number.astype(np.uint64))
        return [
            make_calls(second[visit], customer[visit], address[visit], items),
            _list_pages(second[is_page], customer[is_page], address[is_page], own[is_page]),
        ]

    def _help(self, begin: int, seconds: int) -> Calls:
        """Agents: a day's plan of customers' objects between 8 and 16 h, by cases of one to eight."""
        if begin // DAY != self._day:
            self._day = begin // DAY
            count = self.random.integers(60, AGENT_OBJECTS + 1, AGENTS)
            agent = np.repeat(np.arange(AGENTS), count)
            case = np.concatenate([np.cumsum(self.random.random(c) < 0.25) for c in count])
            at = mix(agent.astype(np.uint64) + np.uint64(self._day << 8), case.astype(np.uint64))
            second = self._day * DAY + 8 * 3_600 + (at % np.uint64(8 * 3_600)).astype(np.int64)
            customer = (1 + self.random.integers(0, PRINCIPALS, len(agent))).astype(np.uint64)
            item = mix(customer, np.zeros(len(agent), np.uint64))
            self._plan = make_calls(second, (AGENT + agent).astype(np.uint64), _OFFICE_AT + agent % 2, item)
        assert self._plan is not None
        return self._plan.choose((self._plan.second >= begin) & (self._plan.second < begin + seconds))

    def _export(self, begin: int, seconds: int) -> Calls:
        """Every account by its number, each night."""
        first, last = (max(0, min(edge % DAY - EXPORT_AT, EXPORT_SECONDS)) for edge in (begin, begin + seconds))
        number = np.arange(first * EXPORT_RATE, max(first, last) * EXPORT_RATE)
        second = begin // DAY * DAY + EXPORT_AT + number // EXPORT_RATE
        items = mix(np.full(len(number), 999, np.uint64), number.astype(np.uint64))
        return make_calls(second, EXPORT, _EXPORT_AT, items)

    def _serve_partner(self, begin: int, seconds: int) -> Calls:
        """A partner that asks for its own customers' accounts again and again, and 500 new ones a day."""
        n = int(self.random.poisson(PARTNER_RATE * seconds))
        customer = self.random.integers(0, PARTNER_OBJECTS, n) + (begin - START) * 500 // DAY
        items = mix(np.full(n, 998, np.uint64), customer.astype(np.uint64))
        return make_calls(begin + self.random.integers(0, seconds, n), PARTNER, _PARTNER_AT, items)

    def _crawl(self, begin: int, seconds: int) -> Calls:
        """A search engine without credentials, one object after the other."""
        n = int(self.random.poisson(CRAWLER_RATE * seconds))
        number = (self._crawled + np.arange(n)).astype(np.uint64)
        self._crawled += n
        address = _CRAWLER_AT + self.random.integers(0, CRAWLER_ADDRESSES, n)
        items = mix(np.full(n, 997, np.uint64), number)
        return make_calls(begin + self.random.integers(0, seconds, n), 0, address, items)


def _list_pages(second: Ints, who: U64, address: Ints, own: Ints) -> Calls:
    """The list call before a page's objects: as many records."""
    calls = make_calls(second, who, address, np.zeros(len(second), np.uint64), endpoint=LIST)
    calls.records[:] = own
    return calls


def describe(consumer: str) -> str:
    """Who of the world is behind a consumer's name: `customer`, `agent`, `export`, `partner`, `crawler`, `thief` or
    `address`."""
    kind, _, value = consumer.partition(":")
    if kind == "address":
        return "crawler" if value.startswith("66.249.") else "thief" if value.startswith("185.") else "address"
    number = int(value, 16) if kind == "principal" else 0
    names = {EXPORT: "export", PARTNER: "partner", THIEF: "thief"}
    return names.get(number, "customer" if number <= PRINCIPALS else "agent")
