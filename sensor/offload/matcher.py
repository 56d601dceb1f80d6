"""Matching in the kernel under one installation key: installs what user space described, and converts matched records.

It is one object for the pipeline and the loop. The copy of the cache and the names outlive it. When the key changes,
all paths and profiles are invalidated and installed anew, under numbers that were never used.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from common.figures import Figure, make_gauges, make_totals
from sensor.aggregate.dictionary import Facts
from sensor.core.calls import CallRecord, Exchange, Hop, Role, Service
from sensor.core.keyed import KeyedHash
from sensor.describe.describer import Describer
from sensor.ebpf.abi import SETTINGS, Settings
from sensor.enrich.identity import NodeIdentity
from sensor.offload.installer import EntryInstaller
from sensor.offload.kernel_cache import KernelCache, MapName
from sensor.offload.name_table import NameTable
from sensor.offload.records import MediaTypes, RecordBodies, RecordConverter
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
class MatchSettings:
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


class KernelMatcher:
    """Around the describer and templater of one installation key; `cache` and `names` outlive it. Not thread-safe."""

    def __init__(
        self,
        *,
        settings: MatchSettings,
        cache: KernelCache,
        names: NameTable,
        facts: Facts,
        templater: Templater,
        describer: Describer,
        identity: NodeIdentity,
        keyed_hash: KeyedHash,
        secret: bytes,
        monotonic_ns: Callable[[], int],
        bodies: RecordBodies | None = None,
        is_probed: Callable[[Service, str], bool] = lambda service, path: False,
    ) -> None:
        """`secret`: the installation key; `is_probed`: paths that must not be installed."""
        self._settings = settings
        self.cache = cache
        self._names = names
        self._media_types = MediaTypes()
        self._installer = EntryInstaller(
            cache=cache,
            names=names,
            templater=templater,
            hash_segment=keyed_hash,
            addresses=describer.addresses,
            is_probed=is_probed,
        )
        self.converter = RecordConverter(
            cache=cache,
            media_types=self._media_types,
            facts=facts,
            identity=identity,
            templater=templater,
            addresses=describer.addresses,
            remotes=describer.remotes,
            bodies=bodies,
        )
        self._secret = secret
        self._monotonic_ns = monotonic_ns
        self._write_settings()

    def install_call(self, exchange: Exchange, record: CallRecord, more_samples: int = 0) -> None:
        """Takes one call of the slow path. `more_samples`: so many calls of its route are to be samples next."""
        if self._settings.is_recognising:
            self._media_types.note(
                record.target.route.route_id, record.figures.status_code, record.contents.response_content_type
            )
            if self._settings.body_bytes_per_second:
                next_head_ns, first_samples = 0, self._settings.body_first_samples
            else:
                next_head_ns, first_samples = self._monotonic_ns() + self._settings.head_sample_ns, 0
            self._installer.install_call(
                exchange,
                record,
                next_head_ns=next_head_ns,
                first_samples=first_samples,
                more_samples=more_samples if self._settings.body_bytes_per_second else 0,
            )

    def limit(self, *, heads_per_second: int, body_bytes_per_second: int) -> None:
        """The governor's limits on what is copied to user space."""
        settings = replace(
            self._settings, heads_per_second=heads_per_second, body_bytes_per_second=body_bytes_per_second
        )
        if settings != self._settings:
            self._settings = settings
            self._write_settings()

    def check_services(self, find_server: Callable[[int, int, str], tuple[Service, Hop] | None]) -> None:
        """The node was read anew: forget the names of clients, and the roots where another service answers now or one
        whose calls are excluded."""
        self.converter.forget_actors()
        for root in self.cache.all_roots():
            key = root.key
            if key.role == Role.SERVER and find_server(key.cgroup_id, key.port, root.local_address) != (
                root.service,
                root.hop,
            ):
                self.cache.forget_root(root)

    def forget_service(self, service: Service) -> None:
        """The kernel must no longer match something of a service: the rest is installed anew."""
        for root in self.cache.all_roots():
            if root.service == service:
                self.cache.forget_root(root)

    def figures(self) -> tuple[Figure, ...]:
        """What is known, and what was forgotten."""
        cache, converter = self.cache, self.converter
        gauges = (
            ("taught_roots", "Services, hosts and methods whose paths the kernel knows.", cache.root_count),
            ("taught_edges", "Segments of paths that the kernel knows.", cache.edge_count),
            ("taught_routes", "Routes that the kernel knows.", len(cache.routes)),
            ("taught_profiles", "Profiles of request heads that the kernel knows.", len(cache.profiles)),
            ("taught_names", "Names of header fields and parameters that the kernel knows.", len(self._names)),
        )
        totals = (
            ("evicted_roots", "Services, hosts and methods that the kernel forgot for room.", cache.evicted_roots),
            ("evicted_profiles", "Profiles of request heads that the kernel forgot for room.", cache.evicted_profiles),
            ("evicted_names", "Names of fields that the kernel forgot for room.", self._names.evicted_count),
            (
                "contradictions",
                "Sampled calls whose route differs from what the kernel knows; that service begins anew.",
                self._installer.contradicted_count,
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
        self.cache.write(MapName.SETTINGS, {_SETTINGS_KEY: packed})
