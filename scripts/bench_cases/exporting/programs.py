"""Five applications, each with another framework and another credential: `python programs.py NAME PORT`.

It runs in the environment that scripts/bench_cases/exports.py installs, not in that of Apidae. Each has a list, a
create, a read and a delete, answers 401 without its credential, and takes any id. Only `/status` is open.
"""

import base64
import json
import sys
from typing import Any

KEY = "k7Qw2mZx9LtB4vRn"
RECORD = {"id": 1, "label": "blue chair", "count": 3}


def run_fastapi(port: int) -> None:
    """The key is in the header `X-Shop-Key`."""
    import uvicorn
    from fastapi import Depends, FastAPI, HTTPException, Security
    from fastapi.security import APIKeyHeader
    from pydantic import BaseModel

    class Item(BaseModel):
        label: str
        count: int

    def check(key: str | None = Security(APIKeyHeader(name="X-Shop-Key", auto_error=False))) -> None:
        if key != KEY:
            raise HTTPException(401)

    app, keyed = FastAPI(), [Depends(check)]
    app.get("/status")(lambda: {"ok": True})
    app.get("/items", dependencies=keyed)(lambda limit: [RECORD])

    @app.post("/items", status_code=201, dependencies=keyed)
    def create(item: Item) -> dict[str, Any]:
        return {"id": 1, **item.model_dump()}

    app.get("/items/{item_id}", dependencies=keyed)(lambda item_id: RECORD)
    app.delete("/items/{item_id}", status_code=204, dependencies=keyed)(lambda item_id: None)
    uvicorn.run(app, port=port, log_level="error")


def run_flask(port: int) -> None:
    """A user and a password by Basic authentication; lists end in a slash, records do not."""
    from flask import Flask, abort, request

    app = Flask("notes")

    @app.before_request
    def check() -> None:
        known = request.authorization
        if request.path != "/status" and (known is None or known.password != KEY):
            abort(401)

    app.get("/status", endpoint="status")(lambda: {"ok": True})
    app.get("/notes/", endpoint="list")(lambda: [RECORD])
    app.post("/notes/", endpoint="create")(lambda: ({"id": 1, **request.get_json()}, 201))
    app.get("/notes/<int:note_id>", endpoint="read")(lambda note_id: RECORD)
    app.delete("/notes/<int:note_id>", endpoint="delete")(lambda note_id: ("", 204))
    app.run(port=port)


def run_django(port: int) -> None:
    """`Authorization: Token KEY` of Django REST framework; every path ends in a slash."""
    import django
    from django.conf import settings

    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        SECRET_KEY=KEY,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        INSTALLED_APPS=["rest_framework"],
        REST_FRAMEWORK={
            "UNAUTHENTICATED_USER": None,
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
            "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
        },
    )
    django.setup()
    from django.core.wsgi import get_wsgi_application
    from django.urls import path
    from rest_framework.authentication import TokenAuthentication
    from rest_framework.exceptions import AuthenticationFailed
    from rest_framework.permissions import IsAuthenticated
    from rest_framework.response import Response
    from rest_framework.views import APIView

    class User:
        is_authenticated = True

    class Keyed(TokenAuthentication):
        def authenticate_credentials(self, key: str) -> tuple[Any, Any]:
            if key != KEY:
                raise AuthenticationFailed
            return User(), key

    class Orders(APIView):
        authentication_classes = (Keyed,)
        permission_classes = (IsAuthenticated,)

        def get(self, request: Any, order_id: int = 0) -> Any:
            return Response(RECORD if order_id else [RECORD])

        def post(self, request: Any) -> Any:
            return Response({"id": 1, **request.data}, 201)

        def delete(self, request: Any, order_id: int) -> Any:
            return Response(status=204)

    class Status(APIView):
        authentication_classes = ()

        def get(self, request: Any) -> Any:
            return Response({"ok": True})

    urlpatterns.extend(
        [
            path("status/", Status.as_view()),
            path("api/orders/", Orders.as_view()),
            path("api/orders/<int:order_id>/", Orders.as_view()),
        ]
    )
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", port, get_wsgi_application()).serve_forever()


urlpatterns: list[Any] = []


def run_starlette(port: int) -> None:
    """A session in the cookie `shop_session`."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    async def answer(request: Request) -> Response:
        if request.url.path == "/status":
            return JSONResponse({"ok": True})
        if request.cookies.get("shop_session") != KEY:
            return JSONResponse({"error": "no session"}, 401)
        if request.method == "POST":
            return JSONResponse({"id": 1, **await request.json()}, 201)
        return Response(status_code=204) if request.method == "DELETE" else JSONResponse(RECORD)

    routes = [
        Route("/status", answer),
        Route("/carts", answer, methods=["GET", "POST"]),
        Route("/carts/{cart_id}", answer, methods=["GET", "DELETE"]),
    ]
    uvicorn.run(Starlette(routes=routes), port=port, log_level="error")


def run_aiohttp(port: int) -> None:
    """The key is in the query, as `api_key`."""
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        if request.path != "/status" and request.query.get("api_key") != KEY:
            return web.json_response({"error": "no key"}, status=401)
        if request.method == "POST":
            return web.json_response({"id": 1, **await request.json()}, status=201)
        return web.Response(status=204) if request.method == "DELETE" else web.json_response(RECORD)

    app = web.Application()
    for method, path in (("GET", "/status"), *((method, "/v2/readings") for method in ("GET", "POST"))):
        app.router.add_route(method, path, answer)
    for method in ("GET", "DELETE"):
        app.router.add_route(method, "/v2/readings/{reading_id}", answer)
    web.run_app(app, host="127.0.0.1", port=port, print=lambda *_: None)


PROGRAMS = {
    "fastapi": run_fastapi,
    "flask": run_flask,
    "django": run_django,
    "starlette": run_starlette,
    "aiohttp": run_aiohttp,
}
# How a client of each sends its credential, and the paths of list and record.
HEADERS = {
    "fastapi": {"X-Shop-Key": KEY},
    "flask": {"Authorization": "Basic " + base64.b64encode(f"ada:{KEY}".encode()).decode()},
    "django": {"Authorization": f"Token {KEY}"},
    "starlette": {"Cookie": f"shop_session={KEY}; theme=dark"},
    "aiohttp": {},
}
PATHS = {
    "fastapi": ("/status", "/items?limit=10", "/items", "/items/{}"),
    "flask": ("/status", "/notes/", "/notes/", "/notes/{}"),
    "django": ("/status/", "/api/orders/", "/api/orders/", "/api/orders/{}/"),
    "starlette": ("/status", "/carts", "/carts", "/carts/{}"),
    "aiohttp": ("/status", *(f"/v2/readings{place}?api_key={KEY}" for place in ("", "", "/{}"))),
}
BODY = json.dumps({"label": "green lamp", "count": 2}).encode()

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](int(sys.argv[2]))
