"""Demo service: users. Its export was made for an internal report, asks for no credentials at all, and the gateway lets
it out. No person in it is real, and the card numbers are those of test cards.
"""

from typing import Any

from scripts.demo.people import CARDS, CITIES, NAMES, STREETS
from scripts.demo.web import Handler, serve


def read_user(handler: Handler) -> None:
    """GET /api/v2/users/{id}: needs a bearer token."""
    if handler.has_bearer():
        user_id = handler.words[-1]
        handler.answer(200, {"id": user_id, "name": "A. Customer", "language": "fr", "newsletter": False})


def describe_user(user_id: str) -> dict[str, Any]:
    """All that is known of a made-up person, always the same for one id."""
    number = sum(user_id.encode())
    name = NAMES[number % len(NAMES)]
    return {
        "id": user_id,
        "full_name": name,
        "email": f"{name.lower().replace(' ', '.')}@shop.example",
        "phone": f"+33 4 72 00 {number % 90 + 10} {number % 80 + 10}",
        "date_of_birth": f"19{number % 40 + 50}-0{number % 9 + 1}-1{number % 10}",
        "address": {"city": CITIES[number % len(CITIES)], "street": STREETS[number % len(STREETS)]},
        "card_number": CARDS[number % len(CARDS)],
        "card_expiry": f"0{number % 9 + 1}/29",
        "orders": 12,
    }


def export_user(handler: Handler) -> None:
    """GET /internal/users/{id}/export: the flaw that a newcomer should see first."""
    if len(handler.words) == 4 and handler.words[3] == "export":
        handler.answer(200, describe_user(handler.words[2]))
    else:
        handler.answer(404, {"error": "no such page"})


def respond(handler: Handler) -> None:
    """Persons."""
    (export_user if handler.words[0] == "internal" else read_user)(handler)


if __name__ == "__main__":
    serve(respond)
