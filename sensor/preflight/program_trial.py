"""Loads the programs that a start with these settings would load, and drops them, for `apidae preflight`.

They are not attached. Beside a running sensor, a second set would run for each packet of the node and take memory of
each socket. `sensor.preflight.trial` shows with smaller programs that this kernel attaches such programs. A cached
image is loaded, otherwise it is compiled (2–5 s in a child). The cache stays as it is. Loading takes 1–2 s of the
verifier and some 30 MB of kernel memory, as much as a sensor's maps.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from sensor.agent.attach import describe_tracepoints, load_packets_program, load_tls_program
from sensor.core.config import CaptureWay, SensorSettings
from sensor.core.read_tls import ReadTls
from sensor.ebpf.compile import link_images
from sensor.ebpf.loader import LoadError
from sensor.ebpf.tracepoints import load_tracepoints
from sensor.enrich.cgroup_tree import ScopeError
from sensor.preflight.checks import Environment, KernelSide


class _Loaded(Protocol):
    def close(self) -> None: ...


def try_programs(settings: SensorSettings, environment: Environment) -> dict[KernelSide, str]:
    """By kernel side that a start would load, empty or why it cannot. Those on system calls are tried where a start
    would fall back on them; none is tried where a small program failed already, or the scope cannot be watched. Raises
    OSError where there is no directory for temporary files."""
    outcomes: dict[KernelSide, str] = {}
    scope, probes = environment.scope, environment.probes
    if isinstance(scope, ScopeError):
        return outcomes
    with _borrow_images(settings) as borrowed:
        if settings.capture is not CaptureWay.SYSCALLS and not probes["cgroup_skb"]:
            outcomes[KernelSide.PACKETS] = _try(lambda: load_packets_program(borrowed, scope))
        has_packets = outcomes.get(KernelSide.PACKETS) == ""
        if settings.capture is not CaptureWay.CGROUP_SKB and not has_packets and not probes["raw_tracepoint"]:
            outcomes[KernelSide.SYSCALLS] = _try(
                lambda: load_tracepoints(describe_tracepoints(borrowed, scope), borrowed.state_dir)
            )
        if settings.read_tls is not ReadTls.OFF:
            outcomes[KernelSide.TLS] = probes["uprobe"] or _try(lambda: load_tls_program(borrowed, scope))
    return outcomes


@contextmanager
def _borrow_images(settings: SensorSettings) -> Iterator[SensorSettings]:
    """The settings with a state directory of their own, which has the images of the real one."""
    with tempfile.TemporaryDirectory(prefix="apidae-preflight-") as directory:
        link_images(settings.state_dir, Path(directory))
        yield settings.model_copy(update={"state_dir": Path(directory)})


def _try(load: Callable[[], _Loaded]) -> str:
    try:
        load().close()
    except (LoadError, OSError) as error:
        return str(error)
    return ""
