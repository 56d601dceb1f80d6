"""The sensor's commands: run a sensor, preflight, pause, resume, detach, enrol, and the local enforcement switch.

Standard output is for programs: one JSON line when the sensor captures. Standard error has the log, and one sentence
when the sensor cannot start. Exit: 0 after SIGTERM or SIGINT, 1 where it could not start or go on, 2 for an unknown
flag.

`apidae enroll` takes a one-time token and stores this node's certificate in the state directory. The token comes from a
file, from APIDAE_ENROLLMENT_TOKEN, or from the terminal or a pipe. It never comes from the command line, where `ps`
would show it.

`apidae enforcement off|on|status` is the local switch. No collector can change it, and it works where the sensor hangs.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeVar

import typer

from common.flags import with_flags
from common.log_lines import escape, open_log
from common.settings import ConfigError, split_address
from common.signals import calling_at
from common.time_slice import let_others_first
from sensor.agent.attach import Prepared, prepare_capture
from sensor.agent.compose import VERSION, compose_sensor, open_certificates
from sensor.agent.exporter import ReadyFile, serve
from sensor.agent.lock import LockError, NodeLock, describe_waiting, take_node
from sensor.agent.pause import Command, ControlError, ControlServer, request_command
from sensor.cli.replay import replay
from sensor.cli.trace import trace
from sensor.core.config import SensorSettings, load_settings
from sensor.core.health import Failures, format_failure, log_loop_failure, log_thread_failure
from sensor.core.process import limit_arenas
from sensor.core.state import StartError
from sensor.ebpf.loader import LoadError
from sensor.enforce.tables import Switch
from sensor.enrich.cgroup_tree import CgroupScope, ScopeError, read_scope
from sensor.enrich.kubernetes.open import is_in_pod
from sensor.export.certificates import CredentialError, EnrollmentError
from sensor.export.certificates import enroll as get_certificate
from sensor.export.client import UplinkRejectedError
from sensor.export.spool import SpoolError
from sensor.export.state import StateDirectory, StateError
from sensor.export.target import parse_target
from sensor.preflight.checks import (
    Check,
    explain_failure,
    format_json,
    is_capture_possible,
    print_checks,
    run_preflight,
)
from sensor.preflight.program_trial import try_programs

_T = TypeVar("_T")
TOKEN_VARIABLE: Final = "APIDAE_ENROLLMENT_TOKEN"
Config = Annotated[Path | None, typer.Option(help="TOML file of settings.")]


@with_flags(
    SensorSettings,
    ("collector", "collector_ca_file", "collector_server_name", "cluster", "node", "state_dir"),
)
def enroll(
    flags: dict[str, Any],
    token_file: Annotated[Path | None, typer.Option(help="File with the token; asked for unless given.")] = None,
    config: Config = None,
) -> None:
    """Get a certificate and keep it; every flag but --token-file is the sensor's setting of its name."""
    try:
        settings = load_settings(flags, config_path=config)
        token = _read_token(token_file)
        asyncio.run(_enroll(settings, token))
    except (ConfigError, CredentialError, EnrollmentError, StateError, ValueError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename} cannot be read ({error.strerror}); correct --token-file or --collector-ca-file")
    told = {"event": "enrolled", "node": settings.node, "cluster": settings.cluster}
    print(json.dumps({**told, "certificate": str(open_certificates(settings, _open(settings)).certificate_path)}))


async def _enroll(settings: SensorSettings, token: str) -> None:
    if settings.client_cert_file is not None:
        raise ValueError(
            f"this sensor has the certificate of client_cert_file, {settings.client_cert_file}; drop that setting first"
        )
    await get_certificate(
        target=parse_target(settings.collector),
        token=token,
        cluster=settings.cluster,
        node=settings.node,
        files=open_certificates(settings, _open(settings)),
        server_name=settings.collector_server_name,
    )


def _open(settings: SensorSettings) -> StateDirectory:
    return StateDirectory(settings.state_dir)


def _read_token(path: Path | None) -> str:
    if path is not None:
        return path.read_text().strip()
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token and sys.stdin.isatty():
        token = str(typer.prompt("Enrolment token", hide_input=True, err=True))
    return (token or sys.stdin.readline()).strip()


_STATE_DIR = Annotated[Path, typer.Option(help="The sensor's state directory.")]
_DEFAULT: Path = SensorSettings.model_fields["state_dir"].default


