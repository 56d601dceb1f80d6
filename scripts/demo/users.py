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

from scripts.demo.orders import CITIES


async def read_user(request: Request) -> JSONResponse:
    """Needs a bearer token."""
    if not request.headers.get("authorization", "").startswith("Bearer "):
        return JSONResponse({"error": "a bearer token is needed"}, 401)
    return JSONResponse(
        {"id": request.path_params["user_id"], "name": "A. Customer", "language": "fr", "newsletter": False}
    )


NAMES = ("Claire Moreau", "Jonas Keller", "Maria Conti", "Tomas Silva", "Anna Gruber")
STREETS = ("12 rue des Lilas", "Lindenweg 8", "Via Roma 41", "Rua das Flores 7", "Hauptplatz 3")
# Examples of the registry of IBANs.
IBANS = ("FR1420041010050500013M02606", "DE89370400440532013000", "IT60X0542811101000000123456")


async def export_user(request: Request) -> JSONResponse:
    """Needs nothing: the flaw that a newcomer should see first."""
    user_id = request.path_params["user_id"]
    number = sum(user_id.encode())
    name = NAMES[number % len(NAMES)]
    return JSONResponse(
        {
            "id": user_id,
            "full_name": name,
            "email": f"{name.lower().replace(' ', '.')}@shop.example",
            "phone": f"+33 4 72 00 {number % 90 + 10} {number % 80 + 10}",
            "date_of_birth": f"19{number % 40 + 50}-0{number % 9 + 1}-1{number % 10}",
            "address": {"city": CITIES[number % len(CITIES)], "street": STREETS[number % len(STREETS)]},
            "iban": IBANS[number % len(IBANS)],
            "orders": 12,
        }
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
