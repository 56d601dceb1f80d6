"""SipHash against the reference vectors, and the keyed hash's promises."""

import json
from pathlib import Path

import pytest

from common.keyed_hash import hash_siphash
from sensor.core.keyed import KeyedHash

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "siphash.json").read_text())["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_vectors(vector):
    expected = int.from_bytes(bytes.fromhex(vector["hash"]), "little")
    assert hash_siphash(bytes.fromhex(vector["key"]), bytes.fromhex(vector["message"])) == expected


def test_key_of_wrong_length_is_refused_by_name():
    with pytest.raises(ValueError, match="installation key 7 has 3 bytes"):
        KeyedHash(7, b"abc")


def test_cache_changes_nothing_and_repr_hides_the_secret():
    keyed = KeyedHash(1, b"0123456789abcdef")
    assert keyed(b"value") == keyed(b"value") == KeyedHash(2, b"0123456789abcdef")(b"value") != 0
    assert "0123456789abcdef" not in repr(keyed)
