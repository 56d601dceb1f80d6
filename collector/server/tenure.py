"""Starts a process's features: those of its own roles at once, those of leased roles while it holds their leases.

A lease comes to a process at its start, or when its holder stopped or died. Its features start then, and read from the
state what their predecessor knew. A lease is lost where this process could not renew it in time and another one took
it. What this process keeps in memory is out of date then, so it ends its work and begins anew, as a standby. Where
nobody had the lease meanwhile, as while the database was away, it goes on: the epoch of the lease says so.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

from collector.api.forwarding import HERE
from collector.core.feature import LEASED, Role
from collector.server.duties import Duties
from collector.server.listeners import StartError
from collector.storage.base import LeaseLostError
from collector.storage.state.leases import TTL_SECONDS, Fence, LeaseKeeper, Leases
from collector.storage.state.store import StateStore

AGAIN_SECONDS: Final = 1.0  # Between two looks, and after features that could not start.

logger = logging.getLogger(__name__)


class Tenure:
    """What one process may do. Thread-safe; `begin`, `stop` and `release` block."""

    def __init__(self, keeper: LeaseKeeper, roles: Collection[Role], changed: threading.Event) -> None:
        """`changed` is set when leases came or went."""
        self._keeper = keeper
        self._leased = [role for role in LEASED if role in roles]
        self._own = [role for role in roles if role not in LEASED]
        self._changed = changed
        self._epochs: dict[Role, int] = {}  # Of the leases under which features were started.
        self._started: frozenset[Role] = frozenset()
        self._duties = Duties(())
        self._on_lost: Callable[[], None] = lambda: None
        self._on_error: Callable[[Exception], None] = lambda error: None
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="tenure", daemon=True)

    @property
    def is_shared(self) -> bool:
        """Whether other processes may take over."""
        return self._keeper.is_shared

    def begin(
        self,
        duties: Duties,
        *,
        on_lost: Callable[[], None],
        on_error: Callable[[Exception], None],
        own_only: Collection[str] = (),
    ) -> None:
        """Take what leases are free, and start. `on_lost` is called when the process has to begin anew. `own_only`:
        settings without which no second process can serve this installation. Raises StartError, StoreError, and what
        the start of a feature raises."""
        self._duties, self._on_lost, self._on_error = duties, on_lost, on_error
        self._keeper.start()
        if own_only:
            self._wait_for_all(own_only)
        duties.start(self._own)
        self._take_up()
        self._thread.start()

    def find_fence(self, role: Role) -> Fence | None:
        """What this process writes with as the one that has a role; None where it has not."""
        fence = self._keeper.find_fence(role)
        return fence if fence is not None and fence.epoch == self._epochs.get(role) else None

    def has(self, role: Role) -> bool:
        """Whether this process does the work of a leased role."""
        return role in self._started and self.find_fence(role) is not None

    def is_done(self, role: Role) -> bool:
        """Whether any process does the work of a leased role, at the last look."""
        return self._keeper.find_lease(role) is not None

    @contextmanager
    def write(self, role: Role) -> Iterator[Any]:
        """One transaction, as StateStore.write, of the process that has a role. Raises LeaseLostError where that is
        another, and StoreError."""
        fence = self.find_fence(role)
        if fence is None:
            raise LeaseLostError(f"This collector does not do the work of '{role}' now.")
        with fence.write() as connection:
            yield connection

    def find_holder(self) -> str | None:
        """Where the collector answers that does the jobs: HERE, its URL, or None where there is none now."""
        if self.has(Role.JOBS):
            return HERE
        lease = self._keeper.find_lease(Role.JOBS)
        return lease.address if lease is not None and not self._keeper.is_own(lease) else None

    def stop(self) -> None:
        """Take up nothing any more; before the features are stopped."""
        self._is_stopping.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join()

    def release(self) -> None:
        """Give the leases up; after the features are stopped, or where what they still write is refused."""
        self._keeper.stop()

    def _wait_for_all(self, own_only: Collection[str]) -> None:
        """A predecessor that was killed holds them for some seconds more."""
        until = time.monotonic() + 2 * TTL_SECONDS
        while missing := [role for role in self._leased if self._keeper.find_fence(role) is None]:
            lease = self._keeper.find_lease(missing[0])
            if time.monotonic() >= until:
                where = f" at {lease.address}" if lease is not None else ""
                needed = ", ".join(own_only)
                raise StartError(
                    f"Another collector{where} uses this state; stop it, or set {needed} so that both share everything."
                )
            self._changed.wait(AGAIN_SECONDS / 10)
            self._changed.clear()

    def _follow(self) -> None:
        while not self._is_stopping.is_set():
            self._changed.wait(AGAIN_SECONDS)
            self._changed.clear()
            if self._is_stopping.is_set():
                return
            try:
                if self._is_succeeded():
                    logger.warning("Another collector took over, for this one could not renew its leases; begins anew.")
                    self._on_lost()
                    return
                self._take_up()
            except Exception as error:
                self._on_error(error)
                self._is_stopping.wait(AGAIN_SECONDS)

    def _is_succeeded(self) -> bool:
        for role, epoch in list(self._epochs.items()):
            fence, lease = self._keeper.find_fence(role), self._keeper.find_lease(role)
            if fence is not None and fence.epoch == epoch + 1:
                self._epochs[role] = fence.epoch  # Taken again by this one: nobody had it between.
                self._duties.renew(role)
            elif fence is not None:
                if fence.epoch != epoch:
                    return True
            elif lease is not None and not self._keeper.is_own(lease):
                return True
        return False

    def _take_up(self) -> None:
        """Start the features of leases that came."""
        held = {role: fence for role in self._leased if (fence := self._keeper.find_fence(role)) is not None}
        if not held.keys() - self._started:
            return
        for role in held.keys() - self._epochs.keys():
            self._epochs[role] = held[role].epoch
        self._duties.start(held)
        self._started |= held.keys()
        if self._keeper.is_shared:
            logger.info("This collector does %s now.", ", ".join(held))


def open_tenure(state: StateStore, roles: Collection[Role], url: str) -> Tenure:
    """Of a process with these roles that others reach at a URL."""
    changed = threading.Event()
    keeper = LeaseKeeper(
        Leases(state, address=url),
        [role.value for role in LEASED if role in roles],
        on_change=lambda name, fence: changed.set(),
    )
    return Tenure(keeper, roles, changed)
