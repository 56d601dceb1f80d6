"""The local off switch: a file in the state directory. While it is there nothing is enforced, whatever anybody asks.

`apidae enforcement off` makes it and works even where the sensor hangs or does not run; the sensor looks every second.
Its content is the reason, in one line.
"""

import os
from pathlib import Path
from typing import Final

from sensor.printable import make_printable

FILE_NAME: Final = "enforcement.off"
_REASON_BYTES: Final = 512


class Switch:
    """The switch of one sensor."""

    def __init__(self, state_directory: Path) -> None:
        self.path = state_directory / FILE_NAME

    def read(self) -> str:
        """Why enforcement is switched off; empty where it is not. A file that cannot be read counts as off."""
        try:
            with self.path.open("rb") as file:
                text = file.read(_REASON_BYTES).strip()
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"{self.path} cannot be read ({error.strerror})"
        return make_printable(text.splitlines()[0]) if text else f"switched off by {self.path}"

    def turn_off(self, reason: str) -> None:
        """Nothing is enforced from the next look on. Raises OSError."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(reason.splitlines()[0] if reason else "")

    def turn_on(self) -> None:
        """What the settings allow is enforced again. Raises OSError."""
        self.path.unlink(missing_ok=True)
