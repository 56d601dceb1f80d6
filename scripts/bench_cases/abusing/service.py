"""Services of the made days: what may be called, and the objects that people own. Paths are our own."""

import uuid
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Paths of one service; `{}` stands for an object. What is private is read by whom it belongs to."""

    private: tuple[str, ...]  # By a number.
    private_by_uuid: str
    private_by_query: str
    writes: tuple[str, ...]  # PUT of a private object by its number.
    own_lists: tuple[str, ...]
    posts: tuple[str, ...]
    public: str
    public_lists: tuple[str, ...]
    login: str
    code: str
    functions: tuple[tuple[str, str], ...]  # Of staff: method and path.


SHAPES = (
    Shape(
        private=("/shop/api/orders/{}", "/media/api/v2/clips/{}"),
        private_by_uuid="/garage/api/v2/cars/{}/position",
        private_by_query="/garage/api/reports/show?report_id={}",
        writes=("/shop/api/orders/{}",),
        own_lists=("/shop/api/orders", "/garage/api/v2/cars", "/accounts/api/v2/me"),
        posts=("/shop/api/coupons/apply", "/accounts/api/v2/me/picture"),
        public="/forum/api/v2/threads/{}",
        public_lists=("/forum/api/v2/threads", "/shop/api/products"),
        login="/accounts/api/auth/login",
        code="/accounts/api/auth/v3/confirm-code",
        functions=(
            ("GET", "/shop/api/staff/customers"),
            ("DELETE", "/media/api/v2/staff/clips/{}"),
            ("GET", "/garage/api/staff/inbox"),
        ),
    ),
    Shape(
        private=("/v1/invoices/{}", "/v1/transfers/{}"),
        private_by_uuid="/v1/mandates/{}",
        private_by_query="/v1/statements?statement_id={}",
        writes=("/v1/transfers/{}",),
        own_lists=("/v1/accounts", "/v1/transfers", "/v1/profile"),
        posts=("/v1/transfers", "/v1/devices"),
        public="/v1/news/{}",
        public_lists=("/v1/news", "/v1/rates"),
        login="/oauth/token",
        code="/oauth/otp",
        functions=(
            ("GET", "/v1/backoffice/users"),
            ("POST", "/v1/backoffice/refunds"),
            ("GET", "/v1/backoffice/audit"),
        ),
    ),
    Shape(
        private=("/clinic/appointments/{}", "/clinic/prescriptions/{}"),
        private_by_uuid="/clinic/patients/{}/record",
        private_by_query="/clinic/results?result_id={}",
        writes=("/clinic/appointments/{}",),
        own_lists=("/clinic/appointments", "/clinic/messages", "/clinic/me"),
        posts=("/clinic/messages", "/clinic/uploads"),
        public="/clinic/articles/{}",
        public_lists=("/clinic/articles", "/clinic/doctors"),
        login="/session/login",
        code="/session/verify",
        functions=(
            ("GET", "/clinic/admin/staff"),
            ("DELETE", "/clinic/admin/records/{}"),
            ("GET", "/clinic/admin/export"),
        ),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who owns what; many never come on the day."""

    numbers: tuple[int, ...]  # Of private objects.
    uuids: tuple[str, ...]


def make_accounts(random: Random, count: int) -> list[Account]:
    """One to three objects each, a few have dozens; numbers are given out as accounts come, with holes."""
    accounts, number = [], random.randrange(2_000, 60_000)
    for _ in range(count):
        size = min(40, 1 + int(random.expovariate(1.1)) + (random.randrange(8, 30) if random.random() < 0.015 else 0))
        numbers = []
        for _ in range(size):
            number += 1 + (random.random() < 0.4) * random.randrange(1, 4)
            numbers.append(number)
        accounts.append(Account(numbers=tuple(numbers), uuids=tuple(make_uuid(random) for _ in range(size))))
    return accounts


def make_uuid(random: Random) -> str:
    """One of version 4."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))
