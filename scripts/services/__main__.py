"""`scripts/test --services`: the tests of state, log and tables, on real servers in place of those that tests start.

The servers are those of `compose.yaml`, started by Docker and stopped at the end. Where all variables below name
servers already, these are used. They are emptied: name none that holds anything of yours.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

COMPOSE: Final = Path(__file__).with_name("compose.yaml")
# Replicas of one ClickHouse; PostgreSQL; a broker of Kafka.
SERVERS: Final = {
    "APIDAE_TEST_CLICKHOUSE": "http://default:@127.0.0.1:18123,http://default:@127.0.0.1:18124",
    "APIDAE_TEST_POSTGRESQL": "postgresql://apidae:apidae@127.0.0.1:15432/apidae",
    "APIDAE_TEST_KAFKA": "127.0.0.1:19092",
}
TESTS: Final = (
    "tests/collector/test_replicas.py",
    "tests/collector/storage",
    "tests/collector/log",
    "tests/collector/backup/test_state.py",
)


def main(arguments: list[str]) -> int:
    """The exit code of pytest, or 2 where there are no servers."""
    given = {name: os.environ[name] for name in SERVERS if os.environ.get(name)}
    if given.keys() == SERVERS.keys():
        return run_tests(given, arguments)
    if shutil.which("docker") is None:
        names = ", ".join(SERVERS)
        print(
            f"services: Docker is not installed; install it with Compose, or name servers in {names}.", file=sys.stderr
        )
        return 2
    with serve():
        return run_tests(SERVERS, arguments)


@contextmanager
def serve() -> Iterator[None]:
    """The servers are up and healthy meanwhile."""
    compose = ("docker", "compose", "--file", str(COMPOSE))
    try:
        subprocess.run([*compose, "up", "--detach", "--wait"], check=True)
        yield
    finally:
        subprocess.run([*compose, "down", "--volumes"], check=False)


def run_tests(servers: dict[str, str], arguments: list[str]) -> int:
    command = [sys.executable, "-m", "pytest", *(arguments or TESTS)]
    return subprocess.run(command, env=os.environ | servers, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
