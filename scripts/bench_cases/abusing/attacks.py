"""Attacks on a made day: twice each of fifteen kinds, thinned or longer, slower or faster, at any hour.

The figures they are varied around are those of attacks on crAPI that others made: a walk of 100 to 280 numbers a second
apart, 17 to 24 objects of others ten to twenty minutes apart, a token from 18 to 20 networks within an hour.
"""

from collections.abc import Callable
from dataclasses import dataclass

from scripts.bench_cases.abusing.day import AGENTS, Day
from scripts.bench_cases.abusing.line import DAY, START

_TOOLS = ("curl/8.5.0", "python-requests/2.31.0", "Go-http-client/2.0", *AGENTS)
_EACH = 2
FIRST_HOUR = 6  # Before it too little is known of a service that few call.
_WORDS = (
    "admin",
    "backup",
    "config",
    "debug",
    "private",
    "users",
    "keys",
    ".env",
    "dump",
    "console",
    "health",
    "id_rsa",
)
_ENDS = ("", ".bak", ".json", "/0", "/list", ".old", "/all", "/1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One of them, as the score asks for it: alerts count from the first call to 600 s after the last."""

    actor: str
    kind: str
    addresses: frozenset[str]
    tokens: frozenset[str]
    first: float
    last: float


def attack(day: Day) -> list[Attack]:
    """Let all kinds of attackers into a day."""
    return [
        _try(day, kind, number, make)
        for kinds in (KINDS, ROTATIONS)
        for number in range(_EACH)
        for kind, make in kinds.items()
    ]


class Attacker:
    """Whose calls a kind makes: `call` passes some time and calls."""

    def __init__(self, day: Day, actor: str, *, has_token: bool = True) -> None:
        self.day, self.random, self.actor = day, day.random, actor
        self.addresses = [day.draw_address()]
        self.token = f"t{day.random.getrandbits(64):016x}.0" if has_token else ""
        self.agent = day.random.choice(_TOOLS)
        self.second = max(day.draw_second(), FIRST_HOUR * 3_600 + day.random.uniform(0, 3_600))
        self.pace = day.random.uniform(0.6, 1.6)  # Times as slow.
        self.length = day.random.uniform(0.65, 1.3)  # Times as many calls.

    def count(self, least: int, most: int) -> int:
        """Calls: of a span, thinned or more."""
        return round(self.random.uniform(least, most) * self.length)

    def begin_before(self, seconds: float) -> None:
        """Come early enough to be done by midnight."""
        self.second = min(self.second, max(0.0, DAY - 900 - seconds * self.pace * 1.3))

    def call(self, gap: float, method: str, path: str, status: int = 200) -> None:
        """After `gap` seconds at the mean."""
        self.second += self.random.expovariate(1 / (gap * self.pace))
        address = self.random.choice(self.addresses)
        self.day.say(self.second, self.actor, address, self.agent, self.token, method, path, status)


def _try(day: Day, kind: str, number: int, make: Callable[[Day, str], Attacker]) -> Attack:
    """Crowds of one kind never come at the same time: an alert names the endpoint that they attack."""
    actor = f"attack-{kind}-{number}"
    make(day, actor)
    lines = [line for line in day.lines if line.actor == actor]
    stolen = {line.token for line in day.lines if line.actor != actor}  # They name whom they were stolen from.
    return Attack(
        actor=actor, kind=kind,
        addresses=frozenset(line.address for line in lines),
        tokens=frozenset(line.token for line in lines if line.token and line.token not in stolen),
        first=min((line.time for line in lines), default=START), last=max((line.time for line in lines), default=START),
    )  # fmt: skip


def _enumerate(day: Day, actor: str) -> Attacker:
    one = Attacker(day, actor)
    one.begin_before(600)
    known = {number for account in day.accounts for number in account.numbers}
    number, path = one.random.choice(sorted(known)), one.random.choice(day.shape.private)
    for step in range(one.count(100, 275)):
        missing = one.random.choice((403, 404))
        one.call(1.5, "GET", path.format(number + step), 200 if number + step in known else missing)
    return one


def _read_slowly(day: Day, actor: str) -> Attacker:
    one, kind = Attacker(day, actor), day.random.randrange(3)
    one.begin_before(20 * 900)
    for _ in range(one.count(17, 24)):
        account = one.random.choice(day.accounts)
        numbered = (*day.shape.private, day.shape.private_by_query)[kind].format(one.random.choice(account.numbers))
        one.call(880, "GET", numbered if kind else day.shape.private_by_uuid.format(one.random.choice(account.uuids)))
    return one


def _read_by_uuid(day: Day, actor: str) -> Attacker:
    one = Attacker(day, actor)
    one.begin_before(700)
    one.call(1, "GET", day.shape.public_lists[0])
    for account in one.random.sample(day.accounts, one.count(80, 110)):
        one.call(6, "GET", day.shape.private_by_uuid.format(account.uuids[0]))
    return one


def _read_by_query(day: Day, actor: str) -> Attacker:
    one = Attacker(day, actor)
    one.begin_before(500)
    for account in one.random.sample(day.accounts, one.count(95, 115)):
        one.call(3.2, "GET", day.shape.private_by_query.format(account.numbers[0]))
    return one


def _call_functions(day: Day, actor: str) -> Attacker:
    one = Attacker(day, actor)
    one.begin_before(400)
    for _ in range(one.count(12, 16)):
        method, path = one.random.choice(day.shape.functions)
        one.call(
            18, method, path.format(one.random.randrange(9_999)), one.random.choices((403, 401, 200), (5, 2, 3))[0]
        )
    return one


def _stuff(day: Day, actor: str) -> Attacker:
    one = Attacker(day, actor, has_token=False)
    one.begin_before(900)
    for _ in range(one.count(400, 500)):
        one.call(1.3, "POST", day.shape.login, 200 if one.random.random() < 0.01 else 401)
    return one


def _stuff_from_many(day: Day, actor: str) -> Attacker:
    one = Attacker(day, actor, has_token=False)
    one.begin_before(2_500)
    others = [line.time - START for line in day.lines if line.actor.startswith(actor[:-1])]
    while others and min(others) - 6_000 < one.second < max(others) + 3_600:
        one.second = one.random.uniform(FIRST_HOUR * 3_600, DAY - 6_000)
    one.addresses = [day.draw_address() for _ in range(one.random.randrange(60, 76))]
    for _ in range(one.count(490, 660)):
        one.agent = one.random.choice(AGENTS)
        one.call(3.2, "POST", day.shape.login, 200 if one.random.random() < 0.01 else 401)
    return one


def _guess_codes(day: Day, actor: str) -> Attacker:
    one = Attacker(day, actor, has_token=False)
    one.begin_before(500)
    for _ in range(one.count(320, 450)):
        one.call(0.8, "POST", day.shape.code, one.random.choices((403, 500), (97, 3))[0])
    return one


def _scrape(day: Day, actor: str) -> Attacker:
    one = Attacker(day, actor, has_token=day.random.random() < 0.5)
    one.begin_before(500)
    for article in day.articles[: one.count(230, 250)]:
        one.call(1.2, "GET", day.shape.public.format(article))
    return one


def _share(day: Day, actor: str) -> Attacker:
    """The key of somebody is used all over the world."""
    one = Attacker(day, actor)
    one.begin_before(5_500)
    one.addresses = [day.draw_address() for _ in range(one.random.randrange(18, 21))]
    for _ in range(one.count(115, 145)):
        one.agent = one.random.choice(AGENTS)
        one.call(31, "GET", one.random.choice(day.shape.own_lists))
    return one


def _scan(day: Day, actor: str) -> Attacker:
    one = Attacker(day, actor, has_token=False)
    one.begin_before(300)
    for _ in range(one.count(115, 255)):
        path = f"/{one.random.choice(_WORDS)}/{one.random.choice(_WORDS)}{one.random.choice(_ENDS)}"
        one.call(0.54, one.random.choice(("GET", "GET", "POST")), path, one.random.choices((404, 401), (96, 4))[0])
    return one


def _flood(day: Day, actor: str) -> Attacker:
    one, is_limited = Attacker(day, actor), day.random.random() < 0.5
    one.begin_before(400)
    path = one.random.choice(day.shape.own_lists)
    for _ in range(one.count(1_300, 1_500)):
        one.call(0.1, "GET", path, 429 if is_limited and one.random.random() < 0.4 else 200)
    return one


def _rotate(day: Day, actor: str) -> Attacker:
    """A scraper with another session every few calls, which half of them get by a login."""
    return _use_in_turn(day, actor, lambda number: f"t{day.random.getrandbits(64):016x}.0", varies=False)


def _rotate_varied(day: Day, actor: str) -> Attacker:
    """The same at another pace with each session, and with pauses of minutes."""
    return _use_in_turn(day, actor, lambda number: f"t{day.random.getrandbits(64):016x}.0", varies=True)


def _rotate_stolen(day: Day, actor: str) -> Attacker:
    """One stolen token after the other, of people who are there too."""
    known = sorted({line.token for line in day.lines if line.actor.startswith("user") and line.token})
    day.random.shuffle(known)
    return _use_in_turn(day, actor, lambda number: known[number], varies=False)


def _use_in_turn(day: Day, actor: str, find_token: Callable[[int], str], *, varies: bool) -> Attacker:
    """40 to 70 tokens, each for a few calls."""
    one, random = Attacker(day, actor), day.random
    gap, few, is_login = random.uniform(0.6, 8), random.randrange(2, 9), random.random() < 0.5
    tokens = one.count(40, 70)
    one.begin_before(tokens * (gap * (few + 1) * (1.4 if varies else 1) + (18 if varies else 0)))
    known = [number for account in day.accounts for number in account.numbers]
    for number in range(tokens):
        pace = gap * (random.lognormvariate(0, 0.8) if varies else 1)
        if varies and random.random() < 0.1:
            one.second += random.uniform(60, 300)
        if is_login:
            one.token = ""
            one.call(pace, "POST", day.shape.login)
        one.token = find_token(number)
        for _ in range(max(1, few + random.randrange(-1, 2))):
            paths = (*day.shape.own_lists, random.choice(day.shape.private).format(random.choice(known)))
            one.call(pace, "GET", random.choice(paths))
    return one


KINDS: dict[str, Callable[[Day, str], Attacker]] = {
    "bola_enum": _enumerate,
    "bola_slow": _read_slowly,
    "bola_uuid": _read_by_uuid,
    "bola_param": _read_by_query,
    "bfla": _call_functions,
    "stuffing": _stuff,
    "stuffing_dist": _stuff_from_many,
    "otp_brute": _guess_codes,
    "scrape": _scrape,
    "token_share": _share,
    "scan": _scan,
    "flood": _flood,
}

# Made after the others, which are as they are without these.
ROTATIONS: dict[str, Callable[[Day, str], Attacker]] = {
    "rotation": _rotate,
    "rotation_varied": _rotate_varied,
    "rotation_stolen": _rotate_stolen,
}
