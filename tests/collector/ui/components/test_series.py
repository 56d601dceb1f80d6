"""The bar of classes of status."""

from hypothesis import given
from hypothesis import strategies as st

from collector.inventory.endpoints.endpoint import StatusMix
from collector.ui.components.series import split_status


@given(st.lists(st.integers(0, 10**12), min_size=6, max_size=6), st.integers(0, 10**12))
def test_the_mix_of_calls_that_were_read_fills_its_bar(counts: list[int], not_read: int) -> None:
    names = ("informational", "success", "redirection", "client_error", "server_error", "aborted")
    shares = split_status(StatusMix(**dict(zip(names, counts, strict=True)), not_read=not_read))
    assert bool(shares) == bool(sum(counts))
    if shares:
        assert abs(sum(share.width for share in shares) - 100) < 0.05
        assert shares[0].x == 0
