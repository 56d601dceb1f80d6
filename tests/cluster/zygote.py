"""Processes of Pods, forked: 10 ms each, where a new interpreter takes half a second. Run as `python -m`.

Reads one JSON line a process on standard input: {"cgroup", "netns", "program", "arguments"}; answers with one once the
process is ready (a server listens, a client has ended): {"pid", "told"}. A process is in its cgroup before it opens a
socket, and in its namespace before it does anything. All end with this program's standard input.
"""

import contextlib
import json
import os
import signal
import sys
from typing import Any

from tests.cluster.programs import PROGRAMS


def spawn(order: dict[str, Any]) -> dict[str, Any]:
    """Fork and wait for its word."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        code = 1
        with contextlib.suppress(KeyboardInterrupt):
            code = live(order, writing)
        os._exit(code)
    os.close(writing)
    if not order.get("is_waiting", True):
        return {"pid": pid, "told": reading}
    with os.fdopen(reading) as pipe:
        line = pipe.readline()
    return {"pid": pid, "told": json.loads(line) if line else None}


def live(order: dict[str, Any], pipe: int) -> int:
    """The child: its cgroup, its namespace, its program."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(null, stream)
    if order["cgroup"]:
        with open(f"{order['cgroup']}/cgroup.procs", "w") as file:  # noqa: PTH123
            file.write("0")
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    with open(order["netns"]) as file:  # noqa: PTH123
        os.setns(file.fileno(), os.CLONE_NEWNET)

    def tell(told: Any) -> None:
        os.write(pipe, json.dumps(told).encode() + b"\n")

    try:
        PROGRAMS[order["program"]](tell, home, **order["arguments"])
    except Exception as error:
        print(f"{order['program']}: {error!r}", file=sys.stderr, flush=True)
        return 1
    return 0


def main() -> None:
    """Until the input ends."""
    children: dict[int, int] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:  # The word of one that was not waited for.
            with os.fdopen(children.pop(order["wait"])) as pipe:
                told = pipe.readline()
            answer: dict[str, Any] = {"pid": order["wait"], "told": json.loads(told) if told else None}
        elif "end" in order:
            with contextlib.suppress(ProcessLookupError):
                os.kill(order["end"], signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(order["end"], 0)
            answer = {"pid": order["end"], "told": None}
        else:
            answer = spawn(order)
            if not order.get("is_waiting", True):
                children[answer["pid"]] = answer["told"]
                answer["told"] = None
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
