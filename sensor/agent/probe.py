"""The health check of the sensor's image: `python -m sensor.agent.probe [RUN_DIR]`.

It asks the running sensor over its control socket. It imports nothing else, so it takes 0.1 s, where the `apidae`
command takes a second. Exit 0 where the sensor captures or is paused, otherwise 1 with one sentence on standard error.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sensor.agent.pause import Command, ControlError, request_command
from sensor.core.state import SensorState

DEFAULT_RUN_DIR: Final = "/run/apidae"


def main(arguments: Sequence[str]) -> int:
    """The exit status."""
    try:
        status = request_command(Path(arguments[0] if arguments else DEFAULT_RUN_DIR), Command.STATUS)
    except ControlError as error:
        print(error, file=sys.stderr)
        return 1
    if status.state is SensorState.STOPPING:
        print("The sensor is stopping.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