def register_enforcement(app: typer.Typer) -> None:
    """Add the commands."""
    enforcement = typer.Typer(help="Switch enforcement off on this node, whatever the collector asks.")

    @enforcement.command("off")
    def off(
        reason: Annotated[str, typer.Option(help="Shown to whoever asks why.")] = "by the operator of this node",
        state_dir: _STATE_DIR = _DEFAULT,
    ) -> None:
        """End all blocks here within a second, and block nobody until `on`, also over restarts."""
        _change(lambda switch: switch.turn_off(reason), state_dir)

    @enforcement.command("on")
    def on(state_dir: _STATE_DIR = _DEFAULT) -> None:
        """Enforce again what the settings allow."""
        _change(Switch.turn_on, state_dir)

    @enforcement.command("status")
    def status(state_dir: _STATE_DIR = _DEFAULT) -> None:
        """Show whether enforcement is off on this node."""
        _change(lambda switch: None, state_dir)

    app.add_typer(enforcement, name="enforcement")


def _change(change: Callable[[Switch], None], state_dir: Path) -> None:
    switch = Switch(state_dir)
    try:
        change(switch)
    except OSError as error:
        typer.echo(
            f"apidae: {switch.path} cannot be changed ({error.strerror}); run this as the sensor's user", err=True
        )
        raise typer.Exit(1) from None
    reason = switch.read()
    typer.echo(json.dumps({"is_off": bool(reason), "reason": reason}))


logger = logging.getLogger(__name__)

# What stops a start with its own sentence.
_START_ERRORS = (
    ConfigError,
    ControlError,
    LoadError,
    LockError,
    ScopeError,
    SpoolError,
    StartError,
    StateError,
    UplinkRejectedError,
)
# For the readiness probe of a Pod on the network of its node, where the port may answer for the previous sensor. A Pod
# has its own /tmp.
READY_FILE = Path("/tmp/apidae-ready")
DEFAULT_RUN_DIR = SensorSettings.model_fields["run_dir"].default

RunDir = Annotated[Path, typer.Option(help="Where the running sensor has its control socket.")]


def register(app: typer.Typer, words: Sequence[str] = ()) -> None:
    """Add the sensor's commands, whatever the words of the command line."""
    app.command(name="sensor", help="See this node's HTTP calls and stream them to a collector.")(run_sensor)
    app.command(name="enroll", help="Get this node's certificate from a collector, with a one-time token.")(enroll)
    app.command(name="preflight", help="Check what works on this node; exits with 0 only if plaintext capture works.")(
        preflight
    )
    app.command(name="pause", help="Detach the running sensor. It stays connected to the collector.")(pause)
    app.command(name="resume", help="Attach the paused sensor again.")(resume)
    register_enforcement(app)
    app.command(name="trace", help="Show the stages that calls of a port or service pass, and where they stop.")(trace)
    app.command(name="replay", help="Print the HTTP calls of a capture file as JSON lines, or make a report of it.")(
        replay
    )


@with_flags(SensorSettings)
def run_sensor(flags: dict[str, Any], config: Config = None) -> None:
    """`apidae sensor`; every flag is the setting of its name (sensor/core/config.py)."""
    let_others_first()
    try:
        settings = load_settings(flags, config_path=config)
        failures = _configure_logging(settings)
        _check_node(settings)
        ready = ReadyFile(READY_FILE if is_in_pod() else None)
        ready.clear()
        scope = read_scope(settings.cgroup_path)
        lock = NodeLock(settings.run_dir, scope, version=VERSION, now=_tell_time, state_directory=settings.state_dir)
        try:
            _wait_and_live(settings, scope, lock, ready, failures)
        finally:
            ready.clear()
    except _START_ERRORS as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'the operating system'}: {error.strerror or error}")
    except Exception as error:
        logger.exception("the sensor ends")
        _fail(f"the sensor ended by a bug ({type(error).__name__}); please report it with the traceback in its log")


def _wait_and_live(
    settings: SensorSettings, scope: CgroupScope, lock: NodeLock, ready: ReadyFile, failures: Failures
) -> None:
    prepared = take_node(
        lock,
        wait_seconds=settings.takeover_wait_seconds,
        prepare=lambda: prepare_capture(settings, scope),
        report_ready=lambda: _tell_waiting(settings, ready),
        begin=Prepared.begin,
    )
    try:
        asyncio.run(_live(settings, scope, lock, prepared, ready, failures))
    finally:
        lock.release()


