"""A sensor's own uplink and commands against a real collector, as the tests of certificates use them."""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner

from collector.trust.identity import read_certificate
from common.main import build_app
from sensor.cli.commands import TOKEN_VARIABLE
from sensor.core.clock import Clock
from sensor.export.certificates import CertificateKeeper
from sensor.export.client import Uplink, UplinkRejectedError, UplinkSettings
from sensor.export.spool import Spool
from sensor.export.target import parse_target
from tests.collector.running import RunningCollector
from tests.sensor.export.sending import BOOT, IDENTITY, Listener, make_keeper
from tests.waiting import wait_until

NODE = ("--node", IDENTITY.node, "--cluster", IDENTITY.cluster)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a command said, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str, token: str = "") -> Done:
    """A command in this process: another one would take seconds to start."""
    result = CliRunner().invoke(build_app(), list(arguments), input=token, env={TOKEN_VARIABLE: ""})
    return Done(returncode=result.exit_code, stdout=result.stdout, stderr=result.stderr)


def command(data: Path, *arguments: str) -> str:
    done = run(*arguments, "--data-dir", str(data))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def enroll(address: str, state: Path, token: str, *extra: str) -> Done:
    return run("enroll", "--collector", address, "--state-dir", str(state), *NODE, *extra, token=token)


@asynccontextmanager
async def dialling(address: str, directory: Path, keeper: CertificateKeeper, token: str = "") -> AsyncIterator[Uplink]:
    spool = Spool(directory / f"spool-{random.random()}", boot_id=BOOT, limit_bytes=1 << 20)
    uplink = Uplink(
        settings=UplinkSettings(
            target=parse_target(address),
            identity=IDENTITY,
            token=lambda: token,
            first_backoff_seconds=0.05,
            longest_backoff_seconds=0.1,
        ),
        keeper=keeper,
        spool=spool,
        clock=Clock(),
        listener=Listener(),
        random_source=lambda: 0.5,
    )
    running = asyncio.create_task(uplink.run())
    try:
        yield uplink
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        spool.close()


def greet(address: str, directory: Path, token: str = "", **files: object) -> str:
    """One sensor's dial: "" when it was welcomed, else what it says of the failure."""
    keeper = make_keeper(directory, parse_target(address), **files)  # type: ignore[arg-type]

    async def dial() -> str:
        async with dialling(address, directory, keeper, token) as uplink:
            welcome = asyncio.create_task(uplink.wait_welcome())
            try:
                async with asyncio.timeout(60):
                    # gRPC's core now and then loses a refusal's status ("INTERNAL: Internal error from Core"), and the
                    # next dial gets it; a dial that reaches nobody is told by its status at once.
                    while not welcome.done() and "UNAVAILABLE" not in uplink.last_error:
                        await asyncio.sleep(0.01)
                if welcome.done():
                    welcome.result()
                return uplink.last_error
            except UplinkRejectedError as error:
                return str(error)
            finally:
                welcome.cancel()
                await asyncio.gather(welcome, return_exceptions=True)

    return asyncio.run(dial())


def wait_for_line(collector: RunningCollector, pattern: str) -> str:
    """The first line of the collector's log that matches."""

    def find() -> str:
        return next((line for line in list(collector.errors) if re.search(pattern, line)), "")

    return wait_until(find, f"a line that matches {pattern!r}")


def read_serial(path: Path) -> str:
    content = path.read_bytes()
    leaf = x509.load_pem_x509_certificates(content)[0]
    return read_certificate(leaf.public_bytes(Encoding.DER)).serial_text
