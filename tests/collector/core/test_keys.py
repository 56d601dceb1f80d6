"""Secrets' files: made once, private, and refused when others can read them or they are damaged."""

from pathlib import Path

import pytest

from collector.core.keys import (
    ROTATION_SECONDS,
    InstallationKey,
    KeyFileError,
    load_installation_keys,
    load_token,
    rotate_installation_key,
)

NOW = 1_800_000_000.0


def load_keys(path: Path) -> tuple[InstallationKey, ...]:
    return load_installation_keys(path, NOW)


def test_token_is_made_once(tmp_path: Path) -> None:
    first, again = load_token(tmp_path / "t"), load_token(tmp_path / "t")
    assert first.is_new and not again.is_new and first.value == again.value
    assert first.accepts(again.value)
    assert not any(first.accepts(wrong) for wrong in ("", first.value[:-1], first.value + "x", "\ud800"))
    assert first.value not in repr(first)


def test_installation_key_is_made_once_and_hidden(tmp_path: Path) -> None:
    (first,) = load_installation_keys(tmp_path / "k", NOW)
    assert load_installation_keys(tmp_path / "k", NOW + 1) == (first,)
    assert len(first.secret) == 16 and first.key_id > 0
    assert first.secret.hex() not in repr(first) and repr(first.secret) not in repr(first)
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("load", [load_token, load_keys])
def test_file_that_others_can_read_is_refused(tmp_path: Path, load) -> None:
    load(tmp_path / "s")
    (tmp_path / "s").chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load(tmp_path / "s")


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '[{"key_id": 1, "secret": "00"}]', '[{"key_id": 1}]', "x"])
def test_damaged_keys_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "k"
    path.touch(0o600)
    path.write_text(content)
    with pytest.raises(KeyFileError, match="damaged"):
        load_keys(path)
        rotate_installation_key(path, NOW)
    with pytest.raises(KeyFileError):
        load_token(path)


def test_both_keys_are_in_use_for_eight_days(tmp_path: Path) -> None:
    path = tmp_path / "k"
    (old,) = load_installation_keys(path, NOW)
    new = rotate_installation_key(path, NOW + 5)
    assert new.key_id != old.key_id and new.secret != old.secret
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert load_installation_keys(path, NOW + 5) == (new, old)
    assert load_installation_keys(path, NOW + 4 + ROTATION_SECONDS) == (new, old)
    with pytest.raises(KeyFileError, match=r"lasts for 1\.0 days more"):
        rotate_installation_key(path, NOW + 5 + 7 * 86_400)
    assert load_installation_keys(path, NOW + 5 + ROTATION_SECONDS) == (new,)
    newest = rotate_installation_key(path, NOW + 5 + ROTATION_SECONDS)
    assert load_installation_keys(path, NOW + 6 + ROTATION_SECONDS) == (newest, new)


def test_a_crashed_rotation_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "k"
    (old,) = load_keys(path)
    path.with_suffix(".new").write_text("half")
    new = rotate_installation_key(path, NOW)
    assert load_keys(path) == (new, old)


def test_a_key_of_before_rotations_can_be_rotated(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.touch(0o600)
    path.write_text('[{"key_id": 7, "secret": "000102030405060708090a0b0c0d0e0f"}]')
    new = rotate_installation_key(path, NOW)
    assert [key.key_id for key in load_keys(path)] == [new.key_id, 7]


def test_nothing_to_rotate_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"no installation keys in .*--data-dir"):
        rotate_installation_key(tmp_path / "k", NOW)
