"""How well a block stops one client and nobody else, with the running product on this kernel.

    scripts/bench block [--seconds 60] [--case NAME ...]

A JSON line for each case, by address and by principal: keep_alive and connections (one request each); tls, the same
two, read by the sensor; proxy (nginx in front, which takes clear HTTP on this node, and is a trusted hop); http2, the
same two; http2_shared (all clients on one connection, by principal, unconfirmed: it is to go on). `leaked_records` are
answers that the thief still got between the decision (the request to the API) and the end, `honest_hurt` calls of four
honest clients that were not answered with 200. `breach`: a thief reads one account after the other, and the ladder
stands at `enforce`: seconds from its first call to the alert and to the first reset (in a first hour the bench approves
the proposal, for a notice blocks nobody). Then `packet_cost`: nanoseconds of
a run of the programs with 0, 100 and 10,000 blocks. Exits with 1 where an honest call was hurt, the thief hung or went
on after its first reset (but where only user space reads who calls), or a block took over 2 s. Needs root, nginx and
wrk.
"""

import argparse
import json
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from scripts.bench_cases.blocking.breach import run_breach
from scripts.bench_cases.blocking.clients import Caller, Shop
from scripts.bench_cases.blocking.cost import measure_cost
from scripts.bench_cases.blocking.http2_clients import Http2Caller, Line
from scripts.bench_cases.blocking.trial import Api, Trial, run_trial
from scripts.demo.nginx import Nginx
from scripts.live.host import start_collector, start_sensor

CASES = (
    *("keep_alive", "connections", "tls", "tls_connections", "proxy"),
    *("http2", "http2_connections", "http2_shared", "breach", "packet_cost"),
)
# By address, by principal.
WAYS = {"http2_shared": (False,), "breach": (False,)}
SETTINGS = """
trusted_proxy_cidrs = ["127.0.0.1/32"]
read_tls = 'full'

[enforcement]
enabled = true
max_call_share = 1.0
"""
HTTP2 = "        http2 on; location / { return 200 '{}'; }"
# Where only user space reads who calls, a client that comes anew is answered until its call was read.
LATE = ("tls", "tls_connections", "http2", "http2_connections")
BLOCK_SECONDS_MAX = 2.0
PROXY = """\
        location / {{ proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }}"""


def make_context(directory: Path) -> ssl.SSLContext:
    """A server's, with a certificate made for it."""
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
    ]
    command += ["-subj", "/CN=localhost", "-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


def make_maker(name: str, port: int, thief: str) -> Callable[[str, str], Caller]:
    """What makes the clients of a case, by source address and key."""
    is_keep_alive, headers = not name.endswith("connections"), "X-Api-Key"
    if not name.startswith("http2"):
        is_tls = name.startswith("tls")
        return lambda source, key: Caller(port, source, {headers: key}, is_keep_alive=is_keep_alive, is_tls=is_tls)
    if name == "http2_shared":
        line = Line(port, thief)
        return lambda source, key: Http2Caller(port, source, {headers: key}, line=line, is_shared=True)
    return lambda source, key: Http2Caller(port, source, {headers: key}, is_keep_alive=is_keep_alive)


def run_cases(names: list[str], seconds: float) -> Iterator[dict[str, Any]]:
    """The product runs for all of them."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = directory / "sensor.toml"
        config.write_text(SETTINGS)
        collector, address = start_collector(directory / "data", directory)
        stack.callback(collector.stop)
        sensor = start_sensor(address, directory / "sensor", directory, "--config", str(config))
        stack.callback(sensor.stop)
        api, shop = Api(address.url), Shop()
        stack.callback(api.close)
        stack.callback(shop.stop)
        number = 0
        for name in names:
            port = _open(name, shop, directory, stack)
            for is_by_address in WAYS.get(name, (True, False)):
                number += 1
                thief = f"127.0.2.{number}"
                if name == "breach":
                    yield run_breach(api, shop.port, thief, seconds)
                    continue
                trial = Trial(
                    name=name,
                    make_caller=make_maker(name, port, thief),
                    is_by_address=is_by_address,
                    thief=thief,
                    is_confirmed=name != "http2_shared",
                )
                yield run_trial(api, trial, seconds)


def _open(name: str, shop: Shop, directory: Path, stack: ExitStack) -> int:
    """The port that the clients of a case call."""
    if name.startswith("http2"):
        place = directory / name
        place.mkdir()
        nginx = Nginx(place, HTTP2)
        stack.callback(nginx.stop)
        return nginx.port
    if name.startswith("tls"):
        tls = Shop(context=make_context(directory))
        stack.callback(tls.stop)
        return tls.port
    if name == "proxy":
        place = directory / "nginx"
        place.mkdir()
        nginx = Nginx(place, PROXY.format(port=shop.port))
        stack.callback(nginx.stop)
        return nginx.port
    return shop.port


def is_good(line: dict[str, Any]) -> bool:
    """Whether a case is within its bars."""
    if line["case"] == "packet_cost":
        return True
    if line["honest_hurt"] or line["thief_hangs"]:
        return False
    if line["case"] == "http2_shared":
        return bool(line["told_as_let_through"])
    taken = line["decision_to_block_seconds"]
    is_late = line["case"] in LATE and line["by"] == "principal"
    return taken is not None and taken <= BLOCK_SECONDS_MAX and (is_late or not line["leaked_after_first_reset"])


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--case", choices=CASES, action="append")
    arguments = parser.parse_args()
    cases = arguments.case or list(CASES)
    lines = []
    for line in run_cases([name for name in cases if name != "packet_cost"], arguments.seconds):
        lines.append(line)
        print(json.dumps(line), flush=True)
    for line in measure_cost() if "packet_cost" in cases else ():
        lines.append(line)
        print(json.dumps(line), flush=True)
    sys.exit(0 if all(map(is_good, lines)) else 1)


if __name__ == "__main__":
    main()
