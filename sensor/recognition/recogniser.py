"""Recognition under one installation key: teaches what the slow path described, reads what the kernel recognised.

One object for the pipeline and the loop. The `Mirror` outlives it: when the key changes, everything is forgotten and
taught anew, under numbers that were never used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sensor.calls import CallRecord, Exchange, Hop, Role, Service
from sensor.columns import Calls
from sensor.describe import Describer
from sensor.facts import Facts
from sensor.health import StageCounter
from sensor.kernel.abi import SETTINGS, Settings
from sensor.keyed import KeyedHash
from sensor.recognition.learning import Learner
from sensor.recognition.mirror import KernelMaps, MapName, Mirror
from sensor.recognition.name_table import NameTable
from sensor.recognition.names import NameJudge
from sensor.recognition.records import Identity, OverflowSum, RecordConverter, Records
from sensor.templating import Templater

_SETTINGS_KEY = bytes(4)
# Heads of the whole node against those of one cgroup.
_NODE_FACTOR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognitionSettings:
    """What an operator may choose, and the governor may lower."""

    is_recognising: bool = True
    head_sample_ns: int = 10_000_000_000
    heads_per_second: int = 2_000
    heads_burst: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognitionFigures:
    """What is known and what was forgotten, for metrics. Totals since the start but for the first four."""

    roots: int
    edges: int
    routes: int
    profiles: int
    names: int
    evicted_roots: int
    evicted_profiles: int
    evicted_names: int
    contradictions: int
    unlearned_calls: int
    overflow_calls: int
    forgotten_calls: int


def build_recogniser(
    *,
    settings: RecognitionSettings,
    mirror: Mirror,
    facts: Facts,
    templater: Templater,
    describer: Describer,
    identity: Identity,
    keyed_hash: KeyedHash,
    secret: bytes,
    seed: int,
    monotonic_ns: Callable[[], int],
    has_trusted_networks: bool,
) -> "Recogniser":
    """A recogniser around the describer and templater of one installation key."""
    names = NameTable(mirror, NameJudge(is_forwarding_read=has_trusted_networks), seed=seed)
    return Recogniser(
        settings=settings,
        mirror=mirror,
        names=names,
        learner=Learner(
            mirror=mirror,
            names=names,
            tracer=templater,
            hash_segment=keyed_hash.compute,
            read_hops=describer.read_hops,
        ),
        converter=RecordConverter(
            mirror=mirror,
            facts=facts,
            identity=identity,
            route_other=templater.route_other,
            name_remote=describer.name_remote,
            find_client=describer.find_client,
            stage=StageCounter("recognise"),
        ),
        secret=secret,
        seed=seed,
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
        learner: Learner,
        converter: RecordConverter,
        secret: bytes,
        seed: int,
        monotonic_ns: Callable[[], int],
    ) -> None:
        """`secret`: the installation key; `seed`: of name hashes, the one `names` was made with."""
        self._settings = settings
        self._mirror = mirror
        self._names = names
        self._learner = learner
        self._converter = converter
        self._secret = secret
        self._seed = seed
        self._monotonic_ns = monotonic_ns
        self._write_settings()

    @property
    def stage(self) -> str:
        """Name of the converter's account."""
        return self._converter.stage.stage

    def learn(self, exchange: Exchange, record: CallRecord) -> None:
        """Takes one call of the slow path."""
        if self._settings.is_recognising:
            next_head_ns = self._monotonic_ns() + self._settings.head_sample_ns
            self._learner.learn(exchange, record, next_head_ns=next_head_ns)

    def convert(self, records: Records, *, offset_ns: int) -> Calls:
        """Rows of what the kernel recognised."""
        return self._converter.convert(records, offset_ns=offset_ns)

    def convert_overflow(self, sums: Sequence[OverflowSum], *, time_unix_ns: int) -> Calls:
        """Rows of what the kernel could only add up."""
        return self._converter.convert_overflow(sums, time_unix_ns=time_unix_ns)

    def limit_heads(self, heads_per_second: int) -> None:
        """The governor's word on heads a second."""
        if heads_per_second != self._settings.heads_per_second:
            self._settings = replace(self._settings, heads_per_second=heads_per_second)
            self._write_settings()

    def check_services(self, find_server: Callable[[int, int, str], tuple[Service, Hop]]) -> None:
        """The node was read anew: forgets the roots where another service answers now, and the names of clients."""
        self._converter.forget_actors()
        for root in self._mirror.all_roots():
            key = root.key
            if key.role == Role.SERVER and find_server(key.cgroup_id, key.port, root.local_address) != (
                root.service,
                root.hop,
            ):
                self._mirror.forget_root(root)

    def forget(self) -> None:
        """Another key follows: nothing taught under this one is valid."""
        self._mirror.clear()

    def flush(self, maps: KernelMaps) -> None:
        """Tells the kernel what changed."""
        self._mirror.flush(maps)

    def figures(self) -> RecognitionFigures:
        """What is known, and what was forgotten."""
        mirror, converter = self._mirror, self._converter
        return RecognitionFigures(
            roots=mirror.root_count,
            edges=mirror.edge_count,
            routes=len(mirror.routes),
            profiles=len(mirror.profiles),
            names=len(self._names),
            evicted_roots=mirror.evicted_roots,
            evicted_profiles=mirror.evicted_profiles,
            evicted_names=self._names.evicted_count,
            contradictions=sum(self._learner.tally.values()),
            unlearned_calls=converter.unlearned_calls,
            overflow_calls=converter.overflow_calls,
            forgotten_calls=converter.forgotten_calls,
        )

    def _write_settings(self) -> None:
        settings = self._settings
        packed = SETTINGS.pack(
            *Settings(
                sip_key=self._secret,
                seed=self._seed,
                is_recognising=int(settings.is_recognising),
                head_sample_ns=settings.head_sample_ns,
                heads_per_second=settings.heads_per_second,
                heads_burst=settings.heads_burst,
                node_heads_per_second=_NODE_FACTOR * settings.heads_per_second,
                node_heads_burst=_NODE_FACTOR * settings.heads_burst,
            )
        )
        self._mirror.write(MapName.SETTINGS, {_SETTINGS_KEY: packed})
