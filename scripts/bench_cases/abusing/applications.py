"""Honest callers of applications that the detectors were not set on, for a made day (day.py).

Telemetry: devices send readings and ask for their orders. Two partners read all devices each three hours, two others
what changed. Technicians look at devices everywhere.

Tenants: 25 firms with one address each. Colleagues share what the firm owns, and one of them reads all of it. A report
by key does so at night.

Phones: 300 phones behind six addresses of carriers, with tokens of 15 minutes. A feed reads 8 to 20 pictures at once.
People mistype passwords.

Files: sync clients read all that is theirs when they start, then what changed, and now and then a shared link. Build
machines fetch the same packages from three addresses.

The shop is `Day` itself. Attacks are the same everywhere (attacks.py).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from scripts.bench_cases.abusing.line import DAY
from scripts.bench_cases.abusing.service import Account

if TYPE_CHECKING:
    from scripts.bench_cases.abusing.day import Day

_BROWSER = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/126.0"
_HOUR = 3_600.0


class Caller:
    """Somebody who calls: `call` passes some time."""

    def __init__(self, day: "Day", actor: str, agent: str, *, address: str = "", token: str = "") -> None:
        self.day, self.random, self.actor, self.agent = day, day.random, actor, agent
        self.address = address or day.draw_address()
        self.token = token or f"t{day.random.getrandbits(64):016x}.0"
        self.second = 0.0

    def call(self, gap: float, method: str, path: str, status: int = 200) -> None:
        """After `gap` seconds at the mean."""
        self.second += self.random.expovariate(1 / gap)
        self.day.say(self.second, self.actor, self.address, self.agent, self.token, method, path, status)

    def read(self, account: Account, gap: float) -> None:
        """One object of an account, in one of four ways."""
        shape, place = self.day.shape, self.random.randrange(len(account.numbers))
        patterns = (*shape.private, shape.private_by_query)
        kind = self.random.randrange(len(patterns) + 1)
        path = (
            shape.private_by_uuid.format(account.uuids[place])
            if kind == len(patterns)
            else patterns[kind].format(account.numbers[place])
        )
        self.call(gap, "GET", path)

    def read_all(self, pattern: str, accounts: list[Account], gap: float) -> None:
        """All objects of accounts, one after the other."""
        is_named = pattern == self.day.shape.private_by_uuid
        for account in accounts:
            for name in account.uuids if is_named else account.numbers:
                self.call(gap, "GET", pattern.format(name))


def call_telemetry(day: "Day") -> None:
    random, shape = day.random, day.shape
    for number in range(200):
        device, own = Caller(day, f"user{number}", "fw/2.1"), day.accounts[number]
        period = random.choice((600.0, 900.0, 1_800.0))
        device.second = random.uniform(0, period)
        while device.second < DAY:
            device.call(period, "PUT", shape.writes[0].format(own.numbers[0]))
            if random.random() < 0.2:
                device.call(1, "GET", shape.private[0].format(own.numbers[0]))
            if random.random() < 0.1:
                device.call(1, "GET", random.choice(shape.own_lists))
    for number in range(4):
        partner = Caller(day, f"partner{number}", "integration/3.0")
        part = [account for place, account in enumerate(day.accounts) if place % 2 == number % 2 or number < 2]
        for hour in range(0, 24, 3):
            partner.second = max(partner.second, hour * _HOUR + random.uniform(0, 600))
            partner.call(1, "GET", shape.own_lists[0])
            changed = part if number % 2 == 0 else random.sample(part, len(part) // 6)
            partner.read_all(shape.private[number // 2], changed, 0.7)
    _look(day, "technician", 6, 120)


def call_tenants(day: "Day") -> None:
    random, shape, size = day.random, day.shape, max(len(day.accounts) // 25, 1)
    for firm in range(25):
        office, own = day.draw_address(), day.accounts[firm * size : (firm + 1) * size]
        for number in range(random.randrange(4, 14)):
            address = office if random.random() < 0.7 else day.draw_address()
            person = Caller(day, f"user{firm}_{number}", _BROWSER, address=address)
            for _ in range(random.randrange(2, 7)):
                person.second = day.draw_second()
                if random.random() < 0.4:
                    person.call(2, "POST", shape.login, 401 if random.random() < 0.1 else 200)
                for _ in range(random.randrange(3, 30)):
                    if random.random() < 0.35:
                        person.call(6, "GET", random.choice(shape.own_lists))
                    else:
                        person.read(random.choice(own), 9)
        head = Caller(day, f"head{firm}", _BROWSER, address=office)
        head.second = random.uniform(8, 15) * _HOUR
        for _ in range(2):
            for pattern in (shape.private[0], shape.private_by_uuid):
                head.read_all(pattern, own, 5)
            head.second += random.uniform(0.5, 2) * _HOUR
        report = Caller(day, f"report{firm}", "okhttp/4.12.0", address=office)
        report.second = random.uniform(1, 6) * _HOUR
        report.read_all(shape.private[1], own, random.uniform(0.3, 2))


def call_phones(day: "Day") -> None:
    random, shape = day.random, day.shape
    carriers = [day.draw_address() for _ in range(6)]
    for number in range(300):
        phone, own = Caller(day, f"user{number}", "App/9.1 (Android 14)"), day.accounts[number]
        for _ in range(random.randrange(1, 6)):
            phone.second, phone.address = day.draw_second(), random.choice(carriers)
            name = f"t{random.getrandbits(64):016x}"
            begun = phone.second
            if random.random() < 0.3:
                for _ in range(random.choice((0, 0, 0, 1, 2, 4))):
                    phone.call(7, "POST", shape.login, 401)
                phone.call(7, "POST", shape.login)
            for _ in range(random.randrange(1, 4)):
                phone.token = f"{name}.{int((phone.second - begun) // 900)}"
                phone.call(25, "GET", random.choice(shape.public_lists))
                for article in random.sample(day.articles, random.randrange(8, 20)):
                    phone.call(0.05, "GET", shape.public.format(article))
                phone.read(own, 5)


def call_files(day: "Day") -> None:
    random, shape = day.random, day.shape
    builders = [day.draw_address() for _ in range(3)]
    for number in range(150):
        own = day.accounts[2 * number : 2 * number + 2]
        client = Caller(day, f"user{number}", "sync/4.4")
        client.second = random.uniform(0, 20) * _HOUR
        for pattern in (*shape.private, shape.private_by_uuid):
            client.read_all(pattern, own, 0.2)
        while client.second < DAY:
            client.call(400, "GET", random.choice(shape.own_lists))
            if random.random() < 0.2:
                client.read(random.choice(own), 1)
            if random.random() < 0.02:  # A link of somebody else.
                client.read(random.choice(day.accounts), 5)
    packages = day.articles[:60]
    for build in range(120):
        machine = Caller(
            day, f"build{build % 12}", "pip/25.0", address=random.choice(builders), token=f"ci{build % 12}"
        )
        machine.second = day.draw_second()
        for package in random.sample(packages, random.randrange(20, 55)):
            machine.call(0.15, "GET", shape.public.format(package), 304 if random.random() < 0.4 else 200)
    _look(day, "support", 3, 90)


def _look(day: "Day", name: str, count: int, gap: float) -> None:
    """People at work who read what others own, and are let into functions of staff."""
    for number in range(count):
        person = Caller(day, f"{name}{number}", _BROWSER)
        person.second = day.random.uniform(6, 9) * _HOUR
        end = person.second + 8.5 * _HOUR
        while person.second < end:
            if day.random.random() < 0.1:
                method, path = day.random.choice(day.shape.functions)
                person.call(gap, method, path.format(day.random.choice(day.accounts).numbers[0]))
            else:
                person.read(day.random.choice(day.accounts), gap)


APPLICATIONS: dict[str, Callable[["Day"], None]] = {
    "telemetry": call_telemetry,
    "tenants": call_tenants,
    "phones": call_phones,
    "files": call_files,
}
SHOP = "shop"
