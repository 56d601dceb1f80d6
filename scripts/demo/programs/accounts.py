"""Demo service: accounts. Its login answers a token, or 401; it counts no attempts. It calls `users`."""

import random

from scripts.demo.credentials import make_jwt, make_uuid
from scripts.demo.people import PASSWORD
from scripts.demo.web import Handler, call, serve


def respond(handler: Handler) -> None:
    """POST /login."""
    if handler.words != ["login"] or handler.command != "POST":
        return handler.answer(404, {"error": "no such page"})
    if handler.document.get("password") != PASSWORD:
        return handler.answer(401, {"error": "wrong e-mail or password"})
    token = make_jwt(str(handler.document.get("email", "")), random.Random())
    user_id = make_uuid(random.Random(str(handler.document.get("email", ""))))
    call("users", "GET", f"/api/v2/users/{user_id}", headers={"Authorization": f"Bearer {token}"})
    return handler.answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 3_600})


if __name__ == "__main__":
    serve(respond)
