"""How well a block stops one client and nobody else, with the running product on this kernel.

    scripts/bench block [--seconds 60] [--case NAME ...]

A JSON line for each case: keep_alive and connections (one request each), by address and by principal; tls (by address);
proxy (nginx in front, which takes clear HTTP on this node; by principal). `leaked_records` are answers that the thief
still got between the decision (the request to the API) and the end, `honest_hurt` calls of four honest clients that
were not answered with 200. Then `packet_cost`: nanoseconds of a run of the programs with 0, 100 and 10,000 blocks.
Exits with 1 where an honest call was hurt, the thief hung or went on after its first reset, or a block took over 2 s.
Needs root, nginx and wrk.
"""

import argparse
import json
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from scripts.bench_cases.blocking.clients import Caller, Shop
from scripts.bench_cases.blocking.cost import measure_cost
from scripts.bench_cases.blocking.trial import Api, Trial, run_trial
from scripts.demo.nginx import Nginx
from scripts.live.host import start_collector, start_sensor

CASES = ("keep_alive", "connections", "tls", "proxy", "packet_cost")
SETTINGS = "is_enforcing = true\nenforce_max_call_share = 1.0\n"
BLOCK_SECONDS_MAX = 2.0
PROXY = """\
        location / {{ proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; proxy_set_header Connection ""; }}"""


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


def make_caller(port: int, is_keep_alive: bool, is_tls: bool, source: str, key: str) -> Caller:
    """A client of one server."""
    return Caller(port, source, {"X-Api-Key": key}, is_keep_alive=is_keep_alive, is_tls=is_tls)


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
            for is_by_address in _choose(name):
                number += 1
                port = _open(name, shop, directory, stack)
                trial = Trial(
                    name=name,
                    make_caller=partial(make_caller, port, name != "connections", name == "tls"),
                    is_by_address=is_by_address,
                    thief=f"127.0.2.{number}",
                )
                yield run_trial(api, trial, seconds)


def _choose(name: str) -> tuple[bool, ...]:
    return {"tls": (True,), "proxy": (False,)}.get(name, (True, False))


def _open(name: str, shop: Shop, directory: Path, stack: ExitStack) -> int:
    """The port that the clients of a case call."""
    if name == "tls":
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
    taken = line["decision_to_block_seconds"]
    is_clean = not (line["honest_hurt"] or line["thief_hangs"] or line["leaked_after_first_reset"])
    return taken is not None and taken <= BLOCK_SECONDS_MAX and is_clean


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
