"""A state key for all tests of trust."""

from pathlib import Path

import pytest

from collector.storage.state.store import StateStore
from collector.trust.secrets import SecretTable, StateKey

KEY = StateKey(secret=b"k" * 32, path=Path("/keys/state.key"))


@pytest.fixture
def secrets(state: StateStore) -> SecretTable:
    """No secrets yet."""
    return SecretTable(state, KEY)
