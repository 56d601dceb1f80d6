"""Demo service: payments. It asks for the key of a service. No figure in it is real."""

from scripts.demo.web import Handler, serve


def respond(handler: Handler) -> None:
    """POST /charges and GET /charges/{number}."""
    if not handler.headers.get("X-API-Key"):
        handler.answer(401, {"error": "an API key is needed"})
    elif handler.command == "POST":
        handler.answer(201, {"number": 700_001, "status": "captured", "amount": handler.document.get("amount", 0)})
    else:
        handler.answer(200, {"number": 700_001, "status": "captured", "card": "**** **** **** 1111"})


if __name__ == "__main__":
    serve(respond)
