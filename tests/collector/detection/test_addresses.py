"""Which addresses are internal, and which lie in one network."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.detection.framework.rows import _read_address, hash_text


@given(st.ip_addresses(v=4))
def test_internal_is_what_the_library_says(address: ipaddress.IPv4Address) -> None:
    text = str(address)
    expected = address.is_private or address.is_loopback
    assert _read_address(text) == (hash_text(text), hash_text(f"4/{int(address) >> 8}"), expected)


@pytest.mark.parametrize("first", range(256))
def test_no_block_with_internal_addresses_is_left_out(first: int) -> None:
    blocks = [
        ipaddress.IPv4Address((first << 24) + (second << 16) + third) for second in range(256) for third in (0, 9)
    ]
    for address in blocks:
        assert _read_address.__wrapped__(str(address))[2] is (address.is_private or address.is_loopback)


@pytest.mark.parametrize("text", ["", "accounts", "1.2.3", "01.2.3.4", "1.2.3.4.5", "1.2.3.4\x00", "a\ud800"])
def test_what_is_no_address_is_none(text: str) -> None:
    assert _read_address(text) == (0, 0, True)


def test_ipv6_addresses_of_a_site_share_a_network() -> None:
    one, other, third = (_read_address(text) for text in ("2a00:1:2:3::4", "2a00:1:2:5::6", "2a00:1:3::4"))
    assert one[1] == other[1] != third[1]
    assert not one[2] and _read_address("fd00::1")[2] and _read_address("::1")[2]
