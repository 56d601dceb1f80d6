"""The demo's abuser: one customer, with a valid token, who reads every order by number at 10 calls a second over one
connection.

python -m scripts.demo.scraper PORT_OF_ORDERS [CALLS_PER_SECOND]
"""

import http.client
import itertools
import json
import random
import sys
import time

from scripts.demo.credentials import make_jwt
from scripts.demo.orders import FIRST_ORDER

CALLS_PER_SECOND = 10.0
TIMEOUT_SECONDS = 10.0


def scrape(port: int, calls_per_second: float) -> None:
    """Runs until it is ended or the service goes away."""
    headers = {"Authorization": f"Bearer {make_jwt('shopper-666', random.Random())}", "User-Agent": "demo-shopper/1.0"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    start = time.monotonic()
    print(json.dumps({"event": "started", "time": time.time()}), flush=True)
    for index in itertools.count():
        connection.request("GET", f"/api/v1/orders/{FIRST_ORDER + index}", headers=headers)
        connection.getresponse().read()
        time.sleep(max(0.0, start + (index + 1) / calls_per_second - time.monotonic()))


def main() -> None:
    rate = float(sys.argv[2]) if len(sys.argv) > 2 else CALLS_PER_SECOND
    scrape(int(sys.argv[1]), rate)


if __name__ == "__main__":
    main()
