"""A kept image loads without the compiler, and what the kernel refuses is compiled anew."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from sensor.ebpf import compile as image
from sensor.ebpf import loader
from sensor.ebpf.compile import TAIL_CALLS, Build, Image, ImageError, MapImage, ProgramImage, load_image
from sensor.ebpf.loader import GUARDS, load_program

pytestmark = pytest.mark.kernel


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one each time the compiler runs."""
    runs: list[int] = []
    original: Callable[[Build], Image] = loader.compile_build

    def compile_image(build: Build) -> Image:
        runs.append(1)
        return original(build)

    monkeypatch.setattr(loader, "compile_build", compile_image)
    return runs


@pytest.mark.full
def test_a_second_start_does_not_compile(tmp_path: Path, home: Path, compiled: list[int]) -> None:
    for _ in range(2):
        program = load_program(home, 1 << 18, False, 1 << 18, tmp_path)
        program.attach()
        program.close()
    assert len(compiled) == 1
    kept = next(tmp_path.glob("*.image"))
    kept.write_bytes(kept.read_bytes()[:-7])
    load_program(home, 1 << 18, False, 1 << 18, tmp_path).close()
    assert len(compiled) == 2


@pytest.mark.full
def test_what_enforces_is_loaded_only_where_it_may(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    original = image._load_program

    def load(program: ProgramImage, map_fds: list[int], attach_type: int) -> int:
        loaded.append(program.name)
        return original(program, map_fds, attach_type)

    monkeypatch.setattr(image, "_load_program", load)
    for is_enforcing, expected in ((False, set(TAIL_CALLS) - set(GUARDS)), (True, set(TAIL_CALLS))):
        loaded.clear()
        load_program(home, 1 << 18, False, 1 << 18, tmp_path, is_enforcing=is_enforcing).close()
        assert set(loaded) == expected


def make_endless() -> bytes:
    """A loop of more steps than any log holds: it counts, and only a random number ends it."""
    step, draw = struct.pack("<BBhi", 0x07, 6, 0, 1), struct.pack("<BBhi", 0x85, 0, 0, 7)
    turn = [*[step] * 100, draw]
    again = struct.pack("<BBhi", 0x55, 0, -len(turn) - 1, 0)
    return b"".join([struct.pack("<BBhi", 0xB7, 6, 0, 0), *turn, again, struct.pack("<BBhi", 0x95, 0, 0, 0)])


def test_a_refused_program_is_named_with_the_verifiers_reason() -> None:
    if os.geteuid() != 0:
        pytest.skip("loading needs root")
    leave = bytes([0x95]) + bytes(7)  # `exit` without a value in r0.
    with pytest.raises(ImageError, match=r"program bad: .*R0 !read_ok"):
        load_image(Image(maps=[], programs=[ProgramImage("bad", leave, [])], tail_calls=[]))
    with pytest.raises(ImageError, match=r"program endless: .*program is too large"):
        load_image(Image(maps=[], programs=[ProgramImage("endless", make_endless(), [])], tail_calls=[]))
    with pytest.raises(ImageError, match="map odd: Invalid argument"):
        load_image(Image(maps=[MapImage("odd", 2, 3, 8, 1, 0)], programs=[], tail_calls=[]))
