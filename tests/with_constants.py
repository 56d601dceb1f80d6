"""Runs `apidae` with other values for some constants of the product: the one way in which tests of the program set what
is not a setting.

`python -P tests/with_constants.py '{"sensor.agent.compose.FIRST_CONTACT_SECONDS": 1}' sensor --collector HOST:PORT`
"""

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path


def make_command(constants: Mapping[str, object]) -> list[str]:
    """What to put before the command line of a program that has these constants, named by module."""
    return [sys.executable, "-P", __file__, json.dumps(constants)]


def set_constants(constants: Mapping[str, object]) -> None:
    """Each must exist, so that a test notices when a constant moves."""
    for name, value in constants.items():
        module_name, _, constant = name.rpartition(".")
        module = importlib.import_module(module_name)
        kept = getattr(module, constant)
        setattr(module, constant, Path(str(value)) if isinstance(kept, Path) else value)


if __name__ == "__main__":
    set_constants(json.loads(sys.argv.pop(1)))
    from common.main import main

    main()
