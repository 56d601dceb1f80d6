"""How much of the calls over TLS is read: the setting `read_tls`, and what namespaces and Pods choose of it.

The operator's `off` is final. Elsewhere the label `apidae.io/read-tls` of a namespace may choose, also `full` where the
setting is `auto`. The annotation of a Pod may only choose less than what then holds: all processes of a node share its
budget, and whoever may make Pods must not take it from others. Any other value counts as `off`: whoever wrote it wanted
something else than the setting.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

READ_TLS_KEY: Final = "apidae.io/read-tls"


class ReadTls(StrEnum):
    """How much is read of a process; in ascending order."""

    OFF = "off"  # No probe goes into the process.
    AUTO = "auto"  # As much as is not noticed: a small budget, and none where answers take longer while it is read.
    FULL = "full"  # Up to `heads_per_second` calls, whatever that costs the process.


READ_TLS_DEFAULT: Final = ReadTls.AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsChoice:
    """What holds for a process; `reason`: why it is not read, a sentence, empty where it is."""

    mode: ReadTls
    reason: str = ""


_OFF: Final = f"Reading TLS is switched off by the {{place}} {READ_TLS_KEY} of its {{owner}}."
_WRONG: Final = f"It is not read, for the {{place}} {READ_TLS_KEY} of its {{owner}} is not off, auto or full."
UNKNOWN_POD: Final = TlsChoice(
    mode=ReadTls.OFF, reason="Its Pod is not known yet, which may have switched off reading TLS."
)
_ORDER: Final = tuple(ReadTls)


def choose(setting: ReadTls, *, namespace: str, pod: str) -> TlsChoice:
    """What holds, given the label of a namespace and the annotation of a Pod, empty where there are none."""
    if setting is ReadTls.OFF:
        return TlsChoice(mode=setting)
    above = _read(namespace, "label", "namespace") if namespace else TlsChoice(mode=setting)
    own = _read(pod, "annotation", "Pod") if pod else above
    return min(above, own, key=lambda choice: _ORDER.index(choice.mode))


def _read(value: str, place: str, owner: str) -> TlsChoice:
    try:
        mode = ReadTls(value)
    except ValueError:
        return TlsChoice(mode=ReadTls.OFF, reason=_WRONG.format(place=place, owner=owner))
    return TlsChoice(mode=mode, reason=_OFF.format(place=place, owner=owner) if mode is ReadTls.OFF else "")