@with_flags(SensorSettings, ("cgroup_path",))
def preflight(
    flags: dict[str, Any],
    is_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    config: Config = None,
) -> None:
    """`apidae preflight`, with the settings that a start would have; no collector is asked, so none need be named."""
    try:
        settings = load_settings(flags, config_path=config, defaults={"collector": "localhost:7443"})
        checks = run_preflight(settings, try_programs=partial(try_programs, settings))
    except ConfigError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"the programs of a start cannot be tried: {error.strerror or error}; make /tmp a directory to write to")
    if is_json:
        typer.echo(format_json(checks))
    else:
        _print_checks(checks)
    raise typer.Exit(0 if is_capture_possible(checks) else 1)


def pause(run_dir: RunDir = DEFAULT_RUN_DIR) -> None:
    """`apidae pause`; returns when nothing is attached."""
    _command(Command.PAUSE, run_dir)


def resume(run_dir: RunDir = DEFAULT_RUN_DIR) -> None:
    """`apidae resume`; returns when all is attached."""
    _command(Command.RESUME, run_dir)


def _command(command: Command, run_dir: Path) -> None:
    try:
        status = request_command(run_dir, command)
    except ControlError as error:
        _fail(str(error))
    typer.echo(json.dumps({"state": status.state.name.lower(), "pid": status.pid}))


async def _live(
    settings: SensorSettings,
    scope: CgroupScope,
    lock: NodeLock,
    prepared: Prepared | None,
    ready: ReadyFile,
    failures: Failures,
) -> None:
    limit_arenas()
    announce = {"event": "capturing", "node": settings.node, "version": VERSION}

    def tell_capturing() -> None:
        ready.set()
        print(json.dumps(announce), flush=True)

    sensor, uplink = compose_sensor(
        settings, scope, lock, on_capturing=tell_capturing, failures=failures, prepared=prepared
    )
    asyncio.get_running_loop().set_exception_handler(log_loop_failure)
    async with AsyncExitStack() as stack:
        stack.enter_context(calling_at(signal.SIGTERM, signal.SIGINT, call=sensor.stop))
        await stack.enter_async_context(
            _ending_in_thread(ControlServer(settings.run_dir, sensor.carry_out, sensor.trace))
        )
        if settings.metrics_listen:
            host, port = split_address(settings.metrics_listen)
            exporter = serve(
                host=host, port=port, read_health=sensor.read_metrics_from_thread, is_ready=sensor.is_ready
            )
            try:
                bound_port = await stack.enter_async_context(_ending_in_thread(exporter))
            except OSError as error:
                raise StartError(
                    f"metrics_listen {settings.metrics_listen} cannot be listened on ({error.strerror}); "
                    "choose a free port of an address of this machine"
                ) from error
            logger.info("metrics at http://%s:%d/metrics", host, bound_port)
        await sensor.run(uplink)


@asynccontextmanager
async def _ending_in_thread(manager: AbstractContextManager[_T]) -> AsyncIterator[_T]:
    """The same, but left in a thread: a command or scrape that is under way waits for this loop."""
    entered = manager.__enter__()
    try:
        yield entered
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


@contextmanager
def _tell_waiting(settings: SensorSettings, ready: ReadyFile) -> Iterator[None]:
    """Answers whoever watches the sensor, while it waits for the one before it."""
    ready.set()
    with ExitStack() as stack:
        if settings.metrics_listen:
            host, port = split_address(settings.metrics_listen)
            exporter = serve(
                host=host, port=port, read_health=lambda: describe_waiting(time.time_ns), is_ready=lambda: True
            )
            try:
                # On the network of the node the sensor before it has this port.
                stack.enter_context(exporter)
            except OSError as error:
                logger.info("metrics_listen is not free yet: %s", error.strerror)
        yield


def _check_node(settings: SensorSettings) -> None:
    """Preflight; raises `StartError` with its first failure."""
    if not (settings.proc_path / "1" / "stat").exists():
        raise StartError(
            f"proc_path {settings.proc_path} shows no processes; mount the node's /proc there, or leave it out"
        )
    checks = run_preflight(settings)
    if not is_capture_possible(checks):
        _print_checks(checks, is_error=True)
        raise StartError(explain_failure(checks))


def _print_checks(checks: Sequence[Check], *, is_error: bool = False) -> None:
    from rich.console import Console  # 2 MB that a sensor has no use for.

    print_checks(checks, Console(stderr=is_error))


def _tell_time() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _fail(sentence: str) -> NoReturn:
    typer.echo(f"apidae: {escape(sentence)}", err=True)
    raise typer.Exit(1)


def _configure_logging(settings: SensorSettings) -> Failures:
    """The log on standard error; gives the filter that counts what fails."""
    failures = Failures()
    open_log(settings.log_level.value, describe_failure=format_failure, record_filter=failures)
    threading.excepthook = log_thread_failure
    return failures
