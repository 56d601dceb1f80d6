"""What comes and goes beside a load, one life after the other, in a thread of its own."""

import random
import subprocess
import threading
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from typing import Self

from scripts.live.kernel_objects import Objects
from scripts.live.program import ProgramError


class Disturbing(ABC):
    """Lives until it is left, or until something went wrong. `actions` counts what was done, `held` what was held in
    the kernel, `failures` what went wrong, in words."""

    def __init__(self, directory: Path, seed: int, between_seconds: tuple[float, float] = (0.0, 0.0)) -> None:
        """`between_seconds`: least and most between two lives."""
        self.actions: Counter[str] = Counter()
        self.held: Objects = frozenset()
        self.failures: list[str] = []
        self._directory = directory
        self._random = random.Random(seed)
        self._between_seconds = between_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disturber")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._live_once()
            except (ProgramError, subprocess.SubprocessError) as error:
                self.failures.append(str(error))
                return
            self._rest(self._between_seconds)

    def _rest(self, between: tuple[float, float]) -> None:
        self._stopping.wait(self._random.uniform(*between))

    @abstractmethod
    def _live_once(self) -> None:
        """Start, disturb, and end."""
