"""Live blocks told to what stands in front: HAProxy's runtime API, files for Traefik and others. EDGE: files, a thread.

Told after each change and again every `AGAIN_SECONDS`, so that a proxy that was restarted has them too. What ends at
the sensors ends here with the next telling; while the collector is away, nothing does.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from collector.ingest.blocks import BlockOrder
from collector.ingest.reader import write_durably
from collector.respond.denied import collect_denied
from collector.respond.export import ExportFormat, ExportSettings, export_blocks
from collector.respond.haproxy import HaproxyError, HaproxyList

logger = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 10.0
_SUFFIXES: Final = {ExportFormat.HAPROXY: "acl"}


class Place(Protocol):
    """Takes all live blocks."""

    name: str

    def tell(self, orders: Sequence[BlockOrder]) -> None:
        """Raises OSError, HaproxyError."""
        ...


class Haproxy:
    """A place."""

    def __init__(self, address: str, list_name: str, cluster: str = "") -> None:
        """`cluster`: in which it stands. Raises ValueError."""
        self._cluster = cluster
        self._list = HaproxyList(address, list_name)
        self.name = self._list.name

    def tell(self, orders: Sequence[BlockOrder]) -> None:
        """Networks that are blocked everywhere."""
        self._list.put(list(collect_denied(orders, self._cluster).everywhere))


class ExportDirectory:
    """A place: `DIRECTORY/FORMAT/blocks.yaml` (`haproxy/blocks.acl`), each replaced whole where it changed."""

    def __init__(self, directory: Path, settings: ExportSettings) -> None:
        self.name = f"files in {directory}"
        self._directory, self._settings = directory, settings
        self._written: dict[Path, str] = {}

    def tell(self, orders: Sequence[BlockOrder]) -> None:
        """Every format."""
        for kind in ExportFormat:
            path = self._directory / kind.value / f"blocks.{_SUFFIXES.get(kind, 'yaml')}"
            text = export_blocks(orders, kind, self._settings)
            if self._written.get(path) == text and path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, text.encode())
            path.chmod(0o644)  # Addresses only, for programs of other users.
            self._written[path] = text


class Elsewhere:
    """Tells all places, in a thread of its own."""

    def __init__(self, places: Sequence[Place], list_orders: Callable[[], Sequence[BlockOrder]]) -> None:
        self._places = places
        self._list_orders = list_orders
        self._is_due = threading.Event()
        self._is_ending = False
        self._failing: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="elsewhere", daemon=True)
        self.failed_count = 0

    def start(self) -> None:
        """Begin; nothing where there are no places."""
        if self._places:
            self._thread.start()

    def wake(self) -> None:
        """Blocks changed. Does not block."""
        self._is_due.set()

    def stop(self) -> None:
        """End after the telling under way."""
        self._is_ending = True
        self._is_due.set()
        if self._thread.is_alive():
            self._thread.join()

    def tell(self) -> None:
        """Tell all of them now."""
        orders = self._list_orders()
        for place in self._places:
            try:
                place.tell(orders)
            except (OSError, HaproxyError) as error:
                self.failed_count += 1
                if place.name not in self._failing:
                    logger.error("Blocks are not told to %s: %s; it is tried again", place.name, error)
                self._failing.add(place.name)
            else:
                if place.name in self._failing:
                    self._failing.discard(place.name)
                    logger.info("Blocks are told to %s again.", place.name)

    def _run(self) -> None:
        while not self._is_ending:
            self._is_due.clear()
            self.tell()
            self._is_due.wait(AGAIN_SECONDS)
