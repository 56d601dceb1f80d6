"""Demo service: orders. It asks for a bearer token but not whose order it is: any customer may read any order. It calls
`payments` and `stock`. No figure in it is real.
"""

import secrets
from typing import Any

from scripts.demo.people import CITIES, FIRST_ORDER
from scripts.demo.web import Handler, call, serve

KEY = {"X-API-Key": secrets.token_hex(20)}  # Of this service at payments; it opens nothing else.


def describe_order(number: int) -> dict[str, Any]:
    """A made-up order, always the same for one number."""
    lines = [
        {"product": 1_000 + (number * 7 + index) % 60, "count": 1 + (number + index) % 3}
        for index in range(1 + number % 4)
    ]
    return {"number": number, "city": CITIES[number % len(CITIES)], "lines": lines, "total": 5 + number % 240}


def read_orders(handler: Handler) -> None:
    """GET /api/v1/orders and /api/v1/orders/{number}."""
    words = handler.words
    if words == ["api", "v1", "orders"]:
        handler.answer(200, {"items": [describe_order(FIRST_ORDER + index) for index in range(10)]})
    elif words[:3] == ["api", "v1", "orders"] and len(words) == 4 and words[3].isdigit():
        number = int(words[3])
        if number % 5 == 0:
            call("payments", "GET", f"/charges/{700_000 + number}", headers=KEY)
        if number >= FIRST_ORDER:
            handler.answer(200, describe_order(number))
        else:
            handler.answer(404, {"error": "no such order"})
    else:
        handler.answer(404, {"error": "no such page"})


def make_order(handler: Handler) -> None:
    """POST /api/v1/orders: takes the goods from stock, then the money."""
    product = handler.document.get("product", 1_000)
    call("stock", "PUT", f"/stock/{product}/reservation", document={"count": 1})
    charge = {"order": FIRST_ORDER, "amount": 24, "currency": "EUR"}
    status, _ = call("payments", "POST", "/charges", headers=KEY, document=charge)
    if status < 300:
        handler.answer(201, describe_order(FIRST_ORDER))
    else:
        handler.answer(502, {"error": "no payment"})


def respond(handler: Handler) -> None:
    """Orders of all customers."""
    if handler.has_bearer():
        (make_order if handler.command == "POST" else read_orders)(handler)


if __name__ == "__main__":
    serve(respond)
