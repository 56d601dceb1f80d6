"""The life of the collector: starts everything, reports that it is ready, runs until a signal, and ends cleanly.

It is one process with one event loop (gRPC and HTTP) and threads that block (the store's writer, the detectors'
pipe). The detectors' own process is spawned, because a fork of the embedded store would hang.

What it starts, stops and repeats is the list of features of `collector/server/compose.py` and those of this module:
certificates, keys and memory. `collector/server/duties.py` does that.
"""

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain

from collector.alerting.self_monitoring import StorageState
from collector.api.forwarding import Peers
from collector.api.services import Services
from collector.core.budget import BudgetBook
from collector.core.config import CollectorSettings, join_address
from collector.core.feature import LEASED, Feature, Job, Role
from collector.core.keys import API_TOKEN_FILE, APPROVAL_TOKEN_FILE, SENSOR_TOKEN_FILE
from collector.core.memory import LibraryPages, release_free_memory
from collector.log.base import STORE
from collector.receiver.clocks import SensorClocks
from collector.receiver.commit import GroupCommit
from collector.receiver.own_traffic import OwnTraffic, describe_own_traffic
from collector.receiver.service import CollectorService
from collector.receiver.stream import IngestContext
from collector.receiver.writer import make_feature as make_writer_feature
from collector.server.compose import Collector
from collector.server.duties import Duties, repeat_jobs
from collector.server.failures import Failures, first_line
from collector.server.grpc_server import Entrance
from collector.server.http_server import HttpServer
from collector.server.listeners import allow_open_files, bind, check_certificate, find_own_url
from collector.server.metrics import render_metrics
from collector.server.monitoring import OwnReports, SelfMonitoring
from collector.server.usage import Usage
from collector.storage.base import StoreError
from common.figures import Figure, list_figures
from common.settings import split_address
from common.signals import calling_at

logger = logging.getLogger(__name__)

# Nothing else runs while the garbage collector looks at objects, some 0.4 us each. So what stays, as the names of
# 200,000 routes, is taken out of its sight: each time it looked at these took 170 ms. Young objects are looked at as
# they come, at most some 60,000 at once; all others when `freeze_long_lived` runs.
GC_THRESHOLDS = (10_000, 5, 1_000_000)
FREEZE_SECONDS = 300.0
# Cycles among frozen objects are not found. There are few, so they are looked for once a day.
UNFREEZE_SECONDS = 86_400.0


def freeze_long_lived() -> None:
    """Collect garbage, give back what was free, and have the collector not look again at what is left. It is still
    freed with its last reference."""
    release_free_memory()
    gc.freeze()


# After so long a thread that computes gives the interpreter to one that waits for it. The event loop waits so at each
# of its turns, and a health check needs several. Python's default is ten times as long.
SWITCH_SECONDS = 0.0005
GRACE_SECONDS = 3.0
# From the stop until another collector may take over, for what is under way under a lease. What is later is refused.
HAND_OVER_SECONDS = 1.0
ANSWER_SECONDS = 1.0  # For requests that are under way at the stop.
# From the signal to the end, whatever is under way: what was acknowledged is in the log, and a start reads it again.
STOP_SECONDS_MAX = 9.5
# Exit status where something of the collector's own ended, and where the stop had to cut work off.
EXIT_FAILED, EXIT_CUT_OFF = 1, 3
# Between two tries to end what runs under a budget.
_CANCEL_SECONDS = 0.2
# The writer's pause: with the sensors' second for a new route, a call is in the inventory within 2 s.
ASKED_SECONDS = 15.0  # So long after a request somebody still looks.
NEW_SECONDS = 60.0
# What was accepted is in the tables so soon, or no more is accepted. The alert that the tables are behind comes before.
BACKLOG_SECONDS = 90.0
POLICY_SECONDS = 0.5  # Between two looks for a policy that another collector published.

BuildApp = Callable[[Services], object]


