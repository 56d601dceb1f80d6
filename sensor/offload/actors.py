"""Finds who made the calls of a batch of records: the kernel's 64-bit `actor` to an actor of
`sensor.aggregate.dictionary`.

The kernel's number stands for profile, credential, client address and client cgroup. The client's workload is part of
the key too, so an actor stays true when names change:

- Where a cgroup names the workload, it is looked up once a batch.
- Processes of a shared cgroup (the root, a slice, a login session) are distinguished by connection.
- A client without a cgroup is looked up by its address and the time of its calls.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sensor.aggregate.dictionary import Facts, IdentityRow, pack_manner
from sensor.core.addresses import name_address
from sensor.core.arrays import KeyTable, mix, number_values
from sensor.core.calls import AuthenticationKind, CallKind, PrincipalKind, Role
from sensor.describe.client_address import ClientAddresses
from sensor.ebpf.abi import Records
from sensor.enrich.identity import NodeIdentity
from sensor.offload.kernel_cache import KernelCache, Profile

# Actors and connections remembered, each; dropped whole when full.
REMEMBERED_MAX: Final = 65_536

Keys = npt.NDArray[np.uint64]


class ActorTable:
    """Actors of records met lately. Not thread-safe."""

    def __init__(self, *, cache: KernelCache, facts: Facts, identity: NodeIdentity, addresses: ClientAddresses) -> None:
        self._cache = cache
        self._facts = facts
        self._identity = identity
        self._client_addresses = addresses
        self._generation = facts.generation
        self._actors = KeyTable()
        self._connections = KeyTable()  # Number of its workload, by the kernel's number of a connection.
        self._addresses: dict[int, str] = {}  # In words, of clients without a cgroup.
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
        numbers, places = self._actors.find(key)
        if len(places):
            distinct, firsts, inverse = number_values(key[places])
            firsts = places[firsts]
            new = self._number_actors(records[firsts], workloads[firsts])
            self._actors.put(distinct, new)
            numbers[places] = new[inverse]
        return numbers

    def forget(self) -> None:
        """Ports, addresses and cgroups may have other owners now."""
        self._connections.clear()

    def _make_room(self) -> None:
        if self._generation != self._facts.generation:
            self._generation = self._facts.generation
            self._actors.clear()
        if len(self._addresses) > REMEMBERED_MAX:
            self._addresses.clear()
        if max(len(self._actors), len(self._connections), len(self._workloads)) > REMEMBERED_MAX:
            self._actors.clear()
            self._connections.clear()
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
        workloads, places = self._connections.find(connections)
        if len(places):
            some = records[places]
            workloads[places] = self._ask_workloads(connections[places], some, cgroups[places], is_server[places])
        return workloads

    def _ask_workloads(
        self, connections: Keys, records: Records, cgroups: npt.NDArray[Any], is_server: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64]:
        ports = np.where(is_server, records["remote_port"], records["local_port"])
        keys, firsts, inverse = number_values(connections)
        servers = np.where(is_server, records["cgroup_id"], 0)
        names = [
            self._identity.client_workload(
                int(cgroups[first]), _name_client(records[first]), int(ports[first]), int(servers[first])
            )
            for first in firsts.tolist()
        ]
        numbers = np.array([self._number(name) for name in names], np.int64)
        # One that is not known yet may be next time.
        is_named = np.array([bool(name) for name in names], np.bool_)
        self._connections.put(keys[is_named], numbers[is_named])
        return numbers[inverse]

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

    def _number_actors(self, records: Records, workloads: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Numbers of the actors of records. Cost: some 0.3 us each, and 3 us a profile and address: a crowd of new
        consumers comes here."""
        facts = self._facts
        numbers, _, place = number_values(records["profile"])
        profiles = [self._cache.profiles.find(number) or _NO_PROFILE for number in numbers.tolist()]
        is_reported = np.array([profile.is_reported for profile in profiles], np.bool_)[place]
        reported = np.where(is_reported, records["credential"], np.uint64(0))
        principals = np.array([profile.principal for profile in profiles], np.uint64)[place]
        credentials = np.array([profile.credential for profile in profiles], np.uint64)[place]
        manners = [pack_manner(profile.authentication, profile.kind, profile.principal_kind) for profile in profiles]
        kinds, _, workload = number_values(workloads)
        row = IdentityRow(
            np.where(reported, reported, principals),
            np.where(reported, reported, credentials),
            self._number_addresses(records, profiles, place),
            np.array([facts.text(self._workloads[number]) for number in kinds.tolist()], np.int64)[workload],
            np.array([facts.text(profile.protocol_version) for profile in profiles], np.int64)[place],
            np.array(manners, np.uint64)[place],
        )
        media_types = [
            facts.request_type(profile.request_content_type, profile.client_software, profile.carriers)
            for profile in profiles
        ]
        return facts.actors(row, np.array(media_types, np.int64)[place])

    def _number_addresses(
        self, records: Records, profiles: Sequence[Profile], place: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Numbers of the clients' addresses: what a trusted hop says, else the peer's."""
        _, firsts, inverse = number_values(_mix_addresses(records, records["family"]))
        addresses = [_name_client(records[first]) for first in firsts.tolist()]
        numbers = np.array([self._facts.text(address) for address in addresses], np.int64)[inverse]
        has_hops = np.array([bool(profile.hops) for profile in profiles], np.bool_)[place]
        for forwarded in np.flatnonzero(has_hops & (records["role"] == Role.SERVER)).tolist():
            address = self._client_addresses.find_by_hops(
                profiles[place[forwarded]].hops, addresses[inverse[forwarded]]
            )
            numbers[forwarded] = self._facts.text(address)
        return numbers


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
