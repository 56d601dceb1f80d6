"""The detectors' state without one consumer: what was learned of it stays as that of nobody, and ages out.

Names are MessagePack beside the keys of their slots (collector/anomaly/subjects.py). Both are replaced; a key is a hash
of the name and tells it to whoever guesses.
"""

import io
import secrets
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from collector.ingest.reader import write_durably

ERASED: Final = "erased:"


def erase_from_checkpoint(path: Path, consumer: str) -> int:
    """Rename a consumer in the state; gives how many subjects were its. Raises OSError, ValueError where the file is no
    state.
    """
    if not path.exists():
        return 0
    with np.load(path, allow_pickle=False) as archive:
        arrays: dict[str, Any] = {name: archive[name] for name in archive.files}
    count = 0
    for name in [name for name in arrays if name.rpartition("/")[2] == "names"]:
        names = msgspec.msgpack.decode(arrays[name].tobytes(), strict=False)
        mine = [slot for slot, one in names.items() if isinstance(one, dict) and one.get("consumer") == consumer]
        if not mine:
            continue
        count += len(mine)
        for slot in mine:
            names[slot]["consumer"] = ERASED
        arrays[name] = np.frombuffer(msgspec.msgpack.encode(names), np.uint8)
        keys = f"{name.rpartition('/')[0]}/keys"
        if keys in arrays:
            arrays[keys] = arrays[keys].copy()
            arrays[keys][[int(slot) for slot in mine]] = [secrets.randbits(64) | 1 for _ in mine]
    if count:
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        write_durably(path, buffer.getvalue())
    return count