async def run_collector(settings: CollectorSettings, build_app: BuildApp) -> bool:
    """Run until SIGTERM, SIGINT or SIGHUP, and whether to begin anew, because another collector took over. Before it is
    ready it raises StartError, StoreError, KeyFileError, OSError, or ValueError."""
    check_certificate(settings)
    allow_open_files()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*GC_THRESHOLDS)
    http_socket = bind(settings.http_listen, "http_listen")
    try:
        collector = await asyncio.to_thread(Collector, settings, find_own_url(settings, http_socket))
    except BaseException:
        http_socket.close()
        raise
    try:
        entrance = await asyncio.to_thread(
            Entrance, settings, collector.tokens.sensor, state=collector.state, secrets=collector.secrets
        )
        try:
            return await _Life(collector, entrance, http_socket, build_app).run()
        finally:
            entrance.close()
    finally:
        http_socket.close()
        await asyncio.to_thread(collector.close)


class _Life:
    """The running parts of one collector."""

    def __init__(
        self, collector: Collector, entrance: Entrance, http_socket: socket.socket, build_app: BuildApp
    ) -> None:
        self._collector = collector
        self._entrance = entrance
        self._settings = collector.settings
        self._http_socket = http_socket
        self._build_app = build_app
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._is_policy_due = asyncio.Event()
        self._is_succeeded = False  # By another collector.
        self._http: HttpServer | None = None
        self._failures = Failures()
        self._job_budgets = BudgetBook()
        self._handing_over: asyncio.Task[None] | None = None
        self._ending: list[threading.Thread] = []  # What is done under leases.
        self._usage = Usage()
        self._is_writer_failing = False
        self._started_at = time.monotonic()
        self._services: Services | None = None
        self._commit = GroupCommit(
            collector.log,
            on_error=self._failures.noting("wal_errors"),
            on_new_routes=collector.writer.hurry,
        )
        self._clocks = SensorClocks(time.time)
        self._ingest = CollectorService(
            IngestContext(
                commit=self._commit,
                sensors=collector.sensors,
                keys=tuple(collector.keys),
                policy=collector.policy.read(),
                admission=entrance.admission,
                authorities=lambda: entrance.authorities,
                own_traffic=self._describe_own_traffic,
                clock=time.time,
                clocks=self._clocks,
                find_backlog=self._find_backlog,
                reveals=collector.reveals,
                witnesses=collector.witnesses,
                on_coverage=collector.reports.add_coverage,
                on_workloads=collector.reports.add_workloads,
                on_former_names=collector.reports.add_former_names,
                on_node_addresses=collector.set_node_addresses,
                on_revealed=collector.reports.add_words,
                on_schemas=collector.reports.schemas.add,
                on_schema_offer=collector.reports.schema_offers.add,
                on_attachments=collector.attachments.add,
                on_enforcement=collector.responder.take_report,
            )
        )
        collector.reports.is_watched = self._is_watched
        self._duties = Duties(self._list_features())

    def _list_features(self) -> Iterator[Feature]:
        """All of this process, in the order in which they start. They stop in the opposite one: writer and detectors
        first."""
        collector = self._collector
        monitoring = SelfMonitoring(
            alerts=collector.alert_service,
            own=OwnReports(collector.pending, collector.name),
            sensors=collector.sensors,
            witnesses=collector.witnesses,
            detectors=collector.detectors,
            read_storage=self._read_storage,
            list_limits=collector.list_limits,
            list_validities=self._entrance.list_validities,
        )
        yield from monitoring.features
        yield Feature(name="keys", jobs=(Job(works=(self._read_keys,)),))
        yield Feature(name="certificates", jobs=(Job(works=(self._entrance.look, self._apply_trust)),))
        yield from collector.features
        yield make_writer_feature(
            collector.writer,
            partial(collector.log.open_reader, STORE),
            on_error=self._note_writer_failure,
            on_drained=self._note_writer_success,
            is_watched=self._is_watched,
            hands_over=collector.tenure.is_shared,
        )
        if Role.DETECT in self._settings.roles:
            yield collector.detectors.make_feature(
                collector.catalogue.take_changed, self._failures.noting("detector_errors")
            )
        if collector.detectors.is_shared:
            yield Feature(name="lead", role=Role.DETECT, start=self._lead_detectors, renew=self._lead_detectors)
        yield Feature(
            name="memory",
            start=freeze_long_lived,
            jobs=(
                # Again after the others, which keep what they found.
                Job(works=(freeze_long_lived,), seconds=FREEZE_SECONDS),
                Job(works=(gc.unfreeze, freeze_long_lived), seconds=UNFREEZE_SECONDS, is_late=True),
                Job(works=(LibraryPages().look,)),
            ),
        )

    def _lead_detectors(self) -> None:
        fence = self._collector.tenure.find_fence(Role.DETECT)
        if fence is not None:
            self._collector.detectors.lead(fence.epoch)

    async def run(self) -> bool:
        """Whether to begin anew."""
        collector, duties, tenure = self._collector, self._duties, self._collector.tenure
        on_error = self._failures.noting("housekeeping_errors")
        takes_sensors = Role.INGEST in self._settings.roles
        try:
            await asyncio.to_thread(
                tenure.begin,
                duties,
                on_lost=self._begin_anew,
                on_error=on_error,
                own_only=self._settings.own_only,
            )
            grpc_port = await self._entrance.start(self._ingest) if takes_sensors else None
        except BaseException:
            await self._stop_duties()
            await asyncio.to_thread(tenure.release)
            raise
        commit = asyncio.create_task(self._commit.run())
        housekeeping = asyncio.create_task(repeat_jobs(duties.list_jobs, on_error, self._job_budgets))
        server = self._http = self._build_http(grpc_port)
        http = asyncio.create_task(server.serve(sockets=[self._http_socket]))
        policies = asyncio.create_task(self._follow_policy())
        loop = self._loop

        def send_soon() -> None:
            loop.call_soon_threadsafe(self._is_policy_due.set)

        collector.responder.on_change(send_soon)
        own_tasks = {"HTTP server": http, "log": commit, "housekeeping": housekeeping, "policy": policies}
        failure = ""
        with calling_at(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, call=self._stop.set):
            try:
                while not server.started and not http.done():
                    await asyncio.sleep(0.01)
                self._announce(grpc_port)
                stopped = asyncio.create_task(self._stop.wait())
                await asyncio.wait({stopped, *own_tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
                stopped.cancel()
                failure = "" if self._stop.is_set() else _describe_end(own_tasks)
            finally:
                if failure:
                    logger.error("%s", failure)
                end_at_deadline(STOP_SECONDS_MAX, EXIT_CUT_OFF if self._stop.is_set() else EXIT_FAILED)
                server.should_exit = True
                cancelling = asyncio.create_task(cancel_work(collector.budgets, http))
                if tenure.is_shared:
                    self._handing_over = asyncio.create_task(asyncio.to_thread(self._hand_over))
                    # Longer where the state or the tables are away: then sensors are not kept waiting, too.
                    await asyncio.wait({self._handing_over}, timeout=2 * HAND_OVER_SECONDS)
                ending_jobs = asyncio.create_task(cancel_all(self._job_budgets))
                if self._services is not None:
                    self._services.events.close()
                self._ingest.end_streams()  # Else each would last for the whole grace.
                await self._entrance.stop(GRACE_SECONDS)
                self._commit.stop()
                housekeeping.cancel()
                policies.cancel()
                await asyncio.gather(commit, http, housekeeping, policies, return_exceptions=True)
                await self._stop_duties()
                await asyncio.gather(cancelling, ending_jobs)
                await asyncio.to_thread(tenure.release)
        if failure:
            raise RuntimeError(failure)
        return self._is_succeeded

    def _hand_over(self) -> None:
        """Give the leases back before anything else ends, so that another collector takes over at once. It repeats what
        this one began, and the number of its lease refuses what this one still writes. Blocks."""
        duties, tenure, until = self._duties, self._collector.tenure, time.monotonic() + HAND_OVER_SECONDS
        tenure.stop()
        self._ending = [threading.Thread(target=duties.stop, args=([role],), name=f"end of {role}") for role in LEASED]
        for thread in self._ending:
            thread.start()
        self._job_budgets.stop()
        for thread in self._ending:
            thread.join(max(0.0, until - time.monotonic()))
        tenure.release()

    async def _stop_duties(self) -> None:
        """Whichever started. What blocks longest stops at the same time."""
        duties = self._duties
        if self._handing_over is not None:
            await self._handing_over
        await asyncio.to_thread(self._collector.tenure.stop)
        for thread in self._ending:
            await asyncio.to_thread(thread.join)
        threads = ([Role.WRITER], [Role.DETECT])
        await asyncio.gather(*(asyncio.to_thread(duties.stop, roles) for roles in threads))
        await asyncio.to_thread(duties.stop, [Role.API, Role.INGEST, Role.JOBS, None])

    def _begin_anew(self) -> None:
        """Any thread."""
        self._is_succeeded = True
        self._loop.call_soon_threadsafe(self._stop.set)

    def _read_keys(self) -> None:
        """Keys of a rotation, and of its end. A state that cannot be read leaves those in use."""
        keys = self._collector.installation_keys.load(time.time())
        if keys != self._ingest.context.keys:
            self._loop.call_soon_threadsafe(self._ingest.change_keys, keys)

    def _apply_trust(self) -> None:
        """What the entrance read anew, in the loop."""
        self._loop.call_soon_threadsafe(self._entrance.apply, self._ingest)

    async def _follow_policy(self) -> None:
        """Send sensors what was published, whichever collector did it."""
        while True:
            self._is_policy_due.clear()
            try:
                policy = await asyncio.to_thread(self._collector.policy.read)
            except StoreError as error:
                self._failures.note("policy_errors", error)
            else:
                if policy != self._ingest.context.policy:
                    self._ingest.change_policy(policy)
                    self._collector.integrations.exporter.wake()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_policy_due.wait(), POLICY_SECONDS)

    def _describe_own_traffic(self) -> OwnTraffic:
        host, port = self._http_socket.getsockname()[:2]
        tls = self._entrance.terminator_address
        return describe_own_traffic(self._collector.process_mark, [(host, port), *([tls] if tls is not None else [])])

    def _build_http(self, grpc_port: int | None = None) -> HttpServer:
        services = self._services = self._collector.build_services(
            lambda: "The collector is stopping." if self._stop.is_set() else "",
            partial(render_metrics, self._list_figures),
            self._read_storage,
            grpc_port,
            Peers(find_holder=self._collector.tenure.find_holder, make_context=self._entrance.make_client_context),
        )
        files = self._entrance.server_files if self._settings.is_http_secure else None
        server = HttpServer(self._build_app(services), files=files, grace_seconds=ANSWER_SECONDS + GRACE_SECONDS)
        if server.context is not None:
            self._entrance.keep_current(server.context)
        return server

    def _announce(self, grpc_port: int | None) -> None:
        """Tokens made by this start, once, on standard error: themselves on a terminal, where a person reads them; else
        their files, for a log is kept and sent on. Then the one line that programs wait for."""
        is_read_by_person = sys.stdout.isatty() and sys.stderr.isatty()
        collector, settings = self._collector, self._settings
        for token, file, what in (
            (collector.tokens.sensor, SENSOR_TOKEN_FILE, "Sensor"),
            (collector.tokens.api, API_TOKEN_FILE, "API"),
            (collector.tokens.approval, APPROVAL_TOKEN_FILE, "Approval"),
        ):
            if token is not None and token.is_new:
                shown = f": {token.value}" if is_read_by_person else "."
                place = settings.data_dir / file
                print(f"{what} token, made now and kept in {place}{shown}", file=sys.stderr, flush=True)
        event = {
            "event": "ready",
            "grpc": join_address(split_address(settings.grpc_listen)[0], grpc_port) if grpc_port is not None else None,
            "http": join_address(split_address(settings.http_listen)[0], self._http_socket.getsockname()[1]),
            "pid": os.getpid(),
            "version": collector.version,
        }
        print(json.dumps(event), flush=True)

    def _note_writer_failure(self, error: Exception) -> None:
        self._is_writer_failing = True
        self._failures.note("writer_errors", error)

    def _note_writer_success(self) -> None:
        self._is_writer_failing = False

    def _find_backlog(self) -> str:
        """Why no rows are taken until the tables have caught up; empty where they are taken: while inserts fail, too,
        for then the log is what takes them."""
        lag_seconds = self._collector.writer.measure_lag(time.time())
        if self._is_writer_failing or lag_seconds <= BACKLOG_SECONDS:
            return ""
        return f"The collector's tables are {lag_seconds:.0f} s behind its log; send again."

    def _is_watched(self) -> bool:
        """Whether somebody looks at what is stored, or the start was just now and somebody waits for the first rows."""
        is_followed = self._services is not None and self._services.events.is_followed
        is_new = time.monotonic() - self._started_at < NEW_SECONDS
        return is_followed or is_new or self._collector.budgets.is_asked(ASKED_SECONDS)

    def _read_storage(self) -> StorageState:
        """Of log, disk and tables. Any thread."""
        collector = self._collector
        log = collector.writer.log_counts
        return StorageState(
            damaged_bytes=log.damaged_bytes,
            lost_batches=log.lost_batches,
            recovered_batches=log.recovered_batches,
            undetected_batches=collector.detectors.lost_batches,
            lost_parts=collector.parts.list_lost(),
            rebuilt_parts=collector.parts.counts.rebuilt,
            clock_fault=self._clocks.find_fault(),
            shortage=collector.disk.find_shortage(),
            state_fault=collector.state.fault,
            is_failing=self._is_writer_failing,
            lag_seconds=collector.writer.measure_lag(time.time()),
        )

    def _list_figures(self) -> tuple[Figure, ...]:
        return (
            *self._ingest.figures(),
            *self._entrance.figures(),
            *(self._http.figures() if self._http is not None else ()),
            *(self._services.events.figures() if self._services is not None else ()),
            *(self._services.authenticator.figures() if self._services is not None else ()),
            *list_figures(self._failures.counts),
            *self._usage.list_figures(),
            *chain.from_iterable(feature.figures() for feature in self._duties.features),
        )


def _describe_end(tasks: Mapping[str, asyncio.Task[None]]) -> str:
    """Which of the collector's own tasks ended, and why, in one sentence."""
    for name, task in tasks.items():
        if task.done():
            error = None if task.cancelled() else task.exception()
            reason = f" ({first_line(error)})" if error is not None else ""
            return f"The collector's {name} ended by itself{reason}; start the collector again."
    return ""


async def cancel_work(budgets: BudgetBook, http: asyncio.Task[None]) -> None:
    """End requests that are under way, until none is. What takes no more than `ANSWER_SECONDS` is
    answered first, so that an upgrade of several collectors is no error for anybody. `http` ends with the last answer.
    """
    await asyncio.wait((http,), timeout=ANSWER_SECONDS)
    await cancel_all(budgets)


async def cancel_all(budgets: BudgetBook) -> None:
    """End all work under these budgets, until none is."""
    while True:
        await asyncio.to_thread(budgets.stop)
        if not len(budgets):
            return
        await asyncio.sleep(_CANCEL_SECONDS)


def end_at_deadline(seconds: float, status: int) -> None:
    """Ends this process then with an exit status, if it has not ended: a thread cannot be stopped from outside, and one
    that does not look at its budget would keep the process."""

    def end() -> None:
        logger.warning("Work was still under way %.0f s after the stop; it is cut off.", seconds)
        os._exit(status)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
