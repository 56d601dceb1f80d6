"""Capture at work, from the first attachment to the last batch: what reads it, describes and counts, under one roof.

Made by sensor.run once capture is open; all calls come from the loop.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from common.figures import Figure
from sensor.clock import Clock
from sensor.convert import SerialisedBatch
from sensor.coverage.gaps import Gaps
from sensor.coverage.report import note_limitation
from sensor.coverage.row import PortCoverage
from sensor.health import StageCount
from sensor.intake import Intake
from sensor.parts import Capture, Heirs, NodeDescriber, NodeView
from sensor.pipeline import Pipeline
from sensor.recognition.governor import Governor

logger = logging.getLogger(__name__)


class Running:
    """An open capture with what makes batches of it; `send` takes them."""

    def __init__(
        self,
        *,
        capture: Capture,
        pipeline: Pipeline,
        describer: NodeDescriber,
        governor: Governor,
        node: NodeView,
        gaps: Gaps,
        clock: Clock,
        send: Callable[[Sequence[SerialisedBatch]], None],
    ) -> None:
        self.capture = capture
        self.pipeline = pipeline
        self._describer = describer
        self._governor = governor
        self._node = node
        self._gaps = gaps
        self._clock = clock
        self._send = send
        self._is_attached = True
        self._intake = Intake(capture=capture, pipeline=pipeline, describer=describer, governor=governor, clock=clock)
        if capture.is_inherited:
            gaps.go_on()
        else:
            gaps.begin()

    @property
    def is_behind(self) -> bool:
        """Whether the last turn left something to the next one."""
        return self._intake.is_behind

    @property
    def is_learning(self) -> bool:
        """Whether the last turn brought something that the kernel was taught."""
        return self._intake.is_learning

    def teach(self) -> None:
        """How the kernel recognises calls; again, what was learned since."""
        self._intake.teach()

    async def turn(self) -> None:
        """One reading."""
        if self._clock.check():
            self._intake.read_records(is_all=True)
            self._send(self.pipeline.step_clock())
        await self._intake.read()
        self._send(self.pipeline.poll())

    # The node

    async def refresh(self) -> None:
        """Reads the node's processes and listeners anew."""
        await asyncio.to_thread(self._node.refresh)
        self._node.rename()
        if self._is_attached:
            self.capture.set_listening(self._node.ports())
            self._describer.check_services()

    def rename(self) -> None:
        """Takes up names that others told since the last time."""
        if self._node.rename():
            self._describer.check_services()

    # What others want

    def pause(self) -> None:
        """Off every hook of the kernel; what was seen stays readable."""
        self.capture.detach()
        self._gaps.end()
        self._is_attached = False

    def resume(self) -> None:
        """On them again."""
        self.capture.attach()
        self._gaps.begin()
        self._is_attached = True

    def change_key(self, make: Callable[[], NodeDescriber], key_id: int) -> None:
        """From now on under another key; rows counted under the one before leave first. `make` is called once nothing
        of it is read any more."""
        self._intake.read_records(is_all=True)
        self._describer.forget()
        self._describer = self._intake.describer = make()
        self._send(self.pipeline.change_key(self._describer, key_id))

    def set_connected(self, is_connected: bool) -> None:
        """Windows are merged while the collector is away."""
        self._send(self.pipeline.convert(self.pipeline.aggregator.set_connected(is_connected)))

    # What is told

    def coverage(self) -> Sequence[PortCoverage]:
        """Ports and what is read of them."""
        restraint = self._governor.tell_restraint()
        covered = self._node.cover(self.capture.coverage(), self.capture.counters(), restraint)
        return note_limitation(covered, self.capture.limitation)

    def counts(self) -> tuple[StageCount, ...]:
        """The accounts of all stages before the spool."""
        return (*self.capture.counts(), *self.pipeline.counts())

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        return self._intake.figures()

    def reveal(self, hashes: Sequence[int]) -> Mapping[int, str]:
        """Texts of the words that may be told."""
        return self._describer.reveal(hashes)

    # The end

    async def pass_on(self, heirs: Heirs, *, rest_seconds: float, poll_interval_seconds: float) -> bool:
        """Gives capture to a sensor that waits for it; False where none does, or it did not take it. `rest_seconds`:
        so long calls that were recognised may take to end."""
        testator = self.capture.testator
        heir = await asyncio.to_thread(heirs.find) if testator is not None else None
        if testator is None or heir is None:
            return False
        # Numbers of routes mean something here only: calls that were recognised end here, new ones go up whole.
        numbers = self._describer.rest()
        self._intake.teach()
        deadline = time.monotonic() + rest_seconds
        while time.monotonic() < deadline:
            await self.turn()
            await asyncio.sleep(poll_interval_seconds)
        await self._intake.read_rest()
        if not await asyncio.to_thread(heir.give, testator.bequeath(numbers)):
            testator.keep()
            return False
        self._gaps.go_on()
        logger.info("the next sensor goes on with capture")
        return True

    async def detach(self, heirs: Heirs | None) -> bool:
        """Ends capture and reads what it still holds; whether a sensor that waits begins now."""
        self.capture.detach()
        self._gaps.end()
        is_followed = heirs is not None and heirs.release()
        await self._intake.read_rest()
        return is_followed

    def close(self) -> None:
        """The last batches leave."""
        self.capture.close()
        self._send(self.pipeline.flush())
