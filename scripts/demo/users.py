"""Demo service: users, over uvicorn and Starlette. Its export was made for an internal tool and asks for no
credentials at all.

Prints one JSON line with its port. No person in it is real.
"""

import json
import socket

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def read_user(request: Request) -> JSONResponse:
    """Needs a bearer token."""
    if not request.headers.get("authorization", "").startswith("Bearer "):
        return JSONResponse({"error": "a bearer token is needed"}, 401)
    return JSONResponse(
        {"id": request.path_params["user_id"], "name": "A. Customer", "language": "fr", "newsletter": False}
    )


async def export_user(request: Request) -> JSONResponse:
    """Needs nothing: the flaw that a newcomer should see in the inventory."""
    user_id = request.path_params["user_id"]
    return JSONResponse(
        {"id": user_id, "name": "A. Customer", "orders": 12, "address": {"city": "Lyon", "street": "1 rue de la Demo"}}
    )


async def check_health(_: Request) -> JSONResponse:
    """For monitoring."""
    return JSONResponse({"status": "ok"})


app = Starlette(
    routes=[
        Route("/healthz", check_health),
        Route("/api/v2/users/{user_id}", read_user),
        Route("/internal/users/{user_id}/export", export_user),
    ]
)


def main() -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    print(json.dumps({"event": "ready", "port": listener.getsockname()[1]}), flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])


if __name__ == "__main__":
    main()
