"""Matching in the kernel under one installation key: installs what user space described, and converts matched records.

It is one object for the pipeline and the loop. The copy of the cache and the names outlive it. When the key changes,
all paths and profiles are invalidated and installed anew, under numbers that were never used.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from common.figures import Figure, make_gauges, make_totals
from sensor.aggregate.dictionary import Facts
from sensor.core.calls import CallRecord, Calls, Exchange, Hop, Role, Service
from sensor.core.keyed import KeyedHash
from sensor.describe.describer import Describer
from sensor.ebpf.abi import SETTINGS, Settings
from sensor.offload.actors import Identity, Records
from sensor.offload.kernel_cache import KernelMaps, MapName, Mirror
from sensor.offload.learning import Learner
from sensor.offload.name_table import NameTable
from sensor.offload.records import MediaTypes, OverflowTotals, RecordBodies, RecordConverter
from sensor.routes.templating import Templater

_SETTINGS_KEY = bytes(4)
# How often a route is sampled, with its head or a body, and how many of its first calls are read in full: accuracy of
# classification is measured with these (docs/internals/bodies.md).
HEAD_SAMPLE_NS: Final = 10_000_000_000
BODY_SAMPLE_NS: Final = 1_000_000_000
BODY_FIRST_SAMPLES: Final = 20
SAMPLES_PER_SECOND: Final = 30  # Of all routes together.
# Heads of the whole node against those of one cgroup.
_NODE_FACTOR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognitionSettings:
    """What an operator may choose, and the governor may lower."""

    is_recognising: bool = True
    head_sample_ns: int = HEAD_SAMPLE_NS
    samples_per_second: int = SAMPLES_PER_SECOND
    heads_per_second: int = 2_000
    heads_burst: int = 10_000
    body_bytes_per_second: int = 0  # Of one cgroup; 0: no bodies.
    body_sample_ns: int = BODY_SAMPLE_NS
    body_first_samples: int = BODY_FIRST_SAMPLES  # Of a route, in a row.

    @property
    def sample_ns(self) -> int:
        """Between two samples of a route: with its head go its bodies."""
        return min(self.head_sample_ns, self.body_sample_ns) if self.body_bytes_per_second else self.head_sample_ns


def build_recogniser(
    *,
    settings: RecognitionSettings,
    mirror: Mirror,
    names: NameTable,
    facts: Facts,
    templater: Templater,
    describer: Describer,
    identity: Identity,
    keyed_hash: KeyedHash,
    secret: bytes,
    monotonic_ns: Callable[[], int],
    bodies: RecordBodies | None = None,
    is_probed: Callable[[Service, str], bool] = lambda service, path: False,
) -> "Recogniser":
    """A recogniser around the describer and templater of one installation key; `mirror` and `names` outlive it.
    `is_probed`: paths that must not be taught."""
    media_types = MediaTypes()
    return Recogniser(
        settings=settings,
        mirror=mirror,
        names=names,
        media_types=media_types,
        learner=Learner(
            mirror=mirror,
            names=names,
            tracer=templater,
            hash_segment=keyed_hash,
            read_hops=describer.read_hops,
            is_probed=is_probed,
        ),
        converter=RecordConverter(
            mirror=mirror,
            media_types=media_types,
            facts=facts,
            identity=identity,
            route_other=templater.route_other,
            count_reveals=lambda: templater.reveals,
            name_remote=describer.name_remote,
            find_client=describer.find_client,
            bodies=bodies,
        ),
        secret=secret,
        monotonic_ns=monotonic_ns,
    )


class Recogniser:
    """Not thread-safe."""

    def __init__(
        self,
        *,
        settings: RecognitionSettings,
        mirror: Mirror,
        names: NameTable,
        media_types: MediaTypes,
        learner: Learner,
        converter: RecordConverter,
        secret: bytes,
        monotonic_ns: Callable[[], int],
    ) -> None:
        """`secret`: the installation key."""
        self._settings = settings
        self._mirror = mirror
        self._names = names
        self._media_types = media_types
        self._learner = learner
        self._converter = converter
        self._secret = secret
        self._monotonic_ns = monotonic_ns
        self._write_settings()

    def learn(self, exchange: Exchange, record: CallRecord) -> None:
        """Takes one call of the slow path."""
        if self._settings.is_recognising:
            self._media_types.note(record.route.route_id, record.status_code, record.response_content_type)
            if self._settings.body_bytes_per_second:
                next_head_ns, first_samples = 0, self._settings.body_first_samples
            else:
                next_head_ns, first_samples = self._monotonic_ns() + self._settings.head_sample_ns, 0
            self._learner.learn(exchange, record, next_head_ns=next_head_ns, first_samples=first_samples)

    def convert(self, records: Records, *, offset_ns: int) -> Calls:
        """Rows of what the kernel recognised."""
        return self._converter.convert(records, offset_ns=offset_ns)

    def convert_overflow(self, totals: Mapping[bytes, OverflowTotals], *, time_unix_ns: int) -> Calls:
        """Rows of what the kernel could only add up since the last time, from its totals since the load."""
        return self._converter.convert_overflow(totals, time_unix_ns=time_unix_ns)

    def limit(self, *, heads_per_second: int, body_bytes_per_second: int) -> None:
        """The governor's word on what goes up."""
        settings = replace(
            self._settings, heads_per_second=heads_per_second, body_bytes_per_second=body_bytes_per_second
        )
        if settings != self._settings:
            self._settings = settings
            self._write_settings()

    def check_services(self, find_server: Callable[[int, int, str], tuple[Service, Hop] | None]) -> None:
        """The node was read anew: forgets the roots where another service answers now, or nobody whose calls are told,
        and the names of clients."""
        self._converter.forget_actors()
        for root in self._mirror.all_roots():
            key = root.key
            if key.role == Role.SERVER and find_server(key.cgroup_id, key.port, root.local_address) != (
                root.service,
                root.hop,
            ):
                self._mirror.forget_root(root)

    def forget_service(self, service: Service) -> None:
        """Something of a service is no longer to be recognised: it is taught anew without it."""
        for root in self._mirror.all_roots():
            if root.service == service:
                self._mirror.forget_root(root)

    def forget(self) -> None:
        """Another key follows: nothing taught under this one is valid."""
        self._mirror.clear()

    def flush(self, maps: KernelMaps) -> bool:
        """Tells the kernel what changed; whether anything did."""
        return self._mirror.flush(maps)

    def figures(self) -> tuple[Figure, ...]:
        """What is known, and what was forgotten."""
        mirror, converter = self._mirror, self._converter
        gauges = (
            ("taught_roots", "Services, hosts and methods whose paths the kernel knows.", mirror.root_count),
            ("taught_edges", "Segments of paths that the kernel knows.", mirror.edge_count),
            ("taught_routes", "Routes that the kernel knows.", len(mirror.routes)),
            ("taught_profiles", "Profiles of request heads that the kernel knows.", len(mirror.profiles)),
            ("taught_names", "Names of header fields and parameters that the kernel knows.", len(self._names)),
        )
        totals = (
            ("evicted_roots", "Services, hosts and methods that the kernel forgot for room.", mirror.evicted_roots),
            ("evicted_profiles", "Profiles of request heads that the kernel forgot for room.", mirror.evicted_profiles),
            ("evicted_names", "Names of fields that the kernel forgot for room.", self._names.evicted_count),
            (
                "contradictions",
                "Sampled calls whose route differs from what the kernel knows; that service begins anew.",
                self._learner.contradicted_count,
            ),
            (
                "unlearned_calls",
                "Calls whose head was beyond the budget of heads: reported without path and caller.",
                converter.unlearned_calls,
            ),
            (
                "nameless_calls",
                "Calls of known routes beyond the budget of heads: reported without their caller.",
                converter.nameless_calls,
            ),
            (
                "overflow_calls",
                "Calls that found a ring full: added up by service and status.",
                converter.overflow_calls,
            ),
            (
                "forgotten_calls",
                "Calls whose route was forgotten before they ended: reported under `other`.",
                converter.forgotten_calls,
            ),
        )
        return (*make_gauges(gauges), *make_totals(totals))

    def _write_settings(self) -> None:
        settings = self._settings
        packed = SETTINGS.pack(
            *Settings(
                sip_key=self._secret,
                seed=self._names.seed,
                is_recognising=int(settings.is_recognising),
                head_sample_ns=settings.sample_ns,
                heads_per_second=settings.heads_per_second,
                heads_burst=settings.heads_burst,
                node_heads_per_second=_NODE_FACTOR * settings.heads_per_second,
                node_heads_burst=_NODE_FACTOR * settings.heads_burst,
                body_bytes_per_second=settings.body_bytes_per_second,
                node_body_bytes_per_second=_NODE_FACTOR * settings.body_bytes_per_second,
                samples_per_second=settings.samples_per_second,
            )
        )
        self._mirror.write(MapName.SETTINGS, {_SETTINGS_KEY: packed})
