"""A service whose callers write: profiles, orders and settings with optional fields, and those who write what is not
theirs.

A release in the second hour adds fields. Some clients send back whole objects. A back office inside sets what people
cannot.
"""

from random import Random
from urllib.parse import urlencode

from scripts.bench_cases.requesting.scene import Scene, to_json

PEOPLE, EACH = 400, 8
_OPTIONAL = ("phone", "city", "birthday", "language", "newsletter", "company", "status", "notes", "avatar", "timezone")
# What attackers write, and whether the service takes it and shows it.
ATTACKS = (
    ("role", "admin", True), ("isAdmin", True, False), ("verified", True, True), ("account_balance", 10**6, True),
    ("credits", 5_000, True), ("permissions", ["*"], False), ("userRole", "owner", False), ("tier", "gold", True),
    ("email_verified", 1, False), ("is_superuser", True, False), ("level", 99, True), ("paid", True, True),
)  # fmt: skip


def make_profiles(scene: Scene) -> None:
    """Honest callers, and each attack once, in three forms in turn."""
    random = scene.random
    shares = {name: random.choice((0.08, 0.2, 0.5, 0.9)) for name in _OPTIONAL}
    released_at = random.uniform(3_600, 7_200)
    for person in range(PEOPLE):
        actor, address = f"user{person}", scene.draw_address()
        for _ in range(EACH):
            _write(scene, random, actor, address, person, shares, released_at)
    for number in range(3):
        for _ in range(20):
            second = scene.draw_second("office")
            body = {"name": "x", "role": random.choice(("user", "editor")), "verified": True}
            answer = {"id": 1, **body, "level": 1, "tier": "free", "paid": False}
            address = f"10.3.0.{number + 1}"
            scene.call(
                f"office{number}",
                address,
                second,
                "PATCH",
                "/admin/users/1",
                body=to_json(body),
                answer=to_json(answer),
            )
    for number, (name, value, is_taken) in enumerate(ATTACKS):
        _attack(scene, random, number, name, value, is_taken=is_taken)


def _make_answer(person: int, sent: dict[str, object]) -> dict[str, object]:
    kept = {"role": "user", "verified": person % 3 == 0, "level": person % 4, "tier": "free", "paid": person % 2 == 0}
    return {"id": person, "account_balance": person * 13, "credits": person % 5, **kept, **sent}


def _write(
    scene: Scene, random: Random, actor: str, address: str, person: int, shares: dict[str, float], released_at: float
) -> None:
    second = scene.draw_second(actor)
    sent: dict[str, object] = {"name": f"n{person}"}
    sent |= {name: f"{name}{random.randrange(9)}" for name, share in shares.items() if random.random() < share}
    if second > released_at and random.random() < 0.6:
        sent |= {"theme": "dark", "plan": "free"}
    answer = _make_answer(person, sent)
    path = random.choice(("/profile", "/orders", "/settings"))
    if path == "/settings" and person % 20 == 0:  # A client that sends back what it got.
        sent = answer
    scene.call(actor, address, second, "PUT", path, body=to_json(sent), answer=to_json(answer))


def _attack(scene: Scene, random: Random, number: int, name: str, value: object, *, is_taken: bool) -> None:
    actor, address = f"attack-{name}-{number}", scene.draw_address()
    second = scene.draw_second(actor)
    sent: dict[str, object] = {"name": "x", name: value}
    answer = _make_answer(7, sent if is_taken else {"name": "x"})
    path = random.choice(("/profile", "/orders", "/settings"))
    if number % 3 == 2 and not isinstance(value, list):
        body, media_type = urlencode(sent), "application/x-www-form-urlencoded"
    else:
        body, media_type = to_json(sent if number % 3 else {"name": "x", "profile": {name: value}}), "application/json"
    scene.call(actor, address, second, "PUT", path, body=body, answer=to_json(answer), media_type=media_type)
