"""Principals who call over HTTP/2 at once, each a number of times of its own, by real clients; and how the inventory
tells them. Each has two turns: a JWT is signed anew in its second.
"""

import contextlib
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc

from tests.e2e.application import find_or_skip
from tests.e2e.credentials import write_credential
from tests.e2e.inventory import Endpoint
from tests.waiting import DEADLINE_SECONDS

ADDRESS = "127.0.0.1"
SERVICE = "/shop.v1.Orders"
NAMES = ("Get", "Fail")
# Calls of each principal that are answered and that fail: 1,009 and 199, primes.
ANSWERED = (211, 157, 131, 127, 103, 89, 71, 53, 37, 23, 7)
FAILED = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 41)
EXPECTED = sorted(tuple(sorted(pair)) for pair in zip(ANSWERED, FAILED, strict=True))  # As `read_principals` gives it.
Calls = Counter[tuple[str, str, int]]  # (method, template, status).


def run_each(run: Callable[[int, int], None]) -> None:
    """`run(principal, turn)`, all at once: two parts of what each principal has to do."""
    with ThreadPoolExecutor(len(ANSWERED)) as pool:
        for done in [pool.submit(run, number, turn) for turn in (0, 1) for number in range(len(ANSWERED))]:
            done.result()


def split(count: int, turn: int) -> int:
    """A part of `count`."""
    return count // 2 if turn else count - count // 2


def count_all(answered: str, failed: str, method: str, status: int) -> Calls:
    """What all principals made."""
    return Counter({(method, answered, 200): sum(ANSWERED), (method, failed, status): sum(FAILED)})


def run_h2load_of_each(port: int) -> Calls:
    """Each principal by h2load of its own, over two connections."""
    h2load = find_or_skip("h2load", "nghttp2-client")

    def run(number: int, turn: int) -> None:
        for path, counts in (("/orders/small", ANSWERED), ("/missing", FAILED)):
            count = split(counts[number], turn)
            options = ["-n", str(count), "-c", str(min(2, count)), "-m", "10", "-H", write_credential(number, turn)]
            command = [h2load, *options, f"http://{ADDRESS}:{port}{path}"]
            said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE_SECONDS).stdout
            assert f"{count} done" in said, said

    run_each(run)
    return count_all("/orders/small", "/missing", "GET", 404)


def run_curl_of_each(port: int) -> Calls:
    """Each principal by curls of its own."""
    curl = find_or_skip("curl", "curl")

    def run(number: int, turn: int) -> None:
        answered, failed = split(ANSWERED[number], turn), split(FAILED[number], turn)
        command = [curl, "--silent", "--noproxy", "*", "--http2-prior-knowledge", "--write-out", "%{http_code}\n"]
        command += ["--header", write_credential(number, turn)]
        for path, count in (("orders", answered), ("missing", failed)):
            command += ["--output", "/dev/null", f"http://{ADDRESS}:{port}/{path}/[1-{count}]"]
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE_SECONDS).stdout
        assert Counter(said.splitlines()) == {"200": answered, "404": failed}

    run_each(run)
    return count_all("/orders/{}", "/missing/{}", "GET", 404)


def run_grpc_of_each(port: int) -> Calls:
    """All principals over two channels, their calls mixed, as a gateway makes them."""
    calls = [
        (number, "Get", turn) for turn in (0, 1) for number, n in enumerate(ANSWERED) for _ in range(split(n, turn))
    ]
    calls += [
        (number, "Fail", turn) for turn in (0, 1) for number, n in enumerate(FAILED) for _ in range(split(n, turn))
    ]
    random.Random(7541).shuffle(calls)
    with contextlib.ExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [stack.enter_context(grpc.insecure_channel(f"{ADDRESS}:{port}", options)) for _ in range(2)]
        methods = {
            (turn, name): channels[turn].unary_unary(f"{SERVICE}/{name}") for turn in (0, 1) for name in ("Get", "Fail")
        }
        pending = []
        for number, name, turn in calls:
            field, _, value = write_credential(number, turn).partition(": ")
            metadata = ((field.lower(), value),)
            pending.append((name, methods[turn, name].future(b"m" * 40, timeout=DEADLINE_SECONDS, metadata=metadata)))
        for name, answer in pending:
            expected = grpc.StatusCode.OK if name == "Get" else grpc.StatusCode.NOT_FOUND
            assert answer.code() is expected, f"{answer.code()}: {answer.details()}"
    return count_all(f"{SERVICE}/Get", f"{SERVICE}/Fail", "POST", 200)


def read_principals(endpoints: Sequence[Endpoint]) -> list[tuple[int, ...]]:
    """Of each principal its calls at each endpoint, fewest first; principals ascending."""
    found: dict[str, list[int]] = {}
    for endpoint in endpoints:
        for consumer, calls in endpoint.consumers:
            found.setdefault(consumer, []).append(calls)
    return sorted(tuple(sorted(calls)) for calls in found.values())
