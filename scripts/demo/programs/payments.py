"""Demo service: payments. It asks for the key of a service, and fails now and then. No figure in it is real."""

import itertools

from scripts.demo.web import Handler, serve

FAILS_EVERY = 6
_charges = itertools.count(1)


def respond(handler: Handler) -> None:
    """POST /charges and GET /charges/{number}."""
    if not handler.headers.get("X-API-Key"):
        handler.answer(401, {"error": "an API key is needed"})
    elif handler.command == "POST" and next(_charges) % FAILS_EVERY == 0:
        handler.answer(503, {"error": "the bank does not answer"})
    elif handler.command == "POST":
        handler.answer(201, {"number": 700_001, "status": "captured", "amount": handler.document.get("amount", 0)})
    else:
        handler.answer(200, {"number": 700_001, "status": "captured", "card": "**** **** **** 1111"})


if __name__ == "__main__":
    serve(respond)
