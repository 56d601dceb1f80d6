"""Runs a function inside another network namespace, and leaves the caller where it was.

setns(2) moves the calling thread only, so the work is done in a thread that ends with it and never returns to other
work. Needs CAP_SYS_ADMIN.
"""

import ctypes
import logging
import os
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

logger = logging.getLogger(__name__)

_CLONE_NEWNET = 0x4000_0000

T = TypeVar("T")


def visit_namespaces(paths: Iterable[str], visit: Callable[[], T]) -> dict[str, T]:
    """`visit()`'s result in each network namespace (`/proc/PID/ns/net`); those that cannot be entered or read are
    left out.
    """
    found: dict[str, T] = {}

    def run() -> None:
        for path in paths:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                if _set_namespace(fd):
                    found[path] = visit()
            except OSError:
                continue
            except Exception:
                # What one namespace holds keeps no other from being read.
                logger.exception("reading a network namespace failed")
            finally:
                os.close(fd)

    thread = threading.Thread(target=run, name="apidae-netns", daemon=True)
    thread.start()
    thread.join()
    return found


def _set_namespace(fd: int) -> bool:
    """Moves this thread; os.setns is only in Python 3.12 and later."""
    return int(ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET)) == 0
