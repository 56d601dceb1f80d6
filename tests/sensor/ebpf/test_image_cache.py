"""Images of the kernel side are kept, and not read where somebody else could have written them."""

import os
from pathlib import Path

import msgspec
import pytest

from sensor.ebpf.compile import (
    IMAGES_MAX,
    Build,
    Image,
    ImageCache,
    MapImage,
    ProgramImage,
    build_http1,
    describe_program,
    fill_image,
    make_digest,
)

IMAGE = Image(
    maps=[MapImage("counters", 2, 4, 8, 32, 0)],
    programs=[ProgramImage("walk", bytes(16), [(0, 0)])],
    tail_calls=["walk"],
)


def test_an_image_is_kept_until_dropped(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path)
    assert cache.find_image("a") is None
    cache.keep_image("a", IMAGE)
    cache.keep_image("b", IMAGE)
    assert (cache.find_image("a"), cache.find_image("b")) == (IMAGE, IMAGE)
    assert (tmp_path / "b.image").stat().st_mode & 0o777 == 0o600
    cache.drop_image("b")
    assert (cache.find_image("a"), cache.find_image("b")) == (IMAGE, None)


def test_those_used_last_are_kept(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path)
    names = [f"{number:02}" for number in range(IMAGES_MAX)]
    for age, name in enumerate(reversed(names), start=1):
        cache.keep_image(name, IMAGE)
        os.utime(tmp_path / f"{name}.image", (1_000 - age, 1_000 - age))
    assert cache.find_image(names[0]) == IMAGE  # Used again, it is the newest.
    cache.keep_image("new", IMAGE)
    assert sorted(path.stem for path in tmp_path.iterdir()) == [names[0], *names[2:], "new"]


@pytest.mark.parametrize("damage", [b"", b"\x00", b"not an image"])
def test_a_damaged_file_is_none(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a.image").write_bytes(damage)
    assert ImageCache(tmp_path).find_image("a") is None


def test_a_name_that_is_not_utf8_is_damage(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path)
    cache.keep_image("a", IMAGE)
    content = (tmp_path / "a.image").read_bytes()
    name = IMAGE.programs[0].name.encode()
    assert name in content
    (tmp_path / "a.image").write_bytes(content.replace(name, b"\xfe" * len(name)))
    assert cache.find_image("a") is None


def test_what_others_may_write_is_not_read(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path)
    cache.keep_image("a", IMAGE)
    (tmp_path / "a.image").chmod(0o620)
    assert cache.find_image("a") is None


def test_a_directory_is_made(tmp_path: Path) -> None:
    ImageCache(tmp_path / "new").keep_image("a", IMAGE)
    assert ImageCache(tmp_path / "new").find_image("a") == IMAGE
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_one_that_cannot_be_made_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ImageCache(tmp_path / "file" / "below").keep_image("a", IMAGE)
    assert ImageCache(tmp_path / "file" / "below").find_image("a") is None
    ImageCache(None).keep_image("a", IMAGE)
    assert ImageCache(None).find_image("a") is None


def test_the_digest_is_of_what_is_compiled() -> None:
    build = build_http1(1 << 18, 1 << 18, True)
    others = [
        msgspec.structs.replace(build, **change)
        for change in ({"source": "other.c"}, {"flags": ["-DA=1"]}, {"constants": {"A": 1}}, {"tail_calls": []})
    ]
    assert len({make_digest(each) for each in (build, *others)}) == 5


def test_settings_and_kernels_share_an_image() -> None:
    assert make_digest(build_http1(1 << 18, 1 << 18, True)) == make_digest(build_http1(1 << 20, 1 << 19, False))


def test_constants_and_rings_are_filled_in_when_an_image_is_loaded() -> None:
    load_constant = bytes([0x18, 0x01, 0, 0]) + (1).to_bytes(4, "little") + bytes(4) + bytes.fromhex("64697041")
    load_number = bytes([0x18, 0x01, 0, 0, 7, 0, 0, 0]) + bytes(8)
    program = describe_program("p", load_number + load_constant, {})
    assert program.constants == [(16, 1)]
    image = Image(
        maps=[MapImage("events", 27, 0, 0, 4_096, 0), MapImage("ports", 1, 4, 4, 8, 0)],
        programs=[program],
        tail_calls=[],
        constants=["A", "B"],
    )
    value = 0x1122334455667788
    filled = fill_image(
        image, Build(source="s", flags=[], programs={}, constants={"A": 5, "B": value}, rings={"events": 1 << 20})
    )
    assert [one.max_entries for one in filled.maps] == [1 << 20, 8]
    code = filled.programs[0].instructions
    assert code[:16] == load_number and code[20:24] + code[28:32] == value.to_bytes(8, "little")
    assert image.programs[0] is program and program.instructions[20:24] == b"\1\0\0\0"


def test_map_references_are_found() -> None:
    load_map = bytes([0x18, 0x11, 0, 0, 7, 0, 0, 0]) + bytes(8)
    load_number = bytes([0x18, 0x01, 0, 0, 7, 0, 0, 0]) + bytes(8)
    assert describe_program("p", load_number + load_map, {7: 3}).maps == [(16, 3)]
