"""Programs that came with the package are loaded without a compiler, and only where they fit."""

import platform
from pathlib import Path

import msgspec
import pytest

from sensor.ebpf import compile as compiling
from sensor.ebpf import loader
from sensor.ebpf.compile import (
    Build,
    Image,
    ImageCache,
    ImageError,
    LoadedImage,
    MapImage,
    ProgramImage,
    has_shipped,
    make_digest,
    ship_image,
)

BUILD = Build(
    source="http1.c", flags=[], programs={"walk": 8}, constants={"RING_BYTES": 8_192}, rings={"events": 8_192}
)
IMAGE = Image(
    maps=[MapImage("events", 27, 0, 0, 4_096, 0)],
    programs=[ProgramImage("walk", bytes([0x18, 1]) + bytes(14), [], constants=[(0, 0)])],
    tail_calls=[],
    constants=["RING_BYTES"],
)


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's directory of images; nothing can be compiled."""
    directory = tmp_path / "images"
    monkeypatch.setattr(compiling, "SHIPPED_DIRECTORY", directory)
    monkeypatch.setattr(loader, "compile_build", refuse)
    return directory


def refuse(build: Build) -> Image:
    raise loader.LoadError("no compiler")


def test_a_shipped_image_is_loaded_with_this_nodes_constants(shipped: Path) -> None:
    ship_image(BUILD, IMAGE, platform.machine(), shipped)
    loaded: list[Image] = []

    def wire(image: Image) -> LoadedImage:
        loaded.append(image)
        return LoadedImage({}, {})

    loader.load_build(BUILD, None, wire)
    assert [one.max_entries for one in loaded[0].maps] == [8_192]
    assert loaded[0].programs[0].instructions[4:8] == (8_192).to_bytes(4, "little")


def test_other_sources_and_other_machines_need_the_compiler(shipped: Path) -> None:
    other = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    ship_image(BUILD, IMAGE, other, shipped)
    ship_image(msgspec.structs.replace(BUILD, flags=["-DOLD"]), IMAGE, platform.machine(), shipped)
    with pytest.raises(loader.LoadError, match="no compiler"):
        loader.load_build(BUILD, None, lambda image: LoadedImage({}, {}))
    assert not has_shipped()


def test_what_others_may_write_is_not_loaded(shipped: Path) -> None:
    path = ship_image(BUILD, IMAGE, platform.machine(), shipped)
    path.chmod(0o666)
    with pytest.raises(loader.LoadError, match="no compiler"):
        loader.load_build(BUILD, None, lambda image: LoadedImage({}, {}))


def test_a_refusal_of_the_kernel_is_named(shipped: Path) -> None:
    ship_image(BUILD, IMAGE, platform.machine(), shipped)

    def wire(image: Image) -> LoadedImage:
        raise ImageError("program walk: Invalid argument; too many steps")

    with pytest.raises(loader.LoadError, match="program walk: Invalid argument; too many steps"):
        loader.load_build(BUILD, None, wire)


def test_a_compiled_image_of_the_cache_is_used_where_none_is_shipped(tmp_path: Path) -> None:
    ImageCache(tmp_path).keep_image(make_digest(BUILD), IMAGE)
    loader.load_build(BUILD, tmp_path, lambda image: LoadedImage({}, {}))
    assert [path.name for path in tmp_path.iterdir()] == [f"{make_digest(BUILD)}.image"]
