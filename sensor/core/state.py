"""What the sensor is doing, and why it cannot begin."""

from enum import IntEnum


class SensorState(IntEnum):
    """Values are those of the wire; names, in lower case, those of the control socket."""

    CAPTURING = 1
    PAUSED = 2
    STOPPING = 3


class StartError(Exception):
    """The sensor cannot start; one sentence that says why and what to do."""
