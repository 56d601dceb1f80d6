"""Demo client inside: a report that reads persons from `users` without credentials, counts `stock`, and a check of all
services' health.

    python -m report users=PORT stock=PORT [seed=N]
"""

import json
import random
import time

from scripts.demo.credentials import make_uuid
from scripts.demo.web import call, read_ports


def main() -> None:
    rng = random.Random(read_ports().get("seed"))
    user_ids = [make_uuid(rng) for _ in range(12)]
    agent = {"User-Agent": "report/2.3"}
    print(json.dumps({"event": "ready"}), flush=True)
    while True:
        call("users", "GET", f"/internal/users/{rng.choice(user_ids)}/export", headers=agent)
        call("stock", "GET", f"/stock/{rng.randrange(1_000, 1_060)}", headers=agent)
        if rng.random() < 0.3:
            for service in ("users", "stock"):
                call(service, "GET", "/healthz", headers=agent)
        time.sleep(rng.uniform(2, 4))


if __name__ == "__main__":
    main()
