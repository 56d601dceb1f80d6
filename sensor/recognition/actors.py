"""Who made the calls of a batch of records: the kernel's 64-bit `actor` to an actor of `sensor.facts`.

The kernel's number stands for profile, credential, client address and client cgroup. The client's workload is part of
the key too: where a cgroup names it, it is looked up once a batch; processes of a shared one (the root, a slice, a
login session) are told apart by their connections, so there for each connection of the batch; a client without a
cgroup is asked for by its address and the time of its calls. So an actor stays true when names change.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from sensor.calls import AuthenticationKind, CallKind, Hop, PrincipalKind, Role, Service
from sensor.exchange import name_address
from sensor.facts import ActorFacts, Facts
from sensor.recognition.mirror import Mirror, Profile
from sensor.recognition.recent import RecentNumbers
from sensor.runs import number_values

# Actors and connections remembered, each; dropped whole when full.
REMEMBERED_MAX: Final = 65_536
# Of those, found without a look-up each: so many callers and connections are busy at once.
_RECENT_ACTORS_BITS: Final = 16
_RECENT_CONNECTIONS_BITS: Final = 14
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_HALF: Final = np.uint64(32)

Records = npt.NDArray[np.void]
Keys = npt.NDArray[np.uint64]


class Identity(Protocol):
    """As `sensor.enrich.identity.NodeIdentity` answers."""

    def server(self, cgroup_id: int, local_port: int, local_address: str) -> tuple[Service, Hop]: ...

    def client_workload(self, peer_cgroup_id: int, remote_address: str, remote_port: int) -> str: ...

    @property
    def is_naming_addresses(self) -> bool:
        """Whether `address_workload` may ever name anybody."""
        ...

    def address_workload(self, address: str, first_ns: int, last_ns: int) -> str: ...

    def is_one_workload(self, cgroup_id: int) -> bool:
        """Whether a cgroup names its processes' workload; else each connection has to be asked for."""
        ...


