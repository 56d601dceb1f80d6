"""The demo's scraper: a customer with a valid token, inside, who reads every order by number at 10 calls a second over
one connection. Where the connection is reset it waits a second and goes on.

    python -m scraper PORT_OF_THE_GATEWAY [CALLS_PER_SECOND]
"""

import http.client
import itertools
import json
import random
import sys
import time

from scripts.demo.credentials import make_jwt
from scripts.demo.people import FIRST_ORDER, HOST

CALLS_PER_SECOND = 10.0
TIMEOUT_SECONDS = 10.0
ADDRESS = "127.0.0.66"


def scrape(port: int, calls_per_second: float) -> None:
    """Runs until it is ended."""
    token = make_jwt("customer-666@shop.example", random.Random())
    headers = {"Host": HOST, "Authorization": f"Bearer {token}", "User-Agent": "Shop/5.1"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS, source_address=(ADDRESS, 0))
    print(json.dumps({"event": "started", "time": time.time()}), flush=True)
    is_stopped = False
    for index in itertools.count():
        began = time.monotonic()
        try:
            connection.request("GET", f"/api/v1/orders/{FIRST_ORDER + index}", headers=headers)
            connection.getresponse().read()
            pause, is_refused = 1 / calls_per_second, False
        except (OSError, http.client.HTTPException):
            connection.close()
            pause, is_refused = 1.0, True
        if is_refused != is_stopped:
            is_stopped = is_refused
            print(json.dumps({"event": "reset" if is_refused else "served", "time": time.time()}), flush=True)
        time.sleep(max(0.0, began + pause - time.monotonic()))


def main() -> None:
    scrape(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else CALLS_PER_SECOND)


if __name__ == "__main__":
    main()
