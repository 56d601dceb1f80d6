"""Applies blocks on one sensor: takes blocks and time, keeps the kernel's tables up to date, reports what it stopped.

Everything ends by itself. Each block ends by the monotonic clock. All end when the collector has been away for too
long, or when the switch is off. In the kernel all end `ALIVE_SECONDS` after the last `tick`, however the sensor ended.
"""

import ipaddress
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from common.figures import Figure, make_labelled, make_totals
from common.keyed_hash import hash_siphash
from sensor.core.calls import Credentials, Ends, Role
from sensor.core.clock import Clock
from sensor.core.config import EnforcementSettings
from sensor.ebpf.abi import ENFORCEMENT, SLOTS_MAX, StopCount
from sensor.ebpf.enforcement_maps import StopMaps
from sensor.enforce.block import (
    Block,
    BlockKind,
    BlockStatus,
    EnforcementReport,
    KnownBlocks,
)
from sensor.enforce.history import CallHistory, ShareLimiter
from sensor.enforce.reset import UNKNOWN_COOKIE, Connection, StopWatch
from sensor.enforce.tables import (
    NAMES,
    Held,
    Server,
    SlotBook,
    Tables,
    build_tables,
    find_marks,
    is_blocking,
    is_within,
    make_empty,
)

logger = logging.getLogger(__name__)

# The kernel goes on for so long after a sensor that hangs or is stopped.
ALIVE_SECONDS: Final = 5.0
LEARNED_LIMIT: Final = 64
LOGGED_MAX: Final = 20  # Blocks of one change that are named in the log.
_NO_KEY: Final = bytes(16)
_MS_NS: Final = 1_000_000


