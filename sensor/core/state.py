"""What the sensor is doing."""

from enum import IntEnum


class SensorState(IntEnum):
    """Values are those of the wire; names, in lower case, those of the control socket."""

    CAPTURING = 1
    PAUSED = 2
    STOPPING = 3
