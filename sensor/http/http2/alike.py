"""Calls of one HTTP/2 connection with the same header blocks both ways, reduced to their times and sizes.

Programs repeat their heads to the byte, so most calls of HTTP/2 equal an earlier one. A `CallPattern` holds what such
calls share. Once a caller of this module has described one call of a pattern, it may number the pattern. From then on
`AlikeCalls` gathers only figures of these calls, until they are collected.
"""

from typing import Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from sensor.http.hpack import HeaderBlock
from sensor.http.http2.streams import StreamCall

# Numbers of a call in `AlikeCalls.figures`: place of its pattern, started, answered, ended (ns), bytes of request and
# response.
FIGURES: Final = 6

Owner = TypeVar("Owner")


class CallPattern:
    """What calls of one connection have in common that are the same header blocks. Private to the node: holds heads."""

    __slots__ = ("_call", "blocks", "place", "turn")

    def __init__(self, call: StreamCall, blocks: tuple[HeaderBlock | None, ...]) -> None:
        """`call` is the first of them; `blocks` are kept so that their identities stay their own."""
        self._call = call
        self.blocks = blocks
        self.place = 0  # Where whoever numbered it keeps what they made of it.
        self.turn = 0  # When it was numbered; `place` holds as long as `AlikeCalls.turn` is the same.

    def tell(
        self, stream: int, started_ns: int, answered_ns: int, ended_ns: int, request_bytes: int, response_bytes: int
    ) -> StreamCall:
        """One of them as a call."""
        of = self._call
        return StreamCall(
            stream,
            of.request,
            of.status_code,
            of.response_content_type,
            of.rpc,
            of.grpc_status,
            of.streaming,
            of.request_messages,
            of.response_messages,
            request_bytes,
            response_bytes,
            started_ns,
            answered_ns,
            ended_ns,
            1,
            True,
            False,
            False,
            of.has_unknown_fields,
            of.is_inferred,
            self,
        )


class AlikeCalls(Generic[Owner]):
    """Mutable state: figures of calls whose patterns are numbered. `Owner` is what their numberer knows them by."""

    __slots__ = ("_arrays", "figures", "owners", "turn")

    def __init__(self) -> None:
        self.turn = 1  # No pattern has it from the start.
        self.figures: list[int] = []  # A list takes six numbers in a tenth of the time that an array does.
        self.owners: list[Owner] = []  # By place.
        self._arrays: list[npt.NDArray[np.int64]] = []  # Of shape (calls, FIGURES): the same of many at once.

    def __len__(self) -> int:
        return len(self.figures) // FIGURES + sum(map(len, self._arrays))

    def add(self, figures: npt.NDArray[np.int64]) -> None:
        """Figures of many calls, of shape (calls, FIGURES)."""
        self._arrays.append(figures)

    def forget(self) -> None:
        """No number holds any more; what was gathered under them is to be collected before."""
        assert not self.figures and not self._arrays
        self.turn += 1
        self.owners.clear()

    def number(self, pattern: CallPattern, owner: Owner) -> int:
        """The place of a pattern from now on."""
        pattern.place, pattern.turn = len(self.owners), self.turn
        self.owners.append(owner)
        return pattern.place

    def pop(self) -> npt.NDArray[np.int64]:
        """All that was gathered, of shape (calls, FIGURES)."""
        arrays, self._arrays = self._arrays, []
        if self.figures:
            arrays.append(np.array(self.figures, np.int64).reshape(-1, FIGURES))
            self.figures = []
        return np.concatenate(arrays) if arrays else np.empty((0, FIGURES), np.int64)