class Enforcer:
    """Not thread-safe: of the sensor's loop."""

    def __init__(
        self,
        *,
        limits: EnforcementSettings,
        clock: Clock,
        read_switch: Callable[[], str],
        history: CallHistory,
        list_servers: Callable[[], Iterable[Server]],
        known: KnownBlocks | None = None,
    ) -> None:
        """`known`: what was in force before this start."""
        self._limits = limits
        self._known = known if known is not None else KnownBlocks(None)
        self._shares = ShareLimiter(
            limits=limits, clock=clock, history=history, known=self._known, count_stopped=self._count_stopped
        )
        self._clock = clock
        self._read_switch = read_switch
        self._list_servers = list_servers
        self._kernel: StopMaps | None = None
        self._watch: StopWatch | None = None
        self._obstacle = "the sensor does not capture yet"
        self._key_id, self._secret = 0, _NO_KEY
        self._wanted: dict[str, tuple[Block, int]] = {}  # With its deadline.
        self._held: dict[str, Held] = {}
        self._declined: dict[str, str] = {}
        self._names = 0  # What the kernel is to compare, of all that are held.
        self._slots = SlotBook()
        self._tables: Tables = make_empty()
        self._generation = 0
        self._alive_ns = 0  # Until when the kernel enforces without another tick.
        self._epoch = 0
        self._is_naming = False
        self.changes = 0  # Of what is in force.
        self._away_ns: int | None = None  # Since when the collector is away.
        self._shared: Counter[int] = Counter()  # Calls spared because they share a connection, by slot.

    # What the collector asks for

    def begin(self, kernel: StopMaps | None, watch: StopWatch | None, obstacle: str) -> None:
        """The kernel side is there; without one `obstacle` says why there is none."""
        self._kernel, self._watch, self._obstacle = kernel, watch, obstacle
        self._shares.begin()
        self.tick()

    def set_key(self, key_id: int, secret: bytes) -> None:
        """Credentials are hashed under this installation key from now on."""
        self._key_id, self._secret = key_id, secret
        self._decide()

    def take(self, blocks: tuple[Block, ...], epoch: int) -> None:
        """All blocks that the collector wants, sound as a whole (`find_fault`)."""
        now_ns = self._clock.monotonic_ns()
        self._epoch = epoch
        # A block that comes again never lasts longer: the collector's clock may have been set back.
        never, before = 2**63, self._wanted
        self._wanted = {
            block.id: (block, min(now_ns + block.left_ms * _MS_NS, before.get(block.id, (block, never))[1]))
            for block in blocks
        }
        self._decide()

    def on_connection(self, is_connected: bool) -> None:
        """Whether the collector is there."""
        if is_connected:
            self._away_ns = None
        elif self._away_ns is None:
            self._away_ns = self._clock.monotonic_ns()

    def tick(self) -> None:
        """Once a second: what is over ends, and the kernel sees that the sensor lives."""
        self._decide()

    def end(self) -> None:
        """Lift everything; the kernel side goes."""
        self._known = KnownBlocks(None)  # The next sensor is to know what was in force.
        self._wanted.clear()
        self._decide()
        if self._watch is not None:
            self._watch.stop()
        self._kernel = self._watch = None
        self._obstacle = "the sensor stops"

    # What is in force

    @property
    def is_live(self) -> bool:
        """Whether anything is stopped now."""
        return bool(self._held)

    @property
    def is_naming(self) -> bool:
        """Whether anybody is stopped by a credential or as a principal: who is to be known by their calls."""
        return self._is_naming

    def find_obstacle(self) -> str:
        """Why nothing is enforced, in one sentence; empty where it may be."""
        if not self._limits.enabled:
            return "enforcement is off in this sensor's settings (enforcement.enabled)"
        if reason := self._read_switch():
            return f"enforcement is switched off on this node: {reason}"
        if self._kernel is None:
            return self._obstacle
        if self._away_ns is not None:
            away_seconds = (self._clock.monotonic_ns() - self._away_ns) / 1e9
            if away_seconds > self._limits.fail_open_after_seconds:
                return f"the collector has been away for {away_seconds:.0f} s"
        return ""

    def _decide(self) -> None:
        """Decide anew what is in force, and have the kernel hold just that."""
        now_ns = self._clock.monotonic_ns()
        self._wanted = {id: (block, until) for id, (block, until) in self._wanted.items() if until > now_ns}
        obstacle = self.find_obstacle()
        held: dict[str, Held] = {}
        self._declined, self._names = {}, 0
        # Those in force first: a flood of others does not push them out.
        for id, (block, until) in sorted(self._wanted.items(), key=lambda entry: entry[0] not in self._held):
            before = self._held.get(id)
            if before is not None and replace(before.block, left_ms=block.left_ms) != block:
                before = None
            one = Held(block=block, deadline_ns=until)
            if before is not None:
                one = replace(before, block=block, deadline_ns=until)
            reason = obstacle or self._find_reason(one, held, is_new=before is None)
            names = self._names + len(one.targets)
            if not reason and names > SLOTS_MAX:
                reason = f"with it this sensor would look for {names} addresses and credentials; it holds {SLOTS_MAX}"
            if reason:
                self._declined[id] = reason
            else:
                held[id], self._names = one, names
        self._log_changes(held)
        if held.keys() != self._held.keys():
            self.changes += 1
            if not obstacle:
                self._known.save(one.block for one in held.values())
        self._held = held
        self._is_naming = any(one.block.kind is not BlockKind.ADDRESS for one in held.values())
        self._sync(now_ns)

    def _log_changes(self, held: dict[str, Held]) -> None:
        """The first few by name: a policy may bring as many as the sensor's own limit."""
        lifted, begun = sorted(self._held.keys() - held.keys()), sorted(held.keys() - self._held.keys())
        for id in lifted[:LOGGED_MAX]:
            logger.info("block %s is lifted: %s", id, self._declined.get(id, "its time is over or it was withdrawn"))
        for id in begun[:LOGGED_MAX]:
            logger.warning("block %s is enforced", id)
        if len(lifted) > LOGGED_MAX or len(begun) > LOGGED_MAX:
            logger.warning("%d blocks are enforced and %d lifted, in all", len(begun), len(lifted))

    def _find_reason(self, one: Held, held: dict[str, Held], *, is_new: bool) -> str:
        limits, block = self._limits, one.block
        if block.kind is not BlockKind.ADDRESS and block.key_id != self._key_id:
            return f"its hash is of installation key {block.key_id}, and this sensor hashes under {self._key_id}"
        if len(held) >= limits.max_blocks:
            return f"this sensor's limit of {limits.max_blocks} blocks is reached"
        if not is_new:
            return self._shares.check(one)  # A client that is stopped makes no calls: measured when it began.
        reason, one.is_measured = self._shares.admit(block, [other.block for other in held.values()])
        return reason

    def _sync(self, now_ns: int) -> None:
        if self._kernel is None:
            return
        wanted = build_tables(
            self._held.values(),
            self._slots,
            self._list_servers() if any(one.block.scopes for one in self._held.values()) else (),
            self._limits.never_block_cidrs,
        )
        try:
            is_changed = self._write(wanted)
            # The kernel judges a connection once a generation: those that it let through while this sensor stood still
            # are judged anew.
            if is_changed or now_ns >= self._alive_ns:
                self._generation += 1
            generation = self._generation if is_blocking(wanted) else 0
            if generation or is_changed:
                alive_ns = now_ns + int(ALIVE_SECONDS * 1e9)
                state = ENFORCEMENT.pack(generation, alive_ns, int(find_marks(wanted)), self._secret)
                self._kernel.update("enforcement", {bytes(4): state})
                self._alive_ns = alive_ns
        except OSError as error:
            logger.error("the kernel did not take the blocks: %s; they end by themselves", error)

    def _write(self, wanted: Tables) -> bool:
        """The difference to the kernel's tables; whether there was any. Raises OSError."""
        assert self._kernel is not None
        is_changed = False
        # What goes first: a lift never waits for room, and makes it.
        for name in reversed(NAMES):
            gone = self._tables[name].keys() - wanted[name].keys()
            if gone:
                self._kernel.delete(name, gone)
                self._tables[name] = {key: value for key, value in self._tables[name].items() if key not in gone}
                is_changed = True
        for name in NAMES:
            before = self._tables[name]
            changed = {key: value for key, value in wanted[name].items() if before.get(key) != value}
            if changed:
                # Until they are written they count as there with another value: to be written, or deleted, again.
                self._tables[name] = {**before, **dict.fromkeys(changed, b"")}
                self._kernel.update(name, changed)
                self._tables[name] = dict(wanted[name])
                is_changed = True
        return is_changed

    # What user space sees

    def see(
        self,
        ends: Ends,
        who: Credentials,
        *,
        is_shared: bool = False,
        is_over: bool = True,
        coded: bytes | None = None,
    ) -> None:
        """A call, over or not: where it is one of a blocked client that the kernel did not know by its head, its
        connection is reset. Where others use that too (`is_shared`), only if who blocked has confirmed it. `coded`:
        of HTTP/2, its credential as that codes it; empty where it is not known."""
        held = self._find(ends, who)
        if held is None:
            return
        block = held.block
        if block.kind is BlockKind.PRINCIPAL:
            self._learn(held, who.credential)
        if coded is not None:
            self._follow(held, is_shared and not block.is_confirmed, coded)
        target = who.credential or block.hash
        if is_shared and not block.is_confirmed:
            if is_over:
                self._spare(target)
        else:
            self._stop(target, ends)

    def matches(self, value: bytes, credential: int) -> bool:
        """Whether a credential is this value."""
        return hash_siphash(self._secret, value) == credential

    def is_blocked(self, ends: Ends, who: Credentials) -> bool:
        """Whether a block names who calls there."""
        return self._find(ends, who) is not None

    def _find(self, ends: Ends, who: Credentials) -> Held | None:
        if not self._held or ends.role is not Role.SERVER or not (who.principal or who.credential):
            return None
        for held in self._held.values():
            block = held.block
            if block.kind is BlockKind.PRINCIPAL:
                is_named = who.principal == block.hash
            else:
                is_named = block.kind is BlockKind.CREDENTIAL and who.credential == block.hash
            if is_named and self._holds_at(block, ends):
                return held
        return None

    def _holds_at(self, block: Block, ends: Ends) -> bool:
        """Whether a block is for the server that is called."""
        if not block.scopes:
            return True
        here = (ends.cgroup_id, ends.local_port)
        servers = [server for server in self._list_servers() if (server.cgroup_id, server.port) == here]
        return any(is_within(scope, server) for scope in block.scopes for server in servers)

    def _learn(self, held: Held, credential: int) -> None:
        if credential and credential not in held.targets and self._has_room(held):
            held.learned.add(credential)
            self._names += 1
            self._sync(self._clock.monotonic_ns())

    def _has_room(self, held: Held) -> bool:
        return len(held.learned) < LEARNED_LIMIT and self._names < SLOTS_MAX

    def _follow(self, held: Held, is_sharing: bool, coded: bytes) -> None:
        """Has the kernel stop the first call of its next connections of HTTP/2; not where it has shared one."""
        before = (held.is_streamed, len(held.learned))
        held.is_sharing = held.is_sharing or is_sharing
        held.is_streamed = not held.is_sharing
        if coded and held.is_streamed and self._has_room(held):
            held.learned.add(hash_siphash(self._secret, coded))
            self._names += len(held.learned) - before[1]
        if before != (held.is_streamed, len(held.learned)):
            self._sync(self._clock.monotonic_ns())

    def _spare(self, target: int) -> None:
        slot = self._slots.by_target.get(target)
        if slot is not None:
            self._shared[slot] += 1

    def _stop(self, target: int, ends: Ends) -> None:
        slot = self._slots.by_target.get(target)
        if slot is None or self._watch is None or not ends.remote_port:
            return
        peer = ipaddress.ip_address(ends.remote_address)
        if any(peer in network for network in self._limits.never_block_cidrs if network.version == peer.version):
            self._shared[slot] += 1
            return
        self._watch.ask(
            slot,
            Connection(
                # A session of TLS is numbered by its reader: the socket is found by its ends.
                cookie=UNKNOWN_COOKIE if ends.is_encrypted else ends.connection,
                cgroup_id=ends.cgroup_id,
                family=peer.version,
                local_address=ipaddress.ip_address(ends.local_address).packed,
                local_port=ends.local_port,
                remote_address=peer.packed,
                remote_port=ends.remote_port,
            ),
        )

    # What it reports

    def _count_stopped(self, held: Held) -> int:
        counts = self._kernel.counts() if self._kernel is not None else {}
        slots = [self._slots.by_target.get(target, 0) for target in held.targets]
        return sum(counts[slot].connections for slot in slots if slot in counts)

    def report(self) -> EnforcementReport:
        """The state of every block."""
        counts = self._kernel.counts() if self._kernel is not None and self._held else {}
        statuses = [self._tell(held, counts) for held in self._held.values()]
        statuses += [BlockStatus(id=id, is_enforced=False, reason=reason) for id, reason in self._declined.items()]
        reason = self.find_obstacle()
        return EnforcementReport(epoch=self._epoch, is_enabled=not reason, reason=reason, blocks=tuple(statuses))

    def figures(self) -> tuple[Figure, ...]:
        """For metrics: resets since the sensor's start, of all blocks."""
        if self._watch is None or self._kernel is None:
            return ()
        watch, text = self._watch, "Attempts to reset a blocked client's connection that failed, by reason."
        failed = (
            ("ring_full", self._kernel.count_lost()),
            ("queue_full", watch.unqueued.total()),
            ("refused", watch.failures.total()),
        )
        return (
            *make_totals([("resets", "Connections of blocked clients that were reset.", watch.resets.total())]),
            *make_labelled("failed_resets", text, "reason", failed),
        )

    def _tell(self, held: Held, counts: Mapping[int, StopCount]) -> BlockStatus:
        slots = [slot for target in held.targets if (slot := self._slots.by_target.get(target)) is not None]
        found = [counts[slot] for slot in slots if slot in counts]
        watch = self._watch
        failed, firsts = sum(count.lost for count in found), list[int]()
        if watch is not None:
            failed += sum(watch.failures[slot] + watch.unqueued[slot] for slot in slots)
            firsts = [watch.first_unix_ns[slot] for slot in slots if slot in watch.first_unix_ns]
        return BlockStatus(
            id=held.block.id,
            is_enforced=True,
            stopped_connections=sum(count.connections for count in found),
            stopped_bytes=sum(count.bytes for count in found),
            failed_resets=failed,
            spared_requests=sum(count.spared for count in found) + sum(self._shared[slot] for slot in slots),
            first_stop_unix_ms=min(firsts, default=0) // _MS_NS,
        )