class ActorTable:
    """Actors of records met lately. Not thread-safe."""

    __slots__ = (
        "_actors",
        "_addresses",
        "_connections",
        "_facts",
        "_find_client",
        "_generation",
        "_identity",
        "_mirror",
        "_numbers",
        "_recent_actors",
        "_recent_connections",
        "_workloads",
    )

    def __init__(
        self, *, mirror: Mirror, facts: Facts, identity: Identity, find_client: Callable[[Sequence[bytes], str], str]
    ) -> None:
        """`find_client`: the client's address by the hops of a profile and the peer's address."""
        self._mirror = mirror
        self._facts = facts
        self._identity = identity
        self._find_client = find_client
        self._generation = facts.generation
        self._actors: dict[int, int] = {}
        self._connections: dict[int, int] = {}  # Number of its workload, by the kernel's number of a connection.
        self._addresses: dict[int, str] = {}  # In words, of clients without a cgroup.
        self._recent_actors = RecentNumbers(_RECENT_ACTORS_BITS)
        self._recent_connections = RecentNumbers(_RECENT_CONNECTIONS_BITS)
        self._workloads: list[str] = []
        self._numbers: dict[str, int] = {}

    def find(self, records: Records, times_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Number of each record's actor among the facts; `times_ns`: unix time of each. Cost: a look-up for each
        different one, for each connection of a shared cgroup, and for each address without a cgroup."""
        self._make_room()
        is_server = records["role"] == Role.SERVER
        cgroups = np.where(is_server, records["peer_cgroup_id"], records["cgroup_id"])
        key: Keys = records["actor"]
        is_nameless = records["profile"] == 0
        if is_nameless.any():  # Nothing is known of their heads, which may all differ: address and cgroup are all.
            places = np.flatnonzero(is_nameless)
            key = key.copy()
            key[places] = _mix_addresses(records[places], cgroups[places])
        workloads = self._name_workloads(records, cgroups, is_server)
        if self._identity.is_naming_addresses:
            away = np.flatnonzero(is_server & (cgroups == 0))
            if len(away):
                workloads[away] = self._find_holders(records[away], times_ns[away])
        key = mix(key, workloads)
        numbers, places = self._recent_actors.find(key)
        if len(places):
            numbers[places] = self._look_up(key[places], records[places], workloads[places])
        return numbers

    def _look_up(self, key: Keys, records: Records, workloads: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        distinct, firsts, inverse = number_values(key)
        keys = distinct.tolist()
        indexes = list(map(self._actors.get, keys))
        missing = [place for place, index in enumerate(indexes) if index is None]
        if missing:
            places = firsts[missing]
            for place, actor in zip(missing, self._build(records[places], workloads[places]), strict=True):
                indexes[place] = self._actors[keys[place]] = self._facts.actor(actor)
        numbers = np.array(indexes, np.int64)
        self._recent_actors.put(distinct, numbers)
        return numbers[inverse]

    def forget(self) -> None:
        """Ports, addresses and cgroups may have other owners now."""
        self._connections.clear()
        self._recent_connections.clear()

    def _make_room(self) -> None:
        if self._generation != self._facts.generation:
            self._generation = self._facts.generation
            self._actors.clear()
            self._recent_actors.clear()
        if len(self._addresses) > REMEMBERED_MAX:
            self._addresses.clear()
        if max(len(self._actors), len(self._connections), len(self._workloads)) > REMEMBERED_MAX:
            self._actors.clear()
            self._recent_actors.clear()
            self._connections.clear()
            self._recent_connections.clear()
            self._workloads.clear()
            self._numbers.clear()

    def _name_workloads(
        self, records: Records, cgroups: npt.NDArray[Any], is_server: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64]:
        """Number of the workload at the client's end of each record."""
        ids, _, places = number_values(cgroups)
        workloads = np.array([self._number_cgroup(cgroup_id) for cgroup_id in ids.tolist()], np.int64)[places]
        shared = np.flatnonzero(workloads < 0)
        if len(shared):
            if len(shared) < len(records):
                records, cgroups, is_server = records[shared], cgroups[shared], is_server[shared]
            workloads[shared] = self._find_workloads(records, cgroups, is_server)
        return workloads

    def _number_cgroup(self, cgroup_id: int) -> int:
        """Number of a cgroup's workload; -1 where its connections have to be asked for."""
        if cgroup_id and not self._identity.is_one_workload(cgroup_id):
            return -1
        return self._number(self._identity.client_workload(cgroup_id, "", 0) if cgroup_id else "")

    def _find_workloads(
        self, records: Records, cgroups: npt.NDArray[Any], is_server: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64]:
        """The same, by the connections of shared cgroups."""
        connections = records["connection"]
        workloads, places = self._recent_connections.find(connections)
        if len(places):
            some = records[places]
            workloads[places] = self._ask_workloads(connections[places], some, cgroups[places], is_server[places])
        return workloads

    def _ask_workloads(
        self, connections: Keys, records: Records, cgroups: npt.NDArray[Any], is_server: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64]:
        ports = np.where(is_server, records["remote_port"], records["local_port"])
        keys, firsts, inverse = number_values(connections)
        numbers = list(map(self._connections.get, keys.tolist()))
        for place in [place for place, number in enumerate(numbers) if number is None]:
            first = firsts[place]
            address = _name_client(records[first])
            name = self._identity.client_workload(int(cgroups[first]), address, int(ports[first]))
            numbers[place] = self._number(name)
            if name:  # One that is not known yet may be next time.
                self._connections[int(keys[place])] = self._number(name)
        found = np.array(numbers, np.int64)
        is_named = np.array([bool(self._workloads[number]) for number in found.tolist()], np.bool_)
        self._recent_connections.put(keys[is_named], found[is_named])
        return found[inverse]

    def _find_holders(self, records: Records, times_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The same, by who held the address all the time in which calls came from it."""
        keys, places, inverse = number_values(_mix_addresses(records, records["family"]))
        firsts, lasts = np.full(len(keys), np.iinfo(np.int64).max), np.zeros(len(keys), np.int64)
        np.minimum.at(firsts, inverse, times_ns)
        np.maximum.at(lasts, inverse, times_ns)
        numbers = np.empty(len(keys), np.int64)
        spans = zip(keys.tolist(), places.tolist(), firsts.tolist(), lasts.tolist(), strict=True)
        for number, (key, place, first_ns, last_ns) in enumerate(spans):
            address = self._addresses.get(key)
            if address is None:
                address = self._addresses[key] = _name_client(records[place])
            numbers[number] = self._number(self._identity.address_workload(address, first_ns, last_ns))
        return numbers[inverse]

    def _number(self, workload: str) -> int:
        number = self._numbers.get(workload)
        if number is None:
            number = self._numbers[workload] = len(self._workloads)
            self._workloads.append(workload)
        return number

    def _build(self, records: Records, workloads: npt.NDArray[np.int64]) -> Iterator[ActorFacts]:
        """Actors of records. Cost: 3 us each: a crowd of new consumers comes here."""
        packed = np.ascontiguousarray(records["client_address"]).tobytes()
        columns = [records[name].tolist() for name in ("family", "profile", "credential", "role")]
        rows = zip(*columns, workloads.tolist(), strict=True)
        for place, (family, number, credential, role, workload) in enumerate(rows):
            profile = self._mirror.profiles.find(number) or _NO_PROFILE
            address = name_address(family, packed[16 * place : 16 * place + 16])
            if profile.hops and role == Role.SERVER:
                address = self._find_client(profile.hops, address)
            told = credential if profile.is_told else 0
            # By position, in the order of sensor.facts: a keyword each would double the cost.
            yield ActorFacts(
                told or profile.principal,
                profile.principal_kind,
                told or profile.credential,
                False,
                address,
                self._workloads[workload],
                profile.authentication,
                profile.protocol_version,
                profile.request_content_type,
                profile.kind,
            )


def mix(key: Keys, part: npt.NDArray[Any]) -> Keys:
    """One more part of a combined key."""
    mixed = (key ^ part.astype(np.uint64)) * _MULTIPLIER
    return mixed ^ mixed >> _HALF


def _mix_addresses(records: Records, cgroups: npt.NDArray[Any]) -> Keys:
    """A key of the client's address and cgroup."""
    words = np.ascontiguousarray(records["client_address"]).view(np.uint64)
    return mix(mix(words[:, 0], words[:, 1]), cgroups)


def _name_client(record: Any) -> str:
    return name_address(int(record["family"]), record["client_address"].tobytes())


# Of heads that were beyond the budget: nobody saw whether they carried credentials.
_NO_PROFILE: Final = Profile(
    0, PrincipalKind.UNSPECIFIED, 0, AuthenticationKind.UNKNOWN, "", "", CallKind.HTTP, False, ()
)
