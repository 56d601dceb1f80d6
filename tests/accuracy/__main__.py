"""`python -m tests.accuracy TASK INPUT OUTPUT`: the product's own code on evaluation data; formats in docs and each

task's module.
"""

import sys
from importlib import import_module
from pathlib import Path

TASKS = ("templates", "auth", "volume", "http1", "hpack", "hpack_joins", "sensitive", "abuse", "attacks")


def main(arguments: list[str]) -> int:
    """Runs one task; returns the exit status."""
    if len(arguments) != 3 or arguments[0] not in TASKS:
        print(f"usage: python -m tests.accuracy TASK INPUT OUTPUT; TASK is one of {', '.join(TASKS)}", file=sys.stderr)
        return 2
    task, source, target = arguments
    if not Path(source).exists():
        print(f"input {source!r} does not exist; name a file or directory of the task's format", file=sys.stderr)
        return 2
    import_module(f"tests.accuracy.{task}").run(Path(source), Path(target))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
