"""A process that gets the signal to end twice."""

import signal
import subprocess
import sys

PROGRAM = """
import asyncio, signal, sys
from common.signals import calling_at

async def main():
    stop = asyncio.Event()
    with calling_at(signal.SIGTERM, signal.SIGINT, call=stop.set):
        print("ready", flush=True)
        await stop.wait()

asyncio.run(main())
print("loop has ended", flush=True)
sys.stdin.read()
"""


def test_the_second_signal_does_not_cut_the_end_off() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for expected, number in (("ready", signal.SIGTERM), ("loop has ended", signal.SIGTERM)):
            assert process.stdout.readline() == f"{expected}\n"
            process.send_signal(number)
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 0
