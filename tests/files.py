"""What lies below a directory that a running program writes to."""

from pathlib import Path

from tests.waiting import wait_until


def read_files(directory: Path) -> dict[Path, bytes]:
    """The bytes of all files below it. The store moves and removes parts at any time, so all are read again until none
    went away meanwhile: what moved would be missed."""
    found: dict[Path, bytes] = {}

    def is_whole() -> bool:
        found.clear()
        try:
            for path in directory.rglob("*"):
                if path.is_file():
                    found[path] = path.read_bytes()
        except FileNotFoundError:
            return False
        return True

    wait_until(is_whole, f"all files below {directory} stay while they are read")
    return found
