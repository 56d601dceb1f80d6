"""Secrets' files: made once, private, and refused when others can read them or they are damaged."""

from pathlib import Path

import pytest

from collector.keys import KeyFileError, load_installation_keys, load_token


def test_token_is_made_once(tmp_path: Path) -> None:
    first, again = load_token(tmp_path / "t"), load_token(tmp_path / "t")
    assert first.is_new and not again.is_new and first.value == again.value
    assert first.accepts(again.value)
    assert not any(first.accepts(wrong) for wrong in ("", first.value[:-1], first.value + "x", "\ud800"))
    assert first.value not in repr(first)


def test_installation_key_is_made_once_and_hidden(tmp_path: Path) -> None:
    (first,) = load_installation_keys(tmp_path / "k")
    assert load_installation_keys(tmp_path / "k") == (first,)
    assert len(first.secret) == 16 and first.key_id > 0
    assert first.secret.hex() not in repr(first) and repr(first.secret) not in repr(first)
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("load", [load_token, load_installation_keys])
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
        load_installation_keys(path)
    with pytest.raises(KeyFileError):
        load_token(path)
