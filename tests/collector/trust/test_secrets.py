"""Secrets in the state: wrapped with a key that is not in it, made once, and shared by all who have the key."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from collector.core.config import CollectorSettings
from collector.core.keys import KeyFileError, write_private
from collector.storage.state.store import StateStore
from collector.storage.state.tables.trust import SECRETS
from collector.trust.secrets import (
    STATE_KEY_FILE,
    SecretTable,
    StateKey,
    load_token,
    open_state_key,
    replace_token,
)
from tests.collector.trust.conftest import KEY

NOW = 1_800_000_000.0
OTHER = replace(KEY, secret=b"o" * 32)


def open_key(directory: Path, state: StateStore, given: Path | None = None) -> StateKey:
    return open_state_key(CollectorSettings(data_dir=directory, state_key_file=given), state)


def test_a_secret_is_wrapped_and_opens_with_its_key_and_name_only(state: StateStore, secrets: SecretTable) -> None:
    assert secrets.find("a") is None
    assert secrets.find_or_make("a", lambda: b"hidden-one", NOW) == b"hidden-one"
    assert secrets.find_or_make("a", lambda: b"another", NOW) == b"hidden-one"
    with state.read() as connection:
        (wrapped,) = connection.execute(select(SECRETS.c.wrapped)).scalars()
    assert b"hidden" not in wrapped and KEY.unwrap("a", wrapped) == b"hidden-one"
    for key, name in ((OTHER, "a"), (KEY, "b")):
        with pytest.raises(KeyFileError, match=r"state key in /keys/state\.key does not open .*state_key_file"):
            key.unwrap(name, wrapped)
    with pytest.raises(KeyFileError, match="does not open"):
        KEY.unwrap("a", wrapped[:-1])
    assert KEY.secret.hex() not in repr(KEY) and repr(KEY.secret) not in repr(KEY)


def test_a_change_sees_what_is_kept_and_fails_as_a_whole(secrets: SecretTable) -> None:
    assert secrets.change("a", lambda known: (known or b"") + b"1", NOW) == b"1"
    assert secrets.change("a", lambda known: (known or b"") + b"2", NOW) == b"12"

    def fail(_: bytes | None) -> bytes:
        raise KeyFileError("no")

    with pytest.raises(KeyFileError):
        secrets.change("a", fail, NOW)
    assert secrets.find("a") == b"12"


def test_the_state_key_is_made_once_and_not_where_secrets_need_another(tmp_path: Path, state: StateStore) -> None:
    key = open_key(tmp_path, state)
    assert (tmp_path / STATE_KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert open_key(tmp_path, state) == key
    SecretTable(state, key).find_or_make("a", lambda: b"1", NOW)
    with pytest.raises(KeyFileError, match=r"no state key in .* wrapped with one; copy it"):
        open_key(tmp_path / "other", state)
    given = tmp_path / "given"
    with pytest.raises(KeyFileError, match=r"does not exist; write 64 hexadecimal digits"):
        open_key(tmp_path, state, given)
    write_private(given, f"{key.secret.hex()}\n".encode())
    given.chmod(0o440)  # As Kubernetes mounts a Secret.
    assert open_key(tmp_path / "other", state, given).secret == key.secret


@pytest.mark.parametrize("content", [b"", b"ab" * 31, b"ab" * 33, b"\xff" * 64, b"x" * 64])
def test_a_state_key_of_another_form_is_one_sentence(tmp_path: Path, state: StateStore, content: bytes) -> None:
    write_private(tmp_path / STATE_KEY_FILE, content)
    with pytest.raises(KeyFileError, match=r"not 64 hexadecimal digits"):
        open_key(tmp_path, state)


def test_a_token_is_made_once_and_every_collector_has_its_copy(tmp_path: Path, secrets: SecretTable) -> None:
    first = load_token(secrets, tmp_path / "1" / "api.token", NOW)
    again = load_token(secrets, tmp_path / "1" / "api.token", NOW)
    other = load_token(secrets, tmp_path / "2" / "api.token", NOW)
    assert first.is_new and not again.is_new and not other.is_new
    assert first.value == again.value == other.value and len(first.value) >= 32
    copy = tmp_path / "2" / "api.token"
    assert copy.read_text().strip() == first.value and copy.stat().st_mode & 0o777 == 0o600
    assert load_token(secrets, tmp_path / "1" / "backup.token", NOW).value != first.value


def test_a_token_of_an_earlier_version_stays(tmp_path: Path, secrets: SecretTable) -> None:
    write_private(tmp_path / "api.token", b"0123456789" * 4 + b"\n")
    token = load_token(secrets, tmp_path / "api.token", NOW)
    assert (token.value, token.is_new) == ("0123456789" * 4, False)


def test_a_token_is_replaced_in_the_state_which_counts(
    tmp_path: Path, secrets: SecretTable, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = tmp_path / "1" / "api.token", tmp_path / "2" / "api.token"
    with pytest.raises(KeyFileError, match=r"no api\.token in"):
        replace_token(secrets, here, NOW)
    first = load_token(secrets, here, NOW).value
    load_token(secrets, there, NOW)
    replace_token(secrets, here, NOW)
    with caplog.at_level(logging.WARNING):
        second = load_token(secrets, there, NOW).value
    assert first != second == here.read_text().strip() == there.read_text().strip()
    (line,) = caplog.messages
    assert str(there) in line and first not in line and second not in line


@pytest.mark.parametrize("content", [b"short", b"\xff" * 40])
def test_a_damaged_copy_is_one_sentence(tmp_path: Path, secrets: SecretTable, content: bytes) -> None:
    write_private(tmp_path / "api.token", content)
    with pytest.raises(KeyFileError, match="remove the file"):
        load_token(secrets, tmp_path / "api.token", NOW)
