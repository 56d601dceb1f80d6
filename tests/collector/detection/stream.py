"""Row batches and the demo's traffic for tests: honest clients at a few services, and a scraper; as a sensor would
send them."""

from dataclasses import dataclass, field, replace

import numpy as np

from collector.alerting.alert import AlertSignal
from collector.core.rows import Ragged, Route, Segment, Service, ServiceLoss
from collector.detection.engine import Engine
from collector.storage.columns import RowBatch, fill_columns

START = 1_700_000_000  # On a 10 s window.
PASSWORD = 1 * 64 + 12  # In the body of a request (proto DataPlace * 64 + DataKind).
CODES = 700_000  # Numbers of routes from here on are of paths that begin with `otp`,
ADMINISTRATION = 800_000  # and from here on with `admin`.


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What of a row the detectors read."""

    route: int
    consumer: int = 0  # Principal.
    principal_kind: int = 1
    window: int = START
    calls: int = 1
    objects: tuple[int, ...] = ()
    address: str = ""
    length: int = 10
    role: int = 1
    hop: int = 1
    flags: int = 0
    credential: int = 0
    status: int = 200
    authentication: int = 0  # Bits.
    method: str = "GET"
    records: int = 0  # Returned.
    payloads: tuple[int, ...] = ()  # Of attacks, ascending.
    found: tuple[int, ...] = ()  # Codes of what calls held, ascending.
    microseconds: int = 0  # That its calls took.
    size: int = 0  # Bytes of their responses.
    numbers: int = 0  # Calls to objects that numbers name.
    steps: int = 0  # Of them, to the next number.
    software: str = ""
    passwords: int = 0  # Calls whose body was read and held a password,
    bodies: int = 0  # and those whose body was read and held none.
    unread: int = 0  # Calls from its address beside it that its sensor could not read.


def make_route(number: int, method: str = "GET") -> Route:
    """`GET /things<number>/{integer}`; from ADMINISTRATION and CODES on with a word before it."""
    service = Service(cluster="", namespace="", workload="shop", workload_kind=3, host_name="h", port=8000)
    segments = (Segment(1, f"things{number}", 0, 0), Segment(3, "", 0, 0))
    if number >= CODES:
        segments = (Segment(1, "admin" if number >= ADMINISTRATION else "otp", 0, 0), *segments)
    return Route(
        route_id=_identify(number, method),
        service=service,
        host="h",
        method=method,
        segments=segments,
        has_trailing_slash=False,
    )


def _identify(number: int, method: str) -> int:
    return number + 1 if method == "GET" else number + 1_000_001


def make_sets(lists: list[tuple[int, ...]]) -> Ragged:
    """One set a row."""
    return Ragged(
        offsets=np.concatenate([[0], np.cumsum([len(values) for values in lists])]).astype(np.int64),
        values=np.array([value for values in lists for value in values], np.uint64),
        counts=np.zeros(0, np.uint64),
    )


def count_found(row: Row) -> dict[int, int]:
    """What calls of a row held, and how many."""
    return dict.fromkeys(row.found, 1) | ({PASSWORD: row.passwords} if row.passwords else {})


def make_histograms(counts: list[dict[int, int]]) -> Ragged:
    """One a row: values ascending, with their counts."""
    made = make_sets([tuple(sorted(one)) for one in counts])
    return replace(made, counts=np.array([one[value] for one in counts for value in sorted(one)], np.uint64))


def make_batch(
    rows: list[Row], *, sequence: int = 1, lost: int = 0, node: str = "n", tls_lost: int = 0, tls_seen: int = 0
) -> RowBatch:
    """A batch that convert could have given; `lost` and `tls_lost` of calls in the clear and over TLS."""
    routes = sorted({(row.route, row.method) for row in rows})
    strings = ("", *sorted({text for row in rows for text in (row.address, row.software)} - {""}))
    n = len(rows)

    def column(name: str, kind: type = np.uint32) -> np.ndarray:
        return np.array([getattr(row, name) for row in rows], kind)

    columns = fill_columns(
        n,
        principal=column("consumer", np.uint64),
        principal_kind=np.where(column("consumer", np.uint64) > 0, column("principal_kind"), 0).astype(np.uint32),
        credential=column("credential", np.uint64),
        client_address=np.array([strings.index(row.address) for row in rows], np.uint32),
        client_software=np.array([strings.index(row.software) for row in rows], np.uint32),
        authentication=column("authentication"),
        status_code=column("status"),
        role=column("role"),
        hop=column("hop"),
        flags=column("flags"),
        calls=column("calls", np.uint64),
        response_bytes=column("size", np.uint64),
        duration_sum_us=column("microseconds", np.uint64),
        objects=make_sets([row.objects for row in rows]),
        objects_count=np.array([len(row.objects) for row in rows], np.uint64),
        object_numeric_calls=column("numbers", np.uint64),
        object_monotonic_steps=column("steps", np.uint64),
        records_returned=column("records", np.uint64),
        attacks=np.array([len(row.payloads) for row in rows], np.uint64),
        attacks_confirmed=np.array([sum(value & 0xF0 > 0 for value in row.payloads) for row in rows], np.uint64),
        payloads=make_sets([row.payloads for row in rows]),
        request_bodies_read=column("passwords", np.uint64) + column("bodies", np.uint64),
        data=make_histograms([count_found(row) for row in rows]),
    )
    return RowBatch(
        node=node,
        boot_id="b",
        sequence=sequence,
        key_id=1,
        policy_epoch=0,
        clock_segment=0,
        lost_calls=lost + tls_lost,
        seen_calls=sum(row.calls for row in rows),
        tls_lost_calls=tls_lost,
        tls_seen_calls=tls_seen,
        service_losses=tuple(
            ServiceLoss(
                service=make_route(row.route).service,
                is_encrypted=False,
                lost_calls=row.unread,
                client_address=row.address,
                reason=1,
                unread_bytes=100 * row.unread,
            )
            for row in rows
            if row.unread
        ),
        strings=strings,
        routes=tuple(make_route(*route) for route in routes),
        route=np.array([routes.index((row.route, row.method)) for row in rows], np.uint32),
        route_id=np.array([_identify(row.route, row.method) for row in rows], np.uint64),
        window_start=column("window"),
        window_length=column("length"),
        **columns,
    )


@dataclass(slots=True, kw_only=True)
class Demo:
    """Honest clients at ~1-5 calls/s each over three services, and (from `scraper_at`) one that takes an object a call.

    A row leaves its window 1 s after its end, and a new pair's first row 1 s after it appears: no other early rows,
    which is the slowest a sensor may be.
    """

    seed: int
    clients: int = 5
    seconds: int = 60
    scraper_at: float | None = 20.0
    scraper_rate: float = 10.0
    pool: int = 200  # Objects that honest clients choose from, a service.
    offset: float = 0.0  # Of the start within its window.
    calls: list[tuple[float, int, int, int]] = field(default_factory=list)  # Time, route, consumer, object.

    def make_calls(self) -> None:
        """All calls in order of time."""
        random = np.random.default_rng(self.seed)
        begin = START + self.offset
        for client in range(self.clients):
            rate = random.uniform(1, 5)
            times = np.cumsum(random.exponential(1 / rate, int(self.seconds * rate * 1.3 + 20)))
            for time in times[times < self.seconds]:
                route = int(random.integers(0, 6))  # Three services: a list and an item route each.
                chosen = int(random.integers(1, self.pool)) if route % 2 else 0
                self.calls.append((begin + float(time), route, client + 1, chosen))
        if self.scraper_at is not None:
            for index in range(int((self.seconds - self.scraper_at) * self.scraper_rate)):
                time = self.scraper_at + index / self.scraper_rate
                self.calls.append((begin + time, 1, 99, 1_000_000 + index))
        self.calls.sort()

    def run(self, engine: Engine) -> list[tuple[float, AlertSignal]]:
        """Signals with the time at which the collector has them (unix seconds)."""
        self.make_calls()
        pending: dict[float, dict[tuple[int, int, int], list[int]]] = {}
        seen: dict[tuple[int, int], float] = {}
        for time, route, consumer, chosen in self.calls:
            window = int(time) // 10 * 10
            first = seen.setdefault((route, consumer), time)
            is_early = time < first + 1 and int(first + 1) // 10 * 10 == window
            leaves = round(first + 1, 1) if is_early else window + 11.0
            pending.setdefault(leaves, {}).setdefault((route, consumer, window), []).append(chosen)
        signals = []
        for leaves, groups in sorted(pending.items()):
            rows = []
            for (route, consumer, window), objects in groups.items():
                known = tuple(sorted({value * 2_654_435_761 % 2**61 for value in objects if value}))
                rows.append(Row(route=route, consumer=consumer, window=window, calls=len(objects), objects=known))
            signals += [(leaves, signal) for signal in engine.feed(make_batch(rows), int(leaves))]
        return signals
