"""Appends alerts to a file of bounded size, for a shipper of logs beside the collector. EDGE: the file."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from collector.alerting.alert import Alert
from collector.alerting.notifiers.delivery import DeliveryOutcome, Sender
from common.durable import append_line

FILE_BYTES_MAX: Final = 64 << 20  # Then it becomes NAME.1, and the earlier NAME.1 is deleted.


class FileSender(Sender):
    """One line an alert."""

    def __init__(
        self, name: str, path: Path, write: Callable[[Alert], bytes], *, bytes_max: int = FILE_BYTES_MAX
    ) -> None:
        """`write` makes a line without its end. Raises ValueError with one sentence where there is no directory."""
        if not path.parent.is_dir():
            raise ValueError(f"{path.parent} is no directory; make it, or name another file")
        self.name, self.target = name, f"file {path.name}"
        self._path, self._write, self._bytes_max = path, write, bytes_max
        self._older = path.with_name(f"{path.name}.1")

    def send(self, alert: Alert) -> DeliveryOutcome:
        """One line more."""
        line = self._write(alert)
        try:
            if append_line(self._path, line, mode=0o640) >= self._bytes_max:
                self._path.replace(self._older)
        except OSError:
            return DeliveryOutcome.UNANSWERED
        return DeliveryOutcome.DELIVERED

    def erase(self, pattern: re.Pattern[str]) -> int:
        """Blank a name in place, byte for byte, so that a shipper's place in the file stays right."""
        wanted = re.compile(pattern.pattern.encode())
        count = 0
        for path in (self._path, self._older):
            if not path.exists():
                continue
            with path.open("r+b") as file:
                found = [match.span() for match in wanted.finditer(file.read())]
                for start, end in found:
                    file.seek(start)
                    file.write(b"-" * (end - start))
            count += len(found)
        return count
