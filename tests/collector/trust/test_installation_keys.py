"""Installation keys in the state: made once, hidden, rotated, and the same for all collectors."""

import threading

import pytest
from sqlalchemy import select

from collector.core.keys import InstallationKey, KeyFileError
from collector.storage.state.store import StateStore
from collector.storage.state.tables.trust import INSTALLATION_KEYS
from collector.trust.installation_keys import KEY_BYTES, ROTATION_SECONDS, InstallationKeyTable
from tests.collector.trust.conftest import KEY

NOW = 1_800_000_000.0


@pytest.fixture
def keys(state: StateStore) -> InstallationKeyTable:
    return InstallationKeyTable(state, KEY)


def test_the_key_is_made_once_and_hidden(state: StateStore, keys: InstallationKeyTable) -> None:
    (first,) = keys.load(NOW)
    assert InstallationKeyTable(state, KEY).load(NOW + 1) == (first,)
    assert len(first.secret) == KEY_BYTES and first.key_id > 0
    assert first.secret.hex() not in repr(first) and repr(first.secret) not in repr(first)
    with state.read() as connection:
        assert first.secret not in connection.execute(select(INSTALLATION_KEYS.c.wrapped)).scalar_one()


def test_collectors_that_start_at_once_have_one_key(state: StateStore) -> None:
    found: list[tuple[InstallationKey, ...]] = []
    start = threading.Barrier(4)

    def load() -> None:
        start.wait()
        found.append(InstallationKeyTable(state, KEY).load(NOW))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1 and len(found[0]) == 1


def test_both_keys_are_in_use_for_eight_days(keys: InstallationKeyTable) -> None:
    (old,) = keys.load(NOW)
    new = keys.rotate(NOW + 5)
    assert new.key_id != old.key_id and new.secret != old.secret
    assert keys.load(NOW + 5) == keys.load(NOW + 4 + ROTATION_SECONDS) == (new, old)
    with pytest.raises(KeyFileError, match=r"lasts for 1\.0 days more"):
        keys.rotate(NOW + 5 + 7 * 86_400)
    assert keys.load(NOW + 5 + ROTATION_SECONDS) == (new,) and keys.list_all() == (new, old)
    newest = keys.rotate(NOW + 5 + ROTATION_SECONDS)
    assert keys.load(NOW + 6 + ROTATION_SECONDS) == keys.list_all() == (newest, new)


def test_nothing_to_rotate_is_one_sentence(keys: InstallationKeyTable) -> None:
    with pytest.raises(KeyFileError, match=r"no installation keys in .*--data-dir"):
        keys.rotate(NOW)
