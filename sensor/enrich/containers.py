"""The containers of this node that have been asked for: their names, and what is told of their images."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sensor.enrich.container_files import Container
from sensor.enrich.kubernetes.facts import WORKLOADS_MAX, WorkloadFacts

KIND: Final = "Container"


class ContainerTable:
    """Thread-safe: one thread asks for names, another for what is told. Keeps the `WORKLOADS_MAX` seen last."""

    def __init__(self, read: Callable[[str, int | None], Container]) -> None:
        """`read` gives the container of an id and the user who runs it without root."""
        self._read = read
        self._images: dict[str, WorkloadFacts] = {}  # By container id, the first seen first.
        self._lock = threading.Lock()

    def name(self, container_id: str, uid: int | None = None) -> str:
        """The name of a container, or its short id. Reads files, a millisecond or so."""
        container = self._read(container_id, uid)
        if container.image is not None:
            facts = WorkloadFacts(
                cluster="",
                namespace="",
                workload=container.name,
                kind=KIND,
                labels=container.image.attributes(),
                zone="",
                pods=0,
            )
            with self._lock:
                self._images[container_id] = facts
                if len(self._images) > WORKLOADS_MAX:
                    del self._images[next(iter(self._images))]
        return container.name

    def workloads(self, *, cluster: str, zone: str) -> list[WorkloadFacts]:
        """One a name whose image is known, with the attributes of the image as its labels. Of several containers that
        had a name, the one first seen last: it has taken the place of the others."""
        with self._lock:
            by_name = {facts.workload: facts for facts in self._images.values()}
        return [replace(facts, cluster=cluster, zone=zone) for _, facts in sorted(by_name.items())]
