"""Demo service: stock. It trusts its network and asks for no credentials, also not for writes. No figure is real."""

from scripts.demo.web import Handler, serve


def respond(handler: Handler) -> None:
    """GET /stock/{product} and PUT /stock/{product}/reservation."""
    handler.answer(200, {"product": handler.words[1] if len(handler.words) > 1 else "", "count": 17})


if __name__ == "__main__":
    serve(respond)
